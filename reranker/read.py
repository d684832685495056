"""Stage two as the search sees it: candidates in, an order and its reasons out.

Pure orchestration. It asks a reranker to read, adds the first stage's opinion, and turns whatever
goes wrong into a visible degradation, because a search that found something must answer. It knows
no model and no storage, and it trusts no reranker: a reading that breaks the protocol (twice, of
nobody, not a number) throws away the whole reading, since an order that is wrong in one place is
not known to be right in the others.

Two tiers: read candidates stand above unread ones. The trade-off: a candidate that the deadline
cut off may be better than the worst one that was read, but their numbers share no scale.

Depths: "passage" reads what the first stage found of each candidate. "auto" then reads the best of
them whole, from the first on, while the budget lasts; those change places among themselves only,
by what their passages and the whole gave together (docs/depth.md has the measurement). "document"
is the same for a reranker that reads a bounded number of documents whole, and for any other reads
the candidates whole in first-stage order and no passages before.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from longleaf.core.budget import Budget
from longleaf.core.errors import LongleafError, Overloaded, StageStalled
from longleaf.core.logs import reason_of
from longleaf.core.protocols import ReaderQuery, Reranker
from longleaf.core.scores import z_scores
from longleaf.core.types import Candidate, Degradation, DepthChoice, Reading, ReadingInput
from longleaf.core.waiting import Patience

_log = logging.getLogger(__name__)

Progress = Callable[[Callable[[], "ReadResult"]], None]
"""Called whenever more has been read, with what makes the result so far: it costs a sort."""
WholeDocuments = Callable[[Sequence[int]], Sequence[ReadingInput]]
"""Candidates' ranks to what may be read of their whole documents, in the order asked."""

AUTO_DOCUMENTS = 20
"""Documents that "auto" reads whole at most, where the reranker has no lower limit."""
_UNIT_DOCUMENTS = 4
"""Documents between two looks at the budget."""


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The second stage's verdict; everything is aligned with the candidates that were given.

    `order`: the candidates' indexes, best first, each exactly once. `scores[i]`: candidate i's
    final score, falling along `order`, comparable only within this result. `readings[i]`: what
    the reranker said of candidate i (of the whole document where that was read), None where it was
    not read. `degraded`: what is missing. `whole_count`: how many documents were read whole;
    `earlier[i]`: what was said of candidate i's passages before that.
    """

    order: tuple[int, ...]
    scores: tuple[float, ...]
    readings: tuple[Reading | None, ...]
    degraded: tuple[Degradation, ...]
    reranked_count: int
    elapsed_ms: float
    whole_count: int = 0
    earlier: tuple[Reading | None, ...] = ()


class _BrokenReading(Exception):
    """A reranker that broke its contract: our bug, said in the reply and in the log."""


def read_candidates(
    query: ReaderQuery,
    candidates: Sequence[Candidate],
    inputs: Sequence[ReadingInput],
    reranker: Reranker | None,
    budget: Budget,
    *,
    depth: DepthChoice = "passage",
    documents: WholeDocuments | None = None,
    most: int | None = None,
    on_progress: Progress | None = None,
) -> ReadResult:
    """Read `candidates` (first-stage order) with `reranker` and order them anew.

    `inputs[i]` is what may be read of `candidates[i]`, with the same rank. `documents` gives what
    the other depths read. `most`: only the first so many are to be read. No reranker, or one that
    fails, leaves the first stage's order and scores; one that fails at whole documents leaves the
    passages' order. Of the reranker's errors only Overloaded is raised, and only while nothing has
    been read: whoever asks then should ask later. `on_progress` is told of a result in which
    nothing is called missing yet.
    """
    assert [c.rank for c in candidates] == [i.rank for i in inputs], "inputs follow the candidates"
    assert documents is not None or depth == "passage", "nobody says what whole documents hold"
    started_ms = budget.elapsed_ms()
    state = _State(candidates, [candidate.score for candidate in candidates], {})
    before: dict[int, Reading] = {}
    degraded: list[Degradation] = []

    telling = on_progress

    def note(make: Callable[[], _State]) -> None:
        nonlocal telling
        if telling is None:
            return
        try:
            telling(lambda: _result(make(), before, (), budget.elapsed_ms() - started_ms))
        except Exception:  # whoever watches has failed, and not the reader
            _log.exception("progress could not be told")
            telling = None

    if reranker is not None:
        only_whole = depth == "document" and reranker.document_limits.documents is None
        weight = reranker.first_stage_weight

        def note_read(readings: dict[int, Reading]) -> None:
            note(lambda: _ordered(candidates, dict(readings), weight))

        try:
            if only_whole and documents is not None:
                ranks = [candidate.rank for candidate in candidates[:most]]
                readings = _whole(
                    reranker, query, ranks, documents, budget, note_read, may_refuse=True
                )
            else:
                readings = collect(reranker, query, inputs[:most], budget, note_read)
            state = _ordered(candidates, readings, weight)
            asked = len(inputs[:most])
            degraded += _shortfall(reranker.name, len(readings), asked, budget)
        except Overloaded:
            # Asked for more than there is time for: a worse answer to everybody would not make
            # anybody ask less.
            raise
        except Exception as error:
            degraded.append(Degradation("rerank", _failure(reranker.name, error)))
        else:
            if depth != "passage" and not only_whole and documents is not None:
                before = state.readings
                state, missing = _deepened(state, reranker, query, documents, budget, note)
                degraded += missing
    return _result(state, before, degraded, budget.elapsed_ms() - started_ms)


def _result(
    state: _State,
    before: dict[int, Reading],
    degraded: Sequence[Degradation],
    elapsed_ms: float,
) -> ReadResult:
    """`before`: the passages' readings, where documents were read whole after that."""
    ranks = [candidate.rank for candidate in state.candidates]
    now = [state.readings.get(rank) for rank in ranks]
    earlier = [before.get(rank) for rank in ranks]
    return ReadResult(
        order=state.order(),
        scores=tuple(state.scores),
        readings=tuple(now),
        degraded=tuple(degraded),
        reranked_count=len(state.readings),
        elapsed_ms=elapsed_ms,
        whole_count=sum(reading is not None and reading.depth == "document" for reading in now),
        earlier=tuple(
            old if old is not new else None for old, new in zip(earlier, now, strict=True)
        ),
    )


