"""Attention on the CPU against its definition, and which calls are made to which torch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.reranker.qwen3.tensors import KernelLikeAttention, exact_attention, sequences_of
from torch._subclasses.fake_tensor import FakeTensorMode

from longleaf.reranker.qwen3 import attention
from longleaf.reranker.qwen3.attention import (
    EagerAttention,
    FlashAttention,
    _if_it_runs,
    choose_attention,
)

HEADS = {"GQA 2": (4, 2), "GQA 4": (8, 2), "no GQA": (3, 3)}


def random_heads(rows: int, keys: int, heads: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(rows)
    q = torch.randn(rows, heads[0], 16, generator=random)
    k, v = torch.randn(2, keys, heads[1], 16, generator=random)
    return q, k, v


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("strict", [False, True], ids=["eager", "kernel-like"])
def test_every_sequence_is_bottom_right_causal(heads: str, strict: bool) -> None:
    ways = KernelLikeAttention() if strict else EagerAttention()
    queries, keys = [7, 5, 1, 12], [7, 12, 8, 12]
    sequences = sequences_of(queries, keys, device="cpu", empty=3 if strict else 0)
    q, k, v = random_heads(sum(queries), sum(keys), HEADS[heads])
    bounds = list(sequences.query_bounds), list(sequences.key_bounds)
    expected = exact_attention(q, k, v, *bounds)
    found = ways.packed(q, k, v, sequences)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("heads", HEADS)
def test_a_last_row_sees_all_its_keys_and_a_long_text_itself(heads: str) -> None:
    ways = EagerAttention()
    keys = [9, 1, 30]
    sequences = sequences_of([1, 1, 1], keys, device="cpu")
    q, k, v = random_heads(3, sum(keys), HEADS[heads])
    expected = exact_attention(q, k, v, [0, 1, 2, 3], list(sequences.key_bounds))
    found = ways.last_only(q, k, v, sequences).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    q, k, v = random_heads(33, 33, HEADS[heads])
    expected = exact_attention(q, k, v, [0, 33], [0, 33])
    torch.testing.assert_close(ways.alone(q, k, v).double(), expected, rtol=1e-5, atol=1e-5)


# --- which function of which torch ---------------------------------------------------------------


class Called:
    """Records how it was called, and answers with the queries."""

    def __init__(self) -> None:
        self.given: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}

    def take(self, *given: Any, **named: Any) -> Any:
        self.given, self.named = given, named
        return given[0]


def varlen_2_10(record: Called) -> Any:
    def varlen_attn(
        query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int,
        is_causal: bool = False, return_aux: Any = None,
    ) -> Any:  # fmt: skip
        return record.take(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=is_causal)

    return varlen_attn


def varlen_2_11(record: Called) -> Any:
    def varlen_attn(
        query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *,
        return_aux: Any = None, scale: float | None = None, window_size: Any = (-1, -1),
    ) -> Any:  # fmt: skip
        return record.take(
            query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window_size=window_size
        )

    return varlen_attn


def varlen_2_13(record: Called) -> Any:
    def varlen_attn(
        query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *,
        return_aux: Any = None, scale: float | None = None, window_size: Any = (-1, -1),
        enable_gqa: bool = False, seqused_k: Any = None, block_table: Any = None,
        num_splits: int | None = None,
    ) -> Any:  # fmt: skip
        return record.take(
            query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window_size=window_size,
            enable_gqa=enable_gqa,
        )  # fmt: skip

    return varlen_attn


WRAPPERS = {
    "2.10": (varlen_2_10, {"is_causal": True}),
    "2.11": (varlen_2_11, {"window_size": (-1, 0)}),
    "2.13": (varlen_2_13, {"window_size": (-1, 0), "enable_gqa": True}),
}
FIRST_ARGUMENTS = ["query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k",
                   "dropout_p", "is_causal", "return_debug_mask"]  # fmt: skip
OPERATIONS = {
    "2.11": [*FIRST_ARGUMENTS, "scale", "window_size_left", "window_size_right", "seqused_k",
             "alibi_slopes"],
    "2.13": [*FIRST_ARGUMENTS, "scale", "window_size_left", "window_size_right", "seqused_k",
             "alibi_slopes", "block_table", "num_splits"],
}  # fmt: skip


def operation_like(record: Called, names: list[str]) -> Any:
    arguments = [SimpleNamespace(name=name) for name in names]
    default = SimpleNamespace(_schema=SimpleNamespace(arguments=arguments))

    class Operation:
        def __init__(self) -> None:
            self.default = default

        def __call__(self, *given: Any, **named: Any) -> Any:
            return (record.take(*given, **named), "lse", "rng", "unused", "mask")

    return Operation()


def launch(call: Any) -> torch.Tensor:
    sequences = sequences_of([2, 3], [2, 5], device="cpu")
    q, k, v = random_heads(5, 7, (4, 2))
    found = FlashAttention(call).packed(q, k, v, sequences)
    assert torch.equal(found, q)
    return q


@pytest.mark.parametrize("version", OPERATIONS)
def test_the_operation_is_called_in_its_own_order(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Called()
    operation = operation_like(record, OPERATIONS[version])
    monkeypatch.setattr(
        torch.ops, "aten", SimpleNamespace(_flash_attention_forward=operation), raising=True
    )
    q = launch(attention._bundled_flash())
    by_name = dict(zip(OPERATIONS[version], record.given, strict=False)) | record.named
    assert by_name["is_causal"] is True and by_name["return_debug_mask"] is False
    assert by_name["dropout_p"] == 0.0 and by_name["scale"] == q.shape[-1] ** -0.5
    assert (by_name["max_q"], by_name["max_k"]) == (3, 5)
    assert by_name["cum_seq_q"].tolist() == [0, 2, 5]
    assert by_name["cum_seq_k"].tolist() == [0, 2, 7]


@pytest.mark.parametrize("version", WRAPPERS)
def test_the_public_function_is_called_in_the_way_of_its_version(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.nn.attention import varlen

    record = Called()
    made, expected = WRAPPERS[version]
    unknown = operation_like(Called(), ["something", "else"])
    monkeypatch.setattr(torch.ops, "aten", SimpleNamespace(_flash_attention_forward=unknown))
    monkeypatch.setattr(varlen, "varlen_attn", made(record))
    launch(attention._bundled_flash())
    assert record.named == expected
    assert record.given[5:] == (3, 5)


def test_a_torch_without_either_attends_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(torch.ops, "aten", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", None)
    assert attention._bundled_flash() is None


def test_this_torch_takes_the_calls_and_gives_what_is_expected() -> None:
    """Its own description of the kernel: grouped heads, other lengths of keys, empty tails."""
    call = attention._bundled_flash()
    assert call is not None
    with FakeTensorMode(allow_non_fake_inputs=True):
        sequences = sequences_of([2, 3], [2, 5], device="cpu", empty=2)
        q = torch.empty(5, 32, 128, dtype=torch.bfloat16)
        k, v = (torch.empty(7, 8, 128, dtype=torch.bfloat16) for _ in range(2))
        ways = FlashAttention(call)
        assert ways.packed(q, k, v, sequences).shape == q.shape
        last = sequences_of([1, 1], [2, 5], device="cpu")
        assert ways.last_only(q[:2], k, v, last).shape == (2, 32, 128)


def test_the_cpu_is_attended_one_by_one_and_says_so() -> None:
    chosen = choose_attention("cpu")
    assert isinstance(chosen, EagerAttention)
    assert chosen.reason == "torch's own kernels on cpu"


def test_a_kernel_is_tried_before_it_is_believed() -> None:
    class TooOld(EagerAttention):
        def packed(self, *_: Any) -> torch.Tensor:
            raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.\nmore")

    class Wrong(EagerAttention):
        def last_only(self, q: torch.Tensor, *others: Any) -> torch.Tensor:
            return super().last_only(q, *others) + 1.0

    right = EagerAttention("a kernel")
    assert _if_it_runs(right, "cpu", "float32") is right
    assert _if_it_runs(right, "cpu", "bfloat16") is right
    old = _if_it_runs(TooOld("flash"), "cpu", "float32")
    assert type(old) is EagerAttention
    assert old.reason == (
        "flash does not run here: FlashAttention only supports Ampere GPUs or newer."
    )
    wrong = _if_it_runs(Wrong("flash"), "cpu", "float32")
    assert type(wrong) is EagerAttention and "other numbers here (by 1)" in wrong.reason
