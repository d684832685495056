"""vLLM: POST /rerank, /v1/rerank and /v2/rerank with `documents`, and /score with pairs.

A prompt that is longer than what is read is an error, unless `truncate_prompt_tokens` says where to
cut: -1 at the model's limit, else after so many tokens of query and text together. Scores are those
of vLLM's default activation (0 to 1), or the model's own numbers with `use_activation` false.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
    relevance,
    require_whole,
    results,
    tokens_read,
    unread_error,
)
from longleaf.api.http.errors import Problem
from longleaf.api.http.rerank_schemas import MAX_DOCUMENTS, Text
from longleaf.core.errors import InvalidRequest

_TYPES = {404: "NotFoundError", 429: "TooManyRequestsError"}


class TemplateArguments(BaseModel):
    """What this server's template takes: any other argument would change scores, and is refused."""

    model_config = ConfigDict(extra="forbid")

    instruction: Instruction | None = None


class _Pooling(Lenient):
    """What all requests to vLLM's scoring may say."""

    model: ModelName | None = None
    truncate_prompt_tokens: int | None = Field(None, ge=-1, lt=1 << 40)
    truncation_side: Literal["left", "right"] | None = None
    use_activation: bool | None = None
    activation: bool | None = None
    softmax: bool | None = None
    priority: int = 0
    max_tokens_per_query: int = Field(0, ge=0, lt=1 << 40)
    max_tokens_per_doc: int = Field(0, ge=0, lt=1 << 40)
    instruction: Instruction | None = None
    chat_template_kwargs: TemplateArguments | None = None

    @property
    def wants_raw(self) -> bool:
        """Whether the model's own numbers are asked for; the newest name of the key counts."""
        named = (self.use_activation, self.activation, self.softmax)
        return next((each for each in named if each is not None), True) is False

    def _read(self, query: str, texts: Sequence[str]) -> GivenTexts:
        pair_tokens = self.truncate_prompt_tokens
        return GivenTexts(
            query,
            documents_of(texts),
            self._words(),
            max_tokens_per_document=self.max_tokens_per_doc or None,
            max_pair_tokens=pair_tokens if pair_tokens and pair_tokens > 0 else None,
            max_query_tokens=self.max_tokens_per_query or None,
            is_bulk=self.priority > 0,
        )

    def _words(self) -> str | None:
        """The instruction, by either of its names."""
        arguments = self.chat_template_kwargs
        return arguments.instruction if arguments and arguments.instruction else self.instruction

    def _check(self, found: GivenReadings) -> None:
        may_cut = self.max_tokens_per_doc or self.max_tokens_per_query
        if self.truncate_prompt_tokens is None and not may_cut:
            require_whole(
                found, "documents", "Set truncate_prompt_tokens (-1: what fits), or send less."
            )
        if self.truncation_side == "left":
            require_whole(found, "documents", "Only ends are cut here: leave truncation_side out.")


class VllmRerankBody(_Pooling):
    """A rerank request."""

    query: QueryText | dict[str, Any]
    documents: Text | dict[str, Any] | MixedTexts
    top_n: int = 0


_Query: TypeAlias = QueryText | dict[str, Any]
_Input: TypeAlias = Text | dict[str, Any]
"""A text, or content parts that hold one."""


