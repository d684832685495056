"""Voyage's rerank API: POST /v1/rerank with `top_k` and `truncation`.

Its client always sends these two keys, by which it is told from others. Unlike most, Voyage refuses
keys that it does not know.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from longleaf.api.given import GivenReadings, GivenTexts
from longleaf.api.http.dialects.forms import (
    Dialect,
    ModelName,
    QueryText,
    Texts,
    documents_of,
    require_whole,
    results,
    tokens_read,
)
from longleaf.api.http.dialects.jina import say_detail
from longleaf.api.http.errors import Problem


class VoyageBody(BaseModel):
    """A request to Voyage's API."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    query: QueryText
    documents: Texts
    model: ModelName
    top_k: int | None = Field(None, ge=1)
    return_documents: bool = False
    truncation: bool = True


def _given(body: VoyageBody) -> list[GivenTexts]:
    return [GivenTexts(body.query, documents_of(body.documents))]


def _answer(body: VoyageBody, found: GivenReadings, _request_id: str) -> Any:
    if not body.truncation:
        require_whole(found, "documents", "Leave truncation out, or send shorter texts.")
    ranked: list[dict[str, Any]] = [
        {"index": each.index, "relevance_score": each.score} for each in results(found, body.top_k)
    ]
    if body.return_documents:
        for each in ranked:
            each["document"] = body.documents[each["index"]]
    return {
        "object": "list",
        "data": ranked,
        "model": found.reader.name,
        "usage": {"total_tokens": tokens_read(found)},
    }


def _say(what: Problem) -> tuple[int, Any]:
    status, body = say_detail(what)
    return 400 if status == 413 else status, body


VOYAGE = Dialect("voyage", VoyageBody, _given, _answer, _say)
