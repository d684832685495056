"""Recall and precision of returned characters: by hand, by properties, and against sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.api.evaluate.spans import (
    RankedSpan,
    cut_to_budget,
    merge,
    score_spans,
    span_measures,
)
from longleaf.core.errors import InvalidRequest

KEYS = st.sampled_from(["a", "b"])
INTERVALS = st.tuples(KEYS, st.integers(0, 60), st.integers(1, 30)).map(
    lambda t: (t[0], t[1], t[1] + t[2])
)
RANKED = st.lists(INTERVALS.map(lambda t: RankedSpan(*t, score=1.0)), max_size=8)
GOLD = st.lists(INTERVALS, min_size=1, max_size=6)


def test_golden_values_worked_out_by_hand() -> None:
    gold = [("a", 10, 20), ("a", 15, 30), ("b", 0, 10)]  # 20 + 10 characters
    ranked = [
        RankedSpan("b", 5, 25, 3.0),  # 20 characters, 5 gold
        RankedSpan("c", 10, 20, 2.0),  # 10 characters of another document
        RankedSpan("a", 0, 40, 1.0),  # 40 characters, 20 gold; the first 15 hold 5
    ]
    at_20, at_45, at_500 = score_spans(gold, ranked, (20, 45, 500))
    assert (at_20.recall, at_20.precision) == (5 / 30, 5 / 20)
    assert (at_45.recall, at_45.precision) == (10 / 30, 10 / 45)
    assert (at_500.returned_chars, at_500.found_chars, at_500.gold_chars) == (70, 25, 30)


def test_a_character_returned_twice_is_paid_twice_and_found_once() -> None:
    ranked = [RankedSpan("a", 0, 10, 2.0), RankedSpan("a", 5, 15, 1.0)]
    (score,) = score_spans([("a", 5, 10)], ranked, (20,))
    assert (score.returned_chars, score.found_chars, score.recall) == (20, 5, 1.0)


def test_nothing_returned_scores_nothing() -> None:
    (score,) = score_spans([("a", 0, 5)], [], (500,))
    assert (score.recall, score.precision) == (0.0, 0.0)
    assert span_measures({"q": [("a", 0, 5)]}, {}, (500,)) == {
        "span_recall@500": {"q": 0.0},
        "span_precision@500": {"q": 0.0},
    }


@pytest.mark.parametrize("bounds", [(5, 5), (9, 5), (-1, 5)])
def test_a_backward_or_empty_passage_is_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest, match="no character span"):
        score_spans([("a", 0, 5)], [RankedSpan("a", *bounds, score=0.0)], (500,))


def test_merge_joins_overlapping_and_touching() -> None:
    assert merge([(5, 9), (0, 2), (2, 4), (6, 7)]) == [(0, 4), (5, 9)]


@given(RANKED, st.integers(1, 200))
def test_the_cut_is_exact(ranked: list[RankedSpan], budget: int) -> None:
    taken = cut_to_budget(ranked, budget)
    total = sum(span.end_char - span.start_char for span in ranked)
    assert sum(end - start for _, start, end in taken) == min(budget, total)
    for whole, (key, start, end) in zip(ranked, taken[:-1], strict=False):
        assert (key, start, end) == (whole.document_key, whole.start_char, whole.end_char)


@given(GOLD, RANKED, st.lists(st.integers(1, 200), min_size=2, max_size=5))
def test_properties(
    gold: list[tuple[str, int, int]], ranked: list[RankedSpan], budgets: list[int]
) -> None:
    scores = score_spans(gold, ranked, sorted(budgets))
    recalls = [score.recall for score in scores]
    assert recalls == sorted(recalls)
    for score in scores:
        assert 0.0 <= score.recall <= 1.0
        assert 0.0 <= score.precision <= 1.0
        assert score.returned_chars <= score.budget_chars
        found_two_ways = score.precision * score.returned_chars, score.recall * score.gold_chars
        assert found_two_ways[0] == pytest.approx(found_two_ways[1])


@given(GOLD, RANKED, st.integers(1, 200))
def test_equal_to_counting_characters_one_by_one(
    gold: list[tuple[str, int, int]], ranked: list[RankedSpan], budget: int
) -> None:
    wanted = {(key, at) for key, start, end in gold for at in range(start, end)}
    stream = [(s.document_key, at) for s in ranked for at in range(s.start_char, s.end_char)]
    (score,) = score_spans(gold, ranked, (budget,))
    assert score.gold_chars == len(wanted)
    assert score.returned_chars == len(stream[:budget])
    assert score.found_chars == len(wanted & set(stream[:budget]))
