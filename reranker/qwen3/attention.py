"""Causal attention over sequences of different lengths, by whatever this torch and device have.

Three calls, each with grouped key-value heads: `packed` (every sequence's queries are its last
tokens: bottom-right causal), `last_only` (one query a sequence, which sees all its keys), `alone`
(one sequence against itself). The choice is made once, by looking at what is there, and says why.
Nothing here ever makes a matrix of all queries by all keys of a long sequence.

On CUDA: the flash kernel for packed sequences that torch bundles (torch 2.11 to 2.13 call it in
different ways), and cuDNN's, where it takes the shapes, for long documents alone (arXiv 2407.08608,
figure 5: head dimension 128, 600 against 370 TFLOP/s). On the CPU: torch's own kernels, sequence by
sequence.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

_TOLERANCE = 0.05
"""Of values of about 1 in 16-bit numbers, whose last place is worth 0.008."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """Where sequences begin in queries and keys, on the device and (for the CPU) as numbers."""

    query_starts: torch.Tensor  # (n + 1,) int32
    key_starts: torch.Tensor  # (n + 1,) int32
    query_bounds: tuple[int, ...]
    key_bounds: tuple[int, ...]
    max_queries: int
    max_keys: int


class Attention(Protocol):
    """q (rows, heads, dim); k, v (keys, kv_heads, dim); returns (rows, heads, dim)."""

    reason: str

    def packed(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sequences: Sequences
    ) -> torch.Tensor: ...

    def last_only(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sequences: Sequences
    ) -> torch.Tensor: ...

    def alone(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor: ...


def choose_attention(device: str, dtype: str = "bfloat16") -> Attention:
    """The best that this torch has for `device` and numbers of this type."""
    if not device.startswith("cuda"):
        return EagerAttention(f"torch's own kernels on {device}")
    if dtype not in ("bfloat16", "float16"):
        return EagerAttention(f"flash attention takes 16-bit numbers, not {dtype}")
    call = _bundled_flash()
    if call is None:
        return EagerAttention("this torch bundles no attention for packed sequences")
    return _if_it_runs(FlashAttention(call), device, dtype)


def _if_it_runs(attention: Attention, device: str, dtype: str) -> Attention:
    """`attention` where it gives the plain version's numbers on this device, else that version.

    An operator that torch has may still refuse a device (flash attention: GPUs before Ampere).
    """
    import torch

    plain = EagerAttention("the plain version")
    make = torch.Generator(device="cpu").manual_seed(0)

    def some(rows: int, heads: int) -> torch.Tensor:
        return torch.randn(rows, heads, 128, generator=make).to(device, getattr(torch, dtype))

    bounds = torch.tensor([0, 3, 8], dtype=torch.int32, device=device)
    last = torch.tensor([0, 1, 2], dtype=torch.int32, device=device)
    both = Sequences(bounds, bounds, (0, 3, 8), (0, 3, 8), 5, 5)
    ends = Sequences(last, bounds, (0, 1, 2), (0, 3, 8), 1, 5)
    q, k, v = some(8, 4), some(8, 2), some(8, 2)
    try:
        pairs = [
            (attention.packed(q, k, v, both), plain.packed(q, k, v, both)),
            (attention.last_only(q[:2], k, v, ends), plain.last_only(q[:2], k, v, ends)),
            (attention.alone(q, k, v), plain.alone(q, k, v)),
        ]
        worst = max(float((one - other).abs().max()) for one, other in pairs)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return EagerAttention(f"{attention.reason} does not run here: {first}")
    if worst > _TOLERANCE:
        return EagerAttention(f"{attention.reason} gives other numbers here (by {worst:.2g})")
    return attention


class EagerAttention:
    """Any device, one sequence after the other. The slow, plain version that the others equal."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def packed(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sequences: Sequences
    ) -> torch.Tensor:
        """See `Attention`. A sequence's mask is (queries, keys): only short ones come here."""
        import torch

        outputs = []
        queries, keys = sequences.query_bounds, sequences.key_bounds
        for number in range(len(queries) - 1):
            own = q[queries[number] : queries[number + 1]]
            begin, end = keys[number], keys[number + 1]
            count, seen = len(own), end - begin
            if not count:  # no prefix is shared
                continue
            places = torch.arange(seen, device=q.device)
            mask = places[None, :] <= places[seen - count :, None]
            outputs.append(_attend(own, k[begin:end], v[begin:end], mask=mask))
        return torch.cat(outputs)

    def last_only(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sequences: Sequences
    ) -> torch.Tensor:
        """See `Attention`."""
        import torch

        keys = sequences.key_bounds
        return torch.cat(
            [
                _attend(
                    q[number : number + 1],
                    k[keys[number] : keys[number + 1]],
                    v[keys[number] : keys[number + 1]],
                )
                for number in range(len(keys) - 1)
            ]
        )

    def alone(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """See `Attention`."""
        return _attend(q, k, v, causal=True)


class FlashAttention:
    """CUDA: one launch for all sequences of a batch."""

    def __init__(self, call: Any) -> None:
        self.reason = "torch's bundled flash attention for packed sequences"
        self._call = call

    def packed(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sequences: Sequences
    ) -> torch.Tensor:
        """See `Attention`."""
        return self._launch(q, k, v, sequences, sequences.max_queries)

    def last_only(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sequences: Sequences
    ) -> torch.Tensor:
        """See `Attention`. Bottom-right causal: a sequence's only query sees all its keys."""
        return self._launch(q, k, v, sequences, 1)

    def alone(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """See `Attention`. cuDNN where it takes the shapes, else flash, which takes them all."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        # The choice is the process's, not the thread's: another model's call at this moment must
        # still find a kernel, so none is left out, only put behind.
        order = [
            SDPBackend.CUDNN_ATTENTION,
            SDPBackend.FLASH_ATTENTION,
            SDPBackend.EFFICIENT_ATTENTION,
            SDPBackend.MATH,
        ]
        with sdpa_kernel(order, set_priority=True):
            return _attend(q, k, v, causal=True)

    def _launch(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        sequences: Sequences,
        max_queries: int,
    ) -> torch.Tensor:
        output: torch.Tensor = self._call(
            q,
            k,
            v,
            sequences.query_starts,
            sequences.key_starts,
            max_queries,
            sequences.max_keys,
        )
        return output


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """One sequence: (queries, heads, dim) against (keys, kv_heads, dim)."""
    from torch.nn.functional import scaled_dot_product_attention

    mixed: torch.Tensor = scaled_dot_product_attention(
        q.transpose(0, 1)[None],
        k.transpose(0, 1)[None],
        v.transpose(0, 1)[None],
        attn_mask=mask,
        is_causal=causal,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return mixed[0].transpose(0, 1)


def _bundled_flash() -> Any:
    """A function (q, k, v, query_starts, key_starts, max_queries, max_keys) -> output, or None.

    The operation itself is called, because the public wrapper makes a random-number state each
    time; where its form is not the known one, the wrapper is.
    """
    import torch

    operation = getattr(torch.ops.aten, "_flash_attention_forward", None)
    names = [] if operation is None else _argument_names(operation)
    known = ["query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p"]
    if operation is not None and names[: len(known)] == known and "is_causal" in names:

        def direct(
            q: Any, k: Any, v: Any, q_starts: Any, k_starts: Any, max_q: int, max_k: int
        ) -> Any:
            scale = q.shape[-1] ** -0.5
            return operation(
                q, k, v, q_starts, k_starts, max_q, max_k, 0.0, True, False, scale=scale
            )[0]

        return direct
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return _wrapped(varlen_attn)


def _wrapped(varlen_attn: Any) -> Any:
    """The public function, whose keywords changed: causal was a flag, then a window of (-1, 0)."""
    parameters = inspect.signature(varlen_attn).parameters
    fixed: dict[str, Any] = {}
    if "is_causal" in parameters:
        fixed["is_causal"] = True
    elif "window_size" in parameters:
        fixed["window_size"] = (-1, 0)
    if "enable_gqa" in parameters:
        fixed["enable_gqa"] = True

    def call(q: Any, k: Any, v: Any, q_starts: Any, k_starts: Any, max_q: int, max_k: int) -> Any:
        return varlen_attn(q, k, v, q_starts, k_starts, max_q, max_k, **fixed)

    return call


def _argument_names(operation: Any) -> list[str]:
    try:
        return [argument.name for argument in operation.default._schema.arguments]
    except (AttributeError, RuntimeError):
        return []
