"""The search page at /: a form, and the answer to what was asked; and its answers as they come.

Its data is what the API answers, so page and API cannot say different things. Without script a
search is a link. With script the page asks /results the same as /, and gets the rendered results as
events: hits are rendered here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel

from longleaf.api import facets
from longleaf.api.cursor import MAX_CURSOR_CHARS
from longleaf.api.elsewhere import text_goes_to
from longleaf.api.http.answer_schemas import AnswerView
from longleaf.api.http.errors import Problem, problem_of, retry_headers
from longleaf.api.http.html import render
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.results_view import bars, narrowings, said
from longleaf.api.http.search import answer_similar, body_of, search
from longleaf.api.http.search_schemas import MAX_HITS, START, PageLink, SearchBody
from longleaf.api.http.search_view import document_url, order_view, view
from longleaf.api.http.service import GivenUp, Served, Service
from longleaf.api.http.streaming import Tell, stream
from longleaf.api.search import SearchAnswer, Watch
from longleaf.core.catalog import Collection, DocumentHead
from longleaf.core.errors import LongleafError
from longleaf.reranker.instructions import PRESETS

router = APIRouter(include_in_schema=False)

_CURSOR_PASSAGES = 2_000
"""In a window, beyond which its cursor (40 characters each) is too much for a page."""


class Fragment(BaseModel):
    """A part of the page, rendered."""

    html: str


@router.get("/")
async def show_search(
    link: Annotated[PageLink, Query()], request: Request, service: Served
) -> Response:
    """The search page: a form, and the answer to what was asked."""
    if _asks(link):
        return await service.search(request, lambda given_up: _search_page(service, link, given_up))
    return await service.read(lambda: _search_page(service, link, lambda: False))


@router.get("/results")
async def stream_results(
    link: Annotated[PageLink, Query()], request: Request, service: Served
) -> Response:
    """The results as they come: `first` and `answer` are rendered, `order` is the API's."""

    def work(given_up: GivenUp, tell: Tell) -> BaseModel:
        around = Around(service, link)
        is_first = True

        def watch(answer: SearchAnswer) -> None:
            nonlocal is_first
            if is_first:
                tell("first", _fragment(around, view(answer, 0), is_final=False))
            else:
                tell("order", order_view(answer))
            is_first = False

        return _fragment(around, _answer(service, link, given_up, watch))

    return await stream(service, request, work, is_bulk=False)


@router.post("/results")
async def show_more(
    link: Annotated[PageLink, Query()],
    request: Request,
    service: Served,
    cursor: Annotated[str, Form(min_length=1, max_length=MAX_CURSOR_CHARS)],
) -> Response:
    """The next hits of the window that `cursor` names; `link` is the search that it came from."""

    def work(given_up: GivenUp) -> Response:
        answer = view(*search(service, SearchBody(cursor=cursor), given_up))
        return PlainJSON(_fragment(Around(service, link), answer))

    return await service.search(request, work)


def _asks(link: PageLink) -> bool:
    return bool(link.q.strip() or link.filter or link.similar)


def _answer(
    service: Service, link: PageLink, given_up: GivenUp, watch: Watch | None = None
) -> AnswerView:
    """What the API answers to the link, with facets and, for the first page, a cursor."""
    if link.similar:
        return answer_similar(service, link.similar, body_of(link), given_up)
    settings = service.runtime.engine.settings
    short = settings.candidates * settings.passages_per_document <= _CURSOR_PASSAGES
    more: dict[str, Any] = {"facets": [facets.ALL]}
    if short and not link.offset:
        more["cursor"] = START
    return view(*search(service, body_of(link).model_copy(update=more), given_up, watch))


def _search_page(service: Service, link: PageLink, given_up: GivenUp) -> Response:
    answer: AnswerView | None = None
    failure: Problem | None = None
    headers: dict[str, str] = {}
    if _asks(link):
        try:
            answer = _answer(service, link, given_up)
        except LongleafError as error:
            failure, headers = problem_of(error), retry_headers(error)
    values = values_of(Around(service, link), answer) | {"failure": failure}
    return HTMLResponse(
        render("search.html", **values), failure.status if failure else 200, headers
    )


