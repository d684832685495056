"""Memory at 32,768 tokens, at the true sizes of all three models, with tensors that have none.

Every tensor that the forward pass makes is seen: no matrix of all tokens by all tokens (even of
bits, for one head, it has 32,768² elements), nothing as wide as the vocabulary, and never more
bytes at once than stated. The calls of the flash kernel are checked by torch's own description of
it, which needs no GPU.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from tests.reranker.qwen3.tensors import TRUE_SHAPES, empty_weights
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from longleaf.reranker.qwen3 import attention
from longleaf.reranker.qwen3.attention import Attention, EagerAttention, FlashAttention
from longleaf.reranker.qwen3.attention_rows import RowAttention
from longleaf.reranker.qwen3.kernels import TritonOperations
from longleaf.reranker.qwen3.model import INNER_ROWS, Operations, PlainOperations, Qwen3Scorer
from longleaf.reranker.qwen3.packing import pack_rows

TOKENS, PREFIX = 32_768, 80


class Watch(TorchDispatchMode):
    """Sees every tensor that is made: its shape, and the bytes that live at the same time."""

    def __init__(self, before: list[torch.Tensor]) -> None:
        super().__init__()
        self.made: list[tuple[int, tuple[int, ...], str]] = []
        self.peak_bytes = self._live_bytes = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in before}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor, str(function))
        return result

    def _see(self, tensor: torch.Tensor, function: str) -> None:
        storage = tensor.untyped_storage()
        key, size_bytes = storage._cdata, storage.nbytes()
        self.made.append((tensor.numel(), tuple(tensor.shape), function))
        if key not in self._known:
            self._known.add(key)
            self._live_bytes += size_bytes
            self.peak_bytes = max(self.peak_bytes, self._live_bytes)
            weakref.finalize(storage, self._forget, key, size_bytes)

    def _forget(self, key: int, size_bytes: int) -> None:
        self._known.discard(key)
        self._live_bytes -= size_bytes


class FusedSizes(TritonOperations):
    """The fused kernels' tensors without the kernels: what they allocate, launching nothing."""

    def __init__(self) -> None:
        self.name = "allocations of the fused kernels"
        self._kernels = _Unlaunched()
        self._block = int


class FusedRows(RowAttention):
    """The same of the row attention."""

    def __init__(self) -> None:
        self._kernel = _Unlaunched()


class _Unlaunched:
    def __getattr__(self, name: str) -> Any:
        return self

    def __getitem__(self, grid: Any) -> Any:
        return lambda *_, **__: None


def flash() -> FlashAttention:
    call = attention._bundled_flash()
    assert call is not None, "this torch bundles no attention for packed sequences"
    return FlashAttention(call)


def watched(
    size: str, ways: Attention, operations: Operations, documents: list[int], *, alone: bool
) -> tuple[Watch, torch.Tensor]:
    shape = TRUE_SHAPES[size]
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        weights = empty_weights(shape, dtype=torch.bfloat16)
        rows = FusedRows() if isinstance(operations, FusedSizes) else None
        scorer = Qwen3Scorer(weights, ways, operations, rows)
        prefix = np.zeros(PREFIX, np.uint32)
        batch = scorer.batch(pack_rows([(prefix, [np.zeros(n, np.uint32) for n in documents])]))
        before = [weights.embedding, weights.norm, weights.head, scorer._cos, scorer._sin]
        before += [getattr(layer, name) for layer in weights.layers for name in layer.__slots__]
        before += [batch.ids, batch.positions, batch.keys, batch.last, batch.last_keys]
        before += [getattr(batch.tiles, name) for name in batch.tiles.__slots__]
        with Watch(before) as watch:
            scores = scorer.score(batch, alone=alone)
    return watch, scores


PEAK_MB = {"0.6B": (1500, 1050), "4B": (3000, 1950), "8B": (3400, 2450)}
"""At most so many megabytes beside the weights: with plain steps, with fused kernels."""


@pytest.mark.parametrize("size", TRUE_SHAPES)
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("way", ["eager, alone", "flash, alone", "flash, packed"])
def test_nothing_grows_with_the_square_of_the_text(size: str, way: str, fused: bool) -> None:
    shape = TRUE_SHAPES[size]
    alone = way.endswith("alone")
    documents = [TOKENS - PREFIX] if alone else [TOKENS // 100 - 9] * 101
    ways: Attention = EagerAttention() if way.startswith("eager") else flash()
    operations: Operations = FusedSizes() if fused else PlainOperations()
    watch, scores = watched(size, ways, operations, documents, alone=alone)
    assert scores.shape == (len(documents),) and scores.dtype == torch.float32
    rows = PREFIX + sum(documents)
    widest = max(
        rows * (shape.heads + 2 * shape.kv_heads) * shape.head_dim,
        min(rows, INNER_ROWS) * 2 * shape.inner,
    )
    assert widest < TOKENS**2 / 2
    biggest = max(watch.made)
    assert biggest[0] <= widest, biggest
    wide = [made for made in watch.made if max(made[1], default=0) >= shape.vocabulary]
    assert wide == []
    assert watch.peak_bytes <= PEAK_MB[size][fused] * 1e6


def test_the_watch_sees_a_square_and_a_peak() -> None:
    with FakeTensorMode(), Watch([]) as watch:
        rows = torch.empty(1000, 64)
        del rows
        square = torch.empty(1000, 64) @ torch.empty(64, 1000)
        assert max(watch.made)[:2] == (1_000_000, (1000, 1000))
        assert watch.peak_bytes == 4 * (1_000_000 + 2 * 64_000)
        del square
        assert watch._live_bytes == 0
