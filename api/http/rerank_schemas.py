"""Reading given texts as JSON: what may be asked, and what is answered.

The names are those of Jina's and Cohere's rerank APIs; what they have no name for (passages, depth,
how much was read) is ours. Unknown keys are refused, so a misspelt option is never silently
ignored.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from longleaf.api.given import GivenDocument, GivenPassage
from longleaf.api.http.search_schemas import Query
from longleaf.api.searched import MAX_QUERY_CHARS
from longleaf.core.types import Depth

MAX_DOCUMENTS = 1_000
MAX_PASSAGES = 16_384
"""In one request: a body is checked on the event loop, 13 µs a passage."""
_MAX_HEADINGS = 64
_MAX_TOKENS = 1 << 40

Text = Query
"""A text is never an error: what UTF-8 cannot hold is replaced and not refused."""


class RerankPassage(BaseModel):
    """A passage as its owner cut it."""

    model_config = ConfigDict(extra="forbid")

    text: Text
    headings: list[Text] = Field(
        [], max_length=_MAX_HEADINGS, fail_fast=True, description="Outermost first."
    )
    start_char: int | None = Field(
        None,
        ge=0,
        lt=1 << 40,
        description="Where it begins in its document (behind the one before).",
    )
    token_count: int | None = Field(
        None, ge=0, lt=_MAX_TOKENS, description="In the owner's tokens; null: counted here."
    )
    overlap_chars: int = Field(
        0, ge=0, description="Its first characters that the passage before it holds as well."
    )


class RerankDocument(BaseModel):
    """A text, or passages that are cut already."""

    model_config = ConfigDict(extra="forbid")

    text: Text | None = Field(None, description="Cut into passages where the reranker reads those.")
    title: Text = Field("", description="Read in front of every passage.")
    passages: list[RerankPassage] | None = Field(
        None, min_length=1, max_length=MAX_PASSAGES, description="Instead of a text."
    )
    depth: Depth = Field(
        "passage",
        description="passage: the best passage counts; document: they are the whole document and "
        "are read as such.",
    )
    token_count: int | None = Field(
        None, ge=0, lt=_MAX_TOKENS, description="Of the whole document, with `passages`."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.text is None) == (self.passages is None):
            raise ValueError("give either text or passages")
        if self.passages is None and (self.depth != "passage" or self.token_count is not None):
            raise ValueError("depth and token_count are for passages")
        return self

    def given(self) -> GivenDocument:
        """The same for the reader."""
        passages = None
        if self.passages is not None:
            passages = tuple(
                GivenPassage(
                    each.text,
                    tuple(each.headings),
                    each.start_char,
                    each.token_count,
                    each.overlap_chars,
                )
                for each in self.passages
            )
        return GivenDocument(self.text or "", self.title, passages, self.depth, self.token_count)


class RerankBody(BaseModel):
    """What is asked."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = Field(
        None,
        max_length=200,
        description="The reranker that must read, by name; another one here is an error.",
    )
    query: Query = Field(max_length=MAX_QUERY_CHARS, description="What the texts should answer.")
    documents: list[Text | RerankDocument] = Field(
        min_length=1,
        max_length=MAX_DOCUMENTS,
        fail_fast=True,
        description="Texts, or objects with more.",
    )
    top_n: int | None = Field(None, ge=1, description="Answer the best so many only.")
    return_documents: bool = Field(False, description="Send the texts back with the results.")
    instruction: str | None = Field(
        None,
        max_length=2000,
        description="What counts as an answer, for models that take it: a preset's name or words.",
    )
    max_tokens_per_doc: int | None = Field(
        None, ge=1, lt=_MAX_TOKENS, description="Cut texts after so many tokens; null: read all."
    )
    deadline_ms: float | None = Field(
        None, gt=0, description="Time to read in, from the request's arrival on (setting)."
    )
    max_tokens: int | None = Field(
        None, ge=1, lt=_MAX_TOKENS, description="Tokens to read in all; the rest stays unread."
    )
    priority: Literal["interactive", "bulk"] = Field(
        "interactive", description="bulk: a reranker with a queue reads for all others first."
    )

    @field_validator("documents", mode="before")
    @classmethod
    def _few_passages(cls, given: Any) -> Any:
        """Counted before they are looked at, which takes the time."""
        if isinstance(given, list) and len(given) <= MAX_DOCUMENTS:
            passages = [each.get("passages") for each in given if isinstance(each, dict)]
            count = sum(len(each) for each in passages if isinstance(each, list))
            if count > MAX_PASSAGES:
                raise ValueError(
                    f"{count:,} passages are more than the {MAX_PASSAGES:,} that one request may "
                    "have: give fewer documents"
                )
        return given

    def given(self) -> list[GivenDocument]:
        """The documents for the reader."""
        return [
            GivenDocument(each) if isinstance(each, str) else each.given()
            for each in self.documents
        ]


class RerankedText(BaseModel):
    """A text that was sent back."""

    text: str


class RerankResult(BaseModel):
    """What the reranker said of one document."""

    index: int = Field(description="Its place among the given documents, from 0.")
    relevance_score: float = Field(
        description="The probability where the model has one, else the score."
    )
    score: float = Field(description="The model's own number; the order follows it.")
    probability: float | None = Field(description="0 to 1; null: the model has no such thing.")
    depth: Depth
    tokens_read: int
    tokens_total: int
    truncated_tokens: int = Field(description="Tokens that should have been read and did not fit.")
    windows: int = Field(description="In how many overlapping pieces the longest text was read.")
    passage_scores: list[tuple[int, float]] = Field(
        description="Place of a passage in the document, and its score; empty: one for the whole."
    )
    document: RerankedText | None = Field(None, description="With `return_documents`.")


class UnreadDocument(BaseModel):
    """A document without a score."""

    index: int
    reason: str


class RerankUsage(BaseModel):
    """What was read."""

    total_tokens: int


class RerankView(BaseModel):
    """The readings, best first."""

    id: str = Field(description="The request's id.")
    model: str
    fingerprint: str = Field(description="Changes whenever the same texts would score otherwise.")
    results: list[RerankResult]
    unread: list[UnreadDocument] = Field(description="What has no score, and why.")
    usage: RerankUsage
    elapsed_ms: float = Field(description="From the request's arrival on.")


class ReaderLimits(BaseModel):
    """How it reads whole documents best."""

    documents: int | None = Field(description="So many in one search; null: any number.")
    tokens: int | None = Field(description="So many of one document; null: all.")
    beside: bool = Field(description="It reads text, and not each passage for itself.")


class RerankAbout(BaseModel):
    """Which reranker reads here, and what another Longleaf must know to use it as its own."""

    model: str
    fingerprint: str
    takes_instruction: bool
    default_instruction: str | None
    first_stage_weight: float
    document_limits: ReaderLimits
    document_weight: float
    min_score: float | None
    max_documents: int = Field(description="In one request.")
    max_passages: int = Field(description="In one request, of all documents together.")
    max_body_bytes: int
    chosen: str = Field(description="Where and how it computes, in words.")
