"""POST /v1/search, and GET for links: JSON to a request, an answer to JSON.

`answer_search` does the same for the command line, without a server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from longleaf.api.answer import more
from longleaf.api.http.answer_schemas import AnswerView
from longleaf.api.http.errors import PROBLEM_RESPONSES, validation_problem
from longleaf.api.http.plain import PlainJSON, check_plain
from longleaf.api.http.search_schemas import (
    PageLink,
    RerankOptions,
    SearchBody,
    SearchLink,
    SimilarLink,
    beside_cursor,
    goes_on,
)
from longleaf.api.http.search_view import order_view, view
from longleaf.api.http.service import GivenUp, Served, Service
from longleaf.api.http.streaming import EVENT_SCHEMA, MEDIA_TYPE, Tell, is_wanted, stream
from longleaf.api.search import SearchAnswer, SearchEngine, SearchRequest, Watch
from longleaf.api.similar import similar
from longleaf.api.wire import Runtime
from longleaf.core.errors import InvalidRequest
from longleaf.core.types import Scope
from longleaf.retriever.filters import filter_from_json

router = APIRouter(prefix="/v1", tags=["search"], responses=PROBLEM_RESPONSES)


BodyT = TypeVar("BodyT", bound=BaseModel)

_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {MEDIA_TYPE: {"schema": EVENT_SCHEMA}},
        "description": "The answer; with `Accept: text/event-stream` events on the way to it.",
    }
}


@router.post(
    "/search", response_model=AnswerView, summary="Search in two stages", responses=_EVENTS
)
async def post_search(body: SearchBody, request: Request, service: Served) -> Response:
    """Find candidates by meaning and words, read them, and rank the documents.

    The answer shows the passages that decided with every stage's rank and score, how much of each
    document was read, stage times, and whatever it had to do without.
    """
    return await _respond(service, request, body)


@router.get("/search", response_model=AnswerView, summary="Search by link", responses=_EVENTS)
async def get_search(
    link: Annotated[SearchLink, Query()], request: Request, service: Served
) -> Response:
    """The same search as a link that can be kept or sent."""
    return await _respond(service, request, body_of(link))


@router.get(
    "/documents/{document_id}/similar",
    response_model=AnswerView,
    summary="Find documents about the same",
)
async def get_similar(
    document_id: Annotated[str, Path(description="The document's id.", max_length=64)],
    link: Annotated[SimilarLink, Query()],
    request: Request,
    service: Served,
) -> Response:
    """A search in two stages with the document's title and its most telling passage as the question
    (`query.text` says which), the document itself left out. In its collection unless others are
    named.
    """
    body = body_of(SearchLink(**link.model_dump(), q=""))
    return await service.search(
        request,
        lambda given_up: PlainJSON(answer_similar(service, document_id, body, given_up)),
    )


def answer_similar(
    service: Service, document_id: str, body: SearchBody, given_up: GivenUp
) -> AnswerView:
    """Documents about the same as one (blocking), in its collection unless others are named."""
    with service.runtime.answering() as engine:
        head = service.runtime.catalog.document(document_id, service.scope)
        asked = request_of(body, service.scope, given_up)
        asked = replace(asked, collections=asked.collections or (head.collection,))
        answer = similar(engine, head, asked)
    service.metrics.note_answer(answer)
    return view(answer, service.runtime.catalog.head_seq())


async def _respond(service: Service, request: Request, body: SearchBody) -> Response:
    is_bulk = body.rerank.priority == "bulk"

    def work(given_up: GivenUp) -> Response:
        return PlainJSON(view(*search(service, body, given_up)))

    def tell_all(given_up: GivenUp, tell: Tell) -> AnswerView:
        is_first = True

        def watch(answer: SearchAnswer) -> None:
            nonlocal is_first
            if is_first:
                tell("first", view(answer, service.runtime.catalog.head_seq()))
            else:
                tell("order", order_view(answer))
            is_first = False

        return view(*search(service, body, given_up, watch))

    tokens = reading_tokens(service, body)
    if is_wanted(request):
        return await stream(service, request, tell_all, is_bulk=is_bulk, tokens=tokens)
    return await service.search(request, work, is_bulk=is_bulk, tokens=tokens)


def reading_tokens(service: Service, body: SearchBody) -> int:
    """About what a search has read: its share of the line."""
    if not body.rerank.enabled or body.goes_on:
        return 0
    candidates = body.rerank.candidates or body.candidates
    return service.search_tokens(candidates, body.passages_per_document, body.rerank.max_tokens)


def search(
    service: Service, body: SearchBody, given_up: GivenUp, watch: Watch | None = None
) -> tuple[SearchAnswer, int]:
    """Run a search (blocking) and count it; returns (answer, head_seq) for `view`."""
    with service.runtime.answering() as engine:
        answer = _answered(engine, body, service.scope, given_up, watch)
    service.metrics.note_answer(answer)
    return answer, service.runtime.catalog.head_seq()


def _answered(
    engine: SearchEngine,
    body: SearchBody,
    scope: Scope,
    given_up: GivenUp = lambda: False,
    watch: Watch | None = None,
) -> SearchAnswer:
    if body.goes_on:
        limit = body.limit if "limit" in body.model_fields_set else None
        return more(engine, str(body.cursor), limit, scope, given_up)
    return engine.search(request_of(body, scope, given_up), watch)


def answer_search(runtime: Runtime, body: Mapping[str, Any]) -> dict[str, Any]:
    """What POST /v1/search would answer to `body`, blocking. Raises InvalidRequest."""
    read = asked_as(SearchBody, body)
    with runtime.answering() as engine:
        answer = _answered(engine, read, Scope.all())
    return as_json(view(answer, runtime.catalog.head_seq()))


def asked_as(kind: type[BodyT], asked: Mapping[str, Any]) -> BodyT:
    """What a command asks, checked as a request is. Raises InvalidRequest."""
    try:
        return kind.model_validate(dict(asked))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise InvalidRequest(validation_problem(found).detail) from None


def as_json(shown: BaseModel) -> dict[str, Any]:
    """An answer as a client of the API gets it."""
    said: dict[str, Any] = json.loads(bytes(PlainJSON(shown).body))
    return said


def body_of(link: PageLink | SearchLink) -> SearchBody:
    """A link's search. Raises InvalidRequest when its filter is not JSON, or when more than `limit`
    stands beside a cursor."""
    cursor = link.cursor if isinstance(link, SearchLink) else None
    if goes_on(cursor):
        if beside := beside_cursor(link):
            raise InvalidRequest(f"A cursor says the rest: leave out {', '.join(beside)}.")
        given = {"limit": link.limit} if "limit" in link.model_fields_set else {}
        return SearchBody(cursor=cursor, **given)
    if cursor is not None and link.offset:
        raise InvalidRequest("offset: a cursor begins at the first document.")
    tree = None
    if link.filter:
        try:
            tree = json.loads(link.filter)
        except (ValueError, RecursionError):
            raise InvalidRequest(
                "filter: not JSON.", 'For example filter={"field": "year", "gte": 2019}'
            ) from None
        if not isinstance(tree, dict):
            filter_from_json(tree)  # says what is expected instead
    return SearchBody(
        query=link.q,
        collections=link.collection or None,
        filter=tree,
        limit=link.limit,
        offset=link.offset,
        rerank=RerankOptions(
            enabled=link.rerank,
            instruction=link.instruction,
            depth=link.depth,
        ),
        explain=isinstance(link, SearchLink) and link.explain,
        sort=link.sort,
        facets=link.facet if isinstance(link, SearchLink) else [],
        highlight=link.highlight if isinstance(link, SearchLink) else "sentences",
        cursor=cursor,
        min_score="calibrated" if link.good else None,
        collapse=link.collapse,
    )


def request_of(body: SearchBody, scope: Scope, given_up: GivenUp = lambda: False) -> SearchRequest:
    """The engine's request. Raises InvalidRequest, naming the bad part of the filter."""
    where = filter_from_json(body.filter) if body.filter is not None else None
    check_plain(body.filter, "filter")  # after the reading, which has a limit on the depth
    check_plain(body.collections, "collections")
    check_plain(body.facets, "facets")
    return SearchRequest(
        query=body.query,
        scope=scope,
        collections=tuple(body.collections) if body.collections else None,
        where=where,
        limit=body.limit,
        offset=body.offset,
        candidates=body.candidates,
        passages_per_document=body.passages_per_document,
        fusion=body.fusion,
        group=body.group,
        rerank=body.rerank.enabled,
        deadline_ms=body.rerank.deadline_ms,
        read_candidates=body.rerank.candidates,
        reranker=body.rerank.model,
        max_tokens=body.rerank.max_tokens,
        depth=body.rerank.depth,
        instruction=body.rerank.instruction,
        is_bulk=body.rerank.priority == "bulk",
        given_up=given_up,
        collapse=body.collapse,
        explain=body.explain,
        min_score=body.min_score,
        sort=body.sort,
        facets=tuple(dict.fromkeys(body.facets)),
        cursor=body.cursor is not None,
        highlight=body.highlight,
    )
