"""A search as JSON or as a link: what may be asked.

Unknown keys are refused, so a misspelt option is never silently ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from longleaf.api.cursor import MAX_CURSOR_CHARS
from longleaf.api.searched import MAX_QUERY_CHARS, Highlight, Sort
from longleaf.core.types import DepthChoice
from longleaf.retriever.query import readable

MAX_HITS = 1000
START = "*"
"""The cursor that asks for one."""

FieldName = Annotated[str, Field(min_length=1, max_length=200)]


class RerankOptions(BaseModel):
    """How the second stage reads."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    enabled: bool = Field(True, description="False stops after the first stage.")
    deadline_ms: float | None = Field(
        None, gt=0, description="Time to read in; what is not read by then keeps its place."
    )
    depth: DepthChoice | None = Field(
        None,
        description="What is read of a candidate: the passages that the first stage found, the "
        "whole document, or (auto) passages first and then the best documents whole (setting).",
    )
    candidates: int | None = Field(
        None, ge=1, le=1000, description="Read the first so many of the candidates only."
    )
    model: str | None = Field(
        None,
        max_length=200,
        description="The second stage that must read, by name; another one here is an error.",
    )
    max_tokens: int | None = Field(
        None, ge=1, description="Document tokens to read; what is left then keeps its place."
    )
    instruction: str | None = Field(
        None,
        max_length=2000,
        description="What counts as an answer, for models that take it: a preset's name or words. "
        "Left out: the collection's, else the configured one.",
    )
    priority: Literal["interactive", "bulk"] = Field(
        "interactive", description="bulk: a reranker with a queue reads for all others first."
    )


def _options(value: Any) -> Any:
    return {"enabled": value} if isinstance(value, bool) else value


Rerank = Annotated[
    RerankOptions, BeforeValidator(_options, json_schema_input_type=bool | RerankOptions)
]


def _readable(value: Any) -> Any:
    return readable(value) if isinstance(value, str) else value


# A query is never an error: what UTF-8 cannot hold is replaced and not refused.
Query = Annotated[str, BeforeValidator(_readable, json_schema_input_type=str)]

_FILTER: dict[str, Any] = {
    "and": [{"field": "year", "gte": 2019}, {"field": "court", "prefix": "ca"}]
}


class SearchBody(BaseModel):
    """What is asked."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"query": "which licences end my patent grant if I sue?"},
                {
                    "query": '"force majeure" epidemic -insurance',
                    "collections": ["contracts"],
                    "filter": _FILTER,
                    "limit": 20,
                    "rerank": {"deadline_ms": 500},
                },
            ]
        },
    )

    query: Query = Field(
        "",
        max_length=MAX_QUERY_CHARS,
        description='Words, "phrases" (must occur), -minus (leaves out), field:value, '
        "year:2019..2022. May be empty when there is a filter; left out only with a cursor.",
    )
    collections: list[str] | None = Field(
        None, min_length=1, max_length=1000, description="Where to look; null looks everywhere."
    )
    filter: dict[str, Any] | None = Field(
        None,
        description="A filter tree: leaves test a metadata field (eq, in, prefix, gte, gt, lte, "
        "lt); and, or, not join them.",
        examples=[_FILTER],
    )
    limit: int = Field(10, ge=1, le=MAX_HITS, description="Documents in the answer.")
    offset: int = Field(0, ge=0, le=MAX_HITS, description="Documents to skip first.")
    candidates: int | None = Field(
        None, ge=1, le=1000, description="Documents that the first stage hands on (setting)."
    )
    passages_per_document: int | None = Field(
        None, ge=1, le=32, description="Passages of a document that are kept and read (setting)."
    )
    fusion: Literal["zscore", "rrf"] | None = Field(
        None, description="How dense and BM25 scores are joined (setting)."
    )
    group: Literal["document", "none"] = Field(
        "document", description="Rank documents, or each passage for itself."
    )
    collapse: bool = Field(
        False, description="Put documents of nearly the same text behind the best of them."
    )
    explain: bool = Field(
        False, description="Tell how each score came about (`explain` in answer and hits)."
    )
    min_score: float | Literal["calibrated"] | None = Field(
        None,
        description="Leave out documents whose passages the reranker scored lower, or did not "
        "read; calibrated: the value that was measured for it.",
    )
    highlight: Highlight = Field(
        "words",
        description="What is marked of deciding passages: words of the query; also the sentences "
        "that carry the score; also where these stand on the pages of a PDF.",
    )
    sort: Sort = Field(
        "relevance",
        description="date: the window's documents newest first, those without a date last.",
    )
    facets: list[FieldName] = Field(
        default_factory=list,
        max_length=20,
        description="Metadata fields whose values are counted in the window; *: those that tell "
        "its documents apart.",
    )
    cursor: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_CURSOR_CHARS,
        description="* asks for a `next_cursor`. An answer's next_cursor goes on from there, with "
        "`limit` and nothing else beside it.",
    )
    rerank: Rerank = Field(
        default_factory=lambda: RerankOptions(enabled=True),
        description="True or false, or the options of the second stage.",
    )

    @model_validator(mode="after")
    def _is_query_or_cursor(self) -> Self:
        if self.goes_on:
            if beside := beside_cursor(self):
                raise ValueError(f"a cursor says the rest: leave out {', '.join(beside)}")
        elif "query" not in self.model_fields_set:
            raise ValueError("query: required, but with a cursor")
        elif self.cursor is not None and self.offset:
            raise ValueError("offset: a cursor begins at the first document")
        return self

    @property
    def goes_on(self) -> bool:
        """Whether this is a page of a window that an earlier answer's cursor names."""
        return goes_on(self.cursor)


