"""/healthz says that the process answers, /readyz whether its answers can be trusted, /metrics."""

from __future__ import annotations

import shutil
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
from longleaf.api.http.service import Served
from longleaf.api.running import home_name
from longleaf.api.search import SearchEngine
from longleaf.api.wire import Runtime
from longleaf.core.errors import IndexUnavailable
from longleaf.core.protocols import DistantEmbedder, DistantReranker, QueuedReranker

router = APIRouter(tags=["operations"], responses=PROBLEM_RESPONSES)


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
    """200 when the index is open and follows the catalog, 503 with the reasons when not."""
    lane = service.at_the_door if service.caller is ANONYMOUS else service.read
    ready, reasons = await lane(lambda: readiness(service.runtime))
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


def readiness(runtime: Runtime) -> tuple[Ready | None, list[str]]:
    """How the index stands, and why it is not ready, if it is not."""
    try:
        runtime.engine.index.passage_count()
    except IndexUnavailable as error:
        return None, [str(error)]
    except Exception as error:
        return None, [f"The index cannot be read: {type(error).__name__}."]
    try:
        head_seq = runtime.catalog.head_seq()
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
    if (failure := _embedding_failure(runtime.engine)) is not None:
        said = f"The query's words are not embedded ({failure}): only BM25 finds."
        if isinstance(runtime.embedder, DistantEmbedder):
            chosen["embedder"] = f"{chosen.get('embedder', runtime.embedder.name)}. {said}"
        else:
            reasons.append(said)
    free_bytes = shutil.disk_usage(runtime.settings.home).free
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


def _embedding_failure(engine: SearchEngine) -> str | None:
    """Why queries are not embedded, where the last one was not: it is tried again, because nobody
    asks a server that is not ready."""
    if engine.embed_failure is not None:
        engine.embed("Is it well again?", None)
    return engine.embed_failure


@router.get("/metrics", response_class=PlainTextResponse, summary="Numbers for Prometheus")
async def get_metrics(service: Served) -> Response:
    """Requests, stage times, degradations, sizes, lag, jobs, room and the reranker's queue."""
    runtime = service.runtime

    def work() -> bytes:
        counts = runtime.catalog.count(service.scope)
        lag = max(0, counts.head_seq - runtime.follower.applied_seq)
        reranker = runtime.engine.reranker
        ready, reasons = readiness(runtime)
        seen = Sighting(
            counts,
            lag,
            ready is not None and not reasons and not service.draining.has_begun,
            runtime.catalog.standing(),
            shutil.disk_usage(runtime.settings.home).free,
            reranker.load() if isinstance(reranker, QueuedReranker) else None,
        )
        return service.metrics.exposition(seen)

    return Response(await service.read(work), headers={"Content-Type": CONTENT_TYPE_LATEST})
