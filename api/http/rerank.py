"""POST /v1/rerank: texts that the caller brings, read by this server's second stage.

GET says which reranker that is: what another Longleaf asks at its start (`reranker.kind remote`).
A request goes through the same lanes, queue and budget as a search.
"""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from fastapi.responses import Response

from longleaf.api.given import GivenReadings, GivenTexts
from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.guard import RERANK_BODY_BYTES
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.rerank_schemas import (
    MAX_DOCUMENTS,
    MAX_PASSAGES,
    ReaderLimits,
    RerankAbout,
    RerankBody,
    RerankDocument,
    RerankedText,
    RerankResult,
    RerankUsage,
    RerankView,
    UnreadDocument,
)
from longleaf.api.http.service import GivenUp, Served
from longleaf.api.reading import reader_of_texts
from longleaf.core.errors import InvalidRequest
from longleaf.core.types import Reading

router = APIRouter(prefix="/v1", tags=["search"], responses=PROBLEM_RESPONSES)


@router.post("/rerank", response_model=RerankView, summary="Read given texts")
async def post_rerank(body: RerankBody, request: Request, service: Served) -> Response:
    """Scores of the given texts for the query, best first, by the reranker that searches use.

    Each result says how much was read; what was not read is listed with the reason. No index is
    asked and nothing is stored.
    """
    began = time.perf_counter()
    request_id = str(getattr(request.state, "request_id", ""))

    def work(given_up: GivenUp) -> Response:
        with service.runtime.answering() as engine:
            name = engine.reranker.name if engine.reranker else "none"
            if body.model not in (None, name):
                raise InvalidRequest(
                    f"The reranker here is {name}, not {body.model}.",
                    "Leave model out, or set reranker.kind.",
                )
            given = GivenTexts(
                query=body.query,
                documents=body.given(),
                instruction=body.instruction,
                max_tokens_per_document=body.max_tokens_per_doc,
                deadline_ms=body.deadline_ms or engine.deadline_ms,
                max_tokens=body.max_tokens,
                is_bulk=body.priority == "bulk",
                given_up=given_up,
                began=began,
            )
            found = service.text_reading.read(engine, given)
        return PlainJSON(_view(body, found, request_id))

    return await service.search(request, work, is_bulk=body.priority == "bulk")


@router.get("/rerank", summary="Which reranker reads here?")
async def get_rerank(service: Served) -> RerankAbout:
    """Name, fingerprint, limits and calibration of the reranker, for whoever uses it from
    elsewhere; `model`, `fingerprint` and weights stay the same while the server runs.
    """
    with service.runtime.answering() as engine:
        reader = reader_of_texts(engine.reranker, engine.embedder)
    limits = reader.document_limits
    return RerankAbout(
        model=reader.name,
        fingerprint=reader.fingerprint,
        takes_instruction=reader.takes_instruction,
        default_instruction=reader.default_instruction,
        first_stage_weight=reader.first_stage_weight,
        document_limits=ReaderLimits(
            documents=limits.documents, tokens=limits.tokens, beside=limits.beside
        ),
        document_weight=reader.document_weight,
        min_score=reader.min_score,
        max_documents=MAX_DOCUMENTS,
        max_passages=MAX_PASSAGES,
        max_body_bytes=RERANK_BODY_BYTES,
        chosen=service.runtime.reasons.get("reranker", ""),
    )


def _view(body: RerankBody, found: GivenReadings, request_id: str) -> RerankView:
    # Ties keep the order in which the texts came.
    order = sorted(found.readings, key=lambda place: (-found.readings[place].score, place))
    return RerankView(
        id=request_id,
        model=found.reader.name,
        fingerprint=found.reader.fingerprint,
        results=[_result(body, place, found.readings[place]) for place in order[: body.top_n]],
        unread=[
            UnreadDocument(index=place, reason=reason) for place, reason in found.unread.items()
        ],
        usage=RerankUsage(total_tokens=sum(each.tokens_read for each in found.readings.values())),
        elapsed_ms=found.elapsed_ms,
    )


def _result(body: RerankBody, place: int, reading: Reading) -> RerankResult:
    document = None
    if body.return_documents:
        given = body.documents[place]
        document = RerankedText(
            text=_text_of(given) if isinstance(given, RerankDocument) else given
        )
    has_probability = reading.probability is not None
    return RerankResult(
        index=place,
        relevance_score=reading.probability if has_probability else reading.score,
        score=reading.score,
        probability=reading.probability,
        depth=reading.depth,
        tokens_read=reading.tokens_read,
        tokens_total=reading.tokens_total,
        truncated_tokens=reading.truncated_tokens,
        windows=reading.windows,
        passage_scores=list(reading.passage_scores),
        document=document,
    )


def _text_of(document: RerankDocument) -> str:
    if document.passages is None:
        return document.text or ""
    return "\n\n".join(each.text for each in document.passages)
