"""What searches and the event loop notice while a shard is made anew beside them.

A 1 ms heartbeat runs in the loop of a serving process, threads search its index process, and the
shard of SYNTHETIC passages (random vectors and words, as in stall.py) is made anew twice: once to
give all of them their int8 codes, once to leave no byte of a few documents that were deleted.
Prints the searches' p50 and p99 and the heartbeat's lateness before, during and after, how long
each took, and the compactor's memory. Exits with 1 when a search failed, a byte was left, or the
heartbeat was more than 50 ms late during the second half of a percent of its beats or more.

    python benchmarks/compaction.py --passages 100000
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from stall import ALL, BEAT_SECONDS, DIM, LIMIT, _tell, _vector, _words, fill

from longleaf.core.catalog import Catalog, ContentWrite, DocumentWrite, Generation, content_digest
from longleaf.core.types import Document, Passage, PassageVectors, Scope
from longleaf.retriever.index import edge_folder
from longleaf.retriever.index.process import IndexProcess

MOST_LATE_MS = 50.0


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--passages", type=int, default=100_000)
    options.add_argument("--searchers", type=int, default=2)
    options.add_argument("--pause-ms", type=float, default=50.0, help="between two searches")
    options.add_argument("--quiet-seconds", type=float, default=20.0, help="before and after")
    options.add_argument("--home", help="keep the data folder here, and take up the one there")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="longleaf-compaction-") as scratch:
        return measure(Path(chosen.home or scratch), chosen)


def measure(home: Path, chosen: argparse.Namespace) -> int:
    """Both runs; returns the exit code."""
    catalog = Catalog(home)
    generation = catalog.live_generation() or fill(catalog, chosen.passages)
    _tell("load", {"load_1min": round(os.getloadavg()[0], 2), "cores": os.cpu_count()})
    titles = put_marked(catalog, generation)
    folder = home / "index"
    started = time.perf_counter()
    index = IndexProcess.open(catalog, generation, folder)
    index._retry_at = float("inf")  # it begins when it is told to
    index.catch_up()
    _tell("filled", {"passages": index.passage_count(), "seconds": time.perf_counter() - started})
    watch = Watch(index, chosen)
    failed = 0
    try:
        failed += asyncio.run(watch.around("codes for all", lambda: make_anew(catalog, index)))
        for head in catalog.documents(Scope.all(), limit=1_000_000):
            if head.title in titles:
                catalog.delete_document(head.public_id, Scope.all())
        index.catch_up()
        marks = [title.encode() for title in titles]
        left = traces(folder, marks)
        failed += asyncio.run(watch.around("20 deleted", lambda: make_anew(catalog, index)))
        _tell("bytes of them in the index's files", {"before": left, "now": traces(folder, marks)})
        failed += traces(folder, marks)
    finally:
        index.close()
        catalog.close()
    return 1 if failed else 0


def put_marked(catalog: Catalog, generation: Generation) -> set[str]:
    """Documents whose titles can be looked for in files: the engine compresses what repeats."""
    titles = {secrets.token_hex(16) for _ in range(20)}
    vector = np.ones(DIM, np.float32) / np.sqrt(DIM)
    writes = []
    for title in titles:
        document = Document(f"A text under the title {title}.", title)
        content = ContentWrite(
            content_digest(document),
            document,
            (Passage(0, 0, len(document.text), 8),),
            (PassageVectors(vector, np.zeros((0, 0), np.int8)),),
        )
        writes.append(
            DocumentWrite(
                "bench", title, content.digest, {}, (), title, "text/plain", None, "en", (), None,
                content,
            )
        )  # fmt: skip
    catalog.commit(generation, writes)
    return titles


def make_anew(catalog: Catalog, index: IndexProcess) -> dict[str, Any]:
    """Ask for it and wait until it is done, as `longleaf compact` does."""
    asked = catalog.ask_for_compaction()
    index._retry_at = 0.0
    started = time.perf_counter()
    stages: dict[str, float] = {}
    memory = 0
    while True:
        handover = index._handover
        if handover is not None:
            stages[handover.stage] = stages.get(handover.stage, 0.0) + 0.05
            compactor = handover._compactor
            if compactor is not None:
                memory = max(memory, anonymous_mb(compactor.pid))
        state = edge_folder.read_state(index._folder)
        if state is not None and state.asked >= asked and index._handover is None:
            break
        time.sleep(0.05)
    index._retry_at = float("inf")
    took = time.perf_counter() - started
    rounded = {name: round(seconds, 1) for name, seconds in stages.items()}
    return {"seconds": took, "compactor_anonymous_mb": memory, "stages_s": rounded}


def traces(folder: Path, marks: list[bytes]) -> int:
    """How often the first words of the documents are found in the files."""
    found = 0
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found += sum(data.count(mark) for mark in marks)
    return found


def anonymous_mb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(each.split()[1]) // 1024 for each in lines if each.startswith("RssAnon:"))


@dataclass
class Times:
    """What was noticed in one phase."""

    searches_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        return {
            "searches": len(self.searches_ms),
            "failures": len(self.failures),
            "search_p50_ms": np.percentile(self.searches_ms, 50),
            "search_p99_ms": np.percentile(self.searches_ms, 99),
            "search_max_ms": max(self.searches_ms),
            "stall_p99_ms": np.percentile(self.late_ms, 99),
            "stall_max_ms": max(self.late_ms),
            "beats": len(self.late_ms),
            "beats_over_50_ms": sum(each > MOST_LATE_MS for each in self.late_ms),
        }


class Watch:
    """Searches and a heartbeat, from before something begins until after it has ended."""

    def __init__(self, index: IndexProcess, chosen: argparse.Namespace) -> None:
        self._index = index
        self._chosen = chosen
        self._times = Times()
        self._ended = threading.Event()

    async def around(self, what: str, work: Callable[[], dict[str, Any]]) -> int:
        """Tell all of it; returns how much of it is bad."""
        quiet = self._chosen.quiet_seconds
        with self._searching():
            before = await self._phase(lambda: time.sleep(quiet))
            done: dict[str, Any] = {}
            during = await self._phase(lambda: done.update(work()))
            after = await self._phase(lambda: time.sleep(quiet))
        _tell(f"{what}: made anew", done)
        for name, times in (("before", before), ("during", during), ("after", after)):
            _tell(f"{what}: {name}", times.told())
        for failure in {each for times in (before, during, after) for each in times.failures}:
            print(f"FAIL: {failure}")
        late = during.told()["beats_over_50_ms"] > 0.005 * len(during.late_ms)
        if late:
            print(f"FAIL: the event loop stood still for more than {MOST_LATE_MS} ms too often")
        return sum(len(times.failures) for times in (before, during, after)) + late

    async def _phase(self, work: Callable[[], None]) -> Times:
        self._times = times = Times()
        working = asyncio.create_task(asyncio.to_thread(work))
        while not working.done():
            beat = time.perf_counter()
            await asyncio.sleep(BEAT_SECONDS)
            times.late_ms.append((time.perf_counter() - beat - BEAT_SECONDS) * 1000.0)
        await working
        return times

    @contextmanager
    def _searching(self) -> Iterator[None]:
        self._ended.clear()
        threads = [
            threading.Thread(target=self._search, args=(number,))
            for number in range(self._chosen.searchers)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def _search(self, seed: int) -> None:
        numbers = np.random.default_rng(seed)
        pause = self._chosen.pause_ms / 1000.0
        while not self._ended.wait(pause):
            due = time.perf_counter()
            try:
                self._index.search_dense(_vector(numbers), ALL, LIMIT)
                self._index.search_bm25(_words(numbers), ALL, LIMIT)
            except Exception as error:
                self._times.failures.append(repr(error))
                continue
            self._times.searches_ms.append((time.perf_counter() - due) * 1000.0)


if __name__ == "__main__":
    raise SystemExit(main())
