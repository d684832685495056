"""The short forms of the reliability goals: the same scripts with counts of a few seconds.

Goals 1, 9, 10, 11 and 14 have theirs elsewhere (docs/reliability.md names them).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "counts", "program"),
    [
        ("failpoints", ["--every", "12", "--operations", "1", "--kinds", "3"], "strace"),
        ("ack_order", ["--files", "6", "--uploads", "4"], "strace"),
        ("lost_tail", ["--every", "60"], ""),
        ("bitrot", ["--trials", "4"], ""),
        ("disk_full", ["--rooms", "1", "--limits", "1"], "unshare"),
        ("idempotence", ["--times", "12"], ""),
        ("dead_workers", ["--strikes", "5"], ""),
        (
            "input",
            ["--passes=2", "--examples=2", "--every=12", "--strings=0", "--least=1000"],
            "",
        ),
        ("paths", ["--every", "8", "--traced", "0"], ""),
        ("paths", ["--every", "15"], "strace"),
        ("deserialise", [], ""),
    ],
)
def test_short_form(module: str, counts: list[str], program: str) -> None:
    if program and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    if program == "unshare" and not _may_mount():
        pytest.skip("mounting a small disk is not allowed here (it needs root)")
    if program == "strace" and not _may_trace():
        pytest.skip("tracing another process is not allowed here")
    # A process of its own: these fork, and this one may have loaded torch.
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.trust.{module}", "--json", *counts],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])["ok"]


def _may_mount() -> bool:
    mount = ["mount", "-t", "tmpfs", "none", "/mnt"]
    asked = ["unshare", "-m", "--propagation", "private", *mount]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _may_trace() -> bool:
    with subprocess.Popen(["sleep", "60"]) as other:
        asked = ["strace", "-qq", "-o", os.devnull, "-p", str(other.pid)]
        try:
            subprocess.run(asked, capture_output=True, check=False, timeout=2)
        except subprocess.TimeoutExpired:
            return True  # it was still looking on
        finally:
            other.kill()
    return False
