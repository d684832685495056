"""An answer as JSON: what it says. Offsets are characters (code points) in the document's text,
half-open.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from longleaf.core.layout import Rectangle


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


PageSize = Annotated[list[float], Field(min_length=2, max_length=2)]
"""Width and height. A list, because not every reader of OpenAPI knows `prefixItems`."""


class RectangleView(BaseModel):
    """A part of a page, in PDF points from its upper left corner (y grows downwards)."""

    page: int = Field(description="Counts from 1.")
    left: float
    top: float
    right: float
    bottom: float


def rectangle_views(found: Iterable[Rectangle] | None) -> list[RectangleView] | None:
    """Parts of pages as JSON says them; None where places are not known."""
    return None if found is None else [RectangleView(**each._asdict()) for each in found]


class SentenceView(BaseModel):
    """A sentence that carries a passage's score."""

    start_char: int
    end_char: int
    score: float = Field(
        description="Mean over the query's tokens of the best cosine within the sentence."
    )
    rectangles: list[RectangleView] | None = Field(
        description="Where it stands; null where that was not asked for or is not known."
    )


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
    sentences: list[SentenceView] | None = Field(
        description="Those that carry the score, in text order; null where they were not asked for "
        "(`highlight`) or cannot be told (no token vectors)."
    )
    suspicious: list[str] = Field(
        description="Why it seems to be written for a machine; empty: nothing was seen."
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
    date: str | None = Field(
        description="As metadata tell it (date, published, year, created): what `sort` goes by."
    )
    source: str = Field(description="The file it came from.")
    url: str = Field(description="The document's page on this server, at its best passage.")
    first_stage: FirstStage
    reading: ReadingView | None = Field(description="Null: it was not read.")
    suspicious: list[str] = Field(
        description="Why it seems to be written for a machine and not for readers: reasons of its "
        "passages, its title, and text in its file that the page does not show. Its rank does not "
        "depend on it. Empty: nothing was seen."
    )
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


class FacetValue(BaseModel):
    """A value of a metadata field and how many documents have it."""

    value: str | int | float | bool
    count: int


class FacetView(BaseModel):
    """How often which value occurs among the documents of the window: not among all that match.
    A field that is filtered by is counted without its own filter."""

    field: str
    values: list[FacetValue] = Field(
        description="Most frequent first, 50 at most. A document with several counts for each."
    )
    more_values: int = Field(description="Values that are not listed.")
    without_count: int = Field(description="Documents of the window without this field.")
    document_count: int = Field(description="Documents that were counted.")
    without_own_filter: bool = Field(
        description="The search filters by this field: counted as if it did not, so that other "
        "values are there to be chosen."
    )


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
    left_out_count: int = Field(
        description="Documents of this part of the window that were deleted, replaced, or taken "
        "out of the caller's sight since it was made. Ranks count them."
    )
    next_cursor: str | None = Field(
        description="Asks for the next documents of the same window, on any replica; null at its "
        "end, or where none was asked for."
    )
    facets: list[FacetView] = Field(description="As asked; on a window's first page only.")
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
