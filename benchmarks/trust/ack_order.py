"""Goal 3: what is acknowledged has been fsynced before, originals' folders included.

A kill cannot test this, because the page cache outlives the process; so the system calls are read.
An indexer (`longleaf index --json`: a line for each file) and a server (uploads over HTTP) run
under strace. For every acknowledgement, whatever that process has written to the catalog's log,
the token vectors or the originals must have been fsynced by then, and so must every folder in which
it made, renamed or removed one. Indexes do not count: they are made from the catalog.

    python -m benchmarks.trust.ack_order
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from benchmarks.trust import common
from benchmarks.trust.tracing import traced

_WRITES = {"write", "pwrite64", "writev", "pwritev", "ftruncate", "fallocate"}
_SYNCS = {"fsync", "fdatasync"}
_NAMES = {"rename", "renameat", "renameat2", "unlink", "unlinkat", "openat", "link", "mkdir"}
_SENDS = {"sendto", "sendmsg", "write", "writev"}
_ACK = b"an acknowledgement"
_LINE = re.compile(r"^(?P<process>\d+) +(?P<call>\w+)\((?P<rest>.*)$")
_TARGET = re.compile(r"^(?P<number>\d+)<(?P<path>[^>]*)>")
_CALLS = ",".join(sorted(_WRITES | _SYNCS | _NAMES | _SENDS))


def kept(path: str, home: str) -> bool:
    """Whether an acknowledgement stands on `path`: on SQLite's log, not on its file proper."""
    inside = path.removeprefix(f"{home}/")
    return path != inside and (
        inside == "catalog.sqlite3-wal" or inside.startswith(("originals", "token-vectors"))
    )


def unsynced_acks(trace: str, home: str, is_ack: re.Pattern[str]) -> tuple[int, list[str]]:
    """(acknowledgements, those before which something was written and not yet synced)."""
    dirty: dict[str, set[str]] = defaultdict(set)
    there: set[str] = set()
    acks, early = 0, []
    for line in _whole_lines(trace):
        found = _LINE.match(line)
        if found is None or found["rest"].rpartition("= ")[2].startswith("-"):
            continue
        call, rest = found["call"], found["rest"]
        target = _TARGET.match(rest)
        path = target["path"] if target else ""
        if call in _SENDS and is_ack.search(rest):
            acks += 1
            left = sorted({each for mine in dirty.values() for each in mine})
            if left:
                early.append(f"{len(left)} unsynced at an acknowledgement: {left[:3]}")
        elif call in _WRITES and kept(path, home):
            dirty[path].add(path)
        elif call in _SYNCS:
            dirty.pop(path, None)
        elif call in _NAMES and not (call == "openat" and "O_CREAT" not in rest):
            for name in re.findall(r'"([^"]*)"', rest):
                if call == "openat" and name in there:
                    continue  # opened with O_CREAT, but there already
                (there.discard if call.startswith("unlink") else there.add)(name)
                folder = str(Path(name).parent)
                if kept(f"{folder}/", home) or kept(name, home):
                    dirty[folder].add(f"{folder}/ (the name of {Path(name).name[:20]})")
    return acks, early


def _whole_lines(trace: str) -> Iterator[str]:
    """Calls that strace has shown in two pieces, put together where they ended."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        process, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            begun[process] = rest.removesuffix("<unfinished ...>")
        elif rest.startswith("<... "):
            _, _, end = rest.partition(" resumed>")
            yield f"{process} {begun.pop(process, '')}{end}"
        else:
            yield f"{process} {rest}"


def indexing(folder: Path, files: int) -> tuple[int, list[str]]:
    """`files` small files through `longleaf index --json`, each acknowledged by a line."""
    home, documents = folder / "indexed", folder / "documents"
    documents.mkdir()
    for number in range(files):
        (documents / f"{number}.txt").write_text(common.text_of(number, 6))

    def work(out: int) -> None:
        from longleaf.api.cli.corpus import index
        from longleaf.indexer.work import JobSupervisor

        # The heartbeat writes to the log as well, at any time; nothing acknowledged stands on it.
        JobSupervisor._beat = lambda self: None  # type: ignore[method-assign]
        os.dup2(out, 1)
        os.environ["LONGLEAF_INDEXER__COMMIT_PASSAGES"] = "2"
        os.environ["LONGLEAF_EMBEDDER__THREADS"] = "1"
        index([documents], home=home, as_json=True)

    seen = traced(work, ("-y", "-s", "60", "-e", f"trace={_CALLS}"), folder / "indexing.trace")
    lines = [json.loads(line) for line in seen.said.splitlines()]
    acks, early = unsynced_acks(seen.trace, str(home), re.compile(r'^1<.*"\{\\"key\\"'))
    said = sum(line.get("outcome") == "indexed" for line in lines)
    if said != files or acks != files:
        early.append(f"{files} files, {said} reported, {acks} seen in the trace")
    return acks, early


def uploading(folder: Path, uploads: int) -> tuple[int, list[str]]:
    """`uploads` over HTTP to a server in a traced process; each 2xx is an acknowledgement."""
    home = folder / "uploaded"

    def work(out: int) -> None:
        with _server(home) as ask:
            for number in range(uploads):
                name = f"{number}.txt"
                files = {"file": (name, common.text_of(number, 6).encode())}
                form = {"collection": common.COLLECTION}
                answer = ask("POST", "/v1/documents?wait_seconds=0", files=files, data=form)
                os.write(out, f"{answer.status_code}\n".encode())

    seen = traced(work, ("-y", "-s", "40", "-e", f"trace={_CALLS}"), folder / "uploading.trace")
    acks, early = unsynced_acks(seen.trace, str(home), re.compile(r'<(?:socket|TCP).*"HTTP/1.1 2'))
    said = seen.said.split()
    if set(said) - {"201", "202", "200"} or acks < uploads or len(said) != uploads:
        early.append(f"{uploads} uploads, {len(said)} answers {set(said)}, {acks} in the trace")
    return acks, early


@contextlib.contextmanager
def _server(home: Path) -> Iterator[object]:
    """The app on a real socket in this process, without a worker: what is taken in stays a job."""
    import httpx
    import uvicorn

    from longleaf.api import wire
    from longleaf.api.app import create_app

    runtime = wire.open_runtime(common.settings_of(home), follow=False)
    runtime.catalog.create_collection(common.COLLECTION)
    server = uvicorn.Server(uvicorn.Config(create_app(runtime), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as client:
        yield client.request
    server.should_exit = True
    thread.join()
    runtime.close()


def run(files: int, uploads: int) -> common.Outcome:
    """Both ways in."""
    common.load_models()
    common.read_here()
    with common.scratch() as folder:
        indexed, early = indexing(folder, files)
        uploaded, early_uploads = uploading(folder, uploads)
    early += early_uploads
    figure = (
        f"{indexed} acknowledged files and {uploaded} acknowledged uploads, "
        f"{len(early)} of them before everything was synced"
    )
    return common.Outcome(3, "acknowledged after fsync", figure, not early, early)


def main() -> int:
    chosen = common.options(__doc__ or "", files=120, uploads=80)
    return common.finish(run(chosen.files, chosen.uploads), as_json=chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
