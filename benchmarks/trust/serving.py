"""A real `longleaf serve` for as long as a block lasts, and what is asked of it over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from benchmarks.trust import common

LONGLEAF = str(Path(sys.executable).with_name("longleaf"))


@dataclass(frozen=True, slots=True)
class Server:
    """Its process, its client, and where its log goes."""

    process: subprocess.Popen[bytes]
    http: httpx.Client
    log: Path

    def upload(self, number: int, *, sentences: int = 6, wait: float = 60.0) -> httpx.Response:
        """Document `number` under its key."""
        return self.http.post(
            "/v1/documents",
            params={"wait_seconds": wait},
            files={"file": (f"{number}.txt", common.text_of(number, sentences).encode())},
            data={"collection": common.COLLECTION, "key": f"k{number}"},
        )

    def search(self, query: str) -> httpx.Response:
        return self.http.post("/v1/search", json={"query": query})

    def is_seen(self, number: int) -> bool:
        """Whether a search finds document `number` by its own word."""
        answer = self.search(f'"marker{number}x"')
        return answer.status_code == 200 and len(answer.json()["hits"]) == 1


def environment(**settings: str) -> dict[str, str]:
    """This process's, with small batches; `server__port="0"` sets server.port."""
    own = {"indexer__commit_passages": "8", "embedder__threads": "1", **settings}
    return os.environ | {f"LONGLEAF_{name.upper()}": value for name, value in own.items()}


@contextlib.contextmanager
def served(home: Path, log: Path, **settings: str) -> Iterator[Server]:
    """Start it, make the collection, end it with SIGTERM. Its log is kept outside the folder."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [LONGLEAF, "serve", "--port", "0", "--json", "--home", str(home)],
            env=environment(**settings),
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdout is not None
    try:
        said: dict[str, str] = {}
        while "url" not in said:
            line = process.stdout.readline()
            assert line, log.read_text()[-2000:]
            said = json.loads(line)
        with httpx.Client(base_url=said["url"], timeout=400.0) as client:
            until(lambda: client.get("/readyz").status_code == 200, 120.0)
            client.post("/v1/collections", json={"name": common.COLLECTION})
            yield Server(process, client, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        process.stdout.close()


def until(what: Callable[[], object], seconds: float) -> float | None:
    """Seconds until `what` was so; None when it was not in time."""
    started = time.monotonic()
    while not what():
        if time.monotonic() - started > seconds:
            return None
        time.sleep(0.1)
    return time.monotonic() - started
