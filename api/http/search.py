"""POST /v1/search, and GET for links: JSON to a request, an answer to JSON.

`answer_search` does the same for the command line, without a server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError

from longleaf.api.http.errors import PROBLEM_RESPONSES, validation_problem
from longleaf.api.http.plain import PlainJSON, check_plain
from longleaf.api.http.search_schemas import (
    AnswerView,
    DegradedView,
    ExplainView,
    FirstStage,
    HitView,
    IndexView,
    OrderHit,
    OrderView,
    PageLink,
    PassageHit,
    PassageNormal,
    PassageScores,
    QueryView,
    ReadingView,
    RerankOptions,
    SearchBody,
    SearchLink,
    SimilarLink,
    VersionHit,
)
from longleaf.api.http.service import GivenUp, Served, Service
from longleaf.api.http.streaming import MEDIA_TYPE, Tell, is_wanted, stream
from longleaf.api.search import SearchAnswer, SearchRequest, Watch
from longleaf.api.similar import similar
from longleaf.api.wire import Runtime
from longleaf.core.errors import InvalidRequest
from longleaf.core.types import Hit, HitPassage, Reading, Scope
from longleaf.retriever.filters import filter_from_json, filter_to_json

router = APIRouter(prefix="/v1", tags=["search"], responses=PROBLEM_RESPONSES)


_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
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

    def work(given_up: GivenUp) -> Response:
        with service.runtime.answering() as engine:
            head = service.runtime.catalog.document(document_id, service.scope)
            asked = request_of(body, service.scope, given_up)
            asked = replace(asked, collections=asked.collections or (head.collection,))
            answer = similar(engine, head, asked)
        service.metrics.note_answer(answer)
        return PlainJSON(view(answer, service.runtime.catalog.head_seq(), body))

    return await service.search(request, work)


async def _respond(service: Service, request: Request, body: SearchBody) -> Response:
    is_bulk = body.rerank.priority == "bulk"

    def work(given_up: GivenUp) -> Response:
        return PlainJSON(view(*search(service, body, given_up)))

    def tell_all(given_up: GivenUp, tell: Tell) -> AnswerView:
        is_first = True

        def watch(answer: SearchAnswer) -> None:
            nonlocal is_first
            if is_first:
                tell("first", view(answer, service.runtime.catalog.head_seq(), body))
            else:
                tell("order", _order(answer))
            is_first = False

        return view(*search(service, body, given_up, watch))

    if is_wanted(request):
        return await stream(service, request, tell_all, is_bulk=is_bulk)
    return await service.search(request, work, is_bulk=is_bulk)


def search(
    service: Service, body: SearchBody, given_up: GivenUp, watch: Watch | None = None
) -> tuple[SearchAnswer, int, SearchBody]:
    """Run a search (blocking) and count it; returns (answer, head_seq, body) for `view`."""
    with service.runtime.answering() as engine:
        answer = engine.search(request_of(body, service.scope, given_up), watch)
    service.metrics.note_answer(answer)
    return answer, service.runtime.catalog.head_seq(), body


def answer_search(runtime: Runtime, body: Mapping[str, Any]) -> dict[str, Any]:
    """What POST /v1/search would answer to `body`, blocking. Raises InvalidRequest."""
    try:
        read = SearchBody.model_validate(dict(body))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise InvalidRequest(validation_problem(found).detail) from None
    with runtime.answering() as engine:
        answer = engine.search(request_of(read, Scope.all()))
    shown = PlainJSON(view(answer, runtime.catalog.head_seq(), read))
    said: dict[str, Any] = json.loads(bytes(shown.body))
    return said


def body_of(link: PageLink) -> SearchBody:
    """A link's search. Raises InvalidRequest when its filter is not JSON."""
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
            instruction=link.instruction if isinstance(link, SearchLink) else None,
            depth=link.depth if isinstance(link, SearchLink) else None,
        ),
        explain=isinstance(link, SearchLink) and link.explain,
        min_score="calibrated" if link.good else None,
        collapse=link.collapse,
    )


def request_of(body: SearchBody, scope: Scope, given_up: GivenUp = lambda: False) -> SearchRequest:
    """The engine's request. Raises InvalidRequest, naming the bad part of the filter."""
    where = filter_from_json(body.filter) if body.filter is not None else None
    check_plain(body.filter, "filter")  # after the reading, which has a limit on the depth
    check_plain(body.collections, "collections")
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
    )


