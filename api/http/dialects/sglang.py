"""SGLang: POST /v1/rerank with `instruct`; a bare array comes back, documents in it by default."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from longleaf.api.given import GivenReadings, GivenTexts
from longleaf.api.http.dialects.forms import (
    Dialect,
    Instruction,
    Lenient,
    ModelName,
    QueryText,
    documents_of,
    only_text,
    results,
)
from longleaf.api.http.errors import Problem
from longleaf.api.http.rerank_schemas import MAX_DOCUMENTS, Text

Content = Text | list[dict[str, Any]]


class SglangBody(Lenient):
    """A request to SGLang. Texts may come as content parts, of which only text is read."""

    model: ModelName | None = None
    query: QueryText | list[dict[str, Any]]
    documents: list[Content] = Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)
    instruct: Instruction | None = None
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = True

    @field_validator("documents")
    @classmethod
    def _no_empty_ones(cls, documents: list[Content]) -> list[Content]:
        for place, each in enumerate(documents):
            if not each or (isinstance(each, str) and not each.strip()):
                raise ValueError(f"document {place} is empty")
        return documents


def _text(content: str | list[dict[str, Any]], where: str) -> str:
    return content if isinstance(content, str) else only_text(content, where)


def _texts(body: SglangBody) -> list[str]:
    return [_text(each, f"documents[{place}]") for place, each in enumerate(body.documents)]


def _given(body: SglangBody) -> list[GivenTexts]:
    query = _text(body.query, "query")
    return [GivenTexts(query, documents_of(_texts(body)), body.instruct)]


def _answer(body: SglangBody, found: GivenReadings, request_id: str) -> Any:
    texts = _texts(body)
    ranked = []
    for each in results(found, body.top_n):
        item: dict[str, Any] = {
            "score": each.score,
            "index": each.index,
            "meta_info": {
                "id": request_id,
                "prompt_tokens": each.reading.tokens_read,
                "truncated_tokens": each.reading.truncated_tokens,
            },
        }
        if body.return_documents:
            item["document"] = texts[each.index]
        ranked.append(item)
    return ranked


def _say(what: Problem) -> tuple[int, Any]:
    status = 400 if what.status in (413, 422) else what.status
    kind = "BadRequestError" if status < 500 else "InternalServerError"
    return status, {
        "object": "error",
        "message": f"{what.detail} {what.hint}".strip(),
        "type": kind,
        "param": None,
        "code": status,
    }


SGLANG = Dialect("sglang", SglangBody, _given, _answer, _say)