def goes_on(cursor: str | None) -> bool:
    """Whether it is an answer's, and not the one that asks for one."""
    return cursor not in (None, START)


def beside_cursor(asked: BaseModel) -> list[str]:
    """What stands beside an answer's cursor and must not: it says the rest itself."""
    return sorted(asked.model_fields_set - {"cursor", "limit"})


def _or_none(value: Any) -> Any:
    """What an empty field of a form sends."""
    return None if value == "" else value


Collections = Annotated[
    list[str],
    Field(max_length=1000, description="Where to look; repeat it for more."),
]
Instruction = Annotated[
    Annotated[str, Field(max_length=2000)] | None,
    BeforeValidator(_or_none),
    Field(description="What counts as an answer, for models that take it."),
]


class ReadLink(BaseModel):
    """What a link wants looked at, and how it is read."""

    filter: str | None = Field(
        None,
        max_length=100_000,
        description="A filter tree as JSON.",
        examples=['{"field": "year", "gte": 2019}'],
    )
    rerank: bool = Field(True, description="False (or off) stops after the first stage.")
    depth: Annotated[DepthChoice | None, BeforeValidator(_or_none)] = Field(
        None, description="What is read of a candidate (setting)."
    )


class _PartLink(ReadLink):
    """Which part of which answers a link asks for."""

    limit: int = Field(10, ge=1, le=MAX_HITS, description="Documents in the answer.")
    offset: int = Field(0, ge=0, le=MAX_HITS, description="Documents to skip first.")


class _ProgramLink(BaseModel):
    """What links for programs take: an unknown name is a mistake, and all documents are wanted."""

    model_config = ConfigDict(extra="forbid")

    collapse: bool = Field(
        False, description="Put documents of nearly the same text behind the best of them."
    )
    explain: bool = Field(False, description="Tell how each score came about.")


class _SearchLink(_PartLink):
    """A search as the query part of a link."""

    q: str = Field("", max_length=MAX_QUERY_CHARS, description="The query.")
    collection: Collections = Field([])
    good: bool = Field(
        False, description="Only what scored well: `min_score` calibrated for the reranker."
    )
    instruction: Instruction = None
    sort: Sort = Field("relevance", description="date: the window's documents newest first.")


class PageLink(_SearchLink):
    """The search page's link. An unknown name is no mistake there."""

    collapse: bool = Field(
        True, description="Put documents of nearly the same text behind the best of them."
    )
    similar: str | None = Field(
        None, max_length=64, description="A document: others about the same, instead of a query."
    )


class SearchLink(_ProgramLink, _SearchLink):
    """The same for programs."""

    highlight: Highlight = Field(
        "words", description="What is marked: words, also sentences, also their rectangles."
    )
    facet: list[FieldName] = Field(
        default_factory=list,
        max_length=20,
        description="A metadata field whose values are counted in the window; repeat it for more.",
    )
    cursor: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_CURSOR_CHARS,
        description="* asks for a `next_cursor`; an answer's next_cursor goes on from there, with "
        "`limit` alone beside it. Many servers and proxies take links of 8,000 characters: POST.",
    )


class SimilarLink(_ProgramLink, _PartLink):
    """What may be asked beside a document."""

    collection: list[str] = Field(
        default_factory=list,
        max_length=1000,
        description="Where to look, instead of the document's own collection; repeat it for more.",
    )
