# mypy: disable-error-code="untyped-decorator,misc,no-untyped-def"
"""Causal attention of packed sequences that share prefixes, as one Triton kernel.

Online softmax over blocks of keys (Dao 2023, arXiv 2307.08691). What a kernel for any packed
sequences cannot know, and what makes this one faster at passage length (docs/reranker.md has the
measurements): a sequence's keys are its prefix's rows and then its own, read where they lie, so no
copy of keys is made for each document; queries are normed and rotated when they are loaded, so they
are written nowhere; the query heads of a key-value head share a tile, so a tile of 64 rows has few
tokens and little of it lies behind a document's end. Which tokens a program has stands in a table
(packing.py): the number of programs follows from rows and sequences alone.

There is one loop, masked throughout. With a loop of its own for the blocks that need no mask each
program filled its pipeline twice and the matrix units waited after every product.

Imported by attention_rows.py only where Triton is.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _turned(
    source, places, inside, weight, cos, sin, angles, columns, eps: tl.constexpr, half: tl.constexpr
):
    """Two halves of normed and rotated heads, rounded where the plain steps round them."""
    kind = source.dtype.element_ty
    low = tl.load(source + places, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(source + half + places, mask=inside, other=0.0).to(tl.float32)
    squares = tl.sum(low * low, axis=1) + tl.sum(high * high, axis=1)
    scale = tl.rsqrt(squares / (2 * half) + eps)[:, None]
    low_weight = tl.load(weight + columns).to(tl.float32)[None, :]
    high_weight = tl.load(weight + half + columns).to(tl.float32)[None, :]
    low = ((low * scale).to(kind).to(tl.float32) * low_weight).to(kind).to(tl.float32)
    high = ((high * scale).to(kind).to(tl.float32) * high_weight).to(kind).to(tl.float32)
    cosine = tl.load(cos + angles, mask=inside, other=0.0)
    sine = tl.load(sin + angles, mask=inside, other=0.0)
    return (low * cosine - high * sine).to(kind), (high * cosine + low * sine).to(kind)


@triton.jit
def attend_rows(
    q, k, v, weight, cos, sin, tiles, result, q_stride, k_stride, v_stride,
    scale_log2: tl.constexpr, eps: tl.constexpr, kv_heads: tl.constexpr, group: tl.constexpr,
    dim: tl.constexpr, tile_tokens: tl.constexpr, tile_rows: tl.constexpr, keys: tl.constexpr,
    last_only: tl.constexpr,
):  # fmt: skip
    """result (rows, heads, dim). Grid: (kv_heads, tiles): a row's heads run side by side.

    `tiles`: own_start, length, first, prefix_start, prefix_length of each. `group` query heads
    share a key-value head; `tile_rows` is at least `tile_tokens * group`. `last_only`: q, cos, sin
    and result have a row for each tile instead, whose only token is its `first`.
    """
    half: tl.constexpr = dim // 2
    head = tl.program_id(0)
    tile = tl.program_id(1)
    table = tiles + tile * 5
    own_start = tl.load(table)
    length = tl.load(table + 1)
    first = tl.load(table + 2)
    prefix_start = tl.load(table + 3)
    prefix_length = tl.load(table + 4)
    if (first < 0) | (first >= length):
        return
    places = tl.arange(0, tile_rows)
    token = first + places // group
    inside = (token < length) & (places < tile_tokens * group)
    row = (own_start + token).to(tl.int64)
    if last_only:
        row = tl.zeros_like(token).to(tl.int64) + tile
    columns = tl.arange(0, half)
    q_head = head * group + places % group
    low, high = _turned(
        q, (row * q_stride + q_head * dim)[:, None] + columns[None, :], inside[:, None],
        weight, cos, sin, (row * half)[:, None] + columns[None, :], columns, eps, half,
    )  # fmt: skip
    turned = tl.reshape(tl.permute(tl.join(low, high), (0, 2, 1)), (tile_rows, dim))
    visible = prefix_length + token + 1
    most = prefix_length + tl.minimum(first + tile_tokens, length)
    wide = tl.arange(0, dim)
    mixed = tl.zeros([tile_rows, dim], tl.float32)
    maximum = tl.full([tile_rows], float("-inf"), tl.float32)
    total = tl.zeros([tile_rows], tl.float32)
    for start in range(0, most, keys):
        key = start + tl.arange(0, keys)
        there = key < most
        key_row = tl.where(key < prefix_length, prefix_start + key, own_start + key - prefix_length)
        k_places = (key_row * k_stride + head * dim)[None, :] + wide[:, None]
        v_places = (key_row * v_stride + head * dim)[:, None] + wide[None, :]
        k_block = tl.load(k + k_places, mask=there[None, :], other=0.0)
        v_block = tl.load(v + v_places, mask=there[:, None], other=0.0)
        scores = tl.dot(turned, k_block) * scale_log2
        scores = tl.where(key[None, :] < visible[:, None], scores, float("-inf"))
        higher = tl.maximum(maximum, tl.max(scores, axis=1))
        shares = tl.exp2(scores - higher[:, None])
        faded = tl.exp2(maximum - higher)
        total = total * faded + tl.sum(shares, axis=1)
        mixed = tl.dot(shares.to(v_block.dtype), v_block, mixed * faded[:, None])
        maximum = higher
    mixed = mixed / total[:, None]
    kept = (row * (kv_heads * group * dim) + q_head * dim)[:, None] + wide[None, :]
    tl.store(result + kept, mixed.to(result.dtype.element_ty), mask=inside[:, None])
