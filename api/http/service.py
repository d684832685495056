"""What every route gets: the runtime's parts, and lanes of threads to call them in.

Nothing here or in a route calls the catalog, the engine or the indexer on the event loop: searches,
reads and writes each have a lane of their own, so a full search queue delays neither a document
page nor `/readyz`, and a long upload delays no search. It knows no web framework beyond handing
itself to routes. Trade-off: who is beyond the end of a lane waits, without a limit on the line.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Annotated, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, HTTPException, Request

from longleaf.api.http.metrics import Metrics
from longleaf.api.wire import Runtime
from longleaf.api.working import WorkerProcess
from longleaf.core.types import Scope

T = TypeVar("T")
GivenUp = Callable[[], bool]

_READ_THREADS = 4
_LOOK_SECONDS = 0.25
_CLIENT_LEFT = 499  # as nginx calls it; nobody reads it but the log
_UPLOAD_THREADS = 2
"""Uploads whose bytes are in memory at once, on their way to the disk."""


class Service:
    """One per app. `scope` is who asks: until there are keys, the local user, who sees all."""

    def __init__(self, runtime: Runtime, worker: WorkerProcess | None = None) -> None:
        self.runtime = runtime
        self.worker = worker
        self.metrics = Metrics()
        self.scope = Scope.all()
        self._searches = CapacityLimiter(runtime.settings.server.workers)
        self._reads = CapacityLimiter(_READ_THREADS)
        self._writes = CapacityLimiter(1)
        self._uploads = CapacityLimiter(_UPLOAD_THREADS)

    async def search(self, request: Request, call: Callable[[GivenUp], T]) -> T:
        """Run `call` in one of `server.workers` threads; wait in line when all are busy.

        `call` gets what says whether the client has left, and may then end as it likes. Raises
        HTTPException for a client that left while it waited in line.
        """
        has_left = threading.Event()

        def unless_gone() -> T:
            if has_left.is_set():
                raise HTTPException(_CLIENT_LEFT, "The client has left.")
            return call(has_left.is_set)

        watching = asyncio.create_task(_watch(request, has_left))
        try:
            return await to_thread.run_sync(unless_gone, limiter=self._searches)
        finally:
            watching.cancel()

    async def read(self, call: Callable[[], T]) -> T:
        """Run a short catalog read."""
        return await to_thread.run_sync(call, limiter=self._reads)

    async def take_in(self, call: Callable[[], T]) -> T:
        """Run `call`, which stores an upload for a worker; nothing is parsed or embedded here."""
        return await to_thread.run_sync(call, limiter=self._uploads)

    async def write(self, call: Callable[[], T]) -> T:
        """Run `call` as the one writer: one at a time, holding the runtime's writer lock."""

        def locked() -> T:
            with self.runtime.writer_lock:
                return call()

        return await to_thread.run_sync(locked, limiter=self._writes)


async def _watch(request: Request, has_left: threading.Event) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(_LOOK_SECONDS)
    has_left.set()


def _service_of(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


Served = Annotated[Service, Depends(_service_of)]
"""A route parameter: the app's service."""
