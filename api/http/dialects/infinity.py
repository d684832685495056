"""Infinity: POST /rerank (or /v1/rerank behind its URL prefix) with `raw_scores`."""

from __future__ import annotations

import time
from typing import Any

from pydantic import Field

from longleaf.api.given import GivenReadings, GivenTexts
from longleaf.api.http.dialects.forms import (
    Dialect,
    Lenient,
    ModelName,
    QueryText,
    Texts,
    documents_of,
    results,
    tokens_read,
)
from longleaf.api.http.errors import Problem


class InfinityBody(Lenient):
    """A request to Infinity."""

    query: QueryText
    documents: Texts
    return_documents: bool = False
    raw_scores: bool = False
    model: ModelName = "default/not-specified"
    top_n: int | None = Field(None, ge=1)


def _given(body: InfinityBody) -> list[GivenTexts]:
    return [GivenTexts(body.query, documents_of(body.documents))]


def _answer(body: InfinityBody, found: GivenReadings, request_id: str) -> Any:
    ranked: list[dict[str, Any]] = [
        {"relevance_score": each.score, "index": each.index, "document": None}
        for each in results(found, body.top_n, raw=body.raw_scores)
    ]
    if body.return_documents:
        for each in ranked:
            each["document"] = body.documents[each["index"]]
    tokens = tokens_read(found)
    return {
        "object": "rerank",
        "results": ranked,
        "model": found.reader.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "id": f"infinity-{request_id}",
        "created": int(time.time()),
    }


def _say(what: Problem) -> tuple[int, Any]:
    if what.errors:
        detail = [
            {"loc": each.field.split("."), "msg": each.message, "type": "value_error"}
            for each in what.errors
        ]
        return what.status, {"detail": detail}
    error = {
        "message": f"{what.detail} {what.hint}".strip(),
        "type": what.code,
        "param": None,
        "code": what.status,
    }
    return what.status, {"error": error}


INFINITY = Dialect(
    "infinity", InfinityBody, _given, _answer, _say, is_raw=lambda body: body.raw_scores
)