@dataclass(frozen=True, slots=True)
class _State:
    """What is known so far; `scores` are aligned with the candidates.

    `deep`: index to what passages and whole document gave together, which parts equal scores.
    """

    candidates: Sequence[Candidate]
    scores: list[float]
    readings: dict[int, Reading]
    deep: dict[int, float] = field(default_factory=dict)

    def order(self) -> tuple[int, ...]:
        return tuple(sorted(range(len(self.candidates)), key=self._place))

    def _place(self, index: int) -> tuple[bool, float, float, int, int]:
        candidate = self.candidates[index]
        read = candidate.rank in self.readings
        # Unread candidates keep the first stage's order, so their score does not sort them.
        score = -self.scores[index] if read else 0.0
        deep = -self.deep.get(index, -math.inf)
        return (not read, score, deep, candidate.rank, candidate.document_id)


def _ordered(
    candidates: Sequence[Candidate], readings: dict[int, Reading], first_stage_weight: float
) -> _State:
    scores = _final_scores(candidates, readings, first_stage_weight)
    _check_finite(scores)
    return _State(candidates, scores, readings)


def _check_finite(scores: Sequence[float]) -> None:
    if not all(math.isfinite(score) for score in scores):
        raise _BrokenReading("a final score is not a finite number")


def _deepened(
    state: _State,
    reranker: Reranker,
    query: ReaderQuery,
    documents: WholeDocuments,
    budget: Budget,
    note: Callable[[Callable[[], _State]], None],
) -> tuple[_State, list[Degradation]]:
    """The best of what was read by passages, read whole and put in order among themselves."""
    most = reranker.document_limits.documents or AUTO_DOCUMENTS
    read = [index for index in state.order() if state.candidates[index].rank in state.readings]
    chosen = read[:most]
    ranks = [state.candidates[index].rank for index in chosen]

    def with_whole(whole: dict[int, Reading]) -> _State:
        return _reordered(state, chosen, whole, reranker.document_weight)

    try:
        whole = _whole(
            reranker,
            query,
            ranks,
            documents,
            budget,
            lambda so_far: note(lambda: with_whole(so_far)),
        )
        deepened = with_whole(whole)
    except Exception as error:
        why = _failure(reranker.name, error)
        return state, [Degradation("rerank", f"No document was read whole: {why}")]
    missing = _shortfall(reranker.name, len(whole), len(chosen), budget, "documents whole")
    return deepened, list(missing)


