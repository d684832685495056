"""Alibaba Model Studio (DashScope): its native text-rerank, and the flat form of `reranks`.

The native path takes `input` and `parameters` and answers `output`; the flat one takes and answers
all in one level. Both cut nothing here that the reranker can read. Its client asks for no events.
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

NATIVE_PATH = "/api/v1/services/rerank/text-rerank/text-rerank"
FLAT_PATH = "/compatible-api/v1/reranks"

_CODES = {
    401: "InvalidApiKey",
    403: "AccessDenied",
    404: "ModelNotFound",
    429: "Throttling",
    503: "ServiceUnavailable",
}


class DashScopeInput(Lenient):
    """What is to be read."""

    query: QueryText | dict[str, Any]
    documents: MixedTexts


class DashScopeParameters(Lenient):
    """How, and what comes back."""

    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False
    instruct: Instruction | None = None


class DashScopeBody(Lenient):
    """A native request."""

    model: ModelName
    input: DashScopeInput
    parameters: DashScopeParameters | None = None


class DashScopeFlatBody(DashScopeInput, DashScopeParameters):
    """A flat request."""

    model: ModelName


def _texts(given: DashScopeInput) -> list[str]:
    return [
        each if isinstance(each, str) else only_text(each, f"documents[{place}]")
        for place, each in enumerate(given.documents)
    ]


def _read(given: DashScopeInput, how: DashScopeParameters) -> list[GivenTexts]:
    query = given.query if isinstance(given.query, str) else only_text(given.query, "query")
    return [GivenTexts(query, documents_of(_texts(given)), how.instruct)]


def _ranked(given: DashScopeInput, how: DashScopeParameters, found: GivenReadings) -> Any:
    ranked: list[dict[str, Any]] = [
        {"index": each.index, "relevance_score": each.score} for each in results(found, how.top_n)
    ]
    if how.return_documents:
        texts = _texts(given)
        for each in ranked:
            each["document"] = {"text": texts[each["index"]]}
    return ranked


def _given(body: DashScopeBody) -> list[GivenTexts]:
    return _read(body.input, body.parameters or DashScopeParameters())


def _answer(body: DashScopeBody, found: GivenReadings, request_id: str) -> Any:
    ranked = _ranked(body.input, body.parameters or DashScopeParameters(), found)
    return {
        "output": {"results": ranked},
        "usage": {"total_tokens": tokens_read(found)},
        "request_id": request_id,
    }


def _given_flat(body: DashScopeFlatBody) -> list[GivenTexts]:
    return _read(body, body)


def _answer_flat(body: DashScopeFlatBody, found: GivenReadings, request_id: str) -> Any:
    return {
        "object": "list",
        "results": _ranked(body, body, found),
        "model": found.reader.name,
        "id": request_id,
        "usage": {"total_tokens": tokens_read(found)},
    }


def _say(what: Problem) -> tuple[int, Any]:
    status = 400 if what.status in (413, 422) else what.status
    code = _CODES.get(status, "InvalidParameter" if status < 500 else "InternalError")
    return status, {
        "code": code,
        "message": f"{what.detail} {what.hint}".strip(),
        "request_id": what.request_id,
    }


DASHSCOPE = Dialect("dashscope", DashScopeBody, _given, _answer, _say)
DASHSCOPE_FLAT = Dialect("dashscope", DashScopeFlatBody, _given_flat, _answer_flat, _say)
