"""The pages: search at /, a document's text at /documents/{id}, the routes at /api.

Plain forms and links, rendered here: everything works without script. A page's data is what the API
answers, so page and API cannot say different things. Text from documents, queries and file names
reaches the templates as text, and marks as offsets; nothing is ever rendered as HTML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, Field

from longleaf.api.http import textview
from longleaf.api.http.answer_schemas import AnswerView, PassageHit
from longleaf.api.http.errors import (
    OTHER_PROBLEMS,
    STATUSES,
    Problem,
    problem_of,
    retry_headers,
)
from longleaf.api.http.html import render
from longleaf.api.http.search import body_of, search
from longleaf.api.http.search_schemas import PageLink
from longleaf.api.http.search_view import document_url, view
from longleaf.api.http.service import GivenUp, Served, Service
from longleaf.core.catalog import DocumentText
from longleaf.core.catalog.judgements import LOCAL
from longleaf.core.errors import InvalidRequest, LongleafError
from longleaf.core.types import Section

router = APIRouter(include_in_schema=False)

_MAX_OUTLINE = 500
_JSON_TYPE = "application/json"


@router.get("/")
async def show_search(
    link: Annotated[PageLink, Query()], request: Request, service: Served
) -> Response:
    """The search page: a form, and the answer to what was asked."""
    if _asks(link):
        return await service.search(request, lambda given_up: _search_page(service, link, given_up))
    return await service.read(lambda: _search_page(service, link, lambda: False))


def _asks(link: PageLink) -> bool:
    return bool(link.q.strip() or link.filter)


def _search_page(service: Service, link: PageLink, given_up: GivenUp) -> Response:
    collections = service.runtime.catalog.collections(service.scope)
    reranker = service.runtime.engine.reranker
    answer: AnswerView | None = None
    failure: Problem | None = None
    headers: dict[str, str] = {}
    if _asks(link):
        try:
            answer = view(*search(service, body_of(link), given_up))
        except LongleafError as error:
            failure, headers = problem_of(error), retry_headers(error)
    page = render(
        "search.html",
        link=link,
        grades=_grades(service, link, answer),
        collections=collections,
        document_count=sum(each.document_count for each in collections),
        answer=answer,
        failure=failure,
        can_judge=reranker is not None and reranker.min_score is not None,
        asked_filter=describe_filter(answer.query.filter) if answer and answer.query.filter else "",
        paragraphs=_paragraphs,
        page_url=document_url,
        to=lambda **changes: _search_url(link, **changes),
        here=_search_url(link, offset=link.offset).removeprefix("/?"),
        stages=[(name, ms) for name, ms in answer.timings_ms.items() if name != "total"]
        if answer
        else [],
    )
    return HTMLResponse(page, failure.status if failure else 200, headers)


def _grades(service: Service, link: PageLink, answer: AnswerView | None) -> dict[str, int]:
    """Document id -> what was said of it for this query."""
    if answer is None or not link.q.strip():
        return {}
    found = service.runtime.catalog.judgements.found(service.scope, query=link.q)
    return {each.document_id: each.grade for each in found if each.judge == LOCAL}


def _paragraphs(passage: PassageHit) -> list[list[textview.Piece]]:
    pieces = textview.marked(passage.text, passage.start_char, passage.highlights)
    sentences = [(each.start_char, each.end_char) for each in passage.sentences or ()]
    pieces = textview.carrying(pieces, passage.start_char, sentences)
    return textview.paragraphs(pieces)


def _search_url(link: PageLink, **changes: Any) -> str:
    """The search page's address for `link` with `changes`."""
    values = link.model_copy(update={"offset": 0} | changes)
    parts: list[tuple[str, str]] = [("q", values.q)]
    parts += [("collection", each) for each in values.collection]
    parts += [("filter", values.filter)] if values.filter else []
    parts += [("limit", str(values.limit))] if values.limit != 10 else []
    parts += [("offset", str(values.offset))] if values.offset else []
    parts += [("rerank", "off")] if not values.rerank else []
    parts += [("collapse", "off")] if not values.collapse else []
    parts += [("good", "on")] if values.good else []
    return f"/?{urlencode(parts)}"


