"""Attention that reads keys where they lie, by Triton where it works, and why not elsewhere.

`attention.Attention` takes queries and keys that were laid out for it; this takes the rows as the
product made them. It is an option of the forward pass, believed only after it agreed with the plain
steps on this device. It knows no weights and no batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

KEYS, WARPS, STAGES = 32, 4, 3
"""Keys of a block, warps of a program, blocks on their way: the best of 19 ways on an H100."""
TILE_ROWS = 64
_LAST_ROWS = 16
"""The fewest rows that a matrix product takes."""
_TOLERANCE = 0.05
"""Of values of about 1 in 16-bit numbers, whose last place is worth 0.008."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """`Packed.tiles` and `Packed.last_tiles` on the device, (tiles, 5) and (N, 5) int32.

    A tile whose length is 0 is padding.
    """

    every: torch.Tensor
    last: torch.Tensor


def tile_tokens(heads: int, kv_heads: int) -> int:
    """Tokens of a program: the query heads of a key-value head share its rows."""
    return max(1, TILE_ROWS // (heads // kv_heads))


def rows_of(tokens: int, group: int) -> int:
    """Rows of a program with so many tokens, of so many query heads each."""
    return max(_LAST_ROWS, 1 << (tokens * group - 1).bit_length())


class RowAttention:
    """Raises ImportError where Triton is not. q, k, v: bfloat16 or float16 of one CUDA device.

    Head dimensions are powers of two from 32 on. Keys and values have fewer than 2^31 numbers.
    """

    def __init__(self) -> None:
        from longleaf.reranker.qwen3 import attention_triton

        self._kernel: Any = attention_triton.attend_rows

    def mixed(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        weight: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        eps: float,
        heads: int,
        tiles: Tiles,
        *,
        last_only: bool = False,
    ) -> torch.Tensor:
        """(rows, heads, dim): each row over its prefix and its own sequence up to itself.

        q: (rows, at least heads * dim), before norm and rotation, which are done here by `weight`
        (dim,) and `angles` (cos and sin, (rows, dim / 2) float32). k, v: (rows, kv_heads, dim), k
        normed and rotated; v may be a view. Rows of no sequence are left as memory was.
        `last_only`: q and `angles` have each document's last row and no others, (N, ...).
        """
        kv_heads, dim = k.shape[1:]
        group = heads // kv_heads
        result = q.new_empty((len(q), heads, dim))
        tokens = 1 if last_only else tile_tokens(heads, kv_heads)
        table = tiles.last if last_only else tiles.every
        if len(table):
            self._kernel[(kv_heads, len(table))](
                q, k, v, weight, *angles, table, result, q.stride(0), k.stride(0), v.stride(0),
                dim**-0.5 * math.log2(math.e), eps, kv_heads, group, dim, tokens,
                rows_of(tokens, group), KEYS, last_only, num_warps=WARPS, num_stages=STAGES,
            )  # fmt: skip
        return result


def choose_row_attention(
    device: str, dtype: str = "bfloat16", heads: tuple[int, int, int] = (4, 2, 32)
) -> tuple[RowAttention | None, str]:
    """It or None, and why. `heads`: (heads, kv_heads, dim) of the model, which it is tried with."""
    if not device.startswith("cuda"):
        return None, f"the kernel is for CUDA, not for {device}"
    if dtype not in ("bfloat16", "float16"):
        return None, f"the kernel takes 16-bit numbers, not {dtype}"
    try:
        made = RowAttention()
    except ImportError:
        return None, "triton is not installed"
    try:
        wrong = disagreement(made, device, dtype, heads)
    except Exception as error:  # no compiler, an old GPU, a foreign triton: each its own class
        wrong = str(error).strip().partition("\n")[0] or type(error).__name__
    if wrong:
        return None, f"triton's attention does not work here: {wrong}"
    return made, "keys read where they lie, by triton"


def disagreement(
    attention: RowAttention,
    device: str,
    dtype: str = "bfloat16",
    shape: tuple[int, int, int] = (4, 2, 32),
) -> str:
    """What it computes differently from the plain steps on a small example; "" if nothing."""
    import numpy as np
    import torch

    from longleaf.reranker.qwen3.attention import EagerAttention, Sequences
    from longleaf.reranker.qwen3.model import PlainOperations
    from longleaf.reranker.qwen3.packing import pack_rows
    from longleaf.reranker.qwen3.weights import LayerWeights

    heads, kv_heads, dim = shape
    lengths = (3, 2 * TILE_ROWS + 5, 1)
    packed = pack_rows([(np.zeros(5, np.uint32), [np.zeros(n, np.uint32) for n in lengths])])
    random = torch.Generator().manual_seed(0)

    def moved(array: object) -> torch.Tensor:
        return torch.as_tensor(array, device=device)

    def made(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=random).to(device, getattr(torch, dtype))

    qkv, norm = made(len(packed.ids), (heads + 2 * kv_heads) * dim), made(dim)
    layer = LayerWeights(norm, qkv, norm, norm.flip(0), qkv, norm, qkv, qkv)
    turn = torch.randn(len(qkv), dim // 2, generator=random).to(device)
    angles = (turn.cos(), turn.sin())
    plain = PlainOperations()
    q, k, v = plain.split_rotate(qkv, layer, *angles, (heads, kv_heads, dim), 1e-6)
    keys, starts = moved(packed.keys), moved(packed.query_starts)
    bounds = tuple(packed.query_starts.tolist()), tuple(packed.key_starts.tolist())
    sequences = Sequences(starts, moved(packed.key_starts), *bounds, len(qkv), len(keys))
    expected = EagerAttention().packed(q, k[keys], v[keys], sequences)
    tokens = tile_tokens(heads, kv_heads)
    tiles = Tiles(moved(packed.tiles(tokens)), moved(packed.last_tiles()))
    last = moved(packed.last)
    some = (k.contiguous(), v, layer.q_norm)
    found = attention.mixed(qkv, *some, angles, 1e-6, heads, tiles)
    turned = (angles[0][last], angles[1][last])
    ends = attention.mixed(qkv[last], *some, turned, 1e-6, heads, tiles, last_only=True)
    wrong = [float((found - expected).abs().max()), float((ends - expected[last]).abs().max())]
    if all(each <= _TOLERANCE for each in wrong):  # not so where one is no number
        return ""
    return f"other numbers than the plain steps (by {max(wrong):.2g})"
