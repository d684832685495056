"""What this machine is worth: how long a batch takes, and how fast its matrix products are.

Three batches of random tokens are timed with the real scorer when it starts: a few passages (what
every batch costs), a full batch of passages (what a token costs), one long document alone (what a
pair of tokens costs). On a slow machine the last two are made smaller, so that starting stays short
and the estimate coarser. The rate of plain matrix products in the weights' type is what utilisation
is measured against: the share of what this device can do, not of what its data sheet says. A full
batch that does not fit into memory halves the limits, as it would in the engine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from longleaf.reranker.qwen3.flops import forward_flops
from longleaf.reranker.qwen3.packing import Packed, pack_rows
from longleaf.reranker.qwen3.plan import Batch, CostModel, Item, Limits, work_of

if TYPE_CHECKING:
    import torch

    from longleaf.reranker.qwen3.weights import ModelWeights

PREFIX_TOKENS = 80
"""Template, default instruction and a short query."""
PASSAGE_TOKENS = 137
"""A passage of 128 tokens and the suffix."""
FEW_PASSAGES = 4
LONG_TOKENS = 8192
MIN_LONG_TOKENS = 512
REPEATS = 3
_CUDA_SQUARE, _CPU_SQUARE = 8192, 512


class Scorer(Protocol):
    """`Qwen3Scorer`, or what wraps one."""

    @property
    def weights(self) -> ModelWeights: ...

    @property
    def device(self) -> torch.device: ...

    def batch(self, packed: Packed) -> Any: ...

    def score(self, batch: Any, *, alone: bool) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class Fitted:
    """`measured`: (tokens, token pairs, milliseconds) of each timed batch."""

    cost: CostModel
    matmul_flops_per_second: float
    limits: Limits
    measured: tuple[tuple[int, int, float], ...]


def fit(
    scorer: Scorer,
    limits: Limits,
    *,
    patience_seconds: float = 3.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Fitted:
    """Time three batches. `patience_seconds`: about how long the larger two may take each."""
    few = _passages(FEW_PASSAGES)
    _time(scorer, few, 1, clock)  # compiles kernels, opens libraries
    few_ms = _time(scorer, few, REPEATS, clock)
    speed = _flops_of(scorer, few) / few_ms
    room_flops = patience_seconds * 1000.0 * speed / (REPEATS + 1)
    measured = [(*work_of(few, PREFIX_TOKENS), few_ms)]
    while (timed := _measured(scorer, _full_batch(scorer, limits, room_flops), clock)) is None:
        limits = limits.halved()
    measured.append(timed)
    long_tokens = _long_tokens(scorer, room_flops)
    while (timed := _measured(scorer, _long(long_tokens), clock)) is None:
        long_tokens //= 2
    measured.append(timed)
    rate = matmul_flops_per_second(scorer.device, scorer.weights.embedding.dtype, clock=clock)
    return Fitted(CostModel.fit(measured), rate, limits, tuple(measured))


def _passages(count: int) -> Batch:
    return Batch(tuple(Item(place, PASSAGE_TOKENS) for place in range(count)))


def _full_batch(scorer: Scorer, limits: Limits, room_flops: float) -> Batch:
    """As many passages as a batch holds, or as many as there is time for."""
    count = min((limits.batch_tokens - PREFIX_TOKENS) // PASSAGE_TOKENS, limits.batch_items)
    each = _flops_of(scorer, _passages(2)) - _flops_of(scorer, _passages(1))
    return _passages(max(2 * FEW_PASSAGES, min(count, int(room_flops / each))))


def _long_tokens(scorer: Scorer, room_flops: float) -> int:
    """The longest of half, a quarter, … of LONG_TOKENS that there is time for."""
    tokens = min(LONG_TOKENS, scorer.weights.shape.max_positions - PREFIX_TOKENS)
    while tokens > MIN_LONG_TOKENS and _flops_of(scorer, _long(tokens)) > room_flops:
        tokens //= 2
    return tokens


def _long(tokens: int) -> Batch:
    return Batch((Item(0, tokens),), alone=True)


def _measured(
    scorer: Scorer, batch: Batch, clock: Callable[[], float]
) -> tuple[int, int, float] | None:
    """(tokens, pairs, milliseconds), or None when it needs more memory than there is."""
    import torch

    try:
        _time(scorer, batch, 1, clock)
        return (*work_of(batch, PREFIX_TOKENS), _time(scorer, batch, REPEATS, clock))
    except torch.OutOfMemoryError:
        if batch.tokens <= 2 * FEW_PASSAGES * PASSAGE_TOKENS:
            raise
        torch.cuda.empty_cache()
        return None


def _flops_of(scorer: Scorer, batch: Batch) -> int:
    lengths = [(PREFIX_TOKENS, [item.tokens for item in batch.items])]
    return forward_flops(scorer.weights.shape, lengths)


def _time(scorer: Scorer, batch: Batch, repeats: int, clock: Callable[[], float]) -> float:
    """Median milliseconds from token ids to scores, other ids each time."""
    import torch

    rng = np.random.default_rng(batch.tokens)
    vocabulary = scorer.weights.shape.vocabulary
    times = []
    for _ in range(repeats):
        prefix = rng.integers(0, vocabulary, PREFIX_TOKENS).astype(np.uint32)
        documents = [
            rng.integers(0, vocabulary, item.tokens).astype(np.uint32) for item in batch.items
        ]
        started = clock()
        with torch.inference_mode():
            made = scorer.batch(pack_rows([(prefix, documents)]))
            scorer.score(made, alone=batch.alone).cpu()
        times.append((clock() - started) * 1000.0)
    return max(statistics.median(times), 1e-6)


def matmul_flops_per_second(
    device: torch.device,
    dtype: torch.dtype,
    *,
    repeats: int = 8,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Of one large product of random matrices (zeros would be faster: less current is switched)."""
    import torch

    side = _CUDA_SQUARE if device.type == "cuda" else _CPU_SQUARE
    left, right = torch.randn(2, side, side, device=device).to(dtype)

    def run(count: int) -> float:
        _wait(device)
        started = clock()
        for _ in range(count):
            torch.mm(left, right)
        _wait(device)
        return clock() - started

    with torch.inference_mode():
        run(2)
        seconds = run(repeats)
    return 2.0 * side**3 * repeats / max(seconds, 1e-9)


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
