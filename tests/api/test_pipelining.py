"""Requests of one connection are strangers to each other: each is let in, counted and logged as
itself, whether it was written together with the one before or came behind its long body."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from tests.api.keyed import LOCAL_TOKEN, Site, keyed_site
from tests.remote.longleaf import started

from longleaf.api.app import create_app
from longleaf.api.http.draining import Draining
from longleaf.api.http.server import make_server
from longleaf.core.access import Role
from longleaf.core.catalog.keys import KeyWrite
from longleaf.core.serving_settings import ServingSettings

LONG = b'{"query": "' + b"x" * 300_000 + b'"}'
"""Longer than the server reads at once, so reading stops and begins again while it is taken."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with keyed_site(tmp_path_factory.mktemp("keys")) as made:
        yield made


class Seen:
    """An app, and what of other requests each of its requests begins with."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.inherited: list[dict[str, object]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            found = {var.name: value for var, value in copy_context().items()}
            self.inherited.append(found)
        await self._app(scope, receive, send)


@contextmanager
def served(app: Any) -> Iterator[socket.socket]:
    """A connection to `app` behind the server that `longleaf serve` runs."""
    server = make_server(app, ServingSettings(), Draining(), port=0, log_level="error")
    with started(server) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            yield connection


def request(method_and_path: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method_and_path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answers(connection: socket.socket, *requests: bytes) -> list[tuple[int, str]]:
    """Status and text of each, all of them written at once; the connection ends with them."""
    ends = request("GET /healthz", "Connection: close")
    connection.sendall(b"".join(requests) + ends)
    told = b""
    while data := connection.recv(65536):
        told += data
    parts = re.split(r"HTTP/1\.1 (?=\d{3} )", told.decode())[1:-1]
    assert len(parts) == len(requests)
    return [(int(each[:3]), each) for each in parts]


def answered(connection: socket.socket, asked: bytes) -> int:
    """The status of one, when all of its answer has been read."""
    connection.sendall(asked)
    told = b""
    while b"\r\n\r\n" not in told:
        told += connection.recv(65536)
    head, _, body = told.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    assert length is not None
    while len(body) < int(length[1]):
        body += connection.recv(65536)
    return int(head.split()[1])


def hasty(site: Site) -> str:
    """The header of a key that may come once a minute."""
    wanted = KeyWrite("hasty", Role.READ, requests_per_minute=1)
    return f"Authorization: Bearer {site.runtime.catalog.keys.create(wanted)[1]}"


@pytest.fixture
def app(site: Site) -> Any:
    return create_app(site.runtime, local_token=LOCAL_TOKEN)


def test_each_of_a_row_of_requests_is_counted(site: Site, app: Any) -> None:
    asked = request("GET /v1/collections", hasty(site))
    with served(app) as connection:
        told = answers(connection, request("GET /healthz"), *[asked] * 4)
    assert [status for status, _ in told] == [200, 200, 429, 429, 429]


def test_requests_behind_a_long_body_are_counted(site: Site, app: Any) -> None:
    """Whoever begins to read again does it for all that comes on the connection from then on."""
    mine = hasty(site)
    admin = f"Authorization: Bearer {site.keys['admin']}"
    asked = request("GET /v1/collections", mine)
    with served(app) as connection:
        assert answered(connection, request("POST /v1/search", admin, body=LONG)) in (200, 400, 422)
        assert [answered(connection, asked) for _ in range(3)] == [200, 429, 429]


def test_nobody_comes_in_behind_somebody_else(site: Site, app: Any) -> None:
    admin = f"Authorization: Bearer {site.keys['admin']}"
    reader = f"Authorization: Bearer {site.keys['reader']}"
    with served(app) as connection:
        told = answers(
            connection,
            request("GET /v1/status", admin),
            request("GET /v1/status"),
            request("GET /v1/status", reader),
            request("GET /v1/status", "Authorization: Bearer wrong"),
            request("POST /library/collections", "Accept: text/html", "Content-Length: 0"),
            request("GET /v1/status", admin),
        )
    assert [status for status, _ in told] == [200, 401, 403, 401, 401, 200]
    assert "admin" not in told[4][1], "the page of an error is its own reader's"


@pytest.mark.parametrize("is_long", [False, True])
def test_a_request_begins_with_nothing_of_another(site: Site, app: Any, is_long: bool) -> None:
    """Who asks, what the log says of them, their trace and their part of the work: all of it."""
    seen = Seen(app)
    admin = f"Authorization: Bearer {site.keys['admin']}"
    first = request("POST /v1/search", admin, body=LONG if is_long else b'{"query": "rent"}')
    with served(seen) as connection:
        answers(connection, first, request("GET /v1/collections"), request("GET /", admin))
    assert seen.inherited == [{}] * 4


def test_the_log_names_who_asked(site: Site, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import structlog

    bound: list[tuple[str, object, object]] = []
    caller = app.state.service.gate.caller

    def looked(key: str, session: str) -> Any:
        context = structlog.contextvars.get_contextvars()
        bound.append((context["request_id"], context.get("who"), context.get("key")))
        return caller(key, session)

    monkeypatch.setattr(app.state.service.gate, "caller", looked)
    admin = f"Authorization: Bearer {site.keys['admin']}"
    with served(app) as connection:
        answers(
            connection,
            request("GET /v1/collections", admin, "X-Request-ID: first"),
            request("GET /v1/collections", "X-Request-ID: second"),
        )
    assert bound[:2] == [("first", None, None), ("second", None, None)]
