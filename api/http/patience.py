"""How long the server waits for a client: for a request, for its body, for an answer to be read.

uvicorn has no such limit: a client that sends a byte a minute, or never reads, holds its connection
for ever, and hundreds of them hold all. A request's head has a deadline. A body on its way in and
an answer on its way out have a credit of seconds which bytes win back at a least rate, so that a
stalled client is cut after the same time whatever it did before, and 256 MiB over a slow line are
not. What the server itself holds up (an upload that waits for the disk, an event stream without
events) costs the client nothing. One look a second per connection: 500 take about 1 ms of it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from longleaf.api.http.errors import PROBLEM_TYPE, http_problem
from longleaf.core.serving_settings import ServingSettings

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_UNSENT_BYTES = 256 * 1024
"""What the kernel keeps of answers that a client has not acknowledged: 25 MB/s at 10 ms of way, and
2.5 at 100. By itself it takes 4 MiB, and 500 clients that ask and do not read 2 GiB."""
_TOO_MANY_RETRY_SECONDS = b"5"


@dataclass(slots=True)
class Credit:
    """Until when a client may take; `due` and `now` are seconds of one clock."""

    stall_seconds: float
    bytes_per_second: int
    due: float = 0.0

    def renew(self, now: float) -> None:
        """All of it again: nothing is expected of the client, or it is not at fault."""
        self.due = now + self.stall_seconds

    def win(self, moved_bytes: int, now: float) -> None:
        """Bytes have moved."""
        won = self.due + moved_bytes / self.bytes_per_second
        self.due = min(max(won, self.due), now + self.stall_seconds)

    def is_used_up(self, now: float) -> bool:
        return now > self.due


class _Counted:
    """A transport that counts what was written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.written_bytes = 0

    def write(self, data: bytes) -> None:
        self.written_bytes += len(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _prepare(transport: asyncio.Transport) -> None:
    """Send at once, and offer the kernel no more than it can be expected to send.

    Head and body are two writes: the second would wait until the client acknowledges the first,
    which it does after 40 ms. asyncio asks for this only of sockets whose protocol was named.
    """
    held = transport.get_extra_info("socket")
    if held is not None and held.family in (socket.AF_INET, socket.AF_INET6):
        held.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT_BYTES)


class PatientProtocol(H11Protocol):
    """uvicorn's protocol with deadlines; `patient` makes the class that a server takes."""

    serving = ServingSettings()
    look_seconds = _LOOK_SECONDS

    @staticmethod
    def note(what: str) -> None:
        """Called with what was too slow: "head", "body" or "answer"; "connections": too many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        _prepare(transport)
        self._counted = _Counted(transport)
        super().connection_made(cast(asyncio.Transport, self._counted))
        now = self.loop.time()
        serving = self.serving
        self._head_since: float | None = now
        self._incoming = Credit(serving.stall_seconds, serving.least_bytes_per_second)
        self._outgoing = Credit(serving.stall_seconds, serving.least_bytes_per_second)
        self._outgoing.renew(now)
        self._sent_bytes = 0
        self._look_handle = self.loop.call_later(self.look_seconds, self._look)
        if len(self.connections) > serving.connections:
            self.note("connections")
            detail = f"{serving.connections:,} connections are open already."
            self._refuse(503, detail, (b"retry-after", _TOO_MANY_RETRY_SECONDS))

    def connection_lost(self, exc: Exception | None) -> None:
        self._look_handle.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        now = self.loop.time()
        if self.conn.their_state is not h11.IDLE:
            self._incoming.win(len(data), now)
        elif self._head_since is None:
            self._head_since = now
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE and self._head_since is not None:
            self._head_since = None
            self._incoming.renew(now)

    def _look(self) -> None:
        self._look_handle = self.loop.call_later(self.look_seconds, self._look)
        now = self.loop.time()
        if self._is_answer_stuck(now):
            self._cut("answer")
            self._reset()
        elif self.transport.is_closing():
            return
        elif self.conn.their_state is h11.IDLE:
            if self._head_since is not None and now - self._head_since > self._request_seconds:
                self._cut("head")
                self._refuse(408, "The request's line and headers did not come in time.")
        elif self.conn.their_state is h11.SEND_BODY:
            if self.flow.read_paused or self.conn.they_are_waiting_for_100_continue:
                self._incoming.renew(now)
            elif self._incoming.is_used_up(now):
                self._cut("body")
                self._refuse(408, "The request's body stopped coming, or came too slowly.")

    @property
    def _request_seconds(self) -> float:
        return self.serving.request_seconds

    def _is_answer_stuck(self, now: float) -> bool:
        unsent_bytes = self.transport.get_write_buffer_size()
        sent_bytes = self._counted.written_bytes - unsent_bytes
        if not unsent_bytes:
            self._outgoing.renew(now)
        else:
            self._outgoing.win(sent_bytes - self._sent_bytes, now)
        self._sent_bytes = sent_bytes
        return self._outgoing.is_used_up(now)

    def _cut(self, what: str) -> None:
        self.note(what)
        _log.info("http.cut", what=what)  # hundreds at once would fill a log of warnings

    def _reset(self) -> None:
        """Close and forget what was not sent, which the kernel would go on offering for minutes."""
        held = self.transport.get_extra_info("socket")
        if held is not None:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _refuse(self, status: int, detail: str, *headers: tuple[bytes, bytes]) -> None:
        """Say why, if an answer has not begun, and close; whoever serves it sees a client leave."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started:
                self._reset()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            said = http_problem(status, detail).model_dump(mode="json", exclude_none=True)
            body = json.dumps(said).encode()
            head = h11.Response(
                status_code=status,
                headers=[
                    (b"content-type", PROBLEM_TYPE.encode()),
                    (b"content-length", str(len(body)).encode()),
                    (b"connection", b"close"),
                    *headers,
                ],
            )
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def patient(
    serving: ServingSettings,
    note: Callable[[str], None],
    look_seconds: float = _LOOK_SECONDS,
) -> type[PatientProtocol]:
    """The protocol class for uvicorn with these limits. `note`: see `PatientProtocol.note`."""
    given = {"serving": serving, "note": staticmethod(note), "look_seconds": look_seconds}
    return type("Patient", (PatientProtocol,), given)
