"""A search as the engine sees it: what is asked, what each stage gave, what is answered.

Frozen nouns, no behaviour; `search.py` makes them of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from longleaf.core.catalog import CandidateHead
from longleaf.core.filters import Filter
from longleaf.core.hits import FoundPassage, Hit
from longleaf.core.types import (
    Candidate,
    Degradation,
    DepthChoice,
    PassageText,
    QueryVectors,
    Reading,
    Scope,
)
from longleaf.reranker.read import ReadResult
from longleaf.retriever.query import ParsedQuery
from longleaf.retriever.retrieve import Retrieval

MAX_QUERY_CHARS = 20_000
Highlight = Literal["words", "sentences", "rectangles"]
Sort = Literal["relevance", "date"]


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What is asked. `collections` None: all that the scope may see.

    `limit` and `offset` cut the answer out of the window of `candidates` documents. `rerank`
    False stops after the first stage; `reranker` names the one that must read, `read_candidates`,
    `deadline_ms` and `max_tokens` bound what it does, `depth` says what it reads (None: the
    setting; see reranker/read.py). `plain` takes the query as words only, without query syntax (a
    text pasted from elsewhere, a test collection's topic). `collapse` puts documents of nearly the
    same text behind the best of them. `explain` keeps how each score came about. `min_score` leaves
    out documents whose passages the reranker scored lower, or did not read. `sort` "date" answers
    the window's documents newest first (dates.py), with the ranks they have. `facets`: metadata
    fields whose values are to be counted in the window (`facets.ALL`: those that tell apart).
    `cursor` asks for a `next_cursor`. `highlight`: what is marked of deciding passages, words of
    the query, also the sentences that carry the score, also where these stand on the pages.
    `is_bulk` lets all others be read first; `given_up` is asked now and then whether anybody still
    waits.
    """

    query: str
    scope: Scope = field(default_factory=Scope.all)
    collections: tuple[str, ...] | None = None
    where: Filter | None = None
    limit: int = 10
    offset: int = 0
    candidates: int | None = None
    passages_per_document: int | None = None
    fusion: Literal["zscore", "rrf"] | None = None
    group: Literal["document", "none"] = "document"
    rerank: bool = True
    reranker: str | None = None
    read_candidates: int | None = None
    deadline_ms: float | None = None
    max_tokens: int | None = None
    depth: DepthChoice | None = None
    instruction: str | None = None
    plain: bool = False
    collapse: bool = False
    explain: bool = False
    min_score: float | Literal["calibrated"] | None = None
    sort: Sort = "relevance"
    facets: tuple[str, ...] = ()
    cursor: bool = False
    highlight: Highlight = "words"
    is_bulk: bool = False
    given_up: Callable[[], bool] = _never


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """What was found, and everything that it should be judged by.

    `found_count` is how many documents the window holds, collapsed ones counted once; `exhausted`
    says that there are no more beyond it. `below_min_count`: how many `min_score` left out.
    `reranker` is None when no second stage was asked for or configured. `seen_seq` is the change up
    to which the index had followed the catalog. `reaches_end`: the hits go to the window's end, or
    were to go beyond it. `left_out_count`: documents that would be among the hits, and were
    deleted, replaced or taken out of the caller's sight since the window was made. `next_cursor`:
    see cursor.py; None at the end, or where nobody asked. `query_truncated_tokens`: of the query,
    that the embedding model did not read (one of `warnings` says it in words).
    """

    hits: tuple[Hit, ...]
    query: ParsedQuery
    found_count: int
    exhausted: bool
    reranker: str | None
    reranked_count: int
    whole_count: int
    degraded: tuple[Degradation, ...]
    warnings: tuple[str, ...]
    timings_ms: Mapping[str, float]
    seen_seq: int
    explanation: Explanation | None = None
    min_score: float | None = None
    below_min_count: int = 0
    reaches_end: bool = True
    left_out_count: int = 0
    next_cursor: str | None = None
    facets: tuple[Facet, ...] = ()
    query_truncated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Facet:
    """How many documents of the window have which value of a metadata field.

    `values`: most frequent first, then by value; `more_values` were not kept. A document with
    several values counts for each; `without_count` have none. Of `document_count` in all.
    `without_own_filter`: the field is filtered by, so these are the documents of the window and of
    the one that there would be without that filter (disjunctive.py).
    """

    field: str
    values: tuple[tuple[str | int | float | bool, int], ...]
    more_values: int
    without_count: int
    document_count: int
    without_own_filter: bool = False


@dataclass(frozen=True, slots=True)
class FoundVersion:
    """A document behind another: see `HitVersion`."""

    revision_id: int
    rank: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Found:
    """One place of a window, without any text: what a hit is made of once it is shown."""

    rank: int
    score: float
    revision_id: int
    first_stage_rank: int
    first_stage_score: float
    reading: Reading | None
    earlier: Reading | None
    passages: tuple[FoundPassage, ...]
    versions: tuple[FoundVersion, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """With what an answer was made, beside what its hits say of themselves.

    `instruction` is in words, None where neither embedder nor reranker takes one; its hash and the
    fingerprints name exactly what a score depends on. `counts`: see `Retrieval`.
    """

    embedder: str
    embedder_fingerprint: str
    reranker_fingerprint: str | None
    depth: str | None
    instruction: str | None
    instruction_sha256: str | None
    fusion: str
    weight_bm25: float
    aside_penalty: float
    first_stage_weight: float | None
    document_weight: float | None
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StageRun:
    """Both stages' raw results, for the answer and for evaluation."""

    parsed: ParsedQuery
    retrieval: Retrieval
    reading: ReadResult
    heads: Mapping[int, CandidateHead]
    passages: Mapping[int, PassageText]
    warnings: tuple[str, ...]
    timings_ms: Mapping[str, float]
    dense: Mapping[int, float] = field(default_factory=dict)
    """Cosines of passages that only reading a whole document has looked at."""
    instruction: str | None = None
    depth: DepthChoice | None = None
    vectors: QueryVectors | None = None
    is_final: bool = True
    """False for what is told while the second stage is still to come, or reads."""


@dataclass(frozen=True, slots=True)
class SecondStage:
    """Candidates that are still there, their heads by revision id, their passages by point id
    (without text unless the reranker reads it), the verdict, and the milliseconds of "hydrate" and
    "rerank". `dense`: see StageRun. `depth`: how it was read, None where nobody read."""

    candidates: tuple[Candidate, ...]
    heads: Mapping[int, CandidateHead]
    passages: Mapping[int, PassageText]
    result: ReadResult
    timings_ms: Mapping[str, float]
    dense: Mapping[int, float]
    depth: DepthChoice | None


Watch = Callable[[SearchAnswer], None]
