"""Two API processes on one Postgres catalog and one shared index answer as one.

Real processes, a real Postgres, and qdrant-client's engine behind the routes of a
server (tests/contracts/qdrant_rest.py says what that proves).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.api.conftest import TEXTS
from tests.contracts.qdrant_rest import serving
from tests.postgres import PASSWORD, PostgresServer

QUERIES = ("who pays the rent?", "patent litigation", "vaccine in older adults", '"force majeure"')


class Replica:
    """A real `longleaf serve` with a data folder of its own."""

    def __init__(self, home: Path, settings: dict[str, str]) -> None:
        kept = {name: text for name, text in os.environ.items() if "LONGLEAF" not in name}
        self.log = home.with_suffix(".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "longleaf.api.cli", "serve",
                 "--port", "0", "--json", "--verbose", "--home", str(home)],
                env={**kept, **settings},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said, self.log.read_text()
        self._client = httpx.Client(
            base_url=json.loads(said)["url"], timeout=120.0, trust_env=False
        )

    def ask(self, method: str, path: str, **more: Any) -> Any:
        answer = self._client.request(method, path, **more)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def search(self, query: str, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("POST", "/v1/search", json={"query": query, **more})
        return found

    def upload(self, name: str, text: str) -> Any:
        files = {"file": (name, text.encode())}
        return self.ask("POST", "/v1/documents", files=files, data={"collection": "law"})

    def readiness(self) -> tuple[int, dict[str, Any]]:
        answer = self._client.get("/readyz")
        return answer.status_code, answer.json()

    def follows(self) -> bool:
        return "index.follows" in self.log.read_text()

    def end(self, how: int) -> None:
        self.process.send_signal(how)
        self.process.wait(120)

    def close(self) -> None:
        self._client.close()
        if self.process.poll() is None:
            self.end(signal.SIGTERM)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def replicas(folder: Path, postgres: PostgresServer) -> Iterator[tuple[Replica, Replica]]:
    shared = folder / "shared"
    with ExitStack() as running:
        url = running.enter_context(serving())
        settings = {
            "LONGLEAF_CATALOG__URL": postgres.empty_database(),
            "LONGLEAF_CATALOG__ORIGINALS": str(shared / "originals"),
            "LONGLEAF_CATALOG__TOKEN_VECTORS": str(shared / "token-vectors"),
            "LONGLEAF_INDEX__KIND": "qdrant",
            "LONGLEAF_QDRANT__URL": url,
            "LONGLEAF_QDRANT__HNSW_M": "0",
            "LONGLEAF_CHUNKER__TARGET_TOKENS": "48",
        }
        pair = []
        for name in ("first", "second"):
            replica = Replica(folder / name, settings)
            running.callback(replica.close)
            pair.append(replica)
        yield pair[0], pair[1]


def wait_for(what: Callable[[], object], seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def wait_until_level(*pair: Replica) -> None:
    for replica in pair:
        wait_for(lambda replica=replica: replica.readiness()[1].get("lag") == 0)  # type: ignore[misc]


def told(answer: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What an answer says, without what differs from one asking to the next."""
    return [
        (
            hit["document_id"],
            hit["revision"],
            hit["score"],
            json.dumps(hit["reading"], sort_keys=True),
            [(each["start_char"], each["end_char"], each["text"]) for each in hit["passages"]],
        )
        for hit in answer["hits"]
    ]


def same(first: Replica, second: Replica, query: str) -> bool:
    """Whether both answer alike."""
    left, right = first.search(query, limit=20), second.search(query, limit=20)
    assert left["hits"] and left["degraded"] == right["degraded"] == []
    return told(left) == told(right)


def test_two_processes_answer_as_one_and_one_goes_on_alone(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    with replicas(tmp_path, postgres) as (first, second):
        first.ask("POST", "/v1/collections", json={"name": "law"})
        for number, (name, text) in enumerate(TEXTS.items()):
            (first, second)[number % 2].upload(name, text)
        wait_until_level(first, second)
        assert first.follows() != second.follows(), "not exactly one of them follows"
        for query in QUERIES:
            # To the last bit, if not at once: a write between the two may move the stand-in's sums.
            wait_for(lambda query=query: same(first, second, query), seconds=30.0)  # type: ignore[misc]
        # A cursor of one works on the other, and gives what is left of its window.
        whole = first.search("tenant license adults", limit=6)
        begun = first.search("tenant license adults", limit=2, cursor="*")
        goes_on = {"cursor": begun["next_cursor"], "limit": 4}
        on_first = first.ask("POST", "/v1/search", json=goes_on)
        on_second = second.ask("POST", "/v1/search", json=goes_on)
        assert told(on_first) == told(on_second) == told(whole)[2:]
        # A document of one is read on the other, its original too.
        [lease] = first.search('"security deposit"')["hits"]
        path = f"/v1/documents/{lease['document_id']}"
        assert first.ask("GET", path) == second.ask("GET", path)
        for replica in (first, second):
            answer = replica._client.get(f"{path}/original")
            assert answer.content == TEXTS["lease.txt"].encode()
        assert PASSWORD not in first.log.read_text() + second.log.read_text()

        # The one that follows dies without a word; the other takes over, and nothing is lost.
        leader, other = (first, second) if first.follows() else (second, first)
        leader.end(signal.SIGKILL)
        other.upload("after.txt", "A document that came after the other process had died.")
        assert other.search("who pays the rent?")["hits"], "searches go on meanwhile"
        wait_for(other.follows)
        wait_until_level(other)
        [after] = other.search('"had died"')["hits"]
        assert after["passages"][0]["text"].startswith("A document that came after")
        assert other.readiness()[0] == 200
