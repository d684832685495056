"""Fast equals exact equals obvious: the arithmetic of late interaction."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.reranker.tiny import StoredTokens, library, query_of

from longleaf.core.budget import Budget
from longleaf.reranker import maxsim
from longleaf.reranker.late import LateInteraction
from longleaf.reranker.maxsim import Arithmetic

FLOAT = Arithmetic("float32", "test")


def random_case(
    seed: int, lengths: list[int], q_tokens: int, dim: int = 128
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-128, 128, (sum(lengths), dim), dtype=np.int8)
    tokens = (rng.normal(size=(q_tokens, dim)) / 127).astype(np.float32)
    return codes, np.cumsum([0, *lengths]).astype(np.int64), tokens


def test_integer_arithmetic_is_used_where_the_cpu_has_it() -> None:
    torch = pytest.importorskip("torch")
    arithmetic = maxsim.best_arithmetic()
    assert arithmetic.reason
    if not torch.cpu._is_vnni_supported():
        assert arithmetic.name == "float32"
        pytest.skip(f"no integer arithmetic: {arithmetic.reason}")
    assert arithmetic.name == "int8"


@given(
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    q_tokens=st.integers(1, 40),
    dim=st.sampled_from([1, 7, 64, 128]),
)
def test_both_ways_equal_the_integers(
    seed: int, lengths: list[int], q_tokens: int, dim: int
) -> None:
    codes, bounds, tokens = random_case(seed, lengths, q_tokens, dim)
    query, _ = maxsim.quantize_query(tokens)
    fast = maxsim.segment_maxima(codes, bounds, query, maxsim.best_arithmetic())
    slow = maxsim.segment_maxima(codes, bounds, query, FLOAT)
    products = codes.astype(np.int64) @ query.astype(np.int64).T
    for row, (start, end) in enumerate(itertools.pairwise(bounds)):
        expected = products[start:end].max(axis=0) if end > start else maxsim.NOTHING
        assert (fast[row] == expected).all()
        assert (slow[row] == expected).all()


@pytest.mark.parametrize("arithmetic", [FLOAT, None])
def test_blocks_change_nothing(arithmetic: Arithmetic | None) -> None:
    lengths = [200] * 150 + [0, 40_000, 0, 1]  # many blocks, and one segment larger than a block
    codes, bounds, tokens = random_case(1, lengths, 5)
    query, _ = maxsim.quantize_query(tokens)
    chosen = arithmetic or maxsim.best_arithmetic()
    maxima = maxsim.segment_maxima(codes, bounds, query, chosen)
    for row in (0, 81, 82, 149, 151, 153):
        alone = codes[bounds[row] : bounds[row + 1]].astype(np.int32) @ query.astype(np.int32).T
        assert (maxima[row] == alone.max(axis=0)).all()
    assert (maxima[[150, 152]] == maxsim.NOTHING).all()


def test_float_stays_exact_for_wide_vectors() -> None:
    codes = np.full((3, 5000), 127, np.int8)
    codes[1, 0] = 126
    query = np.full((1, 5000), 127, np.int8)
    maxima = maxsim.segment_maxima(codes, np.array([0, 1, 2, 3]), query, FLOAT)
    assert maxima[:, 0].tolist() == [127 * 127 * 5000, 127 * 127 * 5000 - 127, 127 * 127 * 5000]


@given(seed=st.integers(0, 2**31), length=st.integers(1, 60), q_tokens=st.integers(1, 20))
def test_score_is_the_oracles_within_half_a_step(seed: int, length: int, q_tokens: int) -> None:
    codes, bounds, tokens = random_case(seed, [length], q_tokens)
    query, steps = maxsim.quantize_query(tokens)
    maxima = maxsim.segment_maxima(codes, bounds, query, maxsim.best_arithmetic())
    (score,) = maxsim.mean_similarity(maxima, steps)
    # Each query number is off by half a step, times the stored token's largest absolute sum.
    tolerance = np.abs(codes.astype(np.int64)).sum(axis=1).max() * steps.mean() / 2
    assert abs(score - maxsim.maxsim(codes, tokens)) <= tolerance + 1e-6


def test_read_only_codes_are_taken() -> None:
    codes, bounds, tokens = random_case(2, [9], 3)
    codes.setflags(write=False)
    query, _ = maxsim.quantize_query(tokens)
    assert maxsim.segment_maxima(codes, bounds, query, maxsim.best_arithmetic()).shape == (1, 3)


def test_torch_keeps_its_threads_elsewhere() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    codes, bounds, tokens = random_case(3, [9], 3)
    query, _ = maxsim.quantize_query(tokens)
    maxsim.segment_maxima(codes, bounds, query, maxsim.best_arithmetic())
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as new_thread:
        assert new_thread.submit(torch.get_num_threads).result() == before
    assert maxsim.one_core().submit(torch.get_num_threads).result() == 1


def test_threads_begin_with_the_opening_and_not_in_a_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread of somebody else's that begins meanwhile would keep one core for good."""
    torch = pytest.importorskip("torch")
    maxsim.one_core.cache_clear()
    store = StoredTokens()
    first, second = LateInteraction(store), LateInteraction(store)
    monkeypatch.setattr(torch, "set_num_threads", None)
    inputs = library(3, store)
    for late in (first, second, LateInteraction(store)):
        assert len(list(late.read(query_of("patent court"), inputs, Budget()))) == 3


def test_a_query_token_of_zeros_scores_zero() -> None:
    query, steps = maxsim.quantize_query(np.zeros((1, 8), np.float32))
    assert steps.tolist() == [0.0]
    assert not query.any()
