"""Longleaf's own form of /v1/rerank: what other rerank APIs have no names for is in it.

Passages, depth, budgets; how much was read of each text, and what was not. Its errors are problems
(RFC 9457), and a misspelt key is one of them.
"""

from __future__ import annotations

from typing import Any

from longleaf.api.given import GivenReadings, GivenTexts
from longleaf.api.http.dialects.forms import Dialect, Result, results, tokens_read
from longleaf.api.http.rerank_schemas import RerankBody, RerankDocument


def _given(body: RerankBody) -> list[GivenTexts]:
    return [
        GivenTexts(
            query=body.query,
            documents=body.given(),
            instruction=body.instruction,
            reranker=body.model,
            max_tokens_per_document=body.max_tokens_per_doc,
            deadline_ms=body.deadline_ms,
            max_tokens=body.max_tokens,
            is_bulk=body.priority == "bulk",
        )
    ]


def _answer(body: RerankBody, found: GivenReadings, request_id: str) -> Any:
    """What RerankView says, as plain values: models of 100 results take 4 ms to make."""
    return {
        "id": request_id,
        "model": found.reader.name,
        "fingerprint": found.reader.fingerprint,
        "results": [_result(body, each) for each in results(found, body.top_n, raw=True)],
        "unread": [{"index": place, "reason": why} for place, why in found.unread.items()],
        "usage": {"total_tokens": tokens_read(found)},
        "elapsed_ms": found.elapsed_ms,
    }


def _result(body: RerankBody, result: Result) -> dict[str, Any]:
    reading = result.reading
    document = None
    if body.return_documents:
        given = body.documents[result.index]
        document = {"text": _text_of(given) if isinstance(given, RerankDocument) else given}
    return {
        "index": result.index,
        "relevance_score": reading.score if reading.probability is None else reading.probability,
        "score": reading.score,
        "probability": reading.probability,
        "depth": reading.depth,
        "tokens_read": reading.tokens_read,
        "tokens_total": reading.tokens_total,
        "truncated_tokens": reading.truncated_tokens,
        "windows": reading.windows,
        "passage_scores": reading.passage_scores,
        "document": document,
    }


def _text_of(document: RerankDocument) -> str:
    if document.passages is None:
        return document.text or ""
    return "\n\n".join(each.text for each in document.passages)


LONGLEAF = Dialect(
    "longleaf", RerankBody, _given, _answer, None, empty_is_ok=True, logits_stay=True
)
