"""What every route gets: the runtime's parts, and lanes of threads to call them in.

Nothing here or in a route calls the catalog, the engine or the indexer on the event loop: searches,
reads and writes each have a lane of their own, so a full search queue delays neither a document
page nor `/readyz`, and a long upload delays no search. It knows no web framework beyond handing
itself to routes. Trade-off: who is beyond the end of a lane waits, without a limit on the line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from longleaf.api.http.metrics import Metrics
from longleaf.api.wire import Runtime
from longleaf.api.working import WorkerProcess
from longleaf.core.types import Scope

T = TypeVar("T")

_READ_THREADS = 4
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

    async def search(self, call: Callable[[], T]) -> T:
        """Run `call` in one of `server.workers` threads; wait in line when all are busy."""
        return await to_thread.run_sync(call, limiter=self._searches)

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


def _service_of(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


Served = Annotated[Service, Depends(_service_of)]
"""A route parameter: the app's service."""
