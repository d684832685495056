"""The runner of benchmarks/quality.yaml, as a program, with commands that print JSON."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

RUNNER = Path(__file__).resolve().parents[2] / "benchmarks" / "quality.py"
PRINTS = (
    """python -c 'print("{\\"stages\\": {\\"final\\": {\\"ndcg@10\\": 0.741}}, \\"n\\": 3}")'"""
)


def _run(path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUNNER), "--file", str(path), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _write(folder: Path, *entries: dict[str, object]) -> Path:
    path = folder / "quality.yaml"
    path.write_text(yaml.safe_dump({"collections": list(entries)}))
    return path


def _entry(name: str, *checks: dict[str, object], command: str = PRINTS) -> dict[str, object]:
    return {"name": name, "command": command, "checks": list(checks)}


HOLDS = _entry(
    "good",
    {"value": "stages/final/ndcg@10", "at_least": 0.741},
    {"value": "stages/final/ndcg@10", "expected": 0.740, "tolerance": 0.001},
    {"value": "n", "at_most": 3},
)
FAILS = _entry(
    "bad",
    {"value": "stages/final/ndcg@10", "at_least": 0.75},
    {"value": "stages/final/ndcg@10", "expected": 0.745, "tolerance": 0.001},
    {"value": "n", "at_most": 2},
    {"value": "stages/fused/ndcg@10", "at_least": 0.1},
)


def test_figures_that_hold(tmp_path: Path) -> None:
    done = _run(_write(tmp_path, HOLDS))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("OK   good") == 3
    assert "FAIL" not in done.stdout


def test_each_figure_that_does_not_hold_fails(tmp_path: Path) -> None:
    path = _write(tmp_path, HOLDS, FAILS)
    done = _run(path)
    assert done.returncode == 1
    assert done.stdout.count("FAIL bad") == 4
    assert "stages/fused/ndcg@10: not in the output" in done.stdout
    assert _run(path, "--only", "good").returncode == 0
    assert _run(path, "--only", "nobody").returncode == 2


def test_update_prints_what_was_measured(tmp_path: Path) -> None:
    done = _run(_write(tmp_path, FAILS), "--update")
    assert done.returncode == 0
    assert "stages/final/ndcg@10: 0.741  # now at least 0.75" in done.stdout


def test_data_and_no_shell(tmp_path: Path) -> None:
    """The folder's space, quote and dollar reach the program as they are."""
    data = tmp_path / "it's $HOME; x"
    data.mkdir()
    script = (
        "python -c 'import json,sys,pathlib; "
        'print(json.dumps({"there": int(pathlib.Path(sys.argv[1]).is_dir())}))\' {data}'
    )
    check = {"value": "there", "expected": 1, "tolerance": 0}
    path = _write(tmp_path, _entry("quoting", check, command=script))
    done = _run(path, "--data", str(data))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("python -c 'import sys; sys.exit(\"no such folder\")'", "no such folder"),
        ("python -c 'print(1, 2)'", "no JSON"),
        ("no-such-program --json", "no program"),
        ("python -c 'import time; time.sleep(30)'", "longer than 0.5 s"),
    ],
)
def test_a_command_that_gives_nothing_fails(tmp_path: Path, command: str, what: str) -> None:
    limit = "0.5" if "sleep" in command else "30"
    path = _write(tmp_path, _entry("x", {"value": "n", "at_least": 1}, command=command))
    done = _run(path, "--timeout-s", limit)
    assert done.returncode == 1
    assert what in done.stdout


@pytest.mark.parametrize(
    "check",
    [
        {"value": "n", "expected": None, "tolerance": 0.1},
        {"value": "n", "expected": 0.7},
        {"value": "n", "at_least": 0.7, "tolerance": 0.1},
        {"value": "n"},
        {"value": "n", "at_least": 1, "at_most": 2},
        {"value": "n", "atleast": 1},
        {"value": "n", "at_least": True},
    ],
)
def test_a_check_that_checks_nothing_is_refused(tmp_path: Path, check: dict[str, object]) -> None:
    done = _run(_write(tmp_path, _entry("x", check)))
    assert done.returncode == 2
    assert done.stderr


def test_the_real_file_is_readable() -> None:
    """An unknown name lists the entries, which needs every one of them to be well formed."""
    done = _run(RUNNER.with_suffix(".yaml"), "--only", "nobody")
    assert done.returncode == 2
    assert "scifact, trec_dl19_rerank" in done.stderr
