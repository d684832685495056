"""The nouns of a rerank service: what it may be sent, what it is asked, its dialect as a value.

Pure data; `dialects.py` has the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_BODY_BYTES = 1_900_000
"""Text Embeddings Inference takes 2,000,000 unless told otherwise; others take more."""

Meaning = Literal["probability", "logit", "other"]
"""What a score is: 0 to 1 and meant as such, what a sigmoid makes one of, or a number that only
sorts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold. None: no limit is known.

    `item_tokens` of one text; where `counts_query` is set, of query and text together.
    `request_tokens` counts the query with each text.
    """

    request_documents: int
    item_tokens: int
    request_tokens: int | None = None
    query_tokens: int | None = None
    counts_query: bool = True
    body_bytes: int = _BODY_BYTES


@dataclass(frozen=True, slots=True)
class Question:
    """What all texts of a request are read for. `instruction`: words, None where none is sent."""

    text: str
    instruction: str | None
    model: str
    item_tokens: int


Body = Callable[[Question, Sequence[str]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class About:
    """Where a server tells its limits, and what they are: `read` gives changes to `Limits`.

    `read(told, model)` raises ValueError, TypeError, KeyError or IndexError for anything else.
    """

    path: str
    read: Callable[[Any, str], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Service:
    """One dialect. `results` is the way to the list of results in an answer, () for the answer
    itself; `score` is the field of a result. `takes_instruction`: it has a place for one, which
    probing finds used or not."""

    name: str
    path: str
    body: Body
    results: tuple[str, ...]
    score: str
    limits: Limits
    meaning: Meaning = "other"
    takes_instruction: bool = False
    needs_model: bool = False
    cuts_silently: bool = False
    about: About | None = None


def base_of(url: str, path: str) -> str:
    """`url` without what it already has of `path`: people write an address with or without it."""
    base = url.strip().rstrip("/")
    parts = path.split("/")[1:]
    for count in range(len(parts), 0, -1):
        begin = "/" + "/".join(parts[:count])
        if base.endswith(begin):
            return base[: -len(begin)]
    return base
