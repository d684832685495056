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
    ],
)
def test_short_form(module: str, counts: list[str], program: str) -> None:
    if program and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    if program == "unshare" and os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    # A process of its own: these fork, and this one may have loaded torch.
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.trust.{module}", "--json", *counts],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])["ok"]
