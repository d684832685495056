"""The search page at /: a form, and the answer to what was asked.

Its data is what the API answers, so page and API cannot say different things. Without script a
search is a link.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from longleaf.api.http import textview
from longleaf.api.http.answer_schemas import AnswerView, PassageHit
from longleaf.api.http.errors import Problem, problem_of, retry_headers
from longleaf.api.http.html import render
from longleaf.api.http.search import body_of, search
from longleaf.api.http.search_schemas import PageLink
from longleaf.api.http.search_view import document_url, view
from longleaf.api.http.service import GivenUp, Served, Service
from longleaf.core.catalog.judgements import LOCAL
from longleaf.core.errors import LongleafError

router = APIRouter(include_in_schema=False)


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
        page_url=partial(document_url, back=_search_url(link, offset=link.offset)[2:]),
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
