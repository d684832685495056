"""Fused kernels against plain torch under Triton's interpreter: sizes, types, a whole model.

Not collected by itself: test_kernels.py runs it in a process with TRITON_INTERPRET=1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reranker.qwen3.tensors import TINY, RowsLikeTheKernel, random_weights
from triton.runtime import interpreter

from longleaf.reranker.qwen3.attention import EagerAttention
from longleaf.reranker.qwen3.attention_rows import RowAttention, Tiles, tile_tokens
from longleaf.reranker.qwen3.attention_rows import disagreement as disagrees
from longleaf.reranker.qwen3.kernels import TritonOperations, disagreement
from longleaf.reranker.qwen3.model import PlainOperations, Qwen3Scorer
from longleaf.reranker.qwen3.packing import pack_rows
from longleaf.reranker.qwen3.weights import LayerWeights

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PLAIN = PlainOperations()
_PATCH = interpreter._patch_lang_tensor


def _with_numbers(tensor: Any, scope: Any) -> None:
    """Triton 3.6 asks numpy for the number in an array of one, which numpy 2.4 no longer gives."""
    _PATCH(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


interpreter._patch_lang_tensor = _with_numbers
EPS = 1e-6


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for the order of a sum: in float16 at most the last bit, and that seldom.

    Triton's interpreter cuts bfloat16 off where a GPU rounds to the nearest: a bit for each step.
    """
    assert found.dtype == expected.dtype and found.shape == expected.shape
    if found.dtype == torch.float32:
        torch.testing.assert_close(found, expected, rtol=2e-6, atol=2e-6)
        return
    step = (4 if found.dtype == torch.bfloat16 else 1) * torch.finfo(found.dtype).eps
    torch.testing.assert_close(found, expected, rtol=step, atol=step)
    if found.dtype == torch.float16 and found.numel():
        assert (found == expected).float().mean() > 0.97


def layer_of(random: torch.Generator, dim: int, dtype: torch.dtype) -> LayerWeights:
    q_norm, k_norm = (torch.rand(2, dim, generator=random) + 0.5).to(dtype)
    nothing = torch.empty(0)
    return LayerWeights(
        input_norm=nothing, qkv=nothing, q_norm=q_norm, k_norm=k_norm, out=nothing,
        inner_norm=nothing, gate_up=nothing, down=nothing,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), [(0, 64), (1, 1), (3, 7), (2, 1000)])
def test_norms(rows: int, width: int, dtype: str) -> None:
    random = torch.Generator().manual_seed(rows * width)
    x = (torch.randn(rows, width, generator=random) * 3).to(DTYPES[dtype])
    weight = (torch.rand(width, generator=random) + 0.5).to(DTYPES[dtype])
    ours = TritonOperations()
    close(ours.norm(x, weight, EPS), PLAIN.norm(x, weight, EPS))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "inner"), [(0, 8), (1, 1), (3, 5), (2, 1025), (2, 2500)])
def test_swiglu(rows: int, inner: int, dtype: str) -> None:
    random = torch.Generator().manual_seed(inner)
    gate_up = (torch.randn(rows, 2 * inner, generator=random) * 8).to(DTYPES[dtype])
    close(TritonOperations().swiglu(gate_up), PLAIN.swiglu(gate_up))


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
def test_swiglu_of_extremes_is_finite() -> None:
    gate_up = torch.tensor([[-200.0, -60.0, 0.0, 60.0, 200.0] + [1.0] * 5])
    found = TritonOperations().swiglu(gate_up)
    close(found, PLAIN.swiglu(gate_up))
    assert found.isfinite().all()


@settings(deadline=None, max_examples=12, derandomize=True)
@given(
    rows=st.integers(1, 6),
    heads=st.sampled_from([(4, 2), (8, 2), (3, 3), (5, 1), (0, 2), (4, 0)]),
    half=st.sampled_from([1, 3, 8, 16, 20]),
    dtype=st.sampled_from(list(DTYPES.values())),
    data=st.data(),
)
def test_heads(rows: int, heads: tuple[int, int], half: int, dtype: torch.dtype, data: Any) -> None:
    chosen = data.draw(st.none() | st.lists(st.integers(0, rows - 1), max_size=9))
    keys = None if chosen is None else torch.tensor(chosen, dtype=torch.int64)
    random = torch.Generator().manual_seed(rows)
    query_heads, kv_heads = heads
    dim = 2 * half
    qkv = torch.randn(rows, (query_heads + 2 * kv_heads) * dim, generator=random).to(dtype)
    angles = torch.randn(rows, half, generator=random) * 50
    layer = layer_of(random, dim, dtype)
    given_ = (qkv, layer, angles.cos(), angles.sin(), (query_heads, kv_heads, dim), EPS, keys)
    for found, expected in zip(
        TritonOperations().split_rotate(*given_), PLAIN.split_rotate(*given_), strict=True
    ):
        close(found, expected)
    if kv_heads:
        for found, expected in zip(
            TritonOperations().turn_keys(*given_[:-1]), PLAIN.turn_keys(*given_[:-1]), strict=True
        ):
            close(found, expected)


