"""What the OpenAPI document says beside what the framework reads from the routes.

Schemas of bodies that routes read themselves, how a caller shows who they are, and that no path
holds control characters (`guard.py` refuses them before any route).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

PATH = "/openapi.json"

SCHEMES: dict[str, Any] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key: `longleaf keys create`.",
    },
    "key header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same, for clients that send no Authorization.",
    },
}
_EITHER: list[dict[str, list[str]]] = [{name: []} for name in SCHEMES]
_NO_CONTROL = r"^[^\u0000-\u001f\u007f]+$"


def describe(
    app: FastAPI,
    models: Collection[type[BaseModel]],
    *,
    public: Collection[str],
    is_shut: Callable[[], bool],
) -> None:
    """Complete what `app.openapi` says, and serve it. `public`: paths that never ask for a key.

    `is_shut` tells whether the others do; as long as they do not, the document says that a key may
    be left out.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(generate(), models, public)
        return {**app.openapi_schema, "security": _EITHER if is_shut() else [{}, *_EITHER]}

    app.openapi = openapi  # type: ignore[method-assign]
    written: dict[bool, bytes] = {}

    async def document(_request: Request) -> Response:
        # Written once: that takes 9 ms, and the event loop would do nothing else meanwhile.
        shut = is_shut()
        if shut not in written:
            written[shut] = bytes(JSONResponse(app.openapi()).body)
        return Response(written[shut], media_type="application/json")

    # A plain route: FastAPI keeps those that it looks into, and so every app, beyond the app's end.
    app.add_route(PATH, document, include_in_schema=False)


def _completed(
    described: dict[str, Any], models: Collection[type[BaseModel]], public: Collection[str]
) -> dict[str, Any]:
    components = described.setdefault("components", {})
    components["securitySchemes"] = SCHEMES
    schemas = components.setdefault("schemas", {})
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for path, operations in described["paths"].items():
        for operation in operations.values():
            if path in public:
                operation["security"] = []
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["schema"].get("type") == "string":
                    parameter["schema"].setdefault("pattern", _NO_CONTROL)
    return described
