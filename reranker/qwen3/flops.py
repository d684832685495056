"""How much arithmetic a batch costs, by formula; no torch.

Two floating-point operations for each multiply-add of a matrix product; norms, rotary positions
and softmax are left out (under 1 % at these sizes). Attention is counted as the causal triangle
that is needed, not the square that some kernels compute. A test holds the linear part to what
torch's own counter sees.
"""

from __future__ import annotations

from collections.abc import Sequence

from longleaf.reranker.qwen3.weights import ModelShape

Lengths = tuple[int, Sequence[int]]
"""A query's prefix and its documents with the suffix, in tokens."""


def linear_flops(shape: ModelShape, groups: Sequence[Lengths], *, last_rows_only: bool) -> int:
    """Of all matrix products with weights."""
    rows = sum(prefix + sum(documents) for prefix, documents in groups)
    last = sum(len(documents) for _, documents in groups)
    q_size = shape.heads * shape.head_dim
    kv_size = 2 * shape.kv_heads * shape.head_dim
    q_out = 2 * shape.hidden * q_size
    inner = 3 * shape.hidden * shape.inner
    key_value = shape.hidden * kv_size
    layer = 2 * (q_out + inner + key_value)
    final = 2 * key_value * rows + 2 * (q_out + inner) * last if last_rows_only else layer * rows
    return layer * rows * (shape.layers - 1) + final + 2 * shape.hidden * last


def attention_flops(shape: ModelShape, groups: Sequence[Lengths], *, last_rows_only: bool) -> int:
    """Of the two products of attention."""
    pair = 4 * shape.heads * shape.head_dim
    pairs = last_pairs = 0
    for prefix, documents in groups:
        pairs += prefix * (prefix + 1) // 2
        for length in documents:
            pairs += length * prefix + length * (length + 1) // 2
            last_pairs += prefix + length
    final = last_pairs if last_rows_only else pairs
    return pair * (pairs * (shape.layers - 1) + final)


def forward_flops(
    shape: ModelShape, groups: Sequence[Lengths], *, last_rows_only: bool = True
) -> int:
    """All of it."""
    return linear_flops(shape, groups, last_rows_only=last_rows_only) + attention_flops(
        shape, groups, last_rows_only=last_rows_only
    )
