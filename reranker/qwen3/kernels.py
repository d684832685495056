"""Which row-wise steps a device gets: Triton's where it works, plain torch's elsewhere, and why.

Between the matrix products a token's row is read and written a dozen times by plain torch and five
times by fused kernels; at passage length that traffic costs more than attention (docs/reranker.md).
Triton is optional and needs a C compiler at run time, so it is believed only after its kernels have
been run once and agreed with the plain ones. It knows no weights and no batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longleaf.reranker.qwen3.model import Operations, PlainOperations

if TYPE_CHECKING:
    import torch

    from longleaf.reranker.qwen3.weights import LayerWeights

_SWIGLU_BLOCK = 1024
_WIDE = 2048
"""Values of a row from which eight warps read faster than four."""


def choose_operations(device: str) -> Operations:
    """The fastest that works on `device`; its `name` says why it is that one."""
    if not device.startswith("cuda"):
        return _plain(f"fused kernels are for CUDA, not for {device}")
    try:
        operations = TritonOperations()
    except ImportError:
        return _plain("triton is not installed")
    try:
        wrong = disagreement(operations, device)
    except Exception as error:  # no compiler, an old GPU, a foreign triton: each its own class
        wrong = str(error).strip().partition("\n")[0] or type(error).__name__
    return _plain(f"triton does not work here: {wrong}") if wrong else operations


def _plain(why: str) -> PlainOperations:
    operations = PlainOperations()
    operations.name = f"plain torch ({why})"
    return operations


class TritonOperations:
    """`model.Operations` as fused kernels. Raises ImportError where Triton is not.

    Tensors must be contiguous, as the forward pass makes them. `split_rotate` without `keys` gives
    v as a view of qkv.
    """

    def __init__(self) -> None:
        import triton

        from longleaf.reranker.qwen3 import kernels_triton

        self.name = f"triton {triton.__version__}"
        self._kernels: Any = kernels_triton
        self._block: Any = triton.next_power_of_2

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """See `Operations`."""
        import torch

        rows, width = x.shape
        normed = torch.empty_like(x)
        if rows:
            self._kernels.norm_rows[(rows,)](
                x, weight, normed, eps, width, self._block(width), num_warps=_warps(width)
            )
        return normed

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
        query_heads, kv_heads, dim = heads
        rows = len(qkv)
        split = qkv.view(rows, query_heads + 2 * kv_heads, dim)
        key_rows = rows if keys is None else len(keys)
        q = qkv.new_empty((rows, query_heads, dim))
        k = qkv.new_empty((key_rows, kv_heads, dim))
        v = split[:, query_heads + kv_heads :] if keys is None else k.new_empty(k.shape)
        q_rows = rows if query_heads else 0
        programs = q_rows + (key_rows if kv_heads else 0)
        self._turn(programs, qkv, layer, cos, sin, keys, (q, k, v), q_rows, heads, eps)
        return q, k, v

    def turn_keys(
        self,
        qkv: torch.Tensor,
        layer: LayerWeights,
        cos: torch.Tensor,
        sin: torch.Tensor,
        heads: tuple[int, int, int],
        eps: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Operations`. v is a view of qkv."""
        query_heads, kv_heads, dim = heads
        rows = len(qkv)
        k = qkv.new_empty((rows, kv_heads, dim))
        self._turn(rows, qkv, layer, cos, sin, None, (k, k, k), 0, heads, eps)
        return k, qkv.view(rows, query_heads + 2 * kv_heads, dim)[:, query_heads + kv_heads :]

    def _turn(
        self,
        programs: int,
        qkv: torch.Tensor,
        layer: LayerWeights,
        cos: torch.Tensor,
        sin: torch.Tensor,
        keys: torch.Tensor | None,
        made: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        q_rows: int,
        heads: tuple[int, int, int],
        eps: float,
    ) -> None:
        query_heads, kv_heads, dim = heads
        if programs:
            self._kernels.split_rotate_rows[(programs,)](
                qkv, layer.q_norm, layer.k_norm, cos, sin, qkv if keys is None else keys,
                *made, q_rows, eps, query_heads, kv_heads, dim,
                self._block(max(query_heads, 1)), self._block(max(kv_heads, 1)),
                self._block(dim // 2), self._block(dim), keys is not None,
            )  # fmt: skip

    def swiglu(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See `Operations`."""
        rows, inner = len(gate_up), gate_up.shape[1] // 2
        product = gate_up.new_empty((rows, inner))
        if rows:
            block = min(_SWIGLU_BLOCK, self._block(inner))
            grid = (rows, -(-inner // block))
            self._kernels.swiglu_rows[grid](gate_up, product, inner, block)
        return product


def _warps(width: int) -> int:
    return 8 if width >= _WIDE else 4


def disagreement(operations: Operations, device: str) -> str:
    """What `operations` compute differently from plain torch on a small example; "" if nothing."""
    import torch

    from longleaf.reranker.qwen3.weights import LayerWeights

    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    random = torch.Generator().manual_seed(0)

    def made(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=random).to(device, dtype)

    rows, width, heads = 5, 96, (4, 2, 16)
    x, weight, qkv = made(rows, width), made(width), made(rows, 128)
    angles = torch.randn(rows, 8, generator=random).to(device)
    norm = made(16)
    layer = LayerWeights(weight, qkv, norm, norm.flip(0), qkv, weight, qkv, qkv)
    keys = torch.tensor([0, 1, 0, 4, 3, 2], device=device)

    def results(of: Operations) -> dict[str, tuple[torch.Tensor, ...]]:
        cos, sin = angles.cos(), angles.sin()
        return {
            "norm": (of.norm(x, weight, 1e-6),),
            "split_rotate": of.split_rotate(qkv, layer, cos, sin, heads, 1e-6),
            "split_rotate by keys": of.split_rotate(qkv, layer, cos, sin, heads, 1e-6, keys),
            "turn_keys": of.turn_keys(qkv, layer, cos, sin, heads, 1e-6),
            "swiglu": (of.swiglu(x),),
        }

    expected = results(PlainOperations())
    for name, found in results(operations).items():
        for ours, theirs in zip(found, expected[name], strict=True):
            if not torch.allclose(ours.float(), theirs.float(), rtol=2e-2, atol=2e-2):
                return f"{name} disagrees with plain torch"
    return ""
