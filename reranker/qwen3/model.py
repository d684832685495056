"""The forward pass: packed rows in, one logit difference a document out. Tensors only.

A plain Qwen3 body (arXiv 2505.09388): pre-norm layers, grouped-query attention with a norm on each
query and key head before rotary positions, SwiGLU. Left out is what scoring never needs: padding,
masks, a key-value cache, logits of the vocabulary, and in the last layer everything but keys and
values for all rows that are not a document's last. It knows no text and no queue.

`Operations` are the row-wise steps; torch's plain ones here are the reference that faster ones
(kernels.py) must equal. Sums of norms and positions are float32 whatever the weights' dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from longleaf.reranker.qwen3.attention import Attention, Sequences
from longleaf.reranker.qwen3.attention_rows import RowAttention, Tiles, tile_tokens

if TYPE_CHECKING:
    import torch

    from longleaf.reranker.qwen3.packing import Packed
    from longleaf.reranker.qwen3.weights import LayerWeights, ModelWeights

INNER_ROWS = 16_384
"""Rows of the SwiGLU product at once: at 32,768 it would hold as much again as all the rest."""
_MOST_NUMBERS = 2**31
"""That the row attention can address."""


class Operations(Protocol):
    """Row-wise steps: x, residual (rows, hidden); qkv (rows, (heads + 2 kv_heads) * dim)."""

    name: str

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor: ...

    def split_rotate(
        self,
        qkv: torch.Tensor,
        layer: LayerWeights,
        cos: torch.Tensor,
        sin: torch.Tensor,
        heads: tuple[int, int, int],
        eps: float,
        keys: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """q (rows, heads, dim), k and v (rows, kv_heads, dim), q and k normed and rotated.

        cos, sin: (rows, dim / 2) float32. `heads`: (heads, kv_heads, dim). `keys`: which row each
        row of k and v comes from, (K,) int64; None: k and v are in the order of the rows.
        """
        ...

    def turn_keys(
        self,
        qkv: torch.Tensor,
        layer: LayerWeights,
        cos: torch.Tensor,
        sin: torch.Tensor,
        heads: tuple[int, int, int],
        eps: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`split_rotate` without queries and copies: k and v (rows, kv_heads, dim)."""
        ...

    def swiglu(self, gate_up: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up: (rows, 2 * inner) -> (rows, inner)."""
        ...


class PlainOperations:
    """torch's own functions: any device, and the oracle of the kernels."""

    name = "plain torch"

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """Root-mean-square norm (arXiv 1910.07467), summed in float32."""
        wide = x.float()
        scaled = wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
        return weight * scaled.to(x.dtype)

    def split_rotate(
        self,
        qkv: torch.Tensor,
        layer: LayerWeights,
        cos: torch.Tensor,
        sin: torch.Tensor,
        heads: tuple[int, int, int],
        eps: float,
        keys: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `Operations`."""
        query_heads, _, dim = heads
        q = qkv.view(len(qkv), -1, dim)[:, :query_heads]
        q = _rotate(self.norm(q, layer.q_norm, eps), cos, sin)
        k, v = self.turn_keys(qkv, layer, cos, sin, heads, eps)
        return (q, k, v) if keys is None else (q, k[keys], v[keys])

    def turn_keys(
        self,
        qkv: torch.Tensor,
        layer: LayerWeights,
        cos: torch.Tensor,
        sin: torch.Tensor,
        heads: tuple[int, int, int],
        eps: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Operations`."""
        query_heads, kv_heads, dim = heads
        kv = qkv.view(len(qkv), -1, dim)[:, query_heads:]
        k = _rotate(self.norm(kv[:, :kv_heads], layer.k_norm, eps), cos, sin)
        return k, kv[:, kv_heads:]

    def swiglu(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See `Operations`."""
        from torch.nn.functional import silu

        gate, up = gate_up.chunk(2, dim=-1)
        return silu(gate) * up


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions (arXiv 2104.09864), first half against second half, in float32."""
    import torch

    first, second = x.float().chunk(2, dim=-1)
    cos, sin = cos[:, None, :], sin[:, None, :]
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)


@dataclass(frozen=True, slots=True)
class Switches:
    """What makes it fast, to be switched off for proof and for measuring.

    (The prefix is shared by how the batch is packed: pack each document behind a prefix of its own
    to switch that off.)
    """

    last_rows_only: bool = True


@dataclass(frozen=True, slots=True)
class DeviceBatch:
    """A `Packed` on the device."""

    ids: torch.Tensor  # (T,) int64
    positions: torch.Tensor  # (T,) int64
    keys: torch.Tensor  # (K,) int64
    last: torch.Tensor  # (N,) int64
    last_keys: torch.Tensor  # int64
    sequences: Sequences
    last_sequences: Sequences
    tiles: Tiles


class Qwen3Scorer:
    """Weights, operations and attention; `score` is one forward pass. Not thread-safe by itself."""

    def __init__(
        self,
        weights: ModelWeights,
        attention: Attention,
        operations: Operations | None = None,
        rows: RowAttention | None = None,
    ) -> None:
        """`rows`: attention of packed sequences in place of `attention`'s."""
        self.weights = weights
        self.attention = attention
        self.operations = operations or PlainOperations()
        self.rows = rows
        self.tile_tokens = tile_tokens(weights.shape.heads, weights.shape.kv_heads)
        self._cos, self._sin = _rotary_table(weights)

    @property
    def device(self) -> torch.device:
        return self.weights.embedding.device

    def batch(self, packed: Packed) -> DeviceBatch:
        """Everything that the pass needs, moved to the device."""
        import torch

        device = self.device

        def moved(array: object) -> torch.Tensor:
            return torch.as_tensor(array, device=device)

        count = packed.document_count
        return DeviceBatch(
            ids=moved(packed.ids),
            positions=moved(packed.positions),
            keys=moved(packed.keys),
            last=moved(packed.last),
            last_keys=moved(packed.last_keys),
            sequences=Sequences(
                moved(packed.query_starts),
                moved(packed.key_starts),
                tuple(packed.query_starts.tolist()),
                tuple(packed.key_starts.tolist()),
                packed.max_queries,
                packed.max_keys,
            ),
            last_sequences=Sequences(
                torch.arange(count + 1, dtype=torch.int32, device=device),
                moved(packed.last_key_starts),
                tuple(range(count + 1)),
                tuple(packed.last_key_starts.tolist()),
                1,
                packed.max_keys,
            ),
            tiles=Tiles(moved(packed.tiles(self.tile_tokens)), moved(packed.last_tiles())),
        )

    def score(
        self, batch: DeviceBatch, *, alone: bool, switches: Switches = Switches()
    ) -> torch.Tensor:
        """(N,) float32: logit(yes) - logit(no) of each document.

        `alone`: the batch is a prefix and one document, computed as a single causal sequence.
        """
        weights, operations = self.weights, self.operations
        eps = weights.shape.norm_eps
        cos, sin = self._cos[batch.positions], self._sin[batch.positions]
        residual = weights.embedding[batch.ids]
        normed = operations.norm(residual, weights.layers[0].input_norm, eps)
        for number, layer in enumerate(weights.layers):
            is_last = number == len(weights.layers) - 1
            rows = batch.last if is_last and switches.last_rows_only else None
            if rows is not None:
                residual = residual[rows]
            # Added inside the product: its sum is rounded once, and neither is written twice.
            residual.addmm_(
                self._attention(layer, normed, cos, sin, batch, alone, rows), layer.out.t()
            )
            self._add_inner(residual, layer, operations.norm(residual, layer.inner_norm, eps))
            following = weights.norm if is_last else weights.layers[number + 1].input_norm
            normed = operations.norm(residual, following, eps)
        if not switches.last_rows_only:
            normed = normed[batch.last]
        return normed.float() @ weights.head

    def _attention(
        self,
        layer: LayerWeights,
        normed: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        batch: DeviceBatch,
        alone: bool,
        rows: torch.Tensor | None,
    ) -> torch.Tensor:
        """What the heads give, (rows, heads * dim): for all rows, or for `rows` only."""
        from torch.nn.functional import linear

        shape = self.weights.shape
        heads = (shape.heads, shape.kv_heads, shape.head_dim)
        fits = normed.shape[0] * len(layer.qkv) < _MOST_NUMBERS
        if self.rows is not None and not alone and fits:
            return self._attention_of_rows(self.rows, layer, normed, cos, sin, batch, rows)
        if rows is None:
            qkv = linear(normed, layer.qkv)
            keys = None if alone else batch.keys
            q, k, v = self.operations.split_rotate(
                qkv, layer, cos, sin, heads, shape.norm_eps, keys
            )
            if alone:
                mixed = self.attention.alone(q, k, v)
            else:
                mixed = self.attention.packed(q, k, v, batch.sequences)
            return mixed.reshape(len(q), -1)
        q, k, v = self._last_rows(layer, normed, cos, sin, heads, rows, batch.last_keys)
        mixed = self.attention.last_only(q, k, v, batch.last_sequences)
        return mixed.reshape(len(q), -1)

    def _attention_of_rows(
        self,
        attention: RowAttention,
        layer: LayerWeights,
        normed: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        batch: DeviceBatch,
        rows: torch.Tensor | None,
    ) -> torch.Tensor:
        """The same without laying out queries and keys for it."""
        from torch.nn.functional import linear

        shape, turn = self.weights.shape, self.operations.turn_keys
        heads, kv_heads, dim, eps = shape.heads, shape.kv_heads, shape.head_dim, shape.norm_eps
        if rows is None:
            qkv = linear(normed, layer.qkv)
            k, v = turn(qkv, layer, cos, sin, (heads, kv_heads, dim), eps)
            mixed = attention.mixed(qkv, k, v, layer.q_norm, (cos, sin), eps, heads, batch.tiles)
        else:
            kv = linear(normed, layer.qkv[heads * dim :])
            k, v = turn(kv, layer, cos, sin, (0, kv_heads, dim), eps)
            q = linear(normed[rows], layer.qkv[: heads * dim])
            angles = (cos[rows], sin[rows])
            mixed = attention.mixed(
                q, k, v, layer.q_norm, angles, eps, heads, batch.tiles, last_only=True
            )
        return mixed.reshape(len(mixed), -1)

    def _last_rows(
        self,
        layer: LayerWeights,
        normed: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        heads: tuple[int, int, int],
        rows: torch.Tensor,
        keys: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries of `rows`, keys and values in the order of `keys`."""
        from torch.nn.functional import linear

        query_heads, kv_heads, dim = heads
        eps = self.weights.shape.norm_eps
        q_size = query_heads * dim
        kv = linear(normed, layer.qkv[q_size:])
        _, k, v = self.operations.split_rotate(kv, layer, cos, sin, (0, kv_heads, dim), eps, keys)
        q = linear(normed[rows], layer.qkv[:q_size])
        q, _, _ = self.operations.split_rotate(
            q, layer, cos[rows], sin[rows], (query_heads, 0, dim), eps
        )
        return q, k, v

    def _add_inner(self, residual: torch.Tensor, layer: LayerWeights, normed: torch.Tensor) -> None:
        """Add the SwiGLU block, so many rows at once that its product stays small."""
        from torch.nn.functional import linear

        for start in range(0, len(normed), INNER_ROWS):
            rows = slice(start, start + INNER_ROWS)
            product = self.operations.swiglu(linear(normed[rows], layer.gate_up))
            residual[rows].addmm_(product, layer.down.t())


def _rotary_table(weights: ModelWeights) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin by position, (max_positions, head_dim / 2) float32 each.

    Computed in float64: float32 products of a position and a frequency lose the low bits that
    bfloat16 tables lose far earlier.
    """
    import torch

    shape = weights.shape
    half = shape.head_dim // 2
    exponents = torch.arange(half, dtype=torch.float64) / half
    frequencies = shape.rope_theta**-exponents
    angles = torch.arange(shape.max_positions, dtype=torch.float64)[:, None] * frequencies
    device = weights.embedding.device
    return angles.cos().float().to(device), angles.sin().float().to(device)
