"""/healthz says that the process answers, /readyz whether its answers can be trusted, /metrics."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

import longleaf
from longleaf.api.doctor import machine
from longleaf.api.http.access import ANONYMOUS
from longleaf.api.http.errors import PROBLEM_RESPONSES, http_problem, respond
from longleaf.api.http.metrics import Sighting
from longleaf.api.http.schemas import Alive, Ready
from longleaf.api.http.service import DISK, LOOK_SECONDS, Served, Service
from longleaf.api.running import home_name
from longleaf.api.search import SearchEngine
from longleaf.core.catalog.records import CatalogCounts
from longleaf.core.catalog.standing import Standing
from longleaf.core.errors import IndexUnavailable, StageStalled
from longleaf.core.protocols import DistantEmbedder, DistantReranker, QueuedReranker
from longleaf.core.waiting import CATALOG, EMBEDDER, INDEX

router = APIRouter(tags=["operations"], responses=PROBLEM_RESPONSES)

_COUNT_SECONDS = 2 * LOOK_SECONDS
"""For counts, which read a row of each file of a job."""


@router.get("/healthz", summary="Is the process alive?")
async def get_health(
    service: Served,
    challenge: Annotated[
        str, Query(max_length=100, description="Asks for `proof` that it is the data folder's own.")
    ] = "",
) -> Alive:
    """Answers as long as the event loop runs; touches nothing else."""
    home = service.runtime.settings.home
    proof = service.gate.proof(challenge)
    return Alive(version=longleaf.__version__, home=home_name(home), proof=proof)


@router.get("/readyz", response_model=Ready, summary="Can it search?")
async def getreadiness(service: Served, request: Request) -> Response:
    """200 when the index is open and follows the catalog, 503 with the reasons when not. A part
    that stands still is one, after two seconds."""
    ready, reasons = await service.probe(
        lambda: readiness(service), is_stranger=service.caller is ANONYMOUS
    )
    if service.draining.has_begun:
        reasons.append("The server is shutting down.")
    worker = service.worker
    if ready is not None and worker is not None and worker.failure is not None:
        # Searches are answered all the same; what is uploaded waits in the catalog.
        ready.chosen["worker"] = worker.failure
    if service.caller is ANONYMOUS:
        # Names of machines, folders and models are not for everybody; the status is.
        reasons = reasons and ["Not ready; the reasons are for who brings a key."]
        if ready is not None:
            ready.chosen.clear()
    if ready is None or reasons:
        detail = " ".join(reasons)
        return respond(request, http_problem(503, detail, reasons=reasons), {"Retry-After": "5"})
    return JSONResponse(ready.model_dump())


def readiness(service: Service) -> tuple[Ready | None, list[str]]:
    """How the index stands, and why it is not ready, if it is not."""
    runtime = service.runtime
    try:
        service.look(INDEX, runtime.engine.index.passage_count)
    except IndexUnavailable as error:
        return None, [str(error)]
    except StageStalled as error:
        return None, [error.message]
    except Exception as error:
        return None, [f"The index cannot be read: {type(error).__name__}."]
    try:
        head_seq = service.look(CATALOG, runtime.catalog.head_seq)
    except StageStalled as error:
        return None, [error.message]
    except Exception as error:
        return None, [f"The catalog cannot be read: {type(error).__name__}."]
    seen_seq = runtime.follower.applied_seq
    lag = max(0, head_seq - seen_seq)
    reasons = []
    followed = runtime.side.followed
    if followed.failure is not None:
        reasons.append(f"The index cannot follow the catalog: {followed.failure}")
    elif not followed.by_itself and lag:
        reasons.append(f"The index is {lag:,} changes behind and nothing follows them.")
    reranker = runtime.engine.reranker
    if isinstance(reranker, QueuedReranker) and reranker.failure is not None:
        # Searches answer with the first stage's order and say so; another replica reads on.
        reasons.append(f"The reranker reads no more: {reranker.failure}")
    chosen = dict(runtime.reasons)
    if (failure := _embedding_failure(service)) is not None:
        said = f"The query's words are not embedded ({failure}): only BM25 finds."
        if isinstance(runtime.embedder, DistantEmbedder):
            chosen["embedder"] = f"{chosen.get('embedder', runtime.embedder.name)}. {said}"
        else:
            reasons.append(said)
    try:
        free_bytes = free_room(service)
    except StageStalled as error:
        return None, [*reasons, error.message]
    if free_bytes < machine.FAIL_BELOW_BYTES:
        # Searches are answered all the same, by every replica; what is written is refused.
        chosen["disk"] = f"{free_bytes / 2**20:,.0f} MiB are free: nothing more can be indexed."
    if lag and seen_seq == 0:
        reasons.append("The index is still being filled for the first time.")
    if isinstance(reranker, DistantReranker) and (trouble := reranker.trouble) is not None:
        # No reason not to be ready: all replicas ask the same one, and searches say what they lack.
        chosen["reranker"] = f"{chosen.get('reranker', reranker.name)}. {trouble}"
    ready = Ready(seen_seq=seen_seq, head_seq=head_seq, lag=lag, chosen=chosen)
    return ready, reasons


def _embedding_failure(service: Service) -> str | None:
    """Why queries are not embedded, where the last one was not: it is tried again, because nobody
    asks a server that is not ready."""
    engine: SearchEngine = service.runtime.engine
    if engine.embed_failure is not None:
        with suppress(StageStalled):  # as it was, then
            service.look(EMBEDDER, lambda: engine.embed("Is it well again?", None))
    return engine.embed_failure


def free_room(service: Service) -> int:
    """Bytes that are free on the disk of the data folder. Raises StageStalled."""
    home = service.runtime.settings.home
    return service.look(DISK, lambda: shutil.disk_usage(home)).free


def counted(service: Service) -> tuple[CatalogCounts, Standing]:
    """What the catalog holds, and how its jobs stand. Raises StageStalled."""
    catalog, scope = service.runtime.catalog, service.scope
    return service.look(CATALOG, lambda: (catalog.count(scope), catalog.standing()), _COUNT_SECONDS)


@router.get("/metrics", response_class=PlainTextResponse, summary="Numbers for Prometheus")
async def get_metrics(service: Served) -> Response:
    """Requests, stage times, degradations, sizes, lag, jobs, room and the reranker's queue."""
    runtime = service.runtime

    def work() -> bytes:
        counts, standing = counted(service)
        lag = max(0, counts.head_seq - runtime.follower.applied_seq)
        reranker = runtime.engine.reranker
        ready, reasons = readiness(service)
        seen = Sighting(
            counts,
            lag,
            ready is not None and not reasons and not service.draining.has_begun,
            standing,
            free_room(service),
            reranker.load() if isinstance(reranker, QueuedReranker) else None,
        )
        return service.metrics.exposition(seen)

    return Response(await service.probe(work), headers={"Content-Type": CONTENT_TYPE_LATEST})
