"""Fused kernels compiled to machine code of GPUs that need not be here, at the true models' sizes.

Not collected by itself: test_kernels.py runs it in a process of its own, without the interpreter.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.reranker.qwen3.tensors import TRUE_SHAPES

from longleaf.reranker.qwen3.attention_rows import KEYS, STAGES, WARPS, rows_of, tile_tokens
from longleaf.reranker.qwen3.weights import ModelShape


def constants(shape: ModelShape) -> dict[str, dict[str, Any]]:
    """The sizes that a true model compiles each kernel for."""
    rows = {"eps": 1e-6, "width": shape.hidden, "block": 1 << (shape.hidden - 1).bit_length()}
    heads = {
        "eps": 1e-6, "heads": shape.heads, "kv_heads": shape.kv_heads, "dim": shape.head_dim,
        "heads_block": shape.heads, "kv_block": shape.kv_heads, "half_block": shape.head_dim // 2,
        "dim_block": shape.head_dim, "has_keys": True,
    }  # fmt: skip
    return {
        "norm_rows": rows,
        "swiglu_rows": {"inner": shape.inner, "block": 1024},
        "split_rotate_rows": heads,
    }


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("group", [2, 4])
def test_the_row_attention_uses_matrix_units_and_spills_nothing(
    group: int, capability: int, last_only: bool
) -> None:
    """As `RowAttention` launches it: shared memory that an A100 has, loads that run ahead."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from longleaf.reranker.qwen3 import attention_triton

    kernel: Any = attention_triton.attend_rows
    tokens = 1 if last_only else tile_tokens(8 * group, 8)
    fixed = {
        "scale_log2": 0.1275, "eps": 1e-6, "kv_heads": 8, "group": group, "dim": 128,
        "tile_tokens": tokens, "tile_rows": rows_of(tokens, group),
        "keys": KEYS, "last_only": last_only,
    }  # fmt: skip
    kinds = {"cos": "*fp32", "sin": "*fp32", "q_stride": "i32", "k_stride": "i32"}
    kinds |= {"v_stride": "i32", "tiles": "*i32"}
    signature = {
        argument: "constexpr" if argument in fixed else kinds.get(argument, "*bf16")
        for argument in kernel.arg_names
    }
    places = {argument: number for number, argument in enumerate(kernel.arg_names)}
    source = ASTSource(
        kernel, signature, {(places[argument],): value for argument, value in fixed.items()},
        {(n,): [["tt.divisibility", 16]] for a, n in places.items() if signature[a] != "constexpr"},
    )  # fmt: skip
    target = GPUTarget("cuda", capability, 32)
    options = {"num_warps": WARPS, "num_stages": STAGES}
    made = triton.compile(source, target=target, options=options)
    code = made.asm["ptx"]
    assert made.asm["cubin"] and ".local" not in code
    assert made.metadata.shared <= 163 * 1024
    assert ("wgmma.mma_async" if capability == 90 and not last_only else "mma.sync") in code
    assert "cp.async" in code and "st.global.v4" in code


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("size", TRUE_SHAPES)
def test_kernels_read_wide_and_spill_nothing(size: str, capability: int) -> None:
    """To machine code of an A100 and an H100: 128-bit loads and stores, no local memory."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from longleaf.reranker.qwen3 import kernels_triton

    other = {"cos": "*fp32", "sin": "*fp32", "keys": "*i64", "q_rows": "i32"}
    for name, fixed in constants(TRUE_SHAPES[size]).items():
        kernel: Any = getattr(kernels_triton, name)
        signature = {
            argument: "constexpr" if argument in fixed else other.get(argument, "*bf16")
            for argument in kernel.arg_names
        }
        places = {argument: number for number, argument in enumerate(kernel.arg_names)}
        pointers = [places[argument] for argument, kind in signature.items() if kind[0] == "*"]
        source = ASTSource(
            kernel, signature, {(places[argument],): value for argument, value in fixed.items()},
            {(number,): [["tt.divisibility", 16]] for number in pointers},
        )  # fmt: skip
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert made.asm["cubin"], name
        code = made.asm["ptx"]
        assert ".local" not in code, f"{name} spills"
        assert "ld.global.v4" in code or "ld.global.L1::evict_last.v4" in code, name
        assert "st.global.v4" in code, name
