"""The pages: each room's own router, and the routes of the API at /api.

Plain forms and links, rendered here: reading works without script. Text from documents, queries and
file names reaches the templates as text, and marks as offsets; nothing is ever rendered as HTML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from longleaf.api.http import (
    document_page,
    evaluate_page,
    library_forms,
    library_page,
    search_page,
    written_page,
)
from longleaf.api.http.errors import OTHER_PROBLEMS, STATUSES
from longleaf.api.http.html import render
from longleaf.api.http.service import Served

router = APIRouter(include_in_schema=False)
for _room in (
    search_page,
    written_page,
    document_page,
    library_page,
    library_forms,
    evaluate_page,
):
    router.include_router(_room.router)

_JSON_TYPE = "application/json"


@router.get("/api")
async def show_api(request: Request, service: Served) -> Response:
    """Every route, from the same OpenAPI document that programs read."""
    page = render(
        "api.html",
        routes=_routes(request.app.openapi()),
        problems=_problems(),
        base=str(request.base_url),
    )
    return HTMLResponse(page)


def _problems() -> list[tuple[str, int, str, str]]:
    """(code, status, title, when), by status."""
    found = {code: (status, title, "") for code, (status, title) in OTHER_PROBLEMS.items()}
    for kind, (status, title) in STATUSES.items():
        when = re.split(r"[:.](?:\s|$)", (kind.__doc__ or "").strip())[0]
        found[kind.code] = (status, title, when)
    return sorted(
        ((code, *rest) for code, rest in found.items()), key=lambda each: (each[1], each[0])
    )


def _routes(openapi: Mapping[str, Any]) -> list[dict[str, Any]]:
    schemas = openapi.get("components", {}).get("schemas", {})
    found = []
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parameters = [
                (each["name"], each["in"], each.get("description", ""))
                for each in operation.get("parameters", [])
            ]
            content = operation.get("requestBody", {}).get("content", {})
            for media_type, body in content.items():
                place = "body" if media_type == _JSON_TYPE else "form"
                fields: dict[str, Any] = {}
                for one in body["schema"].get("anyOf", [body["schema"]]):
                    schema = schemas.get(one.get("$ref", "").rpartition("/")[2], {})
                    fields = {**schema.get("properties", {}), **fields}
                parameters += [
                    (name, place, each.get("description", "")) for name, each in fields.items()
                ]
            found.append(
                {
                    "method": method.upper(),
                    "path": path,
                    "summary": operation.get("summary", ""),
                    "description": operation.get("description", ""),
                    "parameters": parameters,
                }
            )
    return found
