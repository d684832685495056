# mypy: disable-error-code="untyped-decorator,misc,no-untyped-def"
"""The row-wise steps as Triton kernels: each reads its rows once and writes them once.

Imported by kernels.py only where Triton is. One program a row; what lies beside a row's end is
masked, so sizes need not be powers of two. Sums and products are float32; values are rounded to the
tensor's type exactly where plain torch rounds them, so that both paths rank alike. Places are
64-bit: rows times width passes 2^31 at a long batch. Sizes are compile-time constants (a model has
few); counts of rows are not, so that a batch of another length compiles nothing.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def norm_rows(x, weight, normed, eps: tl.constexpr, width: tl.constexpr, block: tl.constexpr):
    """normed = root-mean-square norm of x. Grid: (rows,)."""
    row = tl.program_id(0).to(tl.int64) * width
    columns = tl.arange(0, block)
    inside = columns < width
    values = tl.load(x + row + columns, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, axis=0) / width + eps)
    scaled = (values * scale).to(normed.dtype.element_ty).to(tl.float32)
    weights = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + row + columns, (scaled * weights).to(normed.dtype.element_ty), mask=inside)


@triton.jit
def swiglu_rows(gate_up, product, inner: tl.constexpr, block: tl.constexpr):
    """product = silu(gate) * up. Grid: (rows, blocks of columns)."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < inner
    gate = tl.load(gate_up + row * 2 * inner + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * inner + inner + columns, mask=inside, other=0.0)
    silu = (gate / (1.0 + tl.exp(-gate))).to(product.dtype.element_ty).to(tl.float32)
    value = (silu * up.to(tl.float32)).to(product.dtype.element_ty)
    tl.store(product + row * inner + columns, value, mask=inside)


@triton.jit
def _turn_heads(
    source, weight, cos, sin, target, eps: tl.constexpr,
    heads: tl.constexpr, dim: tl.constexpr, heads_block: tl.constexpr, half_block: tl.constexpr,
):  # fmt: skip
    """Norm and rotate `heads` heads of one row; cos and sin point at the row's angles."""
    half: tl.constexpr = dim // 2
    kind = target.dtype.element_ty
    numbers = tl.arange(0, heads_block)[:, None]
    columns = tl.arange(0, half_block)
    in_half = columns < half
    places = numbers * dim + columns[None, :]
    inside = (numbers < heads) & in_half[None, :]
    first = tl.load(source + places, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(source + half + places, mask=inside, other=0.0).to(tl.float32)
    squares = tl.sum(first * first, axis=1) + tl.sum(second * second, axis=1)
    scale = tl.rsqrt(squares / dim + eps)[:, None]
    low = tl.load(weight + columns, mask=in_half, other=0.0).to(tl.float32)[None, :]
    high = tl.load(weight + half + columns, mask=in_half, other=0.0).to(tl.float32)[None, :]
    first = ((first * scale).to(kind).to(tl.float32) * low).to(kind).to(tl.float32)
    second = ((second * scale).to(kind).to(tl.float32) * high).to(kind).to(tl.float32)
    cosine = tl.load(cos + columns, mask=in_half, other=0.0)[None, :]
    sine = tl.load(sin + columns, mask=in_half, other=0.0)[None, :]
    tl.store(target + places, (first * cosine - second * sine).to(kind), mask=inside)
    tl.store(target + half + places, (second * cosine + first * sine).to(kind), mask=inside)


@triton.jit(do_not_specialize=["q_rows"])
def split_rotate_rows(
    qkv, q_weight, k_weight, cos, sin, keys, q, k, v, q_rows, eps: tl.constexpr,
    heads: tl.constexpr, kv_heads: tl.constexpr, dim: tl.constexpr,
    heads_block: tl.constexpr, kv_block: tl.constexpr, half_block: tl.constexpr,
    dim_block: tl.constexpr, has_keys: tl.constexpr,
):  # fmt: skip
    """Queries by row, then keys (and values, when `has_keys`) in the order of `keys`.

    Grid: (q_rows + number of keys,). A key is read from its row as often as a sequence sees it:
    the shared prefix comes out of the cache, and no copy of all keys is made besides.
    """
    half: tl.constexpr = dim // 2
    width: tl.constexpr = (heads + 2 * kv_heads) * dim
    place = tl.program_id(0).to(tl.int64)
    if place < q_rows:
        _turn_heads(
            qkv + place * width, q_weight, cos + place * half, sin + place * half,
            q + place * (heads * dim), eps, heads, dim, heads_block, half_block,
        )  # fmt: skip
    else:
        slot = place - q_rows
        row = slot
        if has_keys:
            row = tl.load(keys + slot).to(tl.int64)
        source = qkv + row * width + heads * dim
        _turn_heads(
            source, k_weight, cos + row * half, sin + row * half,
            k + slot * (kv_heads * dim), eps, kv_heads, dim, kv_block, half_block,
        )  # fmt: skip
        if has_keys:
            columns = tl.arange(0, dim_block)[None, :]
            numbers = tl.arange(0, kv_block)[:, None]
            places = numbers * dim + columns
            inside = (numbers < kv_heads) & (columns < dim)
            values = tl.load(source + kv_heads * dim + places, mask=inside, other=0.0)
            tl.store(v + slot * (kv_heads * dim) + places, values, mask=inside)
