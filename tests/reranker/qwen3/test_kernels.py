"""Which row-wise steps are chosen, and that the fused ones equal plain torch.

Triton is optional; where it is not installed these tests say so and skip. How it runs is decided
when it is first imported, so each way has a process of its own: interpreted on the CPU
(kernels_interpreted.py), and compiled for GPUs that need not be here (kernels_compiled.py).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from longleaf.reranker.qwen3.kernels import choose_operations
from longleaf.reranker.qwen3.model import PlainOperations

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)


@needs_triton
@pytest.mark.parametrize("way", ["interpreted", "compiled"])
def test_kernels_in_a_process_of_their_own(way: str, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = kept | {"TRITON_CACHE_DIR": str(tmp_path)}
    environment |= {"TRITON_INTERPRET": "1"} if way == "interpreted" else {}
    checks = str(HERE / f"kernels_{way}.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", checks],
        env=environment, capture_output=True, text=True, check=False, cwd=HERE.parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_the_cpu_gets_plain_torch_and_the_reason() -> None:
    chosen = choose_operations("cpu")
    assert isinstance(chosen, PlainOperations)
    assert chosen.name == "plain torch (fused kernels are for CUDA, not for cpu)"
    assert PlainOperations.name == "plain torch"


def test_without_triton_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    assert choose_operations("cuda").name == "plain torch (triton is not installed)"


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="triton works here")
def test_a_triton_that_cannot_run_is_not_believed() -> None:
    chosen = choose_operations("cuda:0")
    assert isinstance(chosen, PlainOperations)
    assert chosen.name.startswith("plain torch (triton does not work here: ")
