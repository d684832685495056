"""Text Embeddings Inference: POST /rerank with `texts`; a bare array comes back.

A text that is longer than what is read is an error unless `truncate` is true. What is cut is always
the end: `truncation_direction` left is refused where something would have been cut.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from longleaf.api.given import GivenReadings, GivenTexts
from longleaf.api.http.dialects.forms import (
    Dialect,
    Lenient,
    QueryText,
    documents_of,
    require_whole,
    results,
)
from longleaf.api.http.errors import Problem
from longleaf.api.http.rerank_schemas import MAX_DOCUMENTS, Text
from longleaf.core.errors import InvalidRequest, TooLarge

_STATUSES = {"no_texts": 400, "too_large": 413, "validation": 422, "invalid_request": 422}
"""A problem's code -> TEI's status."""
_KINDS = {400: "Empty", 424: "Backend", 429: "Overloaded", 503: "Unhealthy"}
"""Status -> what TEI calls such an error; all others are of the kind Validation."""


class NoTexts(InvalidRequest):
    """A request without texts."""

    code = "no_texts"


class TeiBody(Lenient):
    """A request to TEI."""

    query: QueryText
    texts: list[Text] = Field(fail_fast=True)
    truncate: bool | None = False
    truncation_direction: Literal["left", "Left", "right", "Right"] = "right"
    raw_scores: bool = False
    return_text: bool = False

    @field_validator("texts", mode="before")
    @classmethod
    def _not_too_many(cls, texts: Any) -> Any:
        # No ValueError: to TEI a batch that is too large is too large, and not malformed.
        if isinstance(texts, list) and len(texts) > MAX_DOCUMENTS:
            raise TooLarge(
                f"{len(texts):,} texts are more than the {MAX_DOCUMENTS:,} that are taken.",
                "Send fewer at once.",
            )
        return texts


def _given(body: TeiBody) -> list[GivenTexts]:
    if not body.texts:
        raise NoTexts("`texts` cannot be empty.")
    return [GivenTexts(body.query, documents_of(body.texts))]


def _answer(body: TeiBody, found: GivenReadings, _request_id: str) -> Any:
    if not body.truncate:
        require_whole(found, "texts", "Set truncate to true, or send shorter texts.")
    if body.truncation_direction.lower() == "left":
        require_whole(found, "texts", "Only ends are cut here: set truncation_direction to right.")
    ranked: list[dict[str, Any]] = [
        {"index": each.index, "score": each.score} for each in results(found, raw=body.raw_scores)
    ]
    if body.return_text:
        for each in ranked:
            each["text"] = body.texts[each["index"]]
    return ranked


def _say(what: Problem) -> tuple[int, Any]:
    # No reranker, or one that fails, is TEI's "backend"; 503 says to ask again.
    fails = what.code == "not_found" or (what.status >= 500 and what.status != 503)
    status = 424 if fails else _STATUSES.get(what.code, what.status)
    return status, {
        "error": f"{what.detail} {what.hint}".strip(),
        "error_type": _KINDS.get(status, "Validation"),
    }


TEI = Dialect("tei", TeiBody, _given, _answer, _say, is_raw=lambda body: body.raw_scores)
