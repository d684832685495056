"""kill -9 the indexer at seeded moments; nothing acknowledged may be lost, nothing be there twice.

Three processes. The *supervisor* changes files, says when to kill, writes down every
acknowledgement (fsynced) as it arrives, and checks. The *zygote* has loaded the model and forks an
*indexer* for each trial, which runs the real `longleaf index --prune --json` on the same data
folder and tells in which phase it is. A trial ends with SIGKILL at the n-th entry into a phase, at
once (the indexer waits there) or up to 20 ms later; the phase that counts is the one the indexer
was in when it died, and `--kills 50` goes on until each has at least five. After each kill the
supervisor follows the log and compares the catalog and the index with what was acknowledged.

    python benchmarks/kill.py --kills 50 --seed 1
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import random
import re
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHASES = ("read", "parse", "chunk", "embed", "tokens", "commit", "put", "flush")
FILES = 14
LONGEST_DELAY_MS = 20.0


# --- the indexer -------------------------------------------------------------------------------


def _tell(marker: str) -> None:
    os.write(_MARKERS, f"{marker}\n".encode())


_MARKERS = -1
_HOLD: tuple[str, int] | None = None
_ENTERED: Counter[str] = Counter()


def _enter(phase: str) -> None:
    """Say so; at the entry where the supervisor wants to strike at once, wait for it."""
    _tell(f"enter {phase}")
    _ENTERED[phase] += 1
    if (phase, _ENTERED[phase]) == _HOLD:
        time.sleep(60)


def _hook(owner: Any, name: str, phase: str) -> None:
    real = getattr(owner, name)

    @functools.wraps(real)
    def told(*args: Any, **kwargs: Any) -> Any:
        _enter(phase)
        try:
            return real(*args, **kwargs)
        finally:
            _tell(f"exit {phase}")

    setattr(owner, name, told)


def _install_hooks() -> None:
    from longleaf.core.catalog import database, segments, writes
    from longleaf.indexer import build, chunk, embed
    from longleaf.indexer.sandbox import opened
    from longleaf.retriever.index import edge, edge_folder

    _hook(build, "read_bytes", "read")
    # The parsers run in processes that die with the indexer: here it waits for what they find.
    _hook(opened.OpenedInSandbox, "_next", "parse")
    _hook(chunk.PassageChunker, "chunk", "chunk")
    _hook(embed.MiniLMEmbedder, "_forward", "embed")
    _hook(segments.SegmentWriter, "append", "tokens")
    _hook(segments.SegmentWriter, "sync", "tokens")
    _hook(writes, "put_document", "commit")
    _hook(writes, "append_log", "commit")
    _hook(edge.EdgeIndex, "put", "put")
    _hook(edge.EdgeIndex, "flush", "flush")
    _hook(edge_folder, "write_state", "flush")
    real_writing = database.Database.writing

    @contextlib.contextmanager
    def told_writing(self: Any) -> Any:
        with real_writing(self) as connection:
            yield connection
            _enter("commit")  # what follows is COMMIT and its fsync
        _tell("exit commit")

    database.Database.writing = told_writing  # type: ignore[method-assign]


def _index(home: Path, documents: Path) -> None:
    """What `longleaf index --prune --json` does, with small batches so that there are many."""
    os.environ["LONGLEAF_HOME"] = str(home)
    os.environ["LONGLEAF_INDEXER__COMMIT_PASSAGES"] = "4"
    os.environ["LONGLEAF_RETRIEVER__FLUSH_DOCUMENTS"] = "3"
    from longleaf.api.cli.corpus import index

    index([documents], collection="kill", prune=True, as_json=True)


def _zygote(commands: int, acknowledgements: int, markers: int) -> None:
    """Load everything heavy once, run no model, then fork an indexer for each line."""
    global _MARKERS, _HOLD
    # Loading a model computes a little; a thread pool made by that would be torn by the fork.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from longleaf.api import wire
    from longleaf.core.config import load_settings

    _MARKERS = markers
    models = wire.open_models(load_settings({"embedder.threads": 1}, {}).settings, {})
    wire.open_models = lambda *_args, **_kwargs: models  # type: ignore[assignment]
    _tell("ready")
    with os.fdopen(commands) as lines:
        for line in lines:
            home, documents, hold = json.loads(line)
            _HOLD = (hold[0], hold[1]) if hold else None
            child = os.fork()
            if child == 0:
                os.dup2(acknowledgements, 1)
                sys.stdout = os.fdopen(1, "w")
                _install_hooks()
                _tell(f"pid {os.getpid()}")
                status = 0
                try:
                    _index(Path(home), Path(documents))
                except BaseException as error:
                    _tell(f"failed {error!r}")
                    status = 1
                sys.stdout.flush()
                os._exit(status)
            os.waitpid(child, 0)
            _tell("dead")


# --- the supervisor ----------------------------------------------------------------------------


class Supervisor:
    """Keeps the files, the acknowledgements and the checks."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.home, self.documents = folder / "home", folder / "documents"
        self.documents.mkdir(parents=True)
        self.versions: dict[str, int] = {}
        self.acknowledged: dict[str, int] = {}
        self.written: dict[str, set[int]] = {}
        self.phases: Counter[str] = Counter()
        self._ack_log = (folder / "acknowledged.jsonl").open("a")
        command_read, self._commands = os.pipe()
        self._acks, ack_write = os.pipe()
        self._markers, marker_write = os.pipe()
        if os.fork() == 0:
            os.close(self._commands)
            try:
                _zygote(command_read, ack_write, marker_write)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        # Ours would keep the pipes open after the zygote's death, and that must be noticed.
        for theirs in (command_read, ack_write, marker_write):
            os.close(theirs)
        self._buffers = {self._acks: b"", self._markers: b""}
        self._seen: list[str] = []
        self._wait_for("ready")

    def close(self) -> None:
        os.close(self._commands)
        self._ack_log.close()
        os.wait()

    def change_files(self) -> None:
        """Some new, some changed, now and then one gone."""
        for _ in range(6):
            name = f"file-{self.rng.randrange(FILES)}.{self.rng.choice(['txt', 'jsonl'])}"
            path = self.documents / name
            if path.exists() and self.rng.random() < 0.15:
                path.unlink()
                self.versions.pop(str(path), None)
                self.acknowledged.pop(str(path), None)
                continue
            version = max(self.versions.get(str(path), 0), time.monotonic_ns())
            self.versions[str(path)] = version
            self.written.setdefault(str(path), set()).add(version)
            words = f"The marker{version}x of {name}. " + "The tenant shall pay. " * 60
            if name.endswith("txt"):
                path.write_text(words)
            else:
                lines = [{"_id": f"{path}#{n}", "text": f"Line {n}. {words}"} for n in range(3)]
                path.write_text("\n".join(json.dumps(line) for line in lines))

    def trial(self, phase: str | None, occurrence: int, delay_ms: float) -> str:
        """Run the indexer; kill it at the given entry, or let it finish (phase None)."""
        self._seen.clear()
        hold = [phase, occurrence] if phase and delay_ms == 0.0 else None
        command = json.dumps([str(self.home), str(self.documents), hold])
        os.write(self._commands, f"{command}\n".encode())
        pid = int(self._wait_for("pid").split()[1])
        entered = 0
        while True:
            marker = self._next_marker()
            if marker == "dead":
                break
            if marker.startswith("failed"):
                raise SystemExit(f"the indexer failed by itself: {marker}")
            if marker == f"enter {phase}":
                entered += 1
                if entered == occurrence:
                    time.sleep(delay_ms / 1000)
                    os.kill(pid, signal.SIGKILL)
        self._drain_acks()
        return self._phase_at_death()

    def _phase_at_death(self) -> str:
        opened = []
        for marker in self._seen:
            verb, _, phase = marker.partition(" ")
            if verb == "enter":
                opened.append(phase)
            elif verb == "exit" and phase in opened:
                opened.remove(phase)
        return opened[-1] if opened else "between"

    def check(self) -> None:
        """Catalog and index against the acknowledgements; raises SystemExit with what is wrong."""
        from longleaf.api.indexes.edge import EdgePlace
        from longleaf.core import ids
        from longleaf.core.catalog import Catalog
        from longleaf.core.config import load_settings
        from longleaf.core.protocols import IndexFilter, LexicalQuery
        from longleaf.core.types import Scope

        settings = load_settings({"home": self.home}, {}).settings
        catalog = Catalog(self.home)
        generation = catalog.live_generation()
        if generation is None:
            _require(not self.acknowledged, "there is no generation, but files were acknowledged")
            catalog.close()
            return
        place = EdgePlace(settings, catalog, generation)
        index = place.open_index()
        place.make_follower(index).catch_up()
        heads = catalog.documents(Scope.all(), limit=100_000)
        by_source: dict[str, list[Any]] = {}
        for head in heads:
            by_source.setdefault(head.source, []).append(head)
            _require(head.source in self.written, f"phantom: {head.source}")
        stored = index.scroll(IndexFilter(("kill",)), 1_000_000)
        expected: list[int] = []
        for head in heads:
            passages = catalog.passages(head, generation, 0, 100_000)
            expected += [passage.point_id for passage in passages]
            catalog.token_vectors([passage.passage_id for passage in passages], generation)
            catalog.blobs.get(head.original)
        _require(sorted(stored) == sorted(expected), "the index differs from the catalog")
        for key, version in self.acknowledged.items():
            found = by_source.get(key, [])
            _require(len(found) == (1 if key.endswith("txt") else 3), f"lost or doubled: {key}")
            for head in found:
                marker = re.search(r"marker(\d+)x", catalog.text(head).text)
                held = int(marker.group(1)) if marker else -1
                # A commit whose acknowledgement the kill cut off may hold any later version.
                _require(
                    held in self.written[key] and held >= version,
                    f"{key} holds neither what was acknowledged nor what came after",
                )
            if version == self.versions[key]:
                query = LexicalQuery(f"marker{version}x", "english")
                hits = index.search_bm25(query, IndexFilter(("kill",)), 100)
                revisions = {ids.split_point_id(hit.point_id)[0] for hit in hits}
                wanted = {head.revision_id for head in found}
                _require(wanted <= revisions, f"not found by its words: {key}")
        index.close()
        catalog.close()

    def _drain_acks(self) -> None:
        for line in self._read_lines(self._acks):
            result = json.loads(line)
            if "key" not in result or result["outcome"] == "removed":
                continue
            self._ack_log.write(f"{line}\n")
            if result["outcome"] in ("indexed", "indexed with warnings", "unchanged"):
                self.acknowledged[result["key"]] = self.versions[result["key"]]
        self._ack_log.flush()
        os.fsync(self._ack_log.fileno())

    def _wait_for(self, start: str) -> str:
        while True:
            marker = self._next_marker()
            if marker.startswith(start):
                return marker

    def _next_marker(self) -> str:
        while b"\n" not in self._buffers[self._markers]:
            ready, _, _ = select.select([self._markers, self._acks], [], [])
            for descriptor in ready:
                data = os.read(descriptor, 65536)
                if not data:
                    raise SystemExit("the zygote is gone")
                self._buffers[descriptor] += data
        line, _, rest = self._buffers[self._markers].partition(b"\n")
        self._buffers[self._markers] = rest
        self._seen.append(line.decode())
        return self._seen[-1]

    def _read_lines(self, descriptor: int) -> list[str]:
        while select.select([descriptor], [], [], 0)[0]:
            self._buffers[descriptor] += os.read(descriptor, 65536)
        lines = self._buffers[descriptor].split(b"\n")
        # A kill may have cut the last line: what was not written whole was not acknowledged.
        self._buffers[descriptor] = b""
        return [line.decode() for line in lines if line.startswith(b"{") and line.endswith(b"}")]


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise SystemExit(f"FAIL: {what}")


