"""The planner: every document exactly once, batches within bounds, deadlines kept by estimate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.reranker.qwen3.plan import (
    Batch,
    CostModel,
    Item,
    Limits,
    pack,
    pack_for_deadline,
    pack_in_order,
    work_of,
)

lengths = st.lists(st.integers(1, 6_000), max_size=60)
limits = st.builds(
    Limits,
    batch_tokens=st.integers(1, 20_000),
    alone_tokens=st.integers(100, 8_000),
    batch_items=st.integers(1, 40),
)


def items(given_lengths: list[int]) -> list[Item]:
    return [Item(place, length) for place, length in enumerate(given_lengths)]


@given(lengths, st.integers(0, 500), limits)
def test_every_document_is_in_exactly_one_batch_within_bounds(
    given_lengths: list[int], prefix: int, bounds: Limits
) -> None:
    for batches in (
        pack(items(given_lengths), prefix, bounds),
        list(pack_in_order(items(given_lengths), prefix, bounds)),
    ):
        places = [item.place for batch in batches for item in batch.items]
        assert sorted(places) == list(range(len(given_lengths)))
        for batch in batches:
            if len(batch.items) > 1:
                assert prefix + batch.tokens <= bounds.batch_tokens
                assert len(batch.items) <= bounds.batch_items
                assert not batch.alone
            assert batch.alone == (batch.items[0].tokens >= bounds.alone_tokens)


@given(
    st.lists(st.integers(0, 65_536), min_size=1, max_size=100),
    st.integers(0, 500),
    st.integers(512, 65_536),
    st.integers(1, 64),
)
def test_a_token_budget_holds_for_any_lengths(
    given_lengths: list[int], prefix: int, batch_tokens: int, batch_items: int
) -> None:
    """Up to 100 documents of up to 64k tokens: only one that is over the budget by itself is in a
    pass over the budget, and no other one with it."""
    bounds = Limits(batch_tokens, batch_tokens, batch_items)
    batches = pack(items(given_lengths), prefix, bounds)
    places = [item.place for batch in batches for item in batch.items]
    assert sorted(places) == list(range(len(given_lengths)))
    for batch in batches:
        assert len(batch.items) <= batch_items
        if prefix + batch.tokens > batch_tokens:
            assert len(batch.items) == 1
            assert batch.alone == (batch.tokens >= batch_tokens)


@given(lengths, st.integers(0, 500), limits)
def test_with_a_deadline_the_order_is_kept(
    given_lengths: list[int], prefix: int, bounds: Limits
) -> None:
    batches = pack_in_order(items(given_lengths), prefix, bounds)
    places = [item.place for batch in batches for item in batch.items]
    assert places == sorted(places)


@given(lengths, st.integers(0, 500), limits)
def test_without_one_batches_are_filled(
    given_lengths: list[int], prefix: int, bounds: Limits
) -> None:
    """Two neighbours never fit into one, so nothing is left empty for no reason."""
    batches = [b for b in pack(items(given_lengths), prefix, bounds) if not b.alone]
    for first, second in itertools.pairwise(batches):
        both = prefix + first.tokens + second.items[0].tokens
        assert both > bounds.batch_tokens or len(first.items) == bounds.batch_items


@given(lengths, st.integers(0, 500), limits, st.floats(1, 1e6), st.floats(0, 50))
def test_a_deadline_loses_nobody_and_full_batches_stay_where_they_end_in_time(
    given_lengths: list[int], prefix: int, bounds: Limits, left_ms: float, fixed_ms: float
) -> None:
    cost = CostModel(fixed_ms, 0.5, 1e-6)
    batches = pack_for_deadline(items(given_lengths), prefix, bounds, cost, left_ms)
    assert [item.place for batch in batches for item in batch.items] == list(
        range(len(given_lengths))
    )
    full = list(pack_in_order(items(given_lengths), prefix, bounds))
    if sum(cost.estimate_ms(batch, prefix) for batch in full) <= left_ms:
        assert batches == full
        return
    for batch in batches:
        if len(batch.items) > 1:
            assert fixed_ms + 0.5 * (prefix + batch.tokens) <= left_ms / 4


def test_a_pass_costs_its_fixed_part_once() -> None:
    cost, batch = CostModel(7.0, 1.0, 0.0), Batch((Item(0, 5), Item(1, 6)))
    assert cost.estimate_ms(batch, 10) == 28.0
    assert cost.estimate_pass_ms([(batch, 10), (batch, 20)]) == 7.0 + 21.0 + 31.0


def test_halving_never_ends_at_nothing() -> None:
    bounds = Limits(batch_tokens=5)
    for _ in range(10):
        bounds = bounds.halved()
    assert bounds.batch_tokens == 1
    assert len(pack(items([40, 50]), 10, bounds)) == 2


@given(
    st.floats(0, 50),
    st.floats(1e-6, 1e-1),
    st.floats(1e-9, 1e-5),
)
def test_the_cost_model_finds_the_costs_it_was_shown(a: float, b: float, c: float) -> None:
    shapes = [(400, 30_000), (4_000, 900_000), (30_000, 400_000_000), (9_000, 9_000_000)]
    shown = [(tokens, pairs, a + b * tokens + c * pairs) for tokens, pairs in shapes]
    model = CostModel.fit(shown)
    for tokens, pairs, ms in shown:
        found = model.fixed_ms + model.per_token_ms * tokens + model.per_pair_ms * pairs
        assert found == pytest.approx(ms, rel=0.02)


def test_noise_never_makes_a_cost_negative() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        shown = [(100, 5_000, 1 + rng.random()), (2_000, 10**6, 1 + rng.random()), (5, 9, 9.0)]
        model = CostModel.fit(shown)
        assert min(model.fixed_ms, model.per_token_ms, model.per_pair_ms) >= 0
        assert model.estimate_ms(Batch((Item(0, 100),)), 50) > 0


def test_work_counts_the_prefix_once_and_the_causal_triangle() -> None:
    batch = Batch((Item(0, 3), Item(1, 2)))
    # prefix 2: 1 + 2; three rows seeing 3, 4, 5; two rows seeing 3, 4
    assert work_of(batch, 2) == (7, 3 + 12 + 7)
