"""The end in order: not ready at once, what runs finishes, what is new is refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from tests.api.conftest import own_process
from tests.api.test_lanes import Counting, raw
from tests.remote.longleaf import started

from longleaf.api import jobs, wire
from longleaf.api.app import create_app
from longleaf.api.http.draining import Draining
from longleaf.api.http.server import make_server
from longleaf.api.wire import Runtime
from longleaf.core.catalog.jobs import JobState
from longleaf.core.config import load_settings
from longleaf.core.protocols import Reranker
from longleaf.core.serving_settings import ServingSettings
from longleaf.core.types import Scope
from longleaf.indexer.specs import FolderSpec


class Clock:
    """Seconds as the test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def counting(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Counting:
    """A reranker that reads until it is let go."""
    made = Counting()
    monkeypatch.setattr(runtime.engine, "reranker", cast(Reranker, made))
    return made


@contextmanager
def served(runtime: Runtime, draining: Draining) -> Iterator[str]:
    app = create_app(runtime, draining=draining)
    with started(make_server(app, ServingSettings(), draining, port=0, log_level="error")) as url:
        yield url


def answer_of(asked: Any) -> tuple[bytes, bytes]:
    """Head and body of what still comes on a connection that the server closes."""
    found = b""
    while data := asked.recv(65536):
        found += data
    asked.close()
    head, _, body = found.partition(b"\r\n\r\n")
    return head.lower(), body


def until(what: Callable[[], object]) -> None:
    while not what():
        time.sleep(0.01)


def test_what_runs_finishes_and_what_is_new_is_refused(
    runtime: Runtime, counting: Counting
) -> None:
    draining = Draining(shutdown_seconds=1e9)
    with served(runtime, draining) as url:
        asked = raw(url, "/v1/search", {"query": "rent"})
        assert counting.begun.acquire(timeout=60)
        draining.begin()
        ready = httpx.get(f"{url}/readyz")
        assert ready.status_code == 503 and int(ready.headers["Retry-After"]) > 0
        assert "The server is shutting down." in ready.json()["reasons"]
        for path in ("/v1/search", "/v1/rerank", "/v1/documents", "/nothing"):
            refused = httpx.post(url + path, json={"query": "rent"})
            assert refused.status_code == 503 and refused.headers["Retry-After"] == "5"
            assert refused.headers["connection"] == "close" and "shutting" in refused.text
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert "longleaf_ready 0.0" in httpx.get(f"{url}/metrics").text
        counting.go_on.set()
        head, body = answer_of(asked)
        assert head.startswith(b"http/1.1 200") and b"connection: close" in head
        assert json.loads(body)["hits"] and not json.loads(body)["degraded"]


def test_for_a_while_it_may_still_take_requests_while_proxies_notice() -> None:
    clock = Clock()
    draining = Draining(drain_seconds=5.0, shutdown_seconds=10.0, clock=clock)
    assert not (draining.has_begun or draining.refuses or draining.is_done())
    draining.begin()
    assert draining.has_begun and not draining.refuses and not draining.is_done()
    clock.now = 5.0
    assert draining.refuses and draining.is_done(), "nothing runs"


def test_when_time_is_up_requests_and_streams_are_told(
    runtime: Runtime, counting: Counting
) -> None:
    clock = Clock()
    draining = Draining(shutdown_seconds=10.0, clock=clock)
    with served(runtime, draining) as url:
        asked = raw(url, "/v1/search", {"query": "rent"})
        stream = raw(url, "/v1/search", {"query": "rent"}, "text/event-stream")
        for _ in range(2):
            assert counting.begun.acquire(timeout=60)
        until(lambda: draining.running == 2)
        draining.begin()
        clock.now = 9.0
        assert not draining.is_done()
        clock.now = 10.5
        head, body = answer_of(asked)
        assert head.startswith(b"http/1.1 503") and b"retry-after: 5" in head
        assert json.loads(body)["code"] == "shutting_down"
        head, body = answer_of(stream)
        events = [each.split("\n")[0] for each in body.decode().split("\r\n") if "event: " in each]
        assert head.startswith(b"http/1.1 200") and b"event: first" in body
        assert events and events[-1] == "event: error" and b"shutting_down" in body
        for _ in range(2):
            assert counting.ended.acquire(timeout=60), "reading ends: nobody waits for it"
        assert counting.units <= 2


LEASE = "Lease. The tenant pays the rent on the first day of each month. "


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`longleaf serve` in a process of its own, when it is ready; its URL."""
    given = {f"LONGLEAF_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "longleaf.api.cli", "serve", "--port", "0", "--json",
         "--home", str(home)],
        env=os.environ | given, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        url = json.loads(line)["url"]
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        yield process, url
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def under_way(url: str) -> Iterator[Callable[[], bytes]]:
    """A request of a real server that has its head only; called, it is sent whole and answered."""
    host, port = url.removeprefix("http://").split(":")
    body = b'{"query": "rent"}'
    with socket.create_connection((host, int(port))) as held:
        held.sendall(
            f"POST /v1/search HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        assert held.recv(12) == b"HTTP/1.1 100", "a route waits for the body"
        while b"\r\n\r\n" not in held.recv(64):
            pass

        def finish() -> bytes:
            held.sendall(body)
            return held.recv(12)

        yield finish


@own_process
@pytest.mark.slow
def test_sigterm_of_a_real_server_gives_the_job_back_and_ends_with_0(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "documents"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"Number {number}. {LEASE * 20}")
    catalog = wire.open_catalog(load_settings({"home": home}, {}).settings)
    try:
        catalog.create_collection("law")
        with serving(home, indexer__commit_passages="4") as (process, url):
            job = jobs.ask_for_folder(catalog, "law", FolderSpec((str(folder),)))
            until(lambda: catalog.documents(Scope.all()))
            with under_way(url) as finish:
                process.send_signal(signal.SIGTERM)
                until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
                assert httpx.post(f"{url}/v1/search", json={"query": "x"}).status_code == 503
                assert finish() == b"HTTP/1.1 200"
            assert process.wait() == 0
            assert not (home / "server.json").exists()
        left = catalog.jobs.get(job.public_id, Scope.all())
        assert left.state in (JobState.QUEUED, JobState.DONE), "no lease is left to run out"
    finally:
        catalog.close()


@own_process
@pytest.mark.slow
def test_a_second_signal_ends_a_real_server_at_once(tmp_path: Path) -> None:
    given = {"serving__shutdown_seconds": "3600", "server__worker": "false"}
    with serving(tmp_path / "home", **given) as (process, url), under_way(url):
        process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM
