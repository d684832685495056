"""Slow clients are cut and slow lines are not: heads, bodies, readers, event streams, too many."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvicorn
from tests.remote.longleaf import started
from uvicorn.server import ServerState

from longleaf.api.http.draining import Draining
from longleaf.api.http.patience import Credit, patient
from longleaf.api.http.server import make_server
from longleaf.core.serving_settings import ServingSettings

QUICK = ServingSettings(
    request_seconds=0.4, stall_seconds=0.4, least_bytes_per_second=1000, connections=20
)
GENTLE = QUICK.model_copy(update={"stall_seconds": 2.0})
"""For who must not be cut, on a machine that is busy."""
HEAD = b"POST /x HTTP/1.1\r\nHost: here\r\n"


class App:
    """Reads a body, waits until `go`, and answers `answer_bytes`, in two parts."""

    def __init__(self, answer_bytes: int = 2) -> None:
        self.answer_bytes = answer_bytes
        self.go = threading.Event()
        self.go.set()
        self.reads = True
        self.ends: list[str] = []
        self.received_bytes = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        more = self.reads
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.ends.append("left")
                return
            self.received_bytes += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b":", "more_body": True})
        while not self.go.is_set():
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"x" * self.answer_bytes})
        self.ends.append("answered")


class Served:
    def __init__(self, url: str, cut: list[str], open_: ExitStack) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.address, self.cut, self._open = (host, int(port)), cut, open_

    def connect(self) -> socket.socket:
        made = self._open.enter_context(socket.create_connection(self.address))
        made.settimeout(60)
        return made


@contextmanager
def served(app: App, serving: ServingSettings = QUICK) -> Iterator[Served]:
    cut: list[str] = []
    server = make_server(
        app, serving, Draining(), note_cut=cut.append, look_seconds=0.05, port=0, log_level="error"
    )
    with started(server) as url, ExitStack() as connections:
        yield Served(url, cut, connections)


def rest(connection: socket.socket) -> bytes:
    """All that still comes, until the server closes."""
    found = b""
    try:
        while data := connection.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


def trickle(connection: socket.socket, data: bytes) -> None:
    """A byte at a time until the other side has had enough."""
    try:
        while True:
            connection.sendall(data)
            time.sleep(0.02)
    except OSError:
        pass


def told(answer: bytes) -> dict[str, Any]:
    """The problem in an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head and b"connection: close" in head.lower()
    found: dict[str, Any] = json.loads(body)
    return found


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD + b"X-Slow: "])
def test_a_head_that_does_not_come_is_408(sent: bytes) -> None:
    with served(App()) as server:
        connection = server.connect()
        connection.sendall(sent)
        assert told(rest(connection))["code"] == "too_slow"
        assert server.cut == ["head"]


def test_a_head_that_trickles_is_cut_although_bytes_come() -> None:
    with served(App()) as server:
        connection = server.connect()
        connection.sendall(HEAD + b"X-Slow: ")
        trickle(connection, b"a")
        assert server.cut == ["head"]


def test_the_next_request_of_a_connection_has_a_deadline_too() -> None:
    with served(App()) as server:
        connection = server.connect()
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        connection.sendall(b"GET / HTTP/1.1\r\nHost")
        assert b"408" in rest(connection) and server.cut == ["head"]


@pytest.mark.parametrize("data", [b"", b"a"])
def test_a_body_that_stalls_or_trickles_is_408_and_its_app_is_told(data: bytes) -> None:
    app = App()
    with served(app) as server:
        connection = server.connect()
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\nbegin")
        if data:
            trickle(connection, data)
        else:
            assert told(rest(connection))["status"] == 408
        assert server.cut == ["body"] and app.ends == ["left"]


def test_a_body_that_an_early_answer_did_not_wait_for_is_cut_as_well() -> None:
    app = App()
    app.reads = False
    with served(app) as server:
        connection = server.connect()
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        trickle(connection, b"a")
        assert server.cut == ["body"]


def test_a_slow_line_is_not_cut() -> None:
    """Above the least rate for longer than a stall may last."""
    app = App()
    with served(app, GENTLE) as server:
        connection = server.connect()
        connection.sendall(HEAD + b"Content-Length: 4000\r\n\r\n")
        for _ in range(40):
            connection.sendall(b"x" * 100)
            time.sleep(0.06)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert app.received_bytes == 4000 and server.cut == []


def test_who_does_not_read_the_answer_is_cut() -> None:
    with served(App(answer_bytes=50_000_000)) as server:
        connection = server.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        while not server.cut:
            time.sleep(0.02)
        assert server.cut == ["answer"]
        assert len(rest(connection)) < 50_000_000


def test_who_reads_slowly_gets_all_of_it() -> None:
    with served(App(answer_bytes=6_000_000), GENTLE) as server:
        connection = server.connect()
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        got = 0
        while data := connection.recv(100_000):
            got += len(data)
            time.sleep(0.03)
        assert got > 6_000_000 and server.cut == []


def test_a_stream_without_events_and_a_slow_answer_are_not_cut() -> None:
    """The client waits for us: a search that reads for long, events that are rare."""
    app = App()
    app.go.clear()
    with served(app) as server:
        connection = server.connect()
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        time.sleep(4 * QUICK.stall_seconds)
        app.go.set()
        assert b"xx" in connection.recv(65536) + connection.recv(65536)
        assert server.cut == []


def test_one_connection_too_many_is_told_when_to_come_back() -> None:
    patient = QUICK.model_copy(update={"request_seconds": 60.0})
    with served(App(), patient) as server:
        held = [server.connect() for _ in range(QUICK.connections)]
        for each in held:
            each.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            assert each.recv(15) == b"HTTP/1.1 200 OK"
        answer = rest(server.connect())
        assert told(answer)["status"] == 503 and b"retry-after: 5" in answer.lower()
        assert server.cut == ["connections"]


def test_credit_is_won_back_at_the_least_rate_and_never_saved_up() -> None:
    credit = Credit(10.0, 1000)
    credit.renew(0.0)
    assert not credit.is_used_up(10.0) and credit.is_used_up(10.1)
    credit.win(5_000, 9.0)
    assert credit.due == 15.0
    credit.win(10**9, 9.0)
    assert credit.due == 19.0, "a fast beginning buys no longer stall"
    for second in range(10, 40):
        credit.win(500, float(second))
    assert credit.is_used_up(39.0), "half the least rate lasts twice as long, and not for ever"


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """On a listener that the server was given, as `longleaf serve` gives it one."""
    config = uvicorn.Config(App())
    config.load()
    sends_at_once: list[int] = []

    class Seen(patient(QUICK, lambda _what: None)):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            held = transport.get_extra_info("socket")
            sends_at_once.append(held.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async def connect() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            make = lambda: Seen(config=config, server_state=ServerState(), app_state={})  # noqa: E731
            server = await asyncio.get_running_loop().create_server(make, sock=listener)
            async with server:
                _, writer = await asyncio.open_connection(*listener.getsockname())
                writer.close()
                await writer.wait_closed()
                while not sends_at_once:
                    await asyncio.sleep(0.01)

    asyncio.run(connect())
    assert sends_at_once != [0]
