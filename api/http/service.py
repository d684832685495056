"""What every route gets: the runtime's parts, and lanes of threads to call them in.

Nothing here or in a route calls the catalog, the engine or the indexer on the event loop: searches,
reads and writes each have a lane of their own, so a full search queue delays neither a document
page nor `/readyz`, and a long upload delays no search. It knows no web framework beyond handing
itself to routes. Bulk searches and answers in words have lanes beside the others'. Trade-off: who
is beyond the end of a lane waits, and only a line of hundreds is refused.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable
from typing import Annotated, TypeVar

from anyio import CapacityLimiter, create_task_group, to_thread
from fastapi import Depends, HTTPException, Request

from longleaf.api.evaluate.background import Evaluations
from longleaf.api.gate import Gate
from longleaf.api.given import TextReading
from longleaf.api.http.errors import CLIENT_LEFT
from longleaf.api.http.metrics import Metrics
from longleaf.api.rendering import Pages
from longleaf.api.wire import Runtime, open_chunker
from longleaf.api.working import WorkerProcess
from longleaf.core.access import LOCAL, Caller
from longleaf.core.errors import Overloaded
from longleaf.core.protocols import DistantReranker, QueuedReranker
from longleaf.core.types import Scope

T = TypeVar("T")
GivenUp = Callable[[], bool]

_READ_THREADS = 4
_QUEUED_SEARCHES = 64
"""Threads that wait for a reranker with a queue of its own."""
_MOST_WAITING = 256
"""Searches, or pages, in line for a thread, beyond which one more is refused."""
_LOOK_SECONDS = 0.25
_UPLOAD_THREADS = 2
"""Uploads whose bytes are in memory at once, on their way to the disk."""


class Service:
    """One per app, of which each request gets a view: `caller` asks, and may see `scope`.

    `local_token`: see `gate.Gate`.
    """

    def __init__(
        self, runtime: Runtime, worker: WorkerProcess | None = None, local_token: str = ""
    ) -> None:
        self.runtime = runtime
        server = runtime.settings.server
        self.gate = Gate(
            runtime.catalog.keys,
            local_token=local_token,
            requests_per_minute=server.requests_per_minute,
        )
        self.caller = LOCAL
        self.worker = worker
        self.metrics = Metrics()
        self.scope = Scope.all()
        self.evaluations = Evaluations(runtime)
        self.text_reading = TextReading(lambda each: open_chunker(runtime.settings, each))
        workers = runtime.settings.server.workers
        if isinstance(runtime.engine.reranker, QueuedReranker | DistantReranker):
            # These wait in the reranker's queue, which knows turns and batches, or for another
            # machine; its limit holds, and `SearchEngine` has the other stages done by no more
            # than `workers` at once.
            workers = _QUEUED_SEARCHES
        self._searches = CapacityLimiter(workers)
        self._answers = CapacityLimiter(runtime.settings.answer.concurrent)
        self._bulk = CapacityLimiter(max(1, workers // 2))
        self._reads = CapacityLimiter(_READ_THREADS)
        self._door = CapacityLimiter(1)
        self._writes = CapacityLimiter(1)
        self._uploads = CapacityLimiter(_UPLOAD_THREADS)
        self._drawing = CapacityLimiter(1)

    def asked_by(self, caller: Caller) -> Service:
        """This service as `caller` sees it; lanes and everything else are the same."""
        if caller is LOCAL:
            return self
        view = copy.copy(self)
        view.caller, view.scope = caller, caller.scope
        return view

    @property
    def pages(self) -> Pages:
        """Pictures of pages."""
        return self.runtime.pages

    async def search(
        self, request: Request, call: Callable[[GivenUp], T], *, is_bulk: bool = False
    ) -> T:
        """Run `call` in a thread of the searches' or the bulk lane; wait when all are busy.

        `call` gets what says whether the client has left, and may then end as it likes. Raises
        Overloaded when too many wait, HTTPException for a client that left while it did.
        """
        return await _in_lane(self._bulk if is_bulk else self._searches, request, call, "searches")

    async def answer(self, request: Request, call: Callable[[GivenUp], T]) -> T:
        """Run `call`, which waits for a chat model, beside the searches. Raises as `search`."""
        return await _in_lane(self._answers, request, call, "answers")

    async def draw(self, request: Request, call: Callable[[GivenUp], T]) -> T:
        """Run `call`, which draws a page, when no other is being drawn. Raises as `search` does."""
        return await _in_lane(self._drawing, request, call, "pages")

    async def read(self, call: Callable[[], T]) -> T:
        """Run a short catalog read."""
        return await to_thread.run_sync(call, limiter=self._reads)

    async def at_the_door(self, call: Callable[[], T]) -> T:
        """Run `call` for who has shown no key, one at a time: they keep nobody else waiting."""
        return await to_thread.run_sync(call, limiter=self._door)

    async def take_in(self, call: Callable[[], T]) -> T:
        """Run `call`, which stores an upload for a worker; nothing is parsed or embedded here."""
        return await to_thread.run_sync(call, limiter=self._uploads)

    async def write(self, call: Callable[[], T]) -> T:
        """Run `call` as the one writer: one at a time, holding the runtime's writer lock."""

        def locked() -> T:
            with self.runtime.writer_lock:
                return call()

        return await to_thread.run_sync(locked, limiter=self._writes)


async def _in_lane(
    lane: CapacityLimiter, request: Request, call: Callable[[GivenUp], T], what: str
) -> T:
    if lane.statistics().tasks_waiting >= _MOST_WAITING:
        raise Overloaded(
            f"{_MOST_WAITING} {what} wait already.", "Try again later.", retry_after_seconds=1
        )
    has_left = threading.Event()

    def unless_gone() -> T:
        if has_left.is_set():
            raise HTTPException(CLIENT_LEFT, "The client has left.")
        return call(has_left.is_set)

    failure: Exception | None = None
    async with create_task_group() as watching:
        watching.start_soon(_watch, request, has_left)
        try:
            answer = await to_thread.run_sync(unless_gone, limiter=lane)
        except Exception as error:  # as itself, and not in the group's ExceptionGroup
            failure = error
        watching.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return answer


async def _watch(request: Request, has_left: threading.Event) -> None:
    """Sets `has_left` once the client has left, or when the request is cancelled: the thread cannot
    be, but it looks."""
    try:
        while not await request.is_disconnected():
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        has_left.set()


async def _service_of(request: Request) -> Service:
    # Not a plain function: the framework would send it to a thread and wait for that.
    service = request.app.state.service
    assert isinstance(service, Service)
    return service.asked_by(request.state.caller)


Served = Annotated[Service, Depends(_service_of)]
"""A route parameter: the app's service."""