@dataclass
class Around:
    """What stands around a search's answers, read once however many of them are rendered."""

    service: Service
    link: PageLink

    @cached_property
    def collections(self) -> list[Collection]:
        """All that may be seen, with their counts."""
        return self.service.runtime.catalog.collections(self.service.scope)

    @cached_property
    def like(self) -> DocumentHead | None:
        """The document that similar ones are asked of."""
        if not self.link.similar:
            return None
        return self.service.runtime.catalog.document(self.link.similar, self.service.scope)

    @cached_property
    def grades(self) -> dict[str, int]:
        """Document id -> what was said of it for this query."""
        if not self.link.q.strip():
            return {}
        judgements, judge = self.service.runtime.catalog.judgements, self.service.caller.name
        found = judgements.found(self.service.scope, query=self.link.q)
        return {each.document_id: each.grade for each in found if each.judge == judge}


def _fragment(around: Around, answer: AnswerView, *, is_final: bool = True) -> Fragment:
    values = values_of(around, answer) | {"failure": None, "is_final": is_final}
    return Fragment(html=render("fragment.html", **values))


def values_of(around: Around, answer: AnswerView | None) -> dict[str, Any]:
    """What the templates are given; `written`: an answer in words, None where none was asked."""
    link, collections = around.link, around.collections
    engine = around.service.runtime.engine
    reranker = engine.reranker
    tree = _tree(link)

    here = search_url(link, offset=link.offset).removeprefix("/?")

    def to(**changes: Any) -> str:
        return search_url(link, **changes)

    return {
        "link": link,
        "like": around.like if answer else None,
        "is_final": True,
        "grades": around.grades if answer else {},
        "collections": collections,
        "document_count": sum(each.document_count for each in collections),
        "answer": answer,
        "can_judge": reranker is not None and reranker.min_score is not None,
        "reranker": reranker,
        "takes_instruction": engine.embedder.takes_instruction
        or (reranker is not None and reranker.takes_instruction),
        "presets": PRESETS,
        "asked_filter": describe_filter(answer.query.filter)
        if answer and answer.query.filter and not link.similar
        else "",
        "link_filter": describe_filter(tree) if tree and answer else "",
        "narrowings": narrowings(answer.facets, tree, link.collection, to) if answer else [],
        "said": said,
        "bars": bars,
        "page_url": partial(document_url, back=here),
        "to": to,
        "export_url": _export_url(link),
        "here": here,
        "chat": around.service.runtime.chat,
        "elsewhere": text_goes_to(around.service.runtime.settings),
        "written": None,
        "stages": [(name, ms) for name, ms in answer.timings_ms.items() if name != "total"]
        if answer
        else [],
    }


def _tree(link: PageLink) -> dict[str, Any] | None:
    """The link's filter; None where it has none, or none that can be read."""
    try:
        tree = json.loads(link.filter) if link.filter else None
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) else None


def search_url(link: PageLink, **changes: Any) -> str:
    """The search page's address for `link` with `changes`."""
    values = link.model_copy(update={"offset": 0} | changes)
    parts: list[tuple[str, str]] = [("q", values.q)]
    parts += [("collection", each) for each in values.collection]
    parts += [("filter", values.filter)] if values.filter else []
    parts += [("limit", str(values.limit))] if values.limit != 10 else []
    parts += [("offset", str(values.offset))] if values.offset else []
    parts += [("rerank", "off")] if not values.rerank else []
    parts += [("depth", values.depth)] if values.depth else []
    parts += [("instruction", values.instruction)] if values.instruction else []
    parts += [("collapse", "off")] if not values.collapse else []
    parts += [("good", "on")] if values.good else []
    parts += [("sort", values.sort)] if values.sort != "relevance" else []
    parts += [("similar", values.similar)] if values.similar else []
    return f"/?{urlencode(parts)}"


def _export_url(link: PageLink) -> str:
    """The address of the whole list as a file, without its format; "" where there is none."""
    if link.similar:
        return ""
    whole = search_url(link, limit=MAX_HITS, collapse=link.collapse).removeprefix("/?")
    return f"/v1/search/export?{whole}{'&collapse=on' if link.collapse else ''}"


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
