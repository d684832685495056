"""Cohere's rerank API: POST /v2/rerank, and /v1/rerank as its older client asks.

v2 cuts each document after `max_tokens_per_doc` (4,096 by default), v1 after `max_chunks_per_doc`
chunks; both tell what was cut in `meta.warnings`. Tokens are this server's embedder's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from longleaf.api.given import GivenReadings, GivenTexts
from longleaf.api.http.dialects.forms import (
    Dialect,
    Lenient,
    ModelName,
    QueryText,
    Texts,
    Tokens,
    documents_of,
    results,
    tokens_read,
    truncated,
)
from longleaf.api.http.errors import Problem
from longleaf.api.http.rerank_schemas import MAX_DOCUMENTS, Text
from longleaf.core.errors import InvalidRequest

_CHUNK_TOKENS = 4_096
"""A chunk of Cohere's rerank models from v3 on, which v1 counts."""
_UNIT_DOCUMENTS = 100
"""Documents of a search unit, by which Cohere counts."""


class RelevantSpans(Lenient):
    """Whether spans of the documents are to be answered."""

    mode: str = "disabled"


class CohereBody(Lenient):
    """A request to /v2/rerank."""

    model: ModelName
    query: QueryText
    documents: Texts
    top_n: int | None = Field(None, ge=1)
    max_tokens_per_doc: Tokens = 4096
    relevant_spans: RelevantSpans | None = None
    priority: int = 0


class CohereV1Body(Lenient):
    """A request to /v1/rerank. A document may be an object whose fields are read; all of it comes
    back with `return_documents`, so there is nothing inside a field."""

    model: ModelName | None = None
    query: QueryText
    documents: Annotated[
        list[Text | dict[Text, Text | int | float | bool | None]],
        Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True),
    ]
    top_n: int | None = Field(None, ge=1)
    rank_fields: list[Text] | None = Field(None, min_length=1, max_length=100)
    return_documents: bool = False
    max_chunks_per_doc: int = Field(10, ge=1, le=1 << 20)


def _given(body: CohereBody) -> list[GivenTexts]:
    if body.relevant_spans is not None and body.relevant_spans.mode != "disabled":
        raise InvalidRequest(
            "relevant_spans: this server tells no spans here.",
            "Leave it out; POST /v1/search tells the sentences that carry a score.",
        )
    return [
        GivenTexts(
            body.query,
            documents_of(body.documents),
            max_tokens_per_document=body.max_tokens_per_doc,
            is_bulk=body.priority > 0,
        )
    ]


def _given_v1(body: CohereV1Body) -> list[GivenTexts]:
    texts = [
        each if isinstance(each, str) else _text_of(each, body.rank_fields, place)
        for place, each in enumerate(body.documents)
    ]
    most_tokens = body.max_chunks_per_doc * _CHUNK_TOKENS
    return [GivenTexts(body.query, documents_of(texts), max_tokens_per_document=most_tokens)]


def _text_of(document: Mapping[str, Any], fields: list[str] | None, place: int) -> str:
    wanted = fields or ["text"]
    found = [document[name] for name in wanted if document.get(name) is not None]
    if not found:
        raise InvalidRequest(
            f"documents[{place}] has none of the fields that are read.",
            'Give it a "text", or name its fields in rank_fields.',
        )
    return "\n".join(str(each) for each in found)


def _answer(body: CohereBody, found: GivenReadings, request_id: str) -> Any:
    return _said("2", found, request_id, len(body.documents), _ranked(found, body.top_n))


def _answer_v1(body: CohereV1Body, found: GivenReadings, request_id: str) -> Any:
    ranked = _ranked(found, body.top_n)
    if body.return_documents:
        for each in ranked:
            given = body.documents[each["index"]]
            each["document"] = {"text": given} if isinstance(given, str) else given
    return _said("1", found, request_id, len(body.documents), ranked)


def _ranked(found: GivenReadings, most: int | None) -> list[dict[str, Any]]:
    return [{"index": each.index, "relevance_score": each.score} for each in results(found, most)]


def _said(
    version: Literal["1", "2"], found: GivenReadings, request_id: str, count: int, ranked: Any
) -> Any:
    meta: dict[str, Any] = {
        "api_version": {"version": version, "is_experimental": False},
        "billed_units": {"search_units": math.ceil(count / _UNIT_DOCUMENTS)},
        "tokens": {"input_tokens": tokens_read(found), "output_tokens": 0},
    }
    warnings = [
        f"documents[{place}]: the last {tokens} tokens were not read."
        for place, tokens in truncated(found).items()
    ]
    if found.query_truncated_tokens:
        warnings.append(f"query: the last {found.query_truncated_tokens} tokens were not read.")
    warnings += [
        f"documents[{place}]: not in results, {reason}." for place, reason in found.unread.items()
    ]
    if warnings:
        meta["warnings"] = warnings
    return {"id": request_id, "results": ranked, "meta": meta}


def _say(what: Problem) -> tuple[int, Any]:
    status = 400 if what.status in (413, 422) else what.status
    return status, {"id": what.request_id, "message": f"{what.detail} {what.hint}".strip()}


COHERE = Dialect("cohere", CohereBody, _given, _answer, _say)
COHERE_V1 = Dialect("cohere", CohereV1Body, _given_v1, _answer_v1, _say)
