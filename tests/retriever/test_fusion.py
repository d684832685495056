"""Fusion is arithmetic: exact values by hand, invariances by property."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.core.ids import is_aside, point_id
from longleaf.retriever.fusion import reciprocal_rank_fusion, weigh_down, z_score_fusion

_scores = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))


def test_z_scores_of_both_sides_are_added() -> None:
    # z(dense) = -1.2247, 0, 1.2247; z(bm25) = 1.4142, -0.7071, -0.7071
    fused = z_score_fusion({1: 0.1, 2: 0.2, 3: 0.3}, {1: 9.0, 2: 0.0, 3: 0.0})
    assert list(fused) == [3, 1, 2]
    root = math.sqrt(1.5)
    assert fused == pytest.approx(
        {1: -root + math.sqrt(2), 2: -math.sqrt(0.5), 3: 0.5176}, abs=1e-4
    )


def test_weight_multiplies_the_lexical_side() -> None:
    dense, bm25 = {1: 0.0, 2: 1.0}, {1: 1.0, 2: 0.0}
    assert z_score_fusion(dense, bm25, 3.0) == pytest.approx({1: 2.0, 2: -2.0})
    assert list(z_score_fusion(dense, bm25, 0.0)) == [2, 1]


def test_a_side_without_variance_says_nothing() -> None:
    assert z_score_fusion({1: 0.5, 2: 0.5}, {1: 0.0, 2: 2.0}) == pytest.approx({2: 1.0, 1: -1.0})
    assert z_score_fusion({7: 0.5}, {7: 3.0}) == {7: 0.0}


def test_a_missing_side_leaves_the_other_alone() -> None:
    alone = pytest.approx({2: 1.0, 1: -1.0})
    assert z_score_fusion({}, {1: 1.0, 2: 3.0}, 0.0) == alone
    assert z_score_fusion({1: 1.0, 2: 3.0}, {}) == alone
    assert z_score_fusion({}, {}) == {}


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        z_score_fusion({1: math.nan, 2: 0.0}, {1: 1.0, 2: 0.0})


def test_scores_of_one_side_only_are_our_own_bug() -> None:
    with pytest.raises(AssertionError):
        z_score_fusion({1: 0.5, 2: 0.4}, {1: 1.0})


@given(
    st.dictionaries(st.integers(0, 50), st.tuples(_scores, _scores), min_size=1),
    st.floats(0.5, 4),
    st.randoms(use_true_random=False),
)
def test_order_of_insertion_never_shows(pairs, weight, random) -> None:
    shuffled = list(pairs.items())
    random.shuffle(shuffled)
    one = z_score_fusion(
        {i: d for i, (d, _) in pairs.items()}, {i: b for i, (_, b) in pairs.items()}, weight
    )
    other = z_score_fusion(
        {i: d for i, (d, _) in shuffled}, {i: b for i, (_, b) in reversed(shuffled)}, weight
    )
    assert list(one.items()) == list(other.items())  # bit for bit, and in the same order
    assert list(one) == sorted(one, key=lambda i: (-one[i], i))


def test_reciprocal_ranks() -> None:
    fused = reciprocal_rank_fusion([10, 20], [20, 30], k=60)
    assert fused == pytest.approx({20: 1 / 62 + 1 / 61, 10: 1 / 61, 30: 1 / 62})
    assert list(fused) == [20, 10, 30]


def test_equal_ranks_are_ordered_by_point_id() -> None:
    assert list(reciprocal_rank_fusion([9, 4], [4, 9])) == [4, 9]
    assert list(reciprocal_rank_fusion([9], [4])) == [4, 9]
    assert list(reciprocal_rank_fusion([], [5, 3])) == [5, 3]


def test_asides_lose_the_penalty_and_their_places() -> None:
    body, aside, other = point_id(1, 0), point_id(1, 1, aside=True), point_id(2, 0)
    fused = {aside: 2.5, body: 2.0, other: 1.0}
    assert weigh_down(fused, 0.0) == fused
    assert list(weigh_down(fused, 1.0).items()) == [(body, 2.0), (aside, 1.5), (other, 1.0)]
    halved = weigh_down({aside: 0.03, body: 0.02}, 1.0, ranks=True)
    assert list(halved.items()) == [(body, 0.02), (aside, 0.015)]


@given(st.dictionaries(st.integers(0, 60), _scores, max_size=12), st.floats(0, 5))
def test_the_order_among_equals_stays(scores: dict[int, float], penalty: float) -> None:
    fused = dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
    for ranks in (False, True):
        found = weigh_down(fused, penalty, ranks)
        assert found.keys() == fused.keys()
        body = [point for point in found if not is_aside(point)]
        assert body == [point for point in fused if not is_aside(point)]
