"""Jina's rerank API: POST /v1/rerank.

Documents come back unless they are declined, which is Jina's default. `id` and `prompt_tokens` are
more than Jina answers: with them the answer is also what readers of other plain rerank APIs expect.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from longleaf.api.given import GivenReadings, GivenTexts
from longleaf.api.http.dialects.forms import (
    Dialect,
    Instruction,
    Lenient,
    MixedTexts,
    ModelName,
    QueryText,
    documents_of,
    only_text,
    results,
    tokens_read,
)
from longleaf.api.http.errors import Problem


class JinaBody(Lenient):
    """A request to Jina's API. `instruction` is not Jina's own; proxies send it."""

    model: ModelName
    query: QueryText
    documents: MixedTexts
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = True
    instruction: Instruction | None = None


def _texts(body: JinaBody) -> list[str]:
    return [
        each if isinstance(each, str) else only_text(each, f"documents[{place}]")
        for place, each in enumerate(body.documents)
    ]


def _given(body: JinaBody) -> list[GivenTexts]:
    return [GivenTexts(body.query, documents_of(_texts(body)), body.instruction)]


def _answer(body: JinaBody, found: GivenReadings, request_id: str) -> Any:
    ranked: list[dict[str, Any]] = [
        {"index": each.index, "relevance_score": each.score} for each in results(found, body.top_n)
    ]
    if body.return_documents:
        texts = _texts(body)
        for each in ranked:
            each["document"] = {"text": texts[each["index"]]}
    tokens = tokens_read(found)
    return {
        "id": request_id,
        "model": found.reader.name,
        "usage": {"total_tokens": tokens, "prompt_tokens": tokens},
        "results": ranked,
    }


def say_detail(what: Problem) -> tuple[int, Any]:
    """{"detail": ...}, as Jina and Voyage say it."""
    return what.status, {"detail": f"{what.detail} {what.hint}".strip()}


JINA = Dialect("jina", JinaBody, _given, _answer, say_detail)
