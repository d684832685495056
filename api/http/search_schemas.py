"""A search as JSON: what may be asked, and what an answer says.

Unknown keys are refused, so a misspelt option is never silently ignored. All offsets are characters
(code points) in the document's text, half-open.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from longleaf.api.search import MAX_QUERY_CHARS
from longleaf.retriever.query import readable

MAX_HITS = 1000


class RerankOptions(BaseModel):
    """How the second stage reads."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    enabled: bool = Field(True, description="False stops after the first stage.")
    deadline_ms: float | None = Field(
        None, gt=0, description="Time to read in; what is not read by then keeps its place."
    )
    depth: Literal["passage", "document", "auto"] | None = Field(
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
        max_length=MAX_QUERY_CHARS,
        description='Words, "phrases" (must occur), -minus (leaves out), field:value, '
        "year:2019..2022. May be empty when there is a filter.",
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
    rerank: Rerank = Field(
        default_factory=lambda: RerankOptions(enabled=True),
        description="True or false, or the options of the second stage.",
    )


class PageLink(BaseModel):
    """A search as the query part of a link."""

    q: str = Field("", max_length=MAX_QUERY_CHARS, description="The query.")
    collection: list[str] = Field(
        default_factory=list, max_length=1000, description="Where to look; repeat it for more."
    )
    limit: int = Field(10, ge=1, le=MAX_HITS, description="Documents in the answer.")
    offset: int = Field(0, ge=0, le=MAX_HITS, description="Documents to skip first.")
    filter: str | None = Field(
        None,
        max_length=100_000,
        description="A filter tree as JSON.",
        examples=['{"field": "year", "gte": 2019}'],
    )
    rerank: bool = Field(True, description="False (or off) stops after the first stage.")
    collapse: bool = Field(
        True, description="Put documents of nearly the same text behind the best of them."
    )
    good: bool = Field(
        False, description="Only what scored well: `min_score` calibrated for the reranker."
    )


class SearchLink(PageLink):
    """The same for programs, where an unknown name is a mistake and all documents are wanted."""

    model_config = ConfigDict(extra="forbid")

    collapse: bool = Field(
        False, description="Put documents of nearly the same text behind the best of them."
    )
    instruction: str | None = Field(
        None, max_length=2000, description="What counts as an answer, for models that take it."
    )
    depth: Literal["passage", "document", "auto"] | None = Field(
        None, description="What is read of a candidate (setting)."
    )
    explain: bool = Field(False, description="Tell how each score came about.")


class SimilarLink(BaseModel):
    """What may be asked beside a document."""

    model_config = ConfigDict(extra="forbid")

    collection: list[str] = Field(
        default_factory=list,
        max_length=1000,
        description="Where to look, instead of the document's own collection; repeat it for more.",
    )
    limit: int = Field(10, ge=1, le=MAX_HITS, description="Documents in the answer.")
    offset: int = Field(0, ge=0, le=MAX_HITS, description="Documents to skip first.")
    filter: str | None = Field(None, max_length=100_000, description="A filter tree as JSON.")
    rerank: bool = Field(True, description="False (or off) stops after the first stage.")
    collapse: bool = Field(
        False, description="Put documents of nearly the same text behind the best of them."
    )
    depth: Literal["passage", "document", "auto"] | None = Field(
        None, description="What is read of a candidate (setting)."
    )
    explain: bool = Field(False, description="Tell how each score came about.")


class FirstStage(BaseModel):
    """What retrieval said of a document."""

    rank: int
    score: float = Field(description="Its best passage's fused score.")


class ReadingView(BaseModel):
    """What the reranker said of a document."""

    score: float = Field(description="The model's own; comparable within this answer only.")
    depth: Literal["passage", "document"] = Field(
        description="What was read: passages that the first stage found, or the document (as many "
        "tokens of it as tokens_read says)."
    )
    tokens_read: int
    tokens_total: int
    truncated_tokens: int = Field(description="Tokens that were to be read and did not fit.")
    probability: float | None = Field(
        description="The score as the model's makers mean it, 0 to 1; null where it has no such."
    )
    windows: int = Field(description="Pieces in which the longest passage was read; 1: whole.")
    from_cache: bool = Field(description="It was made for an earlier search with this question.")


class PassageScores(BaseModel):
    """Every stage's opinion of a passage; ranks are null where that list did not hold it."""

    dense: float | None = Field(description="Cosine of query and passage.")
    bm25: float | None = Field(
        description="Null, as `fused`: only reading the whole document has found it."
    )
    fused: float | None
    reading: float | None
    dense_rank: int | None
    bm25_rank: int | None


class PassageNormal(BaseModel):
    """Scores as fusion added them: how many standard deviations above the mean of all that were
    fused; null for a side that did not score it, and with rrf, which adds ranks."""

    dense: float | None
    bm25: float | None


class PassageHit(BaseModel):
    """A passage that decided."""

    start_char: int
    end_char: int
    first_page: int | None
    last_page: int | None
    headings: list[str] = Field(description="Titles of the sections above it, outermost first.")
    role: str = Field(description="body, footnote, references or contents.")
    text: str = Field(description="Exactly the document's text from start_char to end_char.")
    highlights: list[tuple[int, int]] = Field(
        description="Words of the query, as offsets in the document."
    )
    scores: PassageScores
    normalised: PassageNormal | None = Field(description="With `explain`.")


class VersionHit(BaseModel):
    """A document behind a hit: its text is nearly the same."""

    rank: int = Field(description="Its own rank, had nothing been collapsed.")
    similarity: float = Field(description="Estimated Jaccard similarity of the texts.")
    document_id: str
    collection: str
    key: str
    title: str
    revision: int
    source: str = Field(description="The file it came from.")
    url: str = Field(description="Its page on this server.")


class HitView(BaseModel):
    """A document in the answer."""

    rank: int
    score: float = Field(description="Final score; comparable within this answer only.")
    document_id: str
    collection: str
    key: str
    title: str
    revision: int
    metadata: dict[str, Any]
    source: str = Field(description="The file it came from.")
    url: str = Field(description="The document's page on this server, at its best passage.")
    first_stage: FirstStage
    reading: ReadingView | None = Field(description="Null: it was not read.")
    passages: list[PassageHit] = Field(description="Best first.")
    versions: list[VersionHit] = Field(description="With `collapse`: who stands behind it.")
    earlier: ReadingView | None = Field(
        description="With `explain`: the reading of its passages, where `reading` is of the whole."
    )


class QueryView(BaseModel):
    """How the query was understood."""

    text: str = Field(description="What was embedded and read by BM25.")
    phrases: list[str]
    excluded: list[str]
    filter: dict[str, Any] | None


class DegradedView(BaseModel):
    """A stage that could not do all of its work, and why."""

    stage: str
    reason: str


class IndexView(BaseModel):
    """How far the index had followed the catalog: they are equal when nothing is under way."""

    seen_seq: int
    head_seq: int


class ExplainView(BaseModel):
    """With what an answer was made. Fingerprints and hash name what its scores depend on."""

    embedder: str
    embedder_fingerprint: str
    reranker_fingerprint: str | None
    depth: str | None = Field(description="What was read of the candidates; null: nobody read.")
    instruction: str | None = Field(
        description="What counted as an answer, in words; null: no model here takes one."
    )
    instruction_sha256: str | None
    fusion: str
    weight_bm25: float
    aside_penalty: float = Field(description="What bibliographies and tables of contents lose.")
    first_stage_weight: float | None = Field(
        description="Final score: z(reading) + this * z(first stage)."
    )
    document_weight: float | None = Field(
        description="Documents read whole: z(final) + this * z(their reading), among themselves."
    )
    counts: dict[str, int] = Field(description="Passages that each retriever kept, and so on.")


class AnswerView(BaseModel):
    """What was found, and everything it should be judged by."""

    hits: list[HitView]
    query: QueryView
    found_count: int = Field(
        description="Documents in the window that hits are cut out of; collapsed ones count once."
    )
    exhausted: bool = Field(description="There are no more beyond that window.")
    min_score: float | None = Field(description="What was asked for as `min_score`, as a number.")
    below_min_count: int = Field(description="Documents of the window that it left out.")
    reranker: str | None = Field(description="Null: no second stage.")
    reranked_count: int = Field(description="Documents that were read, at whatever depth.")
    whole_count: int = Field(description="Of these, read at depth document.")
    degraded: list[DegradedView]
    warnings: list[str]
    timings_ms: dict[str, float] = Field(description="By stage, and `total`.")
    index: IndexView
    explain: ExplainView | None = Field(description="With `explain`.")


class OrderHit(BaseModel):
    """Where a document stands so far."""

    document_id: str
    rank: int
    score: float
    reading: ReadingView | None


class OrderView(BaseModel):
    """An event `order`: the hits while they are being read. More of them may come in."""

    hits: list[OrderHit]
    reranked_count: int
    whole_count: int
