"""Stage two as the search sees it: candidates in, an order and its reasons out.

Pure orchestration. It asks a reranker to read, adds the first stage's opinion, and turns whatever
goes wrong into a visible degradation, because a search that found something must answer. It knows
no model and no storage, and it trusts no reranker: a reading that breaks the protocol (twice, of
nobody, not a number) throws away the whole reading, since an order that is wrong in one place is
not known to be right in the others.

Two tiers: read candidates stand above unread ones. The trade-off: a candidate that the deadline
cut off may be better than the worst one that was read, but their numbers share no scale.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

from longleaf.core.budget import Budget
from longleaf.core.errors import LongleafError, Overloaded
from longleaf.core.protocols import ReaderQuery, Reranker
from longleaf.core.scores import z_scores
from longleaf.core.types import Candidate, Degradation, Reading, ReadingInput

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The second stage's verdict; everything is aligned with the candidates that were given.

    `order`: the candidates' indexes, best first, each exactly once. `scores[i]`: candidate i's
    final score, falling along `order`, comparable only within this result. `readings[i]`: what
    the reranker said of candidate i, None where it was not read. `degraded`: what is missing.
    """

    order: tuple[int, ...]
    scores: tuple[float, ...]
    readings: tuple[Reading | None, ...]
    degraded: tuple[Degradation, ...]
    reranked_count: int
    elapsed_ms: float


class _BrokenReading(Exception):
    """A reranker that broke its contract: our bug, said in the reply and in the log."""


def read_candidates(
    query: ReaderQuery,
    candidates: Sequence[Candidate],
    inputs: Sequence[ReadingInput],
    reranker: Reranker | None,
    budget: Budget,
) -> ReadResult:
    """Read `candidates` (first-stage order) with `reranker` and order them anew.

    `inputs[i]` is what may be read of `candidates[i]`, with the same rank. No reranker, or one that
    fails, leaves the first stage's order and scores. Of the reranker's errors only Overloaded is
    raised: whoever asks then should ask later.
    """
    assert [c.rank for c in candidates] == [i.rank for i in inputs], "inputs follow the candidates"
    started_ms = budget.elapsed_ms()
    readings: dict[int, Reading] = {}
    degraded: tuple[Degradation, ...] = ()
    scores = [candidate.score for candidate in candidates]
    if reranker is not None:
        try:
            readings = _collect(reranker, query, inputs, budget)
            final_scores = _final_scores(candidates, readings, reranker.first_stage_weight)
            if not all(math.isfinite(score) for score in final_scores):
                raise _BrokenReading("a final score is not a finite number")
            scores = final_scores
            degraded = _shortfall(reranker.name, len(readings), len(inputs), budget)
        except Overloaded:
            # Asked for more than there is time for: a worse answer to everybody would not make
            # anybody ask less.
            raise
        except Exception as error:
            readings = {}
            degraded = (Degradation("rerank", _failure(reranker.name, error)),)

    def place(index: int) -> tuple[bool, float, int, int]:
        candidate = candidates[index]
        read = candidate.rank in readings
        # Unread candidates keep the first stage's order, so their score does not sort them.
        return (not read, -scores[index] if read else 0.0, candidate.rank, candidate.document_id)

    return ReadResult(
        order=tuple(sorted(range(len(candidates)), key=place)),
        scores=tuple(scores),
        readings=tuple(readings.get(candidate.rank) for candidate in candidates),
        degraded=degraded,
        reranked_count=len(readings),
        elapsed_ms=budget.elapsed_ms() - started_ms,
    )


def _collect(
    reranker: Reranker, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
) -> dict[int, Reading]:
    """Readings by rank; raises _BrokenReading for one that breaks the protocol."""
    known = {reading_input.rank for reading_input in inputs}
    readings: dict[int, Reading] = {}
    for reading in reranker.read(query, inputs, budget):
        if reading.rank not in known:
            raise _BrokenReading(f"it read rank {reading.rank}, which nobody asked for")
        if reading.rank in readings:
            raise _BrokenReading(f"it read rank {reading.rank} twice")
        if not math.isfinite(reading.score):
            raise _BrokenReading(f"its score for rank {reading.rank} is {reading.score}")
        readings[reading.rank] = reading
    return readings


def _final_scores(
    candidates: Sequence[Candidate], readings: dict[int, Reading], first_stage_weight: float
) -> list[float]:
    """One number per candidate: z(reading) + weight * z(first stage) over the read ones.

    An unread candidate's number only keeps its place: one below the lowest read one, and falling
    with the rank by its distance in first-stage z-scores.
    """
    if not readings:
        return [candidate.score for candidate in candidates]
    read = [index for index, candidate in enumerate(candidates) if candidate.rank in readings]
    reading_z = z_scores([readings[candidates[index].rank].score for index in read])
    first_z = z_scores([candidates[index].score for index in read])
    scores = [0.0] * len(candidates)
    for index, own, first in zip(read, reading_z, first_z, strict=True):
        scores[index] = own + first_stage_weight * first

    highest_unread = min(scores[index] for index in read) - 1.0
    unread = sorted(set(range(len(candidates))) - set(read), key=lambda i: candidates[i].rank)
    unread_z = z_scores([candidates[index].score for index in unread])
    place = highest_unread
    for index, first in zip(unread, unread_z, strict=True):
        place = min(place, highest_unread + first - unread_z[0])
        scores[index] = place
    return scores


def _shortfall(
    name: str, read_count: int, asked_count: int, budget: Budget
) -> tuple[Degradation, ...]:
    """Says when fewer candidates were read than asked, and why as far as it can be known here."""
    if read_count == asked_count:
        return ()
    spent = budget.spent()
    if budget.stopped_because is not None:
        why = budget.stopped_because
    elif spent is not None:
        why = f"{spent} reached"
    else:
        why = "the rest holds nothing that it can read (see the log)"
    return (Degradation("rerank", f"{name} read {read_count} of {asked_count} candidates: {why}"),)


def _failure(name: str, error: Exception) -> str:
    """The sentence for the user; what a developer needs goes to the log."""
    if isinstance(error, LongleafError):
        _log.warning("reranker %s cannot read: %s", name, error)
        return f"{name} cannot read: {error}"
    _log.error("reranker %s failed", name, exc_info=error)
    if isinstance(error, _BrokenReading):
        return f"{name} broke its contract and was not used: {error}"
    return f"{name} failed with {type(error).__name__} (see the log)"
