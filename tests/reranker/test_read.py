"""Orchestration with scripted rerankers: order, tiers, deadlines, and every way to fail."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.reranker.tiny import TickingClock, candidate, reading_input

from longleaf.core.budget import Budget
from longleaf.core.errors import LongleafError, ModelUnavailable, Overloaded
from longleaf.core.protocols import ReaderQuery
from longleaf.core.scores import z_scores
from longleaf.core.types import DepthChoice, DocumentLimits, Reading, ReadingInput
from longleaf.reranker.read import AUTO_DOCUMENTS, ReadResult, read_candidates

QUERY = ReaderQuery("court", None, None)


class Scripted:
    """Yields the scores it was given by rank, 10 ms each, then raises `error` if there is one."""

    name = "scripted"
    fingerprint = "scripted"
    takes_instruction = False
    reads_text = False
    min_score: float | None = None
    default_instruction: str | None = None

    def __init__(
        self,
        scores: Sequence[tuple[int, float]],
        *,
        whole: Mapping[int, float] | None = None,
        documents: int | None = None,
        document_weight: float = 1.0,
        first_stage_weight: float = 0.0,
        error: Exception | None = None,
        clock: TickingClock | None = None,
    ) -> None:
        self.scores = scores
        self.whole = whole or {}
        self.document_limits = DocumentLimits(documents, None, beside=False)
        self.document_weight = document_weight
        self.asked: list[tuple[int, ...]] = []
        self.first_stage_weight = first_stage_weight
        self.error = error
        self.clock = clock or TickingClock()

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        if inputs and inputs[0].depth == "document":
            self.asked.append(tuple(item.rank for item in inputs))
            for item in inputs:
                if budget.spent() is not None:
                    return
                self.clock.now_ms += 10.0
                budget.use(10)
                yield Reading(item.rank, self.whole[item.rank], "document", 10, 10)
            return
        for rank, score in self.scores:
            if budget.spent() is not None:
                return
            self.clock.now_ms += 10.0
            budget.use(5)
            yield Reading(rank, score, "passage", 5, 10, ((rank, score),))
        if self.error is not None:
            raise self.error


def run(
    first_stage: Sequence[float],
    reranker: Scripted | None,
    budget: Budget | None = None,
    depth: DepthChoice = "passage",
) -> ReadResult:
    ranks = range(1, len(first_stage) + 1)
    candidates = [candidate(rank, score) for rank, score in zip(ranks, first_stage, strict=True)]
    inputs = [reading_input(rank, ["court"]) for rank in ranks]

    def documents(asked: Sequence[int]) -> list[ReadingInput]:
        return [replace(inputs[rank - 1], depth="document") for rank in asked]

    return read_candidates(
        QUERY, candidates, inputs, reranker, budget or Budget(), depth=depth, documents=documents
    )


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
    assert result.readings[1] == Reading(2, 0.9, "passage", 5, 10, ((2, 0.9),))


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


class TestWholeDocuments:
    def test_auto_reads_the_best_whole_and_only_they_change_places(self) -> None:
        scores = [(1, 0.1), (2, 0.9), (3, 0.8), (4, 0.3), (5, 0.7)]
        reranker = Scripted(scores, whole={2: 0.0, 3: 0.5, 5: 1.0}, documents=3, document_weight=9)
        result = run([5.0, 4.0, 3.0, 2.0, 1.0], reranker, depth="auto")
        assert reranker.asked == [(2, 3, 5)], "in the order that the passages gave"
        assert result.order == (4, 2, 1, 3, 0)
        assert [r.depth for r in result.readings if r] == [
            "passage", "document", "document", "passage", "document",
        ]  # fmt: skip
        assert (result.reranked_count, result.whole_count, result.degraded) == (5, 3, ())
        whole = result.readings[4]
        assert whole is not None and whole.passage_scores == ((5, 0.7),), "its passages' are kept"

    def test_passages_and_the_whole_count_by_the_weight(self) -> None:
        scores, whole = [(1, 0.9), (2, 0.8)], {1: 0.0, 2: 1.0}
        less = Scripted(scores, whole=whole, document_weight=0.5)
        more = Scripted(scores, whole=whole, document_weight=2.0)
        assert run([2.0, 1.0], less, depth="auto").order == (0, 1)
        assert run([2.0, 1.0], more, depth="auto").order == (1, 0)

    def test_the_whole_parts_equal_passages(self) -> None:
        reranker = Scripted([(1, 0.5), (2, 0.5)], whole={1: 0.0, 2: 1.0})
        assert run([2.0, 2.0], reranker, depth="auto").order == (1, 0)

    def test_auto_has_a_bound_where_the_reranker_has_none(self) -> None:
        count = AUTO_DOCUMENTS + 5
        scores = [(rank, -float(rank)) for rank in range(1, count + 1)]
        reranker = Scripted(scores, whole=dict(scores))
        result = run([-float(n) for n in range(count)], reranker, depth="auto")
        assert result.whole_count == AUTO_DOCUMENTS and result.degraded == ()

    def test_document_reads_no_passages_where_all_can_be_read_whole(self) -> None:
        reranker = Scripted([(1, 9.9)], whole={1: 0.1, 2: 0.9, 3: 0.5})
        result = run([3.0, 2.0, 1.0], reranker, depth="document")
        assert result.order == (1, 2, 0) and result.whole_count == 3
        assert all(r and r.depth == "document" for r in result.readings)

    def test_document_reads_passages_first_where_few_can_be_read_whole(self) -> None:
        reranker = Scripted([(1, 0.1), (2, 0.9)], whole={2: 1.0}, documents=1)
        result = run([2.0, 1.0], reranker, depth="document")
        assert result.order == (1, 0) and (result.reranked_count, result.whole_count) == (2, 1)

    def test_a_deadline_between_documents_is_said_and_the_others_keep_their_places(self) -> None:
        clock = TickingClock()
        scores = [(n, 1.0 - n / 10) for n in range(1, 7)]
        reranker = Scripted(scores, whole={n: n / 10 for n in range(1, 7)}, clock=clock)
        # Six passages until 60 ms, then two documents: the third would begin at 80 ms.
        budget = Budget(deadline_ms=80.0, clock=clock)
        result = run([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], reranker, budget, "auto")
        assert result.whole_count == 2 and result.reranked_count == 6
        assert set(result.order[:2]) == {0, 1} and result.order[2:] == (2, 3, 4, 5)
        (degradation,) = result.degraded
        assert degradation.reason == "scripted read 2 of 6 documents whole: deadline reached"
        assert reranker.asked == [(1, 2, 3, 4)], "no more are made ready than are read next"

    def test_a_failure_at_the_whole_leaves_the_passages_order(self) -> None:
        reranker = Scripted([(1, 0.1), (2, 0.9)], whole={2: float("nan"), 1: 0.0})
        result = run([2.0, 1.0], reranker, depth="auto")
        assert result.order == (1, 0) and result.whole_count == 0
        (degradation,) = result.degraded
        assert degradation.reason.startswith("No document was read whole: scripted broke")

    @pytest.mark.parametrize("depth", ["document", "auto"])
    def test_what_was_read_stays_when_the_rest_is_refused(self, depth: DepthChoice) -> None:
        """Whole documents ask anew every few: a queue that is full by then takes nothing away."""

        class Full(Scripted):
            def read(
                self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
            ) -> Iterator[Reading]:
                if inputs[0].depth == "document" and self.asked:
                    raise Overloaded("Too much waits.", "Come again.")
                yield from super().read(query, inputs, budget)

        scores = [(n, 1.0 - n / 10) for n in range(1, 7)]
        reranker = Full(scores, whole={n: n / 10 for n in range(1, 7)})
        result = run([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], reranker, depth=depth)
        assert result.whole_count == 4
        assert result.reranked_count == (4 if depth == "document" else 6)
        (degradation,) = result.degraded
        assert "read 4 of 6" in degradation.reason and "Too much waits." in degradation.reason

    def test_a_refusal_before_anything_was_read_is_one(self) -> None:
        class Full(Scripted):
            def read(
                self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
            ) -> Iterator[Reading]:
                raise Overloaded("Too much waits.")
                yield

        for depth in ("passage", "document", "auto"):
            with pytest.raises(Overloaded):
                run([2.0, 1.0], Full([]), depth=depth)

    def test_a_document_that_is_gone_by_now_is_left_out(self) -> None:
        candidates = [candidate(rank, 3.0 - rank) for rank in (1, 2)]
        inputs = [reading_input(rank, ["court"]) for rank in (1, 2)]

        def documents(asked: Sequence[int]) -> list[ReadingInput]:
            return [
                replace(inputs[rank - 1], depth="document", passages=inputs[0].passages[rank - 1 :])
                for rank in asked
            ]

        reranker = Scripted([(1, 0.9), (2, 0.8)], whole={1: 1.0})
        result = read_candidates(
            QUERY, candidates, inputs, reranker, Budget(), depth="auto", documents=documents
        )
        assert result.whole_count == 1 and result.reranked_count == 2
        assert "read 1 of 2 documents whole" in result.degraded[0].reason

    def test_who_watches_and_fails_takes_nothing_away(self) -> None:
        def watch(make: object) -> None:
            raise RuntimeError("the page is closed")

        candidates = [candidate(rank, 3.0 - rank) for rank in (1, 2)]
        inputs = [reading_input(rank, ["court"]) for rank in (1, 2)]
        reranker = Scripted([(1, 0.1), (2, 0.9)])
        result = read_candidates(QUERY, candidates, inputs, reranker, Budget(), on_progress=watch)
        assert result.order == (1, 0) and result.degraded == ()

    @given(
        first_stage=st.lists(numbers, min_size=1, max_size=12),
        own=st.lists(numbers, min_size=12, max_size=12),
        whole=st.lists(numbers, min_size=12, max_size=12),
        documents=st.none() | st.integers(1, 12),
        depth=st.sampled_from(["passage", "document", "auto"]),
        most_tokens=st.none() | st.integers(1, 200),
    )
    def test_every_candidate_once_read_above_unread_and_scores_fall(
        self,
        first_stage: list[float],
        own: list[float],
        whole: list[float],
        documents: int | None,
        depth: DepthChoice,
        most_tokens: int | None,
    ) -> None:
        first_stage = sorted(first_stage, reverse=True)
        count = len(first_stage)
        reranker = Scripted(
            list(enumerate(own[:count], 1)),
            whole=dict(enumerate(whole, 1)),
            documents=documents,
            document_weight=0.5,
        )
        result = run(first_stage, reranker, Budget(max_tokens=most_tokens), depth)
        assert sorted(result.order) == list(range(count))
        falling = [result.scores[index] for index in result.order]
        assert falling == sorted(falling, reverse=True)
        read_first = [result.readings[index] is not None for index in result.order]
        assert read_first == sorted(read_first, reverse=True)
        only_whole = depth == "document" and documents is None
        asked = 0 if depth == "passage" else min(documents or AUTO_DOCUMENTS, result.reranked_count)
        short = result.reranked_count < count or (not only_whole and result.whole_count < asked)
        assert bool(result.degraded) == short