@settings(deadline=None, max_examples=8, derandomize=True)
@given(
    groups=st.lists(
        st.tuples(st.integers(0, 70), st.lists(st.integers(1, 140), min_size=1, max_size=3)),
        min_size=1, max_size=2,
    ),
    heads=st.sampled_from([(4, 2), (4, 1), (2, 2), (3, 1)]),
    dim=st.sampled_from([32, 64]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
)  # fmt: skip
def test_row_attention(
    groups: list[tuple[int, list[int]]], heads: tuple[int, int], dim: int, dtype: torch.dtype
) -> None:
    """Against its contract by definition in float64 (bfloat16 products are not interpreted)."""
    packed = pack_rows([(np.zeros(p), [np.zeros(n) for n in docs]) for p, docs in groups])
    rows, (query_heads, kv_heads) = len(packed.ids), heads
    random = torch.Generator().manual_seed(rows)
    qkv = torch.randn(rows, (query_heads + 2 * kv_heads) * dim, generator=random).to(dtype)
    turn = torch.randn(rows, dim // 2, generator=random)
    angles = turn.cos(), turn.sin()
    layer = layer_of(random, dim, dtype)
    k, v = PLAIN.turn_keys(qkv, layer, *angles, (query_heads, kv_heads, dim), EPS)
    table = torch.as_tensor(packed.tiles(tile_tokens(query_heads, kv_heads)))
    tiles = Tiles(table, torch.as_tensor(packed.last_tiles()))
    padded = Tiles(torch.cat([table, torch.zeros(2, 5, dtype=torch.int32)]), tiles.last)
    step = 1e-5 if dtype == torch.float32 else 4e-3
    ours, plain = RowAttention(), RowsLikeTheKernel()
    given_ = (qkv, k.contiguous(), v, layer.q_norm, angles, EPS, query_heads)
    expected = plain.mixed(*given_, tiles)
    torch.testing.assert_close(ours.mixed(*given_, padded), expected, rtol=step, atol=step)
    last = torch.as_tensor(packed.last)
    turned = tuple(each[last] for each in angles)
    ends = ours.mixed(qkv[last], *given_[1:4], turned, EPS, query_heads, tiles, last_only=True)
    torch.testing.assert_close(ends, expected[last], rtol=step, atol=step)


def test_row_attention_is_believed_only_if_it_agrees() -> None:
    assert disagrees(RowAttention(), "cpu", "float16") == ""

    class Wrong(RowAttention):
        def mixed(self, *given: Any, last_only: bool = False) -> torch.Tensor:
            return super().mixed(*given, last_only=last_only) * (1.5 if last_only else 1.0)

    assert "other numbers than the plain steps" in disagrees(Wrong(), "cpu", "float16")

    class NoNumbers(RowAttention):
        def mixed(self, *given: Any, last_only: bool = False) -> torch.Tensor:
            return super().mixed(*given, last_only=last_only) * (torch.nan if last_only else 1.0)

    assert disagrees(NoNumbers(), "cpu", "float16") != ""
    assert disagrees(RowAttention(), "cpu", "float16", (4, 1, 64)) == ""


@pytest.mark.parametrize("alone", [True, False])
def test_whole_model(alone: bool) -> None:
    weights = random_weights(TINY, dtype=torch.float32)
    rng = torch.Generator().manual_seed(1)
    prefix, *documents = (
        torch.randint(0, TINY.vocabulary, (n,), generator=rng).numpy().astype("uint32")
        for n in ((9, 17) if alone else (9, 17, 3, 12))
    )
    results = []
    ways = [(PLAIN, None), (TritonOperations(), None), (TritonOperations(), RowAttention())]
    for operations, rows in ways:
        scorer = Qwen3Scorer(weights, EagerAttention(), operations, rows)
        with torch.inference_mode():
            batch = scorer.batch(pack_rows([(prefix, documents)]))
            results.append(scorer.score(batch, alone=alone))
    for found in results[1:]:
        torch.testing.assert_close(found, results[0], rtol=1e-5, atol=1e-5)


def test_self_test_believes_only_what_agrees() -> None:
    operations = TritonOperations()
    assert disagreement(operations, "cpu") == ""

    class Wrong(TritonOperations):
        def swiglu(self, gate_up: torch.Tensor) -> torch.Tensor:
            return super().swiglu(gate_up) * 1.5

    assert disagreement(Wrong(), "cpu") == "swiglu disagrees with plain torch"