class VllmScoreBody(_Pooling):
    """A score request: one query or as many as texts, under one of four pairs of names."""

    queries: _Query | list[_Query] | None = None
    documents: _Input | list[_Input] | None = None
    items: _Input | list[_Input] | None = None
    data_1: _Query | list[_Query] | None = None
    data_2: _Input | list[_Input] | None = None
    text_1: _Query | list[_Query] | None = None
    text_2: _Input | list[_Input] | None = None

    @model_validator(mode="before")
    @classmethod
    def _not_too_many(cls, given: Any) -> Any:
        if isinstance(given, dict):
            for name, each in given.items():
                if isinstance(each, list) and len(each) > MAX_DOCUMENTS:
                    raise ValueError(f"{name}: more than the {MAX_DOCUMENTS:,} that are taken")
        return given

    def pairs(self) -> tuple[list[str], list[str]]:
        """Queries (one, or one for each text) and texts. Raises InvalidRequest."""
        named = (
            (self.queries, self.documents), (self.queries, self.items),
            (self.data_1, self.data_2), (self.text_1, self.text_2),
        )  # fmt: skip
        for left, right in named:
            if left is not None and right is not None:
                queries = left if isinstance(left, list) else [left]
                texts = right if isinstance(right, list) else [right]
                if not queries or not texts or len(queries) not in (1, len(texts)):
                    raise InvalidRequest(
                        f"{len(queries)} queries and {len(texts)} texts make no pairs.",
                        "Give one query, or as many as texts; at least one of each.",
                    )
                return (
                    [_text(each, f"queries[{place}]") for place, each in enumerate(queries)],
                    [_text(each, f"documents[{place}]") for place, each in enumerate(texts)],
                )
        raise InvalidRequest(
            "There is nothing to score.",
            "Give queries and documents (or items), text_1 and text_2, or data_1 and data_2.",
        )


def _texts(body: VllmRerankBody) -> list[str]:
    given = body.documents if isinstance(body.documents, list) else [body.documents]
    return [_text(each, f"documents[{place}]") for place, each in enumerate(given)]


def _text(given: str | dict[str, Any], where: str) -> str:
    return given if isinstance(given, str) else only_text(given.get("content", given), where)


def _given(body: VllmRerankBody) -> list[GivenTexts]:
    return [body._read(_text(body.query, "query"), _texts(body))]


def _answer(body: VllmRerankBody, found: GivenReadings, request_id: str) -> Any:
    body._check(found)
    texts = _texts(body)
    tokens = tokens_read(found)
    most = body.top_n if body.top_n > 0 else None
    return {
        "id": f"score-{request_id}",
        "model": found.reader.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": [
            {
                "index": each.index,
                "document": {"text": texts[each.index], "multi_modal": None},
                "relevance_score": each.score,
            }
            for each in results(found, most, raw=body.wants_raw)
        ],
    }


def _given_pairs(body: VllmScoreBody) -> list[GivenTexts]:
    queries, texts = body.pairs()
    if len(queries) == 1:
        return [body._read(queries[0], texts)]
    return [body._read(*pair) for pair in zip(queries, [[each] for each in texts], strict=True)]


def _answer_pairs(body: VllmScoreBody, found: GivenReadings, request_id: str) -> Any:
    # Clients take scores by their place, so one that is missing would shift the others.
    if found.unread:
        raise unread_error(found)
    body._check(found)
    tokens = tokens_read(found)
    return {
        "id": f"score-{request_id}",
        "object": "list",
        "created": int(time.time()),
        "model": found.reader.name,
        "data": [
            {
                "index": place,
                "object": "score",
                "score": reading.score if body.wants_raw else relevance(found.reader, reading),
            }
            for place, reading in sorted(found.readings.items())
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _say(what: Problem) -> tuple[int, Any]:
    status = 400 if what.status in (413, 422) else what.status
    kind = "BadRequestError" if status < 500 else "InternalServerError"
    field = what.errors[0].field.removeprefix("body.") if what.errors else None
    error = {
        "message": f"{what.detail} {what.hint}".strip(),
        "type": _TYPES.get(status, kind),
        "param": field,
        "code": status,
    }
    return status, {"error": error}


VLLM = Dialect("vllm", VllmRerankBody, _given, _answer, _say, is_raw=lambda body: body.wants_raw)
VLLM_SCORE = Dialect(
    "vllm",
    VllmScoreBody,
    _given_pairs,
    _answer_pairs,
    _say,
    is_raw=lambda body: body.wants_raw,
)
