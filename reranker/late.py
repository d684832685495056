"""`late`: MaxSim over the token vectors that indexing stored; the second stage without a GPU.

No model runs: the query's token vectors come with the query, the passages' from the catalog. It
knows neither the embedder that made them nor the files that hold them. A candidate's passages cost
a few milliseconds for 100 candidates. A whole document is MaxSim over the tokens of all its
passages that are given at once: what answers one word of the query may stand pages from what
answers another. For a long document those are the `_DOCUMENT_TOKENS` that are nearest to the query,
because reading costs time by the token and the farthest never won (docs/depth.md).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.budget import Budget
from longleaf.core.errors import GenerationMismatch, LongleafError, ModelUnavailable
from longleaf.core.protocols import ReaderQuery, TokenVectorReader
from longleaf.core.types import DocumentLimits, Reading, ReadingInput
from longleaf.reranker.maxsim import (
    NOTHING,
    Arithmetic,
    best_arithmetic,
    mean_similarity,
    one_core,
    quantize_query,
    segment_maxima,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray, Int8Array

_log = logging.getLogger(__name__)

_UNIT_CANDIDATES = 16
"""Candidates between two looks at the budget: at 5 passages of 200 tokens well under 1 ms."""


_DOCUMENT_TOKENS = 6_400
"""Of one document: 32 passages of 200."""
_DOCUMENTS = 20
MINILM_MIN_SCORE = 0.603
"""For the bundled model: at most one in a hundred questions of another field reach it
(docs/depth.md; `benchmarks/min_score.py`)."""


def document_score(passage_scores: Sequence[float]) -> float:
    """The keep rule: a document is as good as its best passage."""
    return max(passage_scores)


class LateInteraction:
    """MaxSim (Khattab & Zaharia 2020, eq. 3), averaged over query tokens: cosines, about 0 to 1.

    A passage's tokens are its own and, with `read_title`, its document's title tokens. A passage
    without stored token vectors gets no score; a candidate without any scored passage stays unread
    and is logged. Raises LongleafError when the query has no token vectors or no passage has.
    `first_stage_weight`, `document_weight` and `document_limits`: measured; docs/LOG.md and
    docs/depth.md have the numbers. Thread-safe when the reader is.
    """

    name = "late"
    takes_instruction = False
    reads_text = False
    document_limits = DocumentLimits(documents=_DOCUMENTS, tokens=_DOCUMENT_TOKENS, beside=False)
    document_weight = 0.5
    default_instruction: str | None = None

    def __init__(
        self,
        reader: TokenVectorReader,
        *,
        first_stage_weight: float = 2.0,
        read_title: bool = True,
        arithmetic: Arithmetic | None = None,
        min_score: float | None = None,
    ) -> None:
        """`arithmetic`: None takes the fastest that is exact on this machine. `min_score`: what was
        calibrated for the model that made the vectors."""
        self.min_score = min_score
        self.first_stage_weight = first_stage_weight
        self.fingerprint = f"late/1 title={int(read_title)}"
        self._reader = reader
        self._read_title = read_title
        self._arithmetic = arithmetic
        one_core()  # its threads begin with the first one that is opened, and not in a search

    def over(self, reader: TokenVectorReader) -> LateInteraction:
        """The same reading of other token vectors."""
        return LateInteraction(
            reader,
            first_stage_weight=self.first_stage_weight,
            read_title=self._read_title,
            arithmetic=self._arithmetic,
            min_score=self.min_score,
        )

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        """See core.protocols.Reranker. Without limits everything is scored in one pass."""
        if not inputs:
            return
        scorer = _Scorer(_query_tokens(query), self._reader, self._read_title, self._arithmetic)
        position = read_count = 0
        while position < len(inputs) and budget.begin_unit() is None:
            unit = _next_unit(inputs, position, budget)
            position += len(unit)
            for reading in scorer.read(unit):
                budget.use(reading.tokens_read)
                read_count += 1
                yield reading
        if position > read_count:
            _report_unreadable(position - read_count, position)


def _query_tokens(query: ReaderQuery) -> FloatArray:
    """The query's token vectors, or what to do when there are none."""
    if query.vectors is None:
        raise ModelUnavailable(
            "The query has no vectors because the embedder failed.",
            'The log says why; `reranker.kind = "none"` searches without a second stage.',
        )
    tokens = query.vectors.tokens
    if tokens.shape[0] == 0:
        raise LongleafError(
            "The embedder makes no token vectors, which the reranker `late` reads.",
            'Set `reranker.kind` to "cross-encoder" or "none", or choose an embedder with them.',
        )
    if not np.isfinite(tokens).all():
        raise LongleafError(
            "The embedder gave query vectors that are not numbers.",
            "Its weights are damaged or its number format does not work on this machine.",
        )
    return tokens


def _next_unit(
    inputs: Sequence[ReadingInput], position: int, budget: Budget
) -> Sequence[ReadingInput]:
    """The candidates to read before the budget is asked again; at least one."""
    if budget.deadline_ms is None and budget.max_tokens is None:
        return inputs[position:]
    unit = inputs[position : position + _UNIT_CANDIDATES]
    if budget.max_tokens is None:
        return unit
    room_tokens = budget.max_tokens - budget.tokens_used
    for length, reading_input in enumerate(unit, start=1):
        room_tokens -= sum(passage.token_count for passage in reading_input.passages)
        if room_tokens <= 0:
            return unit[:length]
    return unit