def view(answer: SearchAnswer, head_seq: int, body: SearchBody) -> AnswerView:
    """An answer as JSON says it."""
    warnings = list(answer.warnings)
    window = answer.found_count + answer.below_min_count
    if body.offset + body.limit > window and not answer.exhausted:
        warnings.append(
            f"Only the best {window} were looked at and there are more: raise candidates to go on."
        )
    where = answer.query.where
    return AnswerView(
        hits=[_hit(hit, explain=answer.explanation is not None) for hit in answer.hits],
        query=QueryView(
            text=answer.query.text,
            phrases=list(answer.query.phrases),
            excluded=list(answer.query.excluded),
            filter=filter_to_json(where) if where is not None else None,
        ),
        found_count=answer.found_count,
        exhausted=answer.exhausted,
        min_score=answer.min_score,
        below_min_count=answer.below_min_count,
        reranker=answer.reranker,
        reranked_count=answer.reranked_count,
        whole_count=answer.whole_count,
        degraded=[DegradedView(**asdict(each)) for each in answer.degraded],
        warnings=warnings,
        timings_ms={name: round(value, 3) for name, value in answer.timings_ms.items()},
        index=IndexView(seen_seq=answer.seen_seq, head_seq=head_seq),
        explain=ExplainView(**asdict(answer.explanation)) if answer.explanation else None,
    )


def _order(answer: SearchAnswer) -> OrderView:
    """Where the hits stand while they are still being read."""
    return OrderView(
        hits=[
            OrderHit(
                document_id=hit.document_id,
                rank=hit.rank,
                score=hit.score,
                reading=_reading(hit.reading),
            )
            for hit in answer.hits
        ],
        reranked_count=answer.reranked_count,
        whole_count=answer.whole_count,
    )


def document_url(document_id: str, start_char: int, end_char: int, query: str = "") -> str:
    """The page of a document with a passage marked."""
    parts = {"start": str(start_char), "end": str(end_char)}
    if query:
        parts["q"] = query
    return f"/documents/{document_id}?{urlencode(parts)}#hit"


def _hit(hit: Hit, *, explain: bool) -> HitView:
    best = hit.passages[0].passage if hit.passages else None
    return HitView(
        rank=hit.rank,
        score=hit.score,
        document_id=hit.document_id,
        collection=hit.collection,
        key=hit.key,
        title=hit.title,
        revision=hit.revision,
        metadata=dict(hit.metadata),
        source=hit.source,
        url=document_url(hit.document_id, best.start_char, best.end_char)
        if best
        else f"/documents/{hit.document_id}",
        first_stage=FirstStage(rank=hit.first_stage_rank, score=hit.first_stage_score),
        reading=_reading(hit.reading),
        passages=[_passage(each, explain=explain) for each in hit.passages],
        versions=[
            VersionHit(**asdict(each), url=f"/documents/{each.document_id}")
            for each in hit.versions
        ],
        earlier=_reading(hit.earlier) if explain else None,
    )


def _reading(reading: Reading | None) -> ReadingView | None:
    if reading is None:
        return None
    return ReadingView(
        score=reading.score,
        depth=reading.depth,
        tokens_read=reading.tokens_read,
        tokens_total=reading.tokens_total,
        truncated_tokens=reading.truncated_tokens,
        probability=reading.probability,
        windows=reading.windows,
        from_cache=reading.from_cache,
    )


def _passage(found: HitPassage, *, explain: bool) -> PassageHit:
    passage = found.passage
    return PassageHit(
        start_char=passage.start_char,
        end_char=passage.end_char,
        first_page=passage.first_page,
        last_page=passage.last_page,
        headings=list(passage.headings),
        role=passage.role.value,
        text=passage.text,
        highlights=list(found.highlights),
        scores=PassageScores(
            dense=found.dense_score,
            bm25=found.bm25_score,
            fused=found.fused_score,
            reading=found.reading_score,
            dense_rank=found.dense_rank,
            bm25_rank=found.bm25_rank,
        ),
        normalised=PassageNormal(dense=found.dense_z, bm25=found.bm25_z) if explain else None,
    )
