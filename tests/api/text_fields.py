"""Every field of every route that takes text, and requests with something of ours in one of them.

Read from the app's own description, pages and forms included, so a new route or field is tried
without being named here. Everything else in a request is as small as the description allows, with
ids of documents and jobs that exist.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import httpx
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

TEXT_HEADERS = (
    "Accept", "Accept-Language", "Authorization", "Content-Type", "Cookie", "If-None-Match",
    "Last-Event-ID", "Origin", "Range", "Sec-Fetch-Site", "User-Agent", "X-API-Key",
    "X-Forwarded-For", "X-Forwarded-Host", "X-Request-ID",
)  # fmt: skip
_HEADERS_AT = frozenset(
    {
        "GET /", "GET /v1/search", "GET /v1/documents/{document_id}/pages/{page}/image",
        "POST /v1/search", "POST /v1/documents", "POST /rerank",
    }
)  # fmt: skip
"""Headers are looked at in front of the routes, and by few of them."""
_TARGET_BYTES = 20_000
"""Of a string in a link: %XX for each makes 60,000 characters, and servers take 65,536."""
_LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
TOOLS = {
    "search": ("query", "collections", "filter"),
    "similar_documents": ("document_id",),
    "read_document": ("document_id",),
    "answer": ("query",),
}
"""MCP's tools and their arguments that take text, the required one first."""

Steps = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A field that takes text: of which route, in which part, where in it.

    `part` is path, query, header, json, form or file (a file's name). `query`: what the route needs
    beside it.
    """

    method: str
    path: str
    part: str
    steps: Steps
    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.part} {'.'.join(map(str, self.steps))}"


def description_of(app: FastAPI) -> dict[str, Any]:
    """The app's OpenAPI document with the routes of pages and forms in it."""
    shown = app.openapi()
    hidden = []
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute) and not (
            route.path in shown["paths"] and route.include_in_schema
        ):
            visible = copy.copy(route)
            visible.include_in_schema = True
            hidden.append(visible)
    more = get_openapi(title="pages", version="0", routes=hidden)
    components = more.get("components", {}).get("schemas", {}) | shown["components"]["schemas"]
    paths: dict[str, Any] = {}
    for path in {**more["paths"], **shown["paths"]}:
        paths[path] = {**more["paths"].get(path, {}), **shown["paths"].get(path, {})}
    return {"paths": paths, "components": {"schemas": components}}


def places(described: Mapping[str, Any]) -> list[Place]:
    """All of them, in the order of the document; headers once for each route."""
    schemas = described["components"]["schemas"]
    found = []
    for path, operations in described["paths"].items():
        for name, operation in operations.items():
            method, of_route = name.upper(), len(found)
            query = {
                each["name"]: str(_least(each.get("schema"), schemas))
                for each in operation.get("parameters", ())
                if each["in"] == "query" and each.get("required")
            }
            for parameter in operation.get("parameters", ()):
                schema = parameter.get("schema", {})
                if any(True for _ in _texts(schema, schemas)):
                    found.append(Place(method, path, parameter["in"], (parameter["name"],)))
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                for body in _variants(content["schema"], schemas):
                    found += _of_body(method, path, kind, body, schemas)
            if f"{method} {path}" in _HEADERS_AT:
                found += [Place(method, path, "header", (each,)) for each in TEXT_HEADERS]
            found[of_route:] = [replace(each, query=query) for each in found[of_route:]]
    found += [Place("POST", "/mcp", "header", (each,), _LIST_TOOLS) for each in TEXT_HEADERS]
    for tool, arguments in TOOLS.items():
        base = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        call = {**base, "params": {"name": tool, "arguments": {arguments[0]: "rent"}}}
        steps: list[Steps] = [("params", "arguments", each) for each in arguments]
        found += [
            Place("POST", "/mcp", "json", each, call)
            for each in (*steps, ("method",), ("params", "name"))
        ]
    return found


def _of_body(
    method: str, path: str, kind: str, schema: Any, schemas: Mapping[str, Any]
) -> Iterator[Place]:
    body = _least(schema, schemas)
    part = "json" if kind == "application/json" else "form"
    for steps in _texts(schema, schemas):
        if steps:
            yield Place(method, path, part, steps, body)
    if kind == "multipart/form-data":
        for name, field in schema.get("properties", {}).items():
            if "binary" in json.dumps(field) or "contentMediaType" in json.dumps(field):
                yield Place(method, path, "file", (name,), body)


def _resolved(schema: Any, schemas: Mapping[str, Any]) -> dict[str, Any]:
    while isinstance(schema, dict) and "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    return schema if isinstance(schema, dict) else {}


def _variants(schema: Any, schemas: Mapping[str, Any]) -> list[dict[str, Any]]:
    schema = _resolved(schema, schemas)
    either = schema.get("anyOf") or schema.get("oneOf")
    return [_resolved(each, schemas) for each in either] if either else [schema]