def _report_unreadable(unreadable_count: int, seen_count: int) -> None:
    hint = "Index these documents again with an embedder that makes token vectors."
    if unreadable_count == seen_count:
        raise LongleafError("No token vectors are stored for any candidate.", hint)
    _log.warning(
        "late: %d of %d candidates have no stored token vectors and stay unread. %s",
        unreadable_count,
        seen_count,
        hint,
    )


class _Scorer:
    """One query against any number of candidates."""

    def __init__(
        self,
        tokens: FloatArray,
        reader: TokenVectorReader,
        read_title: bool,
        arithmetic: Arithmetic | None,
    ) -> None:
        self._codes, self._steps = quantize_query(tokens)
        self._reader = reader
        self._read_title = read_title
        self._arithmetic = arithmetic or best_arithmetic()

    def read(self, inputs: Sequence[ReadingInput]) -> Iterator[Reading]:
        """Readings of the inputs that have stored tokens, in their order."""
        # Documents of equal content share passages, and a title's tokens lie with the first
        # passage, so each passage is fetched and multiplied once.
        wanted = [passage.passage_id for item in inputs for passage in item.passages]
        titles = [item.first_passage_id for item in inputs] if self._read_title else []
        rows = {passage_id: row for row, passage_id in enumerate(dict.fromkeys(wanted + titles))}
        if not wanted:
            return
        codes, starts, prefix_tokens = self._reader.token_vectors(list(rows))
        self._check_dim(codes)
        # Two segments for each row: the title's tokens, then the passage's own.
        bounds = np.empty(2 * len(rows) + 1, np.int64)
        bounds[0::2] = starts
        bounds[1::2] = starts[:-1] + prefix_tokens
        maxima = self._maxima(codes, bounds, len(dict.fromkeys(wanted)))  # (2 * rows, q)

        passage_rows = np.array([rows[passage_id] for passage_id in wanted], np.int64)
        best = maxima[2 * passage_rows + 1]  # (passages, q) int32
        if self._read_title:
            title_rows = np.array(
                [rows[item.first_passage_id] for item in inputs for _ in item.passages], np.int64
            )
            best = np.maximum(best, maxima[2 * title_rows])
        scores = mean_similarity(best, self._steps).tolist()
        own_tokens = (bounds[2::2] - bounds[1::2])[passage_rows].tolist()
        position = 0
        for item in inputs:
            span = slice(position, position + len(item.passages))
            position += len(item.passages)
            # A passage without stored tokens has no score, not even its title's.
            stored = [n for n in range(span.start, span.stop) if own_tokens[n] > 0]
            if stored:
                whole = None
                if item.depth == "document":
                    anywhere = best[stored].max(axis=0, keepdims=True)
                    whole = float(mean_similarity(anywhere, self._steps)[0])
                pairs = [
                    (item.passages[n - span.start].point_id, scores[n], own_tokens[n])
                    for n in stored
                ]
                yield _reading(item, pairs, whole)

    def _maxima(
        self, codes: Int8Array, bounds: NDArray[np.int64], passages: int
    ) -> NDArray[np.int32]:
        """For two segments of each row; behind the first `passages` rows only titles count."""
        own = bounds[: 2 * passages + 1]
        found = segment_maxima(codes[: own[-1]], own, self._codes, self._arithmetic)
        begins, ends = bounds[2 * passages : -1 : 2], bounds[2 * passages + 1 :: 2]
        if not len(begins):
            return found
        titles = [codes[begin:end] for begin, end in zip(begins, ends, strict=True)]
        edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(ends - begins)])
        of_titles = segment_maxima(np.concatenate(titles), edges, self._codes, self._arithmetic)
        nothing = np.full_like(of_titles, NOTHING)
        pairs = np.stack([of_titles, nothing], axis=1).reshape(-1, found.shape[1])
        return np.concatenate([found, pairs])

    def _check_dim(self, codes: Int8Array) -> None:
        if len(codes) and codes.shape[1] != self._codes.shape[1]:
            raise GenerationMismatch(
                f"Stored token vectors have {codes.shape[1]} dimensions, the query's have "
                f"{self._codes.shape[1]}.",
                "The collection was indexed with another embedder: index it again.",
            )


def _reading(
    item: ReadingInput, passages: Sequence[tuple[int, float, int]], whole: float | None
) -> Reading:
    """`passages`: (point id, score, tokens). `whole`: the document's score where it was read."""
    tokens_read = sum(tokens for *_, tokens in passages)
    return Reading(
        rank=item.rank,
        score=document_score([score for _, score, _ in passages]) if whole is None else whole,
        depth=item.depth,
        # Stored rows can hold a special token that the document's count does not.
        tokens_read=min(tokens_read, item.document_tokens),
        tokens_total=item.document_tokens,
        passage_scores=tuple((point, score) for point, score, _ in passages),
    )