def run(folder: Path, kills: int, seed: int, say: Callable[[str], None] = print) -> Counter[str]:
    """`kills` trials; returns how many died in which phase. Raises SystemExit on any loss."""
    supervisor = Supervisor(folder, seed)
    rng = random.Random(seed)
    try:
        each = max(1, kills // 10)
        number = attempts = 0
        while number < kills or min(supervisor.phases[phase] for phase in PHASES) < each:
            attempts += 1
            _require(attempts < 20 * kills, "the phases are not reached")
            supervisor.change_files()
            rarest = min(PHASES, key=lambda phase: (supervisor.phases[phase], phase))
            phase = rarest if supervisor.phases[rarest] < each else rng.choice(PHASES)
            # Phases of microseconds are hit only by waiting in them.
            delay_ms = rng.choice([0.0, 0.0, rng.uniform(0, LONGEST_DELAY_MS)])
            died_in = supervisor.trial(phase, rng.randint(1, 6), delay_ms)
            supervisor.check()
            if died_in in PHASES:
                supervisor.phases[died_in] += 1
                number += 1
            say(
                f"{number:>3} asked for {phase:<7} +{delay_ms:4.1f} ms, died in {died_in:<8}"
                f" acknowledged so far {len(supervisor.acknowledged)}"
            )
        supervisor.trial(None, 0, 0)
        supervisor.check()
        _require(
            set(supervisor.acknowledged) == set(supervisor.versions),
            "the last, unkilled run did not acknowledge every file",
        )
    finally:
        supervisor.close()
    return supervisor.phases


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="longleaf-kill-"))
    try:
        phases = run(folder, options.kills, options.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    deaths = ", ".join(f"{phase} {phases[phase]}" for phase in PHASES)
    print(f"OK: {sum(phases.values())} kills ({deaths}); 0 acknowledged lost, 0 twice, 0 phantoms")


if __name__ == "__main__":
    main()
