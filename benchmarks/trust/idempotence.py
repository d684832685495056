"""Goal 12: the same bytes a hundred times at once, renamed, and again after cut connections.

A real server takes one file from a hundred clients at once (each waits for its outcome), then under
other names, then from clients that hang up in the middle of the request or before the answer and
try again. However often: one document, with the passages that one upload makes. The same twice:
under a key, and named by the hash of its bytes.

    python -m benchmarks.trust.idempotence
"""

from __future__ import annotations

import random
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.trust import common
from benchmarks.trust.serving import Server, served, until

CUTS = 20


def put(server: Server, name: str, data: bytes, key: str | None) -> int:
    """One upload to its outcome; the status."""
    form = {"collection": common.COLLECTION} | ({"key": key} if key else {})
    files = {"file": (name, data)}
    return server.http.post("/v1/documents", files=files, data=form).status_code


def cut(server: Server, name: str, data: bytes, key: str | None, share: float) -> None:
    """Send a share of the request (1: all of it) and hang up without reading an answer."""
    form = {"collection": common.COLLECTION} | ({"key": key} if key else {})
    files = {"file": (name, data)}
    request = server.http.build_request("POST", "/v1/documents", files=files, data=form)
    body = request.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    sent = f"POST /v1/documents HTTP/1.1\r\n{head}\r\n".encode() + body
    url = urlsplit(str(server.http.base_url))
    with socket.create_connection((url.hostname, url.port), timeout=30.0) as connection:
        connection.sendall(sent[: max(1, int(share * len(sent)))])


def held(server: Server, home: Path) -> tuple[int, int]:
    """(documents, passages) once every job has ended."""
    from longleaf.api import wire
    from longleaf.core.types import Scope

    catalog = wire.open_catalog(common.settings_of(home))
    try:
        assert until(lambda: catalog.jobs.open_count() == 0, 120.0) is not None, "jobs stand still"
        generation = catalog.live_generation()
        assert generation is not None
        heads = catalog.documents(Scope.all())
        return len(heads), sum(len(catalog.passages(head, generation, 0, 1000)) for head in heads)
    finally:
        catalog.close()


def run(times: int, seed: int) -> common.Outcome:
    """Both kinds of names."""
    rng = random.Random(seed)
    wrong: list[str] = []
    statuses: Counter[int] = Counter()
    with common.scratch() as folder:
        home = folder / "home"
        with served(home, folder / "server.log") as server, ThreadPoolExecutor(times) as pool:
            documents = passages = 0
            for number, key in ((1, "the-key"), (2, None)):
                data = common.text_of(number, 30).encode()
                statuses.update(
                    pool.map(put, *zip(*[(server, "a.txt", data, key)] * times, strict=True))
                )
                first = held(server, home)
                statuses.update(put(server, f"renamed-{n}.txt", data, key) for n in range(5))
                for _ in range(CUTS):
                    cut(server, "a.txt", data, key, rng.choice([rng.random(), 1.0, 1.0]))
                    statuses[put(server, "a.txt", data, key)] += 1
                last = held(server, home)
                if first[0] != documents + 1 or last != first or last[1] <= passages:
                    what = f"{times} uploads of one file made {first}, in the end {last}"
                    wrong.append(f"{what} (documents, passages), before {documents, passages}")
                documents, passages = last
            if not (server.is_seen(1) and server.is_seen(2)):
                wrong.append("a search does not find exactly one document for its own word")
    taken = {200, 201, 202}  # 202: it waits as a job, because the machine is busy
    wrong += [f"{n} answers {status}" for status, n in statuses.items() if status not in taken]
    figure = (
        f"2 x {times} uploads of the same bytes at once, 5 renamed, {CUTS} after a cut: "
        f"{documents} documents of {passages} passages for 2 files"
    )
    return common.Outcome(12, "idempotence", figure, not wrong, wrong)


def main() -> int:
    chosen = common.options(__doc__ or "", times=100)
    return common.finish(run(chosen.times, chosen.seed), as_json=chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
