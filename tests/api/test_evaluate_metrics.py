"""Document metrics against values worked out by hand and against ir-measures; the bootstrap."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.api.evaluate.metrics import (
    bootstrap,
    paired_intervals,
    percentile_ms,
    score_rankings,
)
from longleaf.core.errors import InvalidRequest

QRELS = {
    "q1": {"a": 3, "b": 1, "c": 0},
    "q2": {"x": 1},
    "q3": {"y": 0},
}
RANKINGS = {
    "q1": (("c", 9.0), ("b", 8.0), ("z", 7.0), ("a", 6.0)),
    "q2": (*((f"d{i}", -float(i)) for i in range(10)), ("x", -10.0)),
}


def test_golden_values_worked_out_by_hand() -> None:
    values = score_rankings(QRELS, RANKINGS)
    # Gains 0, 1, 0, 3 at ranks 1-4 against the ideal 3, 1.
    dcg = 1 / math.log2(3) + 3 / math.log2(5)
    ideal = 3 / math.log2(2) + 1 / math.log2(3)
    assert values["ndcg@10"] == pytest.approx({"q1": dcg / ideal, "q2": 0.0, "q3": 0.0}, abs=1e-6)
    assert values["r@100"] == {"q1": 1.0, "q2": 1.0, "q3": 0.0}
    assert values["mrr@10"] == {"q1": 0.5, "q2": 0.0, "q3": 0.0}


def test_relevant_from_raises_the_bar_for_recall_and_mrr_only() -> None:
    one, two = score_rankings(QRELS, RANKINGS, 1), score_rankings(QRELS, RANKINGS, 2)
    assert one["ndcg@10"] == two["ndcg@10"]
    assert two["mrr@10"]["q1"] == 0.25
    assert two["r@100"] == {"q1": 1.0, "q2": 0.0, "q3": 0.0}
    with pytest.raises(InvalidRequest, match="relevant-from"):
        score_rankings(QRELS, RANKINGS, 0)


def test_the_order_counts_and_not_the_scores() -> None:
    """trec_eval would put tied z before tied a, and the highest score first."""
    tied = {"q": (("a", 1.0), ("z", 1.0))}
    rising = {"q": (("a", -5.0), ("z", 5.0))}
    for ranking in (tied, rising):
        assert score_rankings({"q": {"a": 1}}, ranking)["mrr@10"]["q"] == 1.0


def test_recall_stops_at_100() -> None:
    ranking = tuple((f"d{i}", 200.0 - i) for i in range(150))
    values = score_rankings({"q": {"d99": 1, "d100": 1}}, {"q": ranking})
    assert values["r@100"]["q"] == 0.5


@pytest.mark.parametrize(
    ("ranking", "what"),
    [((("a", 2.0), ("a", 1.0)), "twice"), ((("a", math.nan),), "the score nan")],
)
def test_a_bad_ranking_is_refused(ranking: tuple[tuple[str, float], ...], what: str) -> None:
    with pytest.raises(InvalidRequest, match=what):
        score_rankings({"q": {"a": 1}}, {"q": ranking})


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_equal_to_ir_measures_where_scores_fall(data: st.DataObject) -> None:
    keys = [f"d{i}" for i in range(30)]
    queries = [f"q{i}" for i in range(data.draw(st.integers(1, 4)))]
    grades = st.dictionaries(st.sampled_from(keys), st.integers(0, 3), min_size=1)
    qrels = {query: data.draw(grades) for query in queries}
    rankings = {
        query: tuple(
            (key, 1.0 / (rank + 1))
            for rank, key in enumerate(data.draw(st.lists(st.sampled_from(keys), unique=True)))
        )
        for query in queries
    }
    bar = data.draw(st.integers(1, 3))
    values = score_rankings(qrels, rankings, bar)
    measures = {
        "ndcg@10": ir_measures.nDCG @ 10,
        "r@100": ir_measures.R(rel=bar) @ 100,
        "mrr@10": ir_measures.RR(rel=bar) @ 10,
    }
    judged = [ir_measures.Qrel(q, d, g) for q, row in qrels.items() for d, g in row.items()]
    run = [ir_measures.ScoredDoc(q, d, s) for q, row in rankings.items() for d, s in row]
    means = ir_measures.calc_aggregate(measures.values(), judged, run)
    for name, measure in measures.items():
        assert list(values[name]) == queries
        assert np.mean(list(values[name].values())) == pytest.approx(means[measure], abs=1e-9)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    repeats, covered = 400, 0
    for _ in range(repeats):
        sample = generator.beta(2.0, 3.0, size=60)
        interval = bootstrap({"x": sample.tolist()}, resamples=500)["x"]
        covered += interval.low <= 0.4 <= interval.high
    # Standard error of the coverage is 1.1 points; percentile intervals run a little narrow.
    assert 0.90 <= covered / repeats <= 0.98


def test_identical_systems_differ_by_exactly_nothing() -> None:
    values = {"m": {"q1": 0.1, "q2": 0.7, "q3": 1 / 3}}
    _, gaps = paired_intervals({"final": values, "fused": values}, [("final", "fused")])
    interval = gaps["final", "fused", "m"]
    assert (interval.mean, interval.low, interval.high) == (0.0, 0.0, 0.0)
    assert interval.holds_zero


def test_pairing_sees_a_small_steady_gain_that_the_queries_spread_hides() -> None:
    spread = np.random.default_rng(3).random(80)
    better = {f"q{i}": float(v) + 0.02 for i, v in enumerate(spread)}
    worse = {f"q{i}": float(v) for i, v in enumerate(spread)}
    singles, gaps = paired_intervals(
        {"a": {"m": better}, "b": {"m": worse}}, [("a", "b"), ("a", "missing")]
    )
    assert singles["a", "m"].low < singles["b", "m"].high
    assert list(gaps) == [("a", "b", "m")]
    assert not gaps["a", "b", "m"].holds_zero
    assert gaps["a", "b", "m"].mean == pytest.approx(0.02)


def test_seeded_and_untouched_by_other_series() -> None:
    values = np.random.default_rng(1).random(40).tolist()
    alone = bootstrap({"x": values}, resamples=1200)
    beside = bootstrap({"y": [0.5] * 40, "x": values}, resamples=1200)
    assert alone["x"] == bootstrap({"x": values}, resamples=1200)["x"]
    for end in ("mean", "low", "high"):
        assert getattr(beside["x"], end) == pytest.approx(getattr(alone["x"], end), abs=1e-12)
    assert bootstrap({"x": values}, resamples=1200, seed=21)["x"] != alone["x"]
    assert (beside["y"].low, beside["y"].high) == (0.5, 0.5)
    narrow = bootstrap({"x": values}, resamples=1200, confidence=0.5)["x"]
    assert alone["x"].low < narrow.low < narrow.mean < narrow.high < alone["x"].high


def test_agrees_with_the_normal_interval_on_many_queries() -> None:
    values = np.random.default_rng(2).random(1000)
    interval = bootstrap({"x": values.tolist()})["x"]
    half = 1.96 * values.std() / math.sqrt(1000)
    assert interval.high - interval.mean == pytest.approx(half, rel=0.05)
    assert interval.mean - interval.low == pytest.approx(half, rel=0.05)


def test_nothing_to_draw_from_is_refused() -> None:
    assert bootstrap({}) == {}
    for bad in ({"x": []}, {"x": [math.nan]}):
        with pytest.raises(InvalidRequest):
            bootstrap(bad)


def test_percentiles() -> None:
    assert percentile_ms([10.0, 20.0, 30.0], 50) == 20.0
    assert percentile_ms([0.0, 100.0], 95) == pytest.approx(95.0)
    assert percentile_ms([], 95) == 0.0
