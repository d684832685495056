"""Orchestration with scripted rerankers: order, tiers, deadlines, and every way to fail."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.reranker.tiny import TickingClock, candidate, reading_input

from longleaf.core.budget import Budget
from longleaf.core.errors import LongleafError, ModelUnavailable, Overloaded
from longleaf.core.protocols import ReaderQuery
from longleaf.core.scores import z_scores
from longleaf.core.types import Reading, ReadingInput
from longleaf.reranker.read import ReadResult, read_candidates

QUERY = ReaderQuery("court", None, None)


class Scripted:
    """Yields the scores it was given by rank, 10 ms each, then raises `error` if there is one."""

    name = "scripted"
    fingerprint = "scripted"
    takes_instruction = False
    reads_text = False

    def __init__(
        self,
        scores: Sequence[tuple[int, float]],
        *,
        first_stage_weight: float = 0.0,
        error: Exception | None = None,
        clock: TickingClock | None = None,
    ) -> None:
        self.scores = scores
        self.first_stage_weight = first_stage_weight
        self.error = error
        self.clock = clock or TickingClock()

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        for rank, score in self.scores:
            if budget.spent() is not None:
                return
            self.clock.now_ms += 10.0
            budget.use(5)
            yield Reading(rank, score, "passage", 5, 10)
        if self.error is not None:
            raise self.error


def run(
    first_stage: Sequence[float], reranker: Scripted | None, budget: Budget | None = None
) -> ReadResult:
    ranks = range(1, len(first_stage) + 1)
    candidates = [candidate(rank, score) for rank, score in zip(ranks, first_stage, strict=True)]
    inputs = [reading_input(rank, ["court"]) for rank in ranks]
    return read_candidates(QUERY, candidates, inputs, reranker, budget or Budget())


def assert_first_stage(result: ReadResult, first_stage: Sequence[float]) -> None:
    assert result.order == tuple(range(len(first_stage)))
    assert result.scores == tuple(first_stage)
    assert result.readings == (None,) * len(first_stage)
    assert result.reranked_count == 0


def test_no_reranker_is_the_first_stage_and_nothing_is_missing() -> None:
    result = run([3.0, 2.0, 1.0], None)
    assert_first_stage(result, [3.0, 2.0, 1.0])
    assert result.degraded == ()


def test_no_candidates() -> None:
    result = run([], Scripted([]))
    assert (result.order, result.degraded, result.reranked_count) == ((), (), 0)


def test_the_readers_order_wins_when_the_first_stage_weighs_nothing() -> None:
    result = run([3.0, 2.0, 1.0], Scripted([(1, 0.1), (2, 0.9), (3, 0.5)]))
    assert result.order == (1, 2, 0)
    assert result.reranked_count == 3
    assert result.degraded == ()
    assert result.readings[1] == Reading(2, 0.9, "passage", 5, 10)


def test_final_score_adds_weighted_z_scores() -> None:
    first_stage, own = [10.0, 6.0, 2.0], [0.0, 0.5, 0.7]
    reranker = Scripted(list(enumerate(own, 1)), first_stage_weight=0.25)
    expected = [a + 0.25 * b for a, b in zip(z_scores(own), z_scores(first_stage), strict=True)]
    assert run(first_stage, reranker).scores == pytest.approx(expected, abs=1e-12)


def test_no_variance_adds_nothing_and_ties_keep_first_stage_order() -> None:
    result = run([5.0, 5.0, 5.0], Scripted([(3, 1.0), (1, 1.0), (2, 1.0)], first_stage_weight=1.0))
    assert result.scores == (0.0, 0.0, 0.0)
    assert result.order == (0, 1, 2)


def test_deadline_exactly() -> None:
    clock = TickingClock()
    scripted = Scripted([(3, 0.1), (4, 0.9), (1, 0.5)], clock=clock)
    result = run([4.0, 3.0, 2.0, 1.0], scripted, Budget(deadline_ms=20.0, clock=clock))
    # Read at 0 and 10 ms; at 20 ms the deadline is reached. Unread: first-stage order, below.
    assert result.order == (3, 2, 0, 1)
    assert [reading is not None for reading in result.readings] == [False, False, True, True]
    assert result.reranked_count == 2
    (degradation,) = result.degraded
    assert degradation.stage == "rerank"
    assert degradation.reason == "scripted read 2 of 4 candidates: deadline reached"
    assert result.elapsed_ms == 20.0


def test_reading_to_the_last_candidate_is_whole_even_if_the_deadline_passed() -> None:
    clock = TickingClock()
    scripted = Scripted([(1, 0.1), (2, 0.9)], clock=clock)
    result = run([2.0, 1.0], scripted, Budget(deadline_ms=15.0, clock=clock))
    assert result.degraded == ()


def test_token_budget() -> None:
    scripted = Scripted([(1, 0.1), (2, 0.9), (3, 0.5)])
    result = run([3.0, 2.0, 1.0], scripted, Budget(max_tokens=6))
    assert result.order == (1, 0, 2)
    assert result.degraded[0].reason == "scripted read 2 of 3 candidates: token budget reached"


def test_budget_gone_before_it_began() -> None:
    result = run([2.0, 1.0], Scripted([(1, 0.1), (2, 0.9)]), Budget(deadline_ms=0.0))
    assert_first_stage(result, [2.0, 1.0])
    assert "0 of 2" in result.degraded[0].reason


def test_candidates_left_without_a_limit_are_said() -> None:
    result = run([2.0, 1.0], Scripted([(2, 0.9)]))
    assert result.order == (1, 0)
    assert "1 of 2 candidates: the rest holds nothing" in result.degraded[0].reason


@pytest.mark.parametrize(
    ("reranker", "says"),
    [
        (Scripted([(2, 1.0)], error=ModelUnavailable("gone.", "Set x.")), "gone. Set x."),
        (Scripted([(2, 1.0)], error=RuntimeError("secret")), "failed with RuntimeError"),
        (Scripted([(2, 1.0), (2, 1.0)]), "rank 2 twice"),
        (Scripted([(2, 1.0), (9, 1.0)]), "rank 9"),
        (Scripted([(2, float("nan"))]), "is nan"),
        (Scripted([(2, float("inf"))]), "is inf"),
        (Scripted([(1, 1.0)], first_stage_weight=float("nan")), "final score"),
    ],
)
def test_every_failure_is_the_first_stage_and_visible(reranker: Scripted, says: str) -> None:
    result = run([2.0, 1.0], reranker)
    assert_first_stage(result, [2.0, 1.0])
    (degradation,) = result.degraded
    assert degradation.stage == "rerank"
    assert says in degradation.reason
    assert "secret" not in degradation.reason


def test_inputs_of_other_candidates_are_our_bug() -> None:
    with pytest.raises(AssertionError):
        read_candidates(QUERY, [candidate(1, 1.0)], [reading_input(2, ["a"])], None, Budget())


numbers = st.floats(-1e6, 1e6)


@given(
    first_stage=st.lists(numbers, min_size=1, max_size=12),
    read=st.dictionaries(st.integers(1, 12), numbers, max_size=12),
    weight=st.floats(0, 3),
)
def test_every_candidate_once_and_scores_fall(
    first_stage: list[float], read: dict[int, float], weight: float
) -> None:
    first_stage = sorted(first_stage, reverse=True)
    scores = [(rank, score) for rank, score in read.items() if rank <= len(first_stage)]
    result = run(first_stage, Scripted(scores, first_stage_weight=weight))
    assert sorted(result.order) == list(range(len(first_stage)))
    falling = [result.scores[index] for index in result.order]
    assert falling == sorted(falling, reverse=True)
    read_first = [result.readings[index] is not None for index in result.order]
    assert read_first == sorted(read_first, reverse=True)
    assert result.reranked_count == len(scores)


class TestZScores:
    def test_golden(self) -> None:
        assert z_scores([1.0, 3.0]) == [-1.0, 1.0]
        assert z_scores([]) == []
        assert z_scores([7.0]) == [0.0]
        assert z_scores([2.0, 2.0, 2.0]) == [0.0, 0.0, 0.0]

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_refuses_what_is_no_number(self, bad: float) -> None:
        with pytest.raises(ValueError, match="finite"):
            z_scores([1.0, bad])

    @given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=30))
    def test_centre_spread_and_order(self, values: list[float]) -> None:
        result = z_scores(values)
        if any(result):
            assert sum(result) == pytest.approx(0.0, abs=1e-6)
            assert sum(z * z for z in result) / len(result) == pytest.approx(1.0, abs=1e-6)
        pairs = sorted(zip(values, result, strict=True))
        assert all(a[1] <= b[1] for a, b in itertools.pairwise(pairs))

    @given(st.permutations([0.1, 0.2, 0.3, 1e9, -7.5, 3.3]))
    def test_order_of_the_values_does_not_matter(self, values: list[float]) -> None:
        plain = [0.1, 0.2, 0.3, 1e9, -7.5, 3.3]
        expected = dict(zip(plain, z_scores(plain), strict=True))
        assert z_scores(values) == [expected[value] for value in values]


def test_longleaf_errors_are_caught_by_their_base() -> None:
    assert issubclass(ModelUnavailable, LongleafError)


def test_an_overloaded_reranker_is_no_degradation() -> None:
    """A degraded answer would keep everybody asking; whoever asks is told when to come again."""
    with pytest.raises(Overloaded):
        run([3.0, 2.0], Scripted([(1, 1.0)], error=Overloaded("Too much waits.")))


def test_a_readers_own_reason_is_told() -> None:
    class Stops(Scripted):
        def read(
            self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
        ) -> Iterator[Reading]:
            yield Reading(1, 0.5, "passage", 5, 10)
            budget.stop("the deadline would have passed")

    result = run([3.0, 2.0], Stops([]))
    assert [each.reason for each in result.degraded] == [
        "scripted read 1 of 2 candidates: the deadline would have passed"
    ]
