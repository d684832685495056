"""How a server ends: it says so, refuses what is new, lets what runs finish, and then gives up.

`Draining` is asked by whoever answers and told by whoever runs the server (`server.py`); `Drain` is
the layer around all routes that counts requests and refuses. Health and metrics are answered to the
end. A request that has not been answered when time is up is answered 503; an event stream hears of
it by `on_end` and says so itself. It knows neither signals nor sockets.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longleaf.api.http.errors import problem_of, respond, retry_headers
from longleaf.core.errors import ShuttingDown

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Answered as long as the process listens."""
_LAST_SECONDS = 2.0
"""For the last words of what did not finish."""


def shutting_down() -> ShuttingDown:
    """What who asks now is told."""
    return ShuttingDown("The server is shutting down.", "Ask again: it, or another, will be there.")


@dataclass(eq=False, slots=True)
class _Running:
    """A request under way. `send` has not been called while `has_begun` is False."""

    task: asyncio.Task[object]
    scope: Scope
    receive: Receive
    send: Send
    has_begun: bool = False
    is_over: bool = False


class Draining:
    """One per app; `begin` may be called from a signal handler, the rest is the event loop's."""

    def __init__(
        self,
        drain_seconds: float = 0.0,
        shutdown_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._drain_seconds = drain_seconds
        self._shutdown_seconds = shutdown_seconds
        self._clock = clock
        self._since: float | None = None
        self._over_since: float | None = None
        self._running: set[_Running] = set()
        self._listeners: set[Callable[[], None]] = set()
        self._last_words: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """The server is to end."""
        if self._since is None:
            self._since = self._clock()

    @property
    def has_begun(self) -> bool:
        """Whether the server is to end: it is not ready any more."""
        return self._since is not None

    @property
    def refuses(self) -> bool:
        """Whether new requests are refused."""
        return self._since is not None and self._clock() - self._since >= self._drain_seconds

    @property
    def running(self) -> int:
        """Requests under way."""
        return len(self._running)

    def is_done(self) -> bool:
        """Whether the process may end now; to be asked again and again once it has begun."""
        if self._since is None or not self.refuses:
            return False
        now = self._clock()
        if now - self._since >= self._drain_seconds + self._shutdown_seconds:
            if self._over_since is None:
                self._over_since = now
                self._give_up()
            elif now - self._over_since > _LAST_SECONDS:
                return True
        return not self._running

    @contextmanager
    def on_end(self, tell: Callable[[], None]) -> Iterator[None]:
        """While the block lasts, `tell` is called when time is up."""
        self._listeners.add(tell)
        try:
            yield
        finally:
            self._listeners.discard(tell)

    @contextmanager
    def counted(self, request: _Running) -> Iterator[None]:
        self._running.add(request)
        try:
            yield
        finally:
            self._running.discard(request)

    def _give_up(self) -> None:
        for tell in list(self._listeners):
            tell()
        for each in [each for each in self._running if not each.has_begun]:
            each.is_over = True
            last = asyncio.ensure_future(_refuse(each.scope, each.receive, each.send))
            self._last_words.add(last)
            last.add_done_callback(self._last_words.discard)
            each.task.cancel()


class Drain:
    """Counts requests, and refuses them while the server ends."""

    def __init__(self, app: ASGIApp, draining: Draining) -> None:
        self._app = app
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        if self._draining.refuses:
            await _refuse(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None
        request = _Running(task, scope, receive, send)

        async def told(message: Message) -> None:
            if request.is_over:
                return
            request.has_begun = True
            if self._draining.has_begun and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        with self._draining.counted(request):
            try:
                await self._app(scope, receive, told)
            except asyncio.CancelledError:
                if not request.is_over:
                    raise
                task.uncancel()  # it was answered


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    error = shutting_down()
    headers = {**retry_headers(error), "Connection": "close"}
    with suppress(OSError):
        await respond(Request(scope), problem_of(error), headers)(scope, receive, send)
