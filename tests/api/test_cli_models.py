"""`longleaf models` on a tiny model that has learned the check, and on one that has not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.reranker.qwen3.models import tiny_folder, train
from tests.reranker.tiny import one_torch_thread
from typer.testing import CliRunner

from longleaf.api.cli.main import app
from longleaf.core.errors import ModelUnavailable
from longleaf.reranker import hub
from longleaf.reranker.qwen3.check import PROBES


def test_check_says_what_it_found_and_refuses_nonsense(tmp_path: Path) -> None:
    with one_torch_thread():
        train(tmp_path / "trained")
        told = CliRunner().invoke(app, ["models", "check", str(tmp_path / "trained"), "--json"])
        assert told.exit_code == 0, told.output
        answer = json.loads(told.stdout)
        assert "float32 on cpu" in answer["reason"] or "cuda" in answer["reason"]
        assert [each["query"] for each in answer["probes"]] == [each.query for each in PROBES]
        assert all(each["relevant"] > each["irrelevant"] for each in answer["probes"])
        shown = CliRunner().invoke(app, ["models", "check", str(tmp_path / "trained")])
        assert shown.stdout.count("\nOK") == len(PROBES)

        tiny_folder(tmp_path / "random")
        refused = CliRunner().invoke(app, ["models", "check", str(tmp_path / "random")])
        assert refused.exit_code == 1 and isinstance(refused.exception, ModelUnavailable)
        assert "nonsense above sense" in str(refused.exception)


def test_list_and_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "cached_models", list)
    assert "models pull" in CliRunner().invoke(app, ["models", "list"]).stdout
    found = hub.CachedModel("owner/name", tmp_path, 1_200_000_000, False)
    monkeypatch.setattr(hub, "cached_models", lambda: [found])
    assert "1.2 GB" in (shown := CliRunner().invoke(app, ["models", "list"]).stdout)
    assert "pull it again" in shown
    listed = json.loads(CliRunner().invoke(app, ["models", "list", "--json"]).stdout)
    assert listed == [
        {"model": "owner/name", "folder": str(tmp_path), "bytes": 1_200_000_000, "whole": False}
    ]
    monkeypatch.setattr(hub, "pull_model", lambda model, to: to / model)
    given = ["models", "pull", "owner/name", "--to", str(tmp_path), "--json"]
    pulled = json.loads(CliRunner().invoke(app, given).stdout)
    assert pulled == {"model": "owner/name", "folder": str(tmp_path / "owner/name")}
    monkeypatch.undo()
    refused = CliRunner().invoke(app, ["models", "pull", "no-hub-id"])
    assert refused.exit_code == 1 and isinstance(refused.exception, ModelUnavailable)