def describe_filter(tree: Mapping[str, Any]) -> str:
    """A filter (as JSON) in words: `year ≥ 2019 and court starts with “ca”`."""
    if "not" in tree:
        return f"not ({describe_filter(tree['not'])})"
    for joint in ("and", "or"):
        if joint in tree:
            parts = [describe_filter(part) for part in tree[joint]]
            nested = [f"({each})" if " or " in each and len(parts) > 1 else each for each in parts]
            return f" {joint} ".join(nested) or ("everything" if joint == "and" else "nothing")
    field = tree["field"]
    if "in" in tree:
        return f"{field} is one of {', '.join(map(str, tree['in']))}"
    if "prefix" in tree:
        return f"{field} starts with “{tree['prefix']}”" if tree["prefix"] else f"has {field}"
    if "eq" in tree:
        return f"{field} is {tree['eq']}"
    signs = {"gte": "≥", "gt": ">", "lte": "≤", "lt": "<"}
    return " and ".join(
        f"{field} {sign} {tree[name]}" for name, sign in signs.items() if name in tree
    )


class DocumentLink(BaseModel):
    """Which part of a document to show. Offsets are characters."""

    start: int | None = Field(None, ge=0, description="Where the marked passage begins.")
    end: int | None = Field(None, ge=0, description="Where it ends.")
    begin: int | None = Field(None, ge=0, alias="from", description="Show from here on.")
    page: int | None = Field(None, ge=0, description="Show from this page on.")
    q: str = Field("", max_length=20_000, description="The search to go back to.")


@router.get("/documents/{document_id}")
async def show_document(
    service: Served,
    link: Annotated[DocumentLink, Query()],
    document_id: Annotated[str, Path(max_length=64)],
) -> Response:
    """A document's text with outline and pages, at a marked passage."""
    return await service.read(lambda: _document_page(service, document_id, link))


def _document_page(service: Service, document_id: str, link: DocumentLink) -> Response:
    catalog = service.runtime.catalog
    head = catalog.document(document_id, service.scope)
    document = catalog.text(head)
    mark = None
    if link.start is not None and link.end is not None and link.start < link.end:
        mark = (link.start, link.end)
    shown = textview.window(document, _begin(document, link), mark)

    def to(begin: int | None = None, anchor: str = "") -> str:
        parts: dict[str, str] = {} if begin is None else {"from": str(begin)}
        if mark is not None:
            parts |= {"start": str(mark[0]), "end": str(mark[1])}
        if link.q:
            parts["q"] = link.q
        return f"/documents/{head.public_id}?{urlencode(parts)}{anchor}"

    def to_section(number: int, section: Section) -> str:
        inside = shown.start_char <= section.start_char < shown.end_char
        return f"#s-{number}" if inside else to(section.start_char, f"#s-{number}")

    outline = list(enumerate(document.sections))
    page = render(
        "document.html",
        head=head,
        window=shown,
        outline=outline[:_MAX_OUTLINE],
        hidden_sections=max(0, len(outline) - _MAX_OUTLINE),
        page_count=_page_count(document),
        link=link,
        mark=mark,
        to=to,
        to_section=to_section,
        back=f"/?{urlencode({'q': link.q})}" if link.q else "/",
    )
    return HTMLResponse(page)


def _begin(document: DocumentText, link: DocumentLink) -> int | None:
    """Where the link asks to begin. Raises InvalidRequest for a page that is not there."""
    if link.page is None:
        return link.begin
    for page in document.pages:
        if page.number == link.page:
            return page.start_char
    raise InvalidRequest(
        f"This document has no page {link.page}.", f"It has {_page_count(document)} pages."
    )


def _page_count(document: DocumentText) -> int:
    """Pages, not runs of text on them: a page whose footnotes stand elsewhere has two."""
    return max((page.number for page in document.pages), default=0)


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
                schema = schemas.get(body["schema"].get("$ref", "").rpartition("/")[2], {})
                parameters += [
                    (name, place, each.get("description", ""))
                    for name, each in schema.get("properties", {}).items()
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
