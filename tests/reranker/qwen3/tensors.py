"""Random weights made as tensors, Qwen3's true sizes, and an attention that forgives nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longleaf.reranker.qwen3.attention import EagerAttention, Sequences
from longleaf.reranker.qwen3.attention_rows import RowAttention, Tiles, tile_tokens
from longleaf.reranker.qwen3.model import PlainOperations
from longleaf.reranker.qwen3.weights import LayerWeights, ModelShape, ModelWeights

if TYPE_CHECKING:
    import torch

TINY = ModelShape(
    layers=3, hidden=64, inner=96, heads=4, kv_heads=2, head_dim=32, vocabulary=320,
    norm_eps=1e-6, rope_theta=1e6, max_positions=40_960,
)  # fmt: skip

SMALLEST = ModelShape(
    layers=1, hidden=16, inner=16, heads=2, kv_heads=1, head_dim=8, vocabulary=320,
    norm_eps=1e-6, rope_theta=1e6, max_positions=40_960,
)  # fmt: skip
"""For long texts on slow machines."""


def true_shape(layers: int, hidden: int, inner: int, heads: int) -> ModelShape:
    return ModelShape(
        layers=layers, hidden=hidden, inner=inner, heads=heads, kv_heads=8, head_dim=128,
        vocabulary=151_669, norm_eps=1e-6, rope_theta=1e6, max_positions=40_960,
    )  # fmt: skip


TRUE_SHAPES = {
    "0.6B": true_shape(28, 1024, 3072, 16),
    "4B": true_shape(36, 2560, 9728, 32),
    "8B": true_shape(36, 4096, 12_288, 32),
}
"""config.json of Qwen3-Reranker-0.6B, -4B and -8B."""


def random_weights(
    shape: ModelShape, *, dtype: torch.dtype, device: str = "cpu", seed: int = 0
) -> ModelWeights:
    """Weights of 0.15 spread and norms that are not 1, so that every step shows in the score."""
    import torch

    random = torch.Generator().manual_seed(seed)

    def matrix(*size: int) -> torch.Tensor:
        return (torch.randn(*size, generator=random) * 0.15).to(device, dtype)

    def norm(size: int) -> torch.Tensor:
        return (torch.rand(size, generator=random) + 0.5).to(device, dtype)

    qkv = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    layers = tuple(
        LayerWeights(
            input_norm=norm(shape.hidden),
            qkv=matrix(qkv, shape.hidden),
            q_norm=norm(shape.head_dim),
            k_norm=norm(shape.head_dim),
            out=matrix(shape.hidden, shape.heads * shape.head_dim),
            inner_norm=norm(shape.hidden),
            gate_up=matrix(2 * shape.inner, shape.hidden),
            down=matrix(shape.hidden, shape.inner),
        )
        for _ in range(shape.layers)
    )
    return ModelWeights(
        shape=shape,
        embedding=matrix(shape.vocabulary, shape.hidden),
        layers=layers,
        norm=norm(shape.hidden),
        head=matrix(shape.hidden).float(),
    )


def empty_weights(shape: ModelShape, *, dtype: torch.dtype) -> ModelWeights:
    """Weights that nobody looks into: for tensors that have no memory."""
    import torch

    def empty(*size: int) -> torch.Tensor:
        return torch.empty(*size, dtype=dtype)

    qkv = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    layer = LayerWeights(
        input_norm=empty(shape.hidden),
        qkv=empty(qkv, shape.hidden),
        q_norm=empty(shape.head_dim),
        k_norm=empty(shape.head_dim),
        out=empty(shape.hidden, shape.heads * shape.head_dim),
        inner_norm=empty(shape.hidden),
        gate_up=empty(2 * shape.inner, shape.hidden),
        down=empty(shape.hidden, shape.inner),
    )
    return ModelWeights(
        shape=shape,
        embedding=empty(shape.vocabulary, shape.hidden),
        layers=(layer,) * shape.layers,
        norm=empty(shape.hidden),
        head=torch.empty(shape.hidden),
    )


def exact_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    query_starts: list[int],
    key_starts: list[int],
) -> torch.Tensor:
    """Bottom-right causal attention by its definition, in float64, one sequence after the other.

    Rows that no sequence has are NaN, those of a sequence without keys are 0.
    """
    import torch

    mixed = torch.full(q.shape, torch.nan, dtype=torch.float64, device=q.device)
    share = q.shape[1] // k.shape[1]
    for n in range(len(query_starts) - 1):
        rows = slice(query_starts[n], query_starts[n + 1])
        keys = slice(key_starts[n], key_starts[n + 1])
        queries = q[rows].double()
        if not len(k[keys]):
            mixed[rows] = 0
            continue
        own_k = k[keys].double().repeat_interleave(share, dim=1)
        own_v = v[keys].double().repeat_interleave(share, dim=1)
        scores = torch.einsum("qhd,khd->hqk", queries, own_k) * q.shape[-1] ** -0.5
        seen = len(own_k) - len(queries)
        last = torch.arange(len(queries), device=q.device)[:, None] + seen
        hidden = torch.arange(len(own_k), device=q.device)[None, :] > last
        scores = scores.masked_fill(hidden, -torch.inf)
        mixed[rows] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), own_v)
    return mixed


def sequences_of(
    query_lengths: list[int], key_lengths: list[int], *, device: str, empty: int = 0
) -> Sequences:
    """Sequences of these lengths, and `empty` ones of none behind them, as padding makes them."""
    import torch

    bounds = []
    for lengths in (query_lengths, key_lengths):
        starts = [0]
        for length in lengths:
            starts.append(starts[-1] + length)
        bounds.append(starts + starts[-1:] * empty)
    tensors = [torch.tensor(each, dtype=torch.int32, device=device) for each in bounds]
    return Sequences(
        tensors[0], tensors[1], tuple(bounds[0]), tuple(bounds[1]),
        max(query_lengths), max(key_lengths),
    )  # fmt: skip


class KernelLikeAttention:
    """What the flash kernel promises and no more, on the CPU.

    It reads where sequences begin from the tensors, as a replayed graph does, not from the numbers
    beside them. Rows that no sequence has, and rows and keys beyond the longest sequence that it
    was launched for, come back as NaN. A launch for one query a sequence takes as many queries as
    sequences, and gives zeros where there are no keys.
    """

    reason = "the flash kernel's contract, for tests"

    def __init__(self) -> None:
        self._plain = EagerAttention()

    def packed(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sequences: Sequences
    ) -> torch.Tensor:
        import torch

        mixed = torch.full_like(q, torch.nan)
        for row, row_end, key, key_end in self._spans(sequences):
            queries = row_end - row
            if not queries:
                continue
            if queries > sequences.max_queries or key_end - key > sequences.max_keys:
                continue
            own = Sequences(
                sequences.query_starts, sequences.key_starts, (0, queries), (0, key_end - key),
                queries, key_end - key,
            )  # fmt: skip
            mixed[row:row_end] = self._plain.packed(
                q[row:row_end], k[key:key_end], v[key:key_end], own
            )
        return mixed

    def last_only(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sequences: Sequences
    ) -> torch.Tensor:
        import torch

        assert len(q) == len(sequences.query_starts) - 1
        mixed = torch.zeros_like(q)
        for number, (_, _, key, key_end) in enumerate(self._spans(sequences)):
            if key_end - key > sequences.max_keys:
                mixed[number] = torch.nan
            elif key_end > key:
                one = Sequences(
                    sequences.query_starts, sequences.key_starts, (0, 1), (0, key_end - key),
                    1, key_end - key,
                )  # fmt: skip
                mixed[number] = self._plain.last_only(
                    q[number : number + 1], k[key:key_end], v[key:key_end], one
                )[0]
        return mixed

    def alone(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self._plain.alone(q, k, v)

    def _spans(self, sequences: Sequences) -> list[tuple[int, int, int, int]]:
        queries: Any = sequences.query_starts.tolist()
        keys: Any = sequences.key_starts.tolist()
        return list(zip(queries, queries[1:], keys, keys[1:], strict=False))


class RowsLikeTheKernel(RowAttention):
    """What `RowAttention` promises and no more, by its definition, on any device.

    Tiles come from the tensors, as in a replayed graph; rows that no tile reaches
    come back as NaN.
    """

    def __init__(self) -> None:
        pass

    def mixed(
        self,
        q: Any,
        k: Any,
        v: Any,
        weight: Any,
        angles: Any,
        eps: float,
        heads: int,
        tiles: Tiles,
        *,
        last_only: bool = False,
    ) -> Any:
        import torch

        turned = _turned(q, weight, angles, eps, heads, k.shape[2])
        mixed = torch.full_like(turned, torch.nan)
        tokens = 1 if last_only else tile_tokens(heads, k.shape[1])
        table = tiles.last if last_only else tiles.every
        for number, (own, length, first, *prefix) in enumerate(table.tolist()):
            if first < 0:
                continue
            for row in range(own + first, own + min(first + tokens, length)):
                place = number if last_only else row
                mixed[place] = _seen_by(row, turned[place], k, v, own, *prefix)
        return mixed


def _turned(q: Any, weight: Any, angles: Any, eps: float, heads: int, dim: int) -> Any:
    layer: Any = type("Layer", (), {"k_norm": weight})
    only = q[:, : heads * dim].contiguous()
    return PlainOperations().turn_keys(only, layer, *angles, (0, heads, dim), eps)[0]


def _seen_by(row: int, q: Any, k: Any, v: Any, own: int, start: int, length: int) -> Any:
    import torch

    seen = [*range(start, start + length), *range(own, row + 1)]
    share = len(q) // k.shape[1]
    keys = k[seen].double().repeat_interleave(share, dim=1)
    values = v[seen].double().repeat_interleave(share, dim=1)
    scores = torch.einsum("hd,khd->hk", q.double(), keys) * q.shape[-1] ** -0.5
    return torch.einsum("hk,khd->hd", scores.softmax(-1), values)
