"""What every route gets: the runtime's parts, and lanes of threads to call them in.

Nothing here or in a route calls the catalog, the engine or the indexer on the event loop: searches,
reads and writes each have a lane of their own, so a full search queue delays neither a document
page nor `/readyz`, and a long upload delays no search. It knows no web framework beyond handing
itself to routes. Bulk searches and answers in words have lanes beside the others'. Trade-off: who
is beyond the end of a lane waits, and only a line of hundreds is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Annotated, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from longleaf.api.evaluate.background import Evaluations
from longleaf.api.gate import Gate
from longleaf.api.given import TextReading
from longleaf.api.http.draining import Draining
from longleaf.api.http.lanes import Bounds, GivenUp, Lane
from longleaf.api.http.metrics import Metrics
from longleaf.api.oidc.openid import open_openid
from longleaf.api.rendering import Pages
from longleaf.api.wire import Runtime, open_chunker
from longleaf.api.working import WorkerProcess
from longleaf.core.access import LOCAL, Caller
from longleaf.core.protocols import DistantReranker, QueuedReranker
from longleaf.core.types import Scope
from longleaf.core.waiting import CATALOG, EMBEDDER, INDEX, Patience

__all__ = ["GivenUp", "Served", "Service"]

T = TypeVar("T")

_READ_THREADS = 4
_QUEUED_SEARCHES = 64
"""Threads that wait for a reranker with a queue of its own."""
_PROBE_THREADS = 2
LOOK_SECONDS = 2.0
"""Longest that a probe waits for one part: all of them together are told within ten seconds."""
_DOOR_SECONDS = 10.0
DISK = "the disk of the data folder"
_PROVIDER_THREADS = 4
"""Sign-ins that wait for the identity provider at once."""
_UPLOAD_THREADS = 2
"""Uploads whose bytes are in memory at once, on their way to the disk."""


class Service:
    """One per app, of which each request gets a view: `caller` asks, and may see `scope`.

    `local_token`: see `gate.Gate`.
    """

    def __init__(
        self,
        runtime: Runtime,
        worker: WorkerProcess | None = None,
        local_token: str = "",
        draining: Draining | None = None,
    ) -> None:
        self.runtime = runtime
        server = runtime.settings.server
        self.openid = open_openid(runtime.settings.oidc, runtime.catalog)
        self.gate = Gate(
            runtime.catalog.keys,
            local_token=local_token,
            requests_per_minute=server.requests_per_minute,
            people=self.openid,
        )
        self.caller = LOCAL
        self.worker = worker
        self.draining = draining or Draining()
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
        serving = runtime.settings.serving
        bounds = Bounds(
            serving.queue_requests,
            serving.queue_tokens,
            serving.queue_seconds,
            serving.stage_seconds,
        )
        self.searches = Lane("searches", workers, bounds)
        self._answers = Lane("answers", runtime.settings.answer.concurrent, bounds)
        self._bulk = Lane("bulk searches", max(1, workers // 2), bounds)
        self._drawing = Lane("pages", 1, bounds)
        self.metrics.watch_lanes((self.searches, self._bulk, self._answers, self._drawing))
        self._reads = CapacityLimiter(_READ_THREADS)
        self._probes = CapacityLimiter(_PROBE_THREADS)
        self._strangers = CapacityLimiter(1)
        self._looks = {part: Patience(part, 2) for part in (INDEX, CATALOG, EMBEDDER, DISK)}
        self._door = CapacityLimiter(1)
        self._door_looks = Patience(CATALOG)
        self._provider = Lane("sign-ins", _PROVIDER_THREADS, bounds)
        self._writes = CapacityLimiter(1)
        self._uploads = CapacityLimiter(_UPLOAD_THREADS)

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
        self,
        request: Request,
        call: Callable[[GivenUp], T],
        *,
        is_bulk: bool = False,
        tokens: int | None = None,
    ) -> T:
        """Run `call` in a thread of the searches' or the bulk lane, as `Lane.run` does.

        `tokens`: about what it wants read; None: what a search reads that says nothing of it.
        """
        lane = self._bulk if is_bulk else self.searches
        if tokens is None:
            tokens = self.search_tokens()
        return await lane.run(request, call, tokens)

    def search_tokens(
        self,
        candidates: int | None = None,
        passages: int | None = None,
        most: int | None = None,
    ) -> int:
        """About the tokens that a search has read at most; None: as configured."""
        if self.runtime.engine.reranker is None:
            return 0
        settings = self.runtime.settings
        tokens = (
            (candidates or settings.retriever.candidates)
            * (passages or settings.retriever.passages_per_document)
            * settings.chunker.target_tokens
        )
        return tokens if most is None else min(tokens, most)

    async def answer(self, request: Request, call: Callable[[GivenUp], T]) -> T:
        """Run `call`, which waits for a chat model, beside the searches. Raises as `search`."""
        return await self._answers.run(request, call)

    async def draw(self, request: Request, call: Callable[[GivenUp], T]) -> T:
        """Run `call`, which draws a page, when no other is being drawn. Raises as `search` does."""
        return await self._drawing.run(request, call)

    async def read(self, call: Callable[[], T]) -> T:
        """Run a short catalog read."""
        return await to_thread.run_sync(call, limiter=self._reads)

    async def at_the_door(self, call: Callable[[], T]) -> T:
        """Run `call`, which reads the catalog, for who has shown no key, one at a time: they keep
        nobody else waiting. Raises StageStalled."""
        return await to_thread.run_sync(
            lambda: self._door_looks.call(call, _DOOR_SECONDS), limiter=self._door
        )

    async def probe(self, call: Callable[[], T], *, is_stranger: bool = False) -> T:
        """Run `call`, which waits for parts by `look` alone, beside all else; who has shown no key
        one at a time, beside those that have."""
        limiter = self._strangers if is_stranger else self._probes
        return await to_thread.run_sync(call, limiter=limiter)

    def look(self, part: str, call: Callable[[], T], seconds: float = LOOK_SECONDS) -> T:
        """What `call` says of `part` (INDEX, CATALOG, EMBEDDER, DISK). Raises StageStalled when it
        says nothing for so long, and at once while two before it are still waiting."""
        return self._looks[part].call(call, seconds)

    async def at_the_provider(self, request: Request, call: Callable[[], T]) -> T:
        """Run `call`, which asks the identity provider, beside all else. Raises as `search`."""
        return await self._provider.run(request, lambda _gone: call())

    async def take_in(self, call: Callable[[], T]) -> T:
        """Run `call`, which stores an upload for a worker; nothing is parsed or embedded here."""
        return await to_thread.run_sync(call, limiter=self._uploads)

    async def write(self, call: Callable[[], T]) -> T:
        """Run `call` as the one writer: one at a time, holding the runtime's writer lock."""

        def locked() -> T:
            with self.runtime.writer_lock:
                return call()

        return await to_thread.run_sync(locked, limiter=self._writes)


async def _service_of(request: Request) -> Service:
    # Not a plain function: the framework would send it to a thread and wait for that.
    service = request.app.state.service
    assert isinstance(service, Service)
    return service.asked_by(request.state.caller)


Served = Annotated[Service, Depends(_service_of)]
"""A route parameter: the app's service."""
