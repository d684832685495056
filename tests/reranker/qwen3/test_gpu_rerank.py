"""The GPU benchmark runs whole on a toy, so that it works the day there is a GPU."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks/gpu_rerank.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    spec = importlib.util.spec_from_file_location("gpu_rerank", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_rerank", module)
    spec.loader.exec_module(module)
    return module


def test_every_part_runs_and_a_second_run_goes_on(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    given = ["--tiny", "--out", str(out), "--scratch", str(tmp_path / "models")]
    script.main(given)
    told = json.loads(out.read_text("utf-8"))
    cells = told["cells"].values()
    assert {cell["part"] for cell in cells} == set(script.PARTS)
    assert all(cell["p50_ms"] > 0 and cell["floor_ms"] > 0 for cell in cells)
    grid = {(c["documents"], c["tokens"]) for c in cells if c["part"] == "long"}
    assert grid == {(documents, tokens) for documents in (2, 4) for tokens in (32, 64)} | {(1, 128)}
    arms = {cell["arm"].partition("/")[0] for cell in cells}
    assert arms == {"ours", "transformers sorted", "model card", "CrossEncoder"}
    # All arms score the same pairs: timing something else would be no comparison.
    assert len(told["largest_difference"]) > 2
    assert max(told["largest_difference"].values()) < 1e-3
    assert "| rivals |" in capsys.readouterr().out
    assert out.with_suffix(".svg").read_text("utf-8").startswith("<svg")

    forgotten = next(key for key in told["cells"] if key.startswith("passages"))
    del told["cells"][forgotten]
    out.write_text(json.dumps(told), "utf-8")
    script.main([*given, "--part", "passages"])
    again = json.loads(out.read_text("utf-8"))["cells"]
    assert again.keys() == told["cells"].keys() | {forgotten}
    assert all(again[key] == cell for key, cell in told["cells"].items()), "measured once"


def test_results_of_two_machines_are_not_mixed(script: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text('{"machine": "another"}', "utf-8")
    with pytest.raises(SystemExit, match="another"):
        script.Results(out, "this one", 1e12, True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(script: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="sees no GPU"):
        script.main(["--out", str(tmp_path / "out.json")])


def test_targets_are_judged(script: Any) -> None:
    cell = {
        "part": "passages", "model": "0.6B", "documents": 100, "tokens": 128, "spread": "fixed",
        "arm": "ours/graphs", "p50_ms": 27.0, "items_per_second": 3700.0, "utilisation": 0.57,
        "tokens_per_second": 474_000.0,
    }  # fmt: skip

    def told(*cells: Any) -> str:
        summary: str = script.summary({"cells": dict(enumerate(cells))})
        return summary

    assert "OK 0.6B 100x128: 27.0 ms, 28.0 ms asked for" in told(cell)
    assert "FAIL 0.6B 100x128: 29.0 ms" in told(cell | {"p50_ms": 29.0})
    own = cell | {"arm": "ours/texts", "p50_ms": 30.0}
    rivals = [
        cell | {"arm": f"CrossEncoder/texts/{batch}", "p50_ms": ms}
        for batch, ms in ((8, 150.0), (32, 126.0))
    ]
    assert "OK 0.6B 100x128: 4.20 times CrossEncoder, 4.0 asked for" in told(own, *rivals)
    assert "FAIL 0.6B 100x128: 3.50 times" in told(own | {"p50_ms": 36.0}, *rivals)
    large = cell | {"model": "8B", "utilisation": 0.5}
    assert "FAIL 8B 100x128: 2.00 of the floor, 1.7 asked for" in told(large)
    assert "OK 8B 100x128: 1.60 of the floor" in told(large | {"utilisation": 0.625})