def _reordered(
    state: _State, chosen: Sequence[int], whole: dict[int, Reading], document_weight: float
) -> _State:
    """`state` with those of `chosen` that were read whole in order among themselves."""
    # A reranker that leaves one out has not been stopped there: the others still compare.
    at = [index for index in chosen if state.candidates[index].rank in whole]
    together = _together(state, at, whole, document_weight)
    _check_finite(together)
    readings = dict(state.readings)
    for rank, reading in whole.items():
        # One score for the text: its passages keep what they had.
        kept = reading.passage_scores or readings[rank].passage_scores
        readings[rank] = replace(reading, passage_scores=kept)
    # They take each other's scores, so that every number still falls along the order.
    scores, deep = list(state.scores), dict(zip(at, together, strict=True))
    falling = sorted((scores[index] for index in at), reverse=True)
    for index, score in zip(sorted(at, key=lambda n: -deep[n]), falling, strict=True):
        scores[index] = score
    return replace(state, scores=scores, readings=readings, deep=deep)


def _together(
    state: _State, at: Sequence[int], whole: dict[int, Reading], document_weight: float
) -> list[float]:
    """z(score so far) + weight * z(reading of the whole) of the candidates `at`, over these alone:
    the scales of a passage's and a document's reading need not be the same."""
    so_far = z_scores([state.scores[index] for index in at])
    of_whole = z_scores([whole[state.candidates[index].rank].score for index in at])
    return [own + document_weight * deep for own, deep in zip(so_far, of_whole, strict=True)]


def _whole(
    reranker: Reranker,
    query: ReaderQuery,
    ranks: Sequence[int],
    documents: WholeDocuments,
    budget: Budget,
    note: Callable[[dict[int, Reading]], None],
    *,
    may_refuse: bool = False,
) -> dict[int, Reading]:
    """Readings of whole documents, a few at a time, until the budget is gone.

    What was read is not thrown away because the rest cannot be: then it ends there and the budget
    says why. `may_refuse`: nothing was read before, so an error at once is one.
    """
    readings: dict[int, Reading] = {}
    for start in range(0, len(ranks), _UNIT_DOCUMENTS):
        if budget.spent() is not None:  # the reader itself begins units, which this fetching is of
            break
        # A document that has just been deleted has no passages.
        unit = [each for each in documents(ranks[start : start + _UNIT_DOCUMENTS]) if each.passages]
        if not unit:
            continue
        try:
            readings |= collect(reranker, query, unit, budget)
        except LongleafError as error:
            if may_refuse and not readings:
                raise
            budget.stop(str(error))
            break
        note(readings)
    return readings


_READERS = Patience("the reranker")


def collect(
    reranker: Reranker,
    query: ReaderQuery,
    inputs: Sequence[ReadingInput],
    budget: Budget,
    note: Callable[[dict[int, Reading]], None] = lambda _readings: None,
) -> dict[int, Reading]:
    """Readings by rank; raises _BrokenReading for one that breaks the protocol.

    A reader that stands still is left behind when `budget` waits for it no longer; the budget says
    so, and what had been read counts.
    """
    known = {reading_input.rank for reading_input in inputs}
    readings: dict[int, Reading] = {}

    def read() -> Iterator[Reading]:  # the call too may be where it stands
        yield from reranker.read(query, inputs, budget)

    coming = read()
    is_late_already = budget.spent() == "deadline"  # none of what the reader does can change that
    if budget.wait_seconds() is not None:
        coming = _READERS.each(coming, budget.wait_seconds)
    try:
        for reading in coming:
            if reading.rank not in known:
                raise _BrokenReading(f"it read rank {reading.rank}, which nobody asked for")
            if reading.rank in readings:
                raise _BrokenReading(f"it read rank {reading.rank} twice")
            if not math.isfinite(reading.score):
                raise _BrokenReading(f"its score for rank {reading.rank} is {reading.score}")
            readings[reading.rank] = reading
            note(readings)
    except StageStalled as error:
        why = error.message[0].lower() + error.message[1:].rstrip(".")
        if is_late_already:
            why = "deadline reached"
        elif budget.spent() == "deadline":
            why = f"deadline reached, {why}"
        budget.leave(why)
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
    name: str, read_count: int, asked_count: int, budget: Budget, what: str = "candidates"
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
    return (Degradation("rerank", f"{name} read {read_count} of {asked_count} {what}: {why}"),)


def _failure(name: str, error: Exception) -> str:
    """The sentence for the user; what a developer needs goes to the log."""
    if isinstance(error, LongleafError):
        _log.warning("reranker %s cannot read: %s", name, reason_of(error))
        return f"{name} cannot read: {error}"
    _log.error("reranker %s failed", name, exc_info=error)
    if isinstance(error, _BrokenReading):
        return f"{name} broke its contract and was not used: {error}"
    return f"{name} failed with {type(error).__name__} (see the log)"
