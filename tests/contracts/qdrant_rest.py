"""qdrant-client's engine in memory behind the routes of Qdrant's REST API, for tests.

No Qdrant server can be installed here. What this proves beyond the engine itself: that our requests
survive the real client's HTTP and JSON, that several processes see one index, and what we do when
answers are slow, wrong or missing (`Faults`). What it does not prove is what the engine in memory
leaves out (docs/stores.md): it is no Qdrant.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from qdrant_client.http import models
from tests.contracts.qdrant_indexes import OneAtATime


@dataclass
class Faults:
    """What goes wrong: `status` answers every request so; `before` is called with method and path
    and may sleep or raise; `requests` are those seen. A request needs `api_key` when it is set."""

    status: int | None = None
    api_key: str | None = None
    version: str = "1.20.0"
    before: Callable[[str, str], None] = lambda _method, _path: None
    requests: list[tuple[str, str]] = field(default_factory=list)


def rest_app(engine: OneAtATime, faults: Faults) -> FastAPI:
    """The routes that Longleaf asks, over `engine`. What the engine forgets of how a collection was
    made and changed is kept here, so that it is told as a server tells it."""
    app = FastAPI()
    made: dict[str, dict[str, Any]] = {}

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Any:
        faults.requests.append((request.method, request.url.path))
        if faults.api_key is not None and request.headers.get("api-key") != faults.api_key:
            return JSONResponse({"status": {"error": "Must provide an API key"}}, 401)
        if faults.status is not None:
            return JSONResponse({"status": {"error": "as the test wants it"}}, faults.status)
        return await call_next(request)

    def respond(method: str, path: str, work: Callable[[], Any]) -> JSONResponse:
        faults.before(method, path)
        try:
            result = work()
        except ValueError as error:
            status = 404 if "not found" in str(error) else 400
            return JSONResponse({"status": {"error": str(error)}}, status)
        dumped = result.model_dump(mode="json") if hasattr(result, "model_dump") else result
        return JSONResponse({"result": dumped, "status": "ok", "time": 0.0})

    @app.get("/")
    def info() -> Any:
        return {"title": "qdrant - vector search engine", "version": faults.version}

    @app.get("/cluster")
    def cluster() -> Any:
        return {"result": {"status": "disabled"}, "status": "ok", "time": 0.0}

    @app.get("/collections")
    def collections() -> Any:
        return respond("GET", "/collections", engine.get_collections)

    @app.get("/aliases")
    def aliases() -> Any:
        return respond("GET", "/aliases", engine.get_aliases)

    @app.post("/collections/aliases")
    def change_aliases(body: models.ChangeAliasesOperation) -> Any:
        return respond(
            "POST", "/collections/aliases", lambda: engine.update_collection_aliases(body.actions)
        )

    @app.get("/collections/{name}/exists")
    def exists(name: str) -> Any:
        return respond("GET", "exists", lambda: {"exists": engine.collection_exists(name)})

    @app.get("/collections/{name}")
    def collection(name: str) -> Any:
        def work() -> Any:
            told = engine.get_collection(name).model_dump(mode="json")
            config, kept = told["config"], made.get(name, {})
            for key in _OF_PARAMS:
                config["params"][key] = kept.get(key)
            config["hnsw_config"] |= kept.get("hnsw_config") or {}
            for key in ("quantization_config", "strict_mode_config", "metadata"):
                config[key] = kept.get(key)
            return told

        return respond("GET", "collection", work)

    @app.patch("/collections/{name}")
    def change(name: str, body: models.UpdateCollection) -> Any:
        def work() -> Any:
            engine.get_collection(name)
            changed = body.model_dump(mode="json", exclude_none=True)
            made.setdefault(name, {}).update(changed.pop("params", {}) | changed)
            if body.quantization_config == models.Disabled.DISABLED:
                made[name]["quantization_config"] = None
            return True

        return respond("PATCH", "collection", work)

    @app.put("/collections/{name}")
    def create(name: str, body: models.CreateCollection) -> Any:
        def work() -> Any:
            done = engine.create_collection(
                name,
                vectors_config=body.vectors,
                sparse_vectors_config=body.sparse_vectors,
                metadata=body.metadata,
            )
            made[name] = body.model_dump(mode="json", exclude_none=True)
            return done

        return respond("PUT", "collection", work)

    @app.delete("/collections/{name}")
    def drop(name: str) -> Any:
        return respond("DELETE", "collection", lambda: engine.delete_collection(name))

    @app.put("/collections/{name}/index")
    def index(name: str, body: models.CreateFieldIndex) -> Any:
        def work() -> Any:
            engine.create_payload_index(name, body.field_name, body.field_schema)
            return _DONE

        return respond("PUT", "index", work)

    @app.put("/collections/{name}/points")
    def upsert(name: str, body: models.PointsList) -> Any:
        def work() -> Any:
            engine.upsert(name, body.points, update_filter=body.update_filter)
            return _DONE

        return respond("PUT", "points", work)

    @app.post("/collections/{name}/points/delete")
    def delete(name: str, body: models.PointIdsList) -> Any:
        def work() -> Any:
            engine.delete(name, body.points)
            return _DONE

        return respond("POST", "points/delete", work)

    @app.post("/collections/{name}/points")
    def retrieve(name: str, body: models.PointRequest) -> Any:
        def work() -> Any:
            found = engine.retrieve(
                name, body.ids, with_payload=body.with_payload, with_vectors=body.with_vector
            )
            return [each.model_dump(mode="json") for each in found]

        return respond("POST", "points", work)

    @app.post("/collections/{name}/points/scroll")
    def scroll(name: str, body: models.ScrollRequest) -> Any:
        def work() -> Any:
            found, offset = engine.scroll(
                name,
                body.filter,
                limit=body.limit,
                offset=body.offset,
                with_payload=body.with_payload,
                with_vectors=body.with_vector,
            )
            points = [each.model_dump(mode="json") for each in found]
            return {"points": points, "next_page_offset": offset}

        return respond("POST", "points/scroll", work)

    @app.post("/collections/{name}/points/count")
    def count(name: str, body: models.CountRequest) -> Any:
        return respond("POST", "points/count", lambda: engine.count(name, body.filter))

    @app.post("/collections/{name}/points/query")
    def query(name: str, body: models.QueryRequest) -> Any:
        def work() -> Any:
            return engine.query_points(
                name,
                query=body.query,
                using=body.using,
                query_filter=body.filter,
                search_params=body.params,
                limit=body.limit,
                with_payload=body.with_payload,
            )

        return respond("POST", "points/query", work)

    return app


_OF_PARAMS = ("shard_number", "replication_factor", "write_consistency_factor")
_DONE = {"operation_id": 0, "status": "completed"}


@contextmanager
def serving(faults: Faults | None = None, engine: OneAtATime | None = None) -> Iterator[str]:
    """The URL of such a server, while the block lasts."""
    import uvicorn

    app = rest_app(engine or OneAtATime(), faults or Faults())
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
