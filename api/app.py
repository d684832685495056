"""The web app: routes, guards and pages around one runtime.

It opens and closes nothing but what it starts itself, an evaluation: whoever made the runtime owns
it. Everything it serves it holds itself;
the framework's own documentation pages load scripts from elsewhere and are replaced by /api.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI
from pydantic import BaseModel

import longleaf
from longleaf.api.http import (
    cite,
    collections,
    document_list,
    document_text,
    documents,
    evaluations,
    export,
    health,
    index,
    jobs,
    judgements,
    login,
    mcp,
    oidc,
    page_images,
    pages,
    rerank,
    search,
    status,
    suggest,
    uploads,
    viewing,
    written,
)
from longleaf.api.http.access import PUBLIC, Access
from longleaf.api.http.assets import Assets
from longleaf.api.http.compress import Compress
from longleaf.api.http.description import describe
from longleaf.api.http.dialects import places
from longleaf.api.http.dialects import routes as dialect_routes
from longleaf.api.http.draining import Drain, Draining
from longleaf.api.http.errors import Problem, add_handlers
from longleaf.api.http.guard import Guard
from longleaf.api.http.observe import Observe
from longleaf.api.http.openai import embeddings, problems, vector_stores
from longleaf.api.http.service import Service
from longleaf.api.http.shed import Shed
from longleaf.api.telemetry import Tracing
from longleaf.api.wire import Runtime
from longleaf.api.working import WorkerProcess

_DESCRIPTION = (
    "Search in long documents: hybrid retrieval finds candidates, a reranker reads them, and the "
    "answer ranks documents with the passages that decided. Errors are RFC 9457 problems."
)


def create_app(
    runtime: Runtime,
    *,
    allowed_hosts: Collection[str] = (),
    worker: WorkerProcess | None = None,
    local_token: str = "",
    draining: Draining | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """The app on `runtime`. `allowed_hosts`: names it answers to beside the one it listens on.

    `worker`: who does the jobs, if it is this server's own; /readyz tells how it is. `local_token`:
    who brings it is the local user, even where there are keys. `draining`: of whoever runs the
    server; None: it ends without. `tracing`: makes spans of requests.
    """
    service = Service(runtime, worker, local_token, draining)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(service.evaluations.close)
        if service.openid is not None:
            await to_thread.run_sync(service.openid.close)

    app = FastAPI(
        title="Longleaf",
        version=longleaf.__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # `describe` serves it
        separate_input_output_schemas=False,
        # Its own would hold paths and queries, and go wherever the environment says.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=lifespan,
    )
    app.state.service = service
    app.state.say_at = lambda path: places.say_at(path) or problems.say_at(path)
    rooms = (
        search, written, export, suggest, dialect_routes, rerank, embeddings, vector_stores,
        documents, document_list, document_text, viewing, page_images, cite, uploads, jobs,
        collections, judgements, evaluations, health, status, index, login, oidc, mcp,
        pages,
    )  # fmt: skip
    for each in rooms:
        app.include_router(each.router)
    app.include_router(judgements.form_router)
    app.mount("/static", Assets(), name="static")
    add_handlers(app)
    described: list[type[BaseModel]] = [
        Problem,
        embeddings.EmbeddingsBody,
        vector_stores.StoreSearchBody,
    ]
    describe(
        app,
        [*described, *dialect_routes.body_models()],
        public=PUBLIC,
        is_shut=service.gate.is_shut,
    )
    server = runtime.settings.server
    app.add_middleware(Compress)
    app.add_middleware(Access, gate=service.gate, audit=runtime.catalog.audit)
    app.add_middleware(Shed, lane=service.searches)
    app.add_middleware(
        Guard,
        host=server.host,
        max_upload_bytes=server.max_upload_bytes,
        allowed_hosts=tuple(allowed_hosts),
        takes_texts=lambda path: places.takes_texts(path) or path == embeddings.PATH,
    )
    app.add_middleware(Drain, draining=service.draining)
    app.add_middleware(Observe, metrics=service.metrics, tracing=tracing)
    return app
