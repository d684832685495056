"""A machine is measured with the real scorer, and what is estimated from it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.reranker.qwen3.tensors import SMALLEST, random_weights
from tests.reranker.tiny import one_torch_thread

from longleaf.reranker.qwen3 import fit
from longleaf.reranker.qwen3.attention import EagerAttention
from longleaf.reranker.qwen3.model import DeviceBatch, Qwen3Scorer
from longleaf.reranker.qwen3.packing import Packed
from longleaf.reranker.qwen3.plan import Batch, Item, Limits


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_torch_thread():
        yield


class Timed(Qwen3Scorer):
    """The real scorer on a clock that advances by what a batch costs by a known formula."""

    FIXED_MS, TOKEN_MS, PAIR_MS = 2.0, 0.01, 1e-6

    def __init__(self, most_tokens: int = 1 << 30) -> None:
        super().__init__(random_weights(SMALLEST, dtype=torch.float32), EagerAttention())
        self.now = 0.0
        self.sizes: list[tuple[int, bool]] = []
        self._most_tokens = most_tokens

    def batch(self, packed: Packed) -> DeviceBatch:
        if len(packed.ids) > self._most_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().batch(packed)

    def score(self, batch: DeviceBatch, *, alone: bool, **_: Any) -> torch.Tensor:
        tokens = len(batch.ids)
        queries, keys = (torch.tensor(b).diff() for b in (
            batch.sequences.query_bounds, batch.sequences.key_bounds))  # fmt: skip
        pairs = int((queries * (keys - queries) + queries * (queries + 1) // 2).sum())
        self.now += (self.FIXED_MS + self.TOKEN_MS * tokens + self.PAIR_MS * pairs) / 1000.0
        self.sizes.append((tokens, alone))
        return super().score(batch, alone=alone)


def test_the_three_coefficients_are_found_again() -> None:
    scorer = Timed()
    found = fit.fit(scorer, Limits(batch_tokens=4096), clock=lambda: scorer.now)
    assert found.cost.fixed_ms == pytest.approx(scorer.FIXED_MS, rel=1e-6)
    assert found.cost.per_token_ms == pytest.approx(scorer.TOKEN_MS, rel=1e-6)
    assert found.cost.per_pair_ms == pytest.approx(scorer.PAIR_MS, rel=1e-3)
    assert max(tokens for tokens, alone in scorer.sizes if not alone) <= 4096
    assert any(alone for _, alone in scorer.sizes)
    batch = Batch(tuple(Item(n, 300) for n in range(5)))
    pairs = 80 * 81 // 2 + 5 * (300 * 80 + 300 * 301 // 2)
    expected = scorer.FIXED_MS + scorer.TOKEN_MS * 1580 + scorer.PAIR_MS * pairs
    assert found.cost.estimate_ms(batch, 80) == pytest.approx(expected, rel=1e-4)


def test_a_slow_machine_is_measured_with_less() -> None:
    quick, slow = Timed(), Timed()
    fit.fit(quick, Limits(batch_tokens=4096), clock=lambda: quick.now, patience_seconds=1e9)
    fit.fit(slow, Limits(batch_tokens=4096), clock=lambda: slow.now, patience_seconds=1e-9)
    assert max(quick.sizes) == (fit.LONG_TOKENS + fit.PREFIX_TOKENS, True)
    assert max(slow.sizes)[0] == 8 * fit.PASSAGE_TOKENS + fit.PREFIX_TOKENS
    assert (fit.MIN_LONG_TOKENS + fit.PREFIX_TOKENS, True) in slow.sizes


def test_what_does_not_fit_into_memory_halves_the_limits() -> None:
    scorer = Timed(most_tokens=2200)
    found = fit.fit(scorer, Limits(batch_tokens=8192), clock=lambda: scorer.now)
    assert found.limits.batch_tokens == 2048
    assert max(tokens for tokens, _ in scorer.sizes) <= 2200
    assert found.cost.per_pair_ms == pytest.approx(scorer.PAIR_MS, rel=1e-3)
    with pytest.raises(torch.OutOfMemoryError):
        fit.fit(Timed(most_tokens=1000), Limits(), clock=lambda: 0.0)


def test_the_matmul_rate_is_that_of_this_machine() -> None:
    rate = fit.matmul_flops_per_second(torch.device("cpu"), torch.float32, repeats=2)
    assert 1e8 < rate < 1e14