def _is_file(schema: Mapping[str, Any]) -> bool:
    return schema.get("format") == "binary" or "contentMediaType" in schema


def _texts(schema: Any, schemas: Mapping[str, Any], depth: int = 0) -> Iterator[Steps]:
    """Where in a value of this schema text may stand; () is the value itself."""
    if depth > 5:
        return
    found: dict[Steps, None] = {}
    for one in _variants(schema, schemas):
        kind = one.get("type")
        if (kind == "string" and not _is_file(one)) or not one:
            found[()] = None
        for name, part in one.get("properties", {}).items():
            found |= {(name, *rest): None for rest in _texts(part, schemas, depth + 1)}
        if kind == "array":
            found |= {(0, *rest): None for rest in _texts(one.get("items", {}), schemas, depth + 1)}
        if kind == "object" and one.get("additionalProperties"):
            found[("court",)] = None
    yield from found


def _least(schema: Any, schemas: Mapping[str, Any]) -> Any:
    """A small value of this schema: what is required, and text where there can be."""
    one = next((each for each in _variants(schema, schemas) if each.get("type") != "null"), {})
    if "const" in one or one.get("enum"):
        return one.get("const", (one.get("enum") or [None])[0])
    kind = one.get("type")
    if kind == "object":
        parts = one.get("properties", {})
        return {name: _least(parts.get(name), schemas) for name in one.get("required", ())}
    if kind == "array":
        return [_least(one.get("items", {}), schemas)]
    if kind in ("integer", "number"):
        return one.get("minimum", 1)
    return False if kind == "boolean" else "law"


def put(value: Any, steps: Steps, text: str) -> Any:
    """A copy of `value` that holds `text` there; what is missing on the way is made."""
    if not steps:
        return text
    first, rest = steps[0], steps[1:]
    if isinstance(first, int):
        held = list(value) if isinstance(value, list) and value else [None]
        held[first] = put(held[first], rest, text)
        return held
    held_here = dict(value) if isinstance(value, dict) else {}
    held_here[first] = put(held_here.get(first), rest, text)
    return held_here


def request_to(place: Place, text: str, known: Mapping[str, str], base: str) -> httpx.Request:
    """The request with `text` in this place. `known`: values of path parameters by name."""
    path, query, headers = place.path, "", httpx.Headers({"Accept": "*/*"})
    content = b""
    raw = text.encode("utf-8", "surrogatepass")
    linked = quote(raw[:_TARGET_BYTES], safe="")
    for name in _names_in(place.path):
        is_here = place.part == "path" and name.partition(":")[0] == place.steps[0]
        value = linked if is_here else known.get(name.partition(":")[0], "1")
        path = path.replace("{" + name + "}", value)
    asked = {name: quote(value) for name, value in place.query.items()}
    if place.part == "query":
        asked[str(place.steps[0])] = linked
    if asked:
        query = "?" + "&".join(f"{name}={value}" for name, value in asked.items())
    if place.path == "/mcp":
        headers["Accept"] = "application/json, text/event-stream"
    if place.part == "header":
        kept = bytes(each for each in raw if each not in (0, 10, 13))
        if place.body is not None:
            content = json.dumps(place.body).encode()
            headers["Content-Type"] = "application/json"
        headers.pop(str(place.steps[0]), None)
        headers = httpx.Headers([*headers.raw, (str(place.steps[0]).encode(), kept)])
    elif place.part == "json":
        content = json.dumps(put(place.body, place.steps, text)).encode()
        headers["Content-Type"] = "application/json"
    elif place.part in ("form", "file"):
        content, headers["Content-Type"] = _multipart(place, text)
    url = httpx.URL(base).copy_with(raw_path=(path + query).encode())
    return httpx.Request(place.method, url, headers=headers, content=content)


def _names_in(path: str) -> list[str]:
    return [each.partition("}")[0] for each in path.split("{")[1:]]


def _multipart(place: Place, text: str) -> tuple[bytes, str]:
    fields = dict(place.body or {})
    fields.setdefault("collection", "law")
    name = "plain.txt"
    if place.part == "file":
        name = text
    else:
        fields = put(fields, place.steps, text)
    parts = []
    for key, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            if key in ("file", "files"):
                continue
            parts.append((f'form-data; name="{key}"', str(each)))
    shown = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    parts += [
        (f'form-data; name="{key}"; filename="{shown}"', "A plain text.")
        for key in ("file", "files")
    ]
    mark = "a-line-between"
    body = "".join(
        f"--{mark}\r\nContent-Disposition: {head}\r\n\r\n{said}\r\n" for head, said in parts
    )
    return (
        (body + f"--{mark}--\r\n").encode("utf-8", "surrogatepass"),
        f"multipart/form-data; boundary={mark}",
    )
