"""The short form of benchmarks/kill.py: one SIGKILL in each phase, nothing acknowledged lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "kill.py"


@pytest.mark.slow
def test_kill_dash_nine_in_every_phase_loses_nothing() -> None:
    # A process of its own: it forks, and this one has loaded torch.
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", "10", "--seed", "5"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.splitlines()[-1].startswith("OK: ")
    assert " 0," not in done.stdout.splitlines()[-1].split(";")[0], "a phase was never hit"
