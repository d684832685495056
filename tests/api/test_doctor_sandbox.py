"""The doctor says what holds parsers back on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from longleaf.api.doctor import machine
from longleaf.api.doctor.report import Status
from longleaf.core.config import load_settings
from longleaf.indexer.sandbox import landlock
from longleaf.indexer.sandbox.confine import Confinement, Hold
from longleaf.indexer.sandbox.pool import SandboxReader


def test_what_holds_parsers_back_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load_settings({"home": tmp_path}, {}).settings
    (parsers, *_) = machine.sandbox(settings)
    assert parsers.subject == "sandbox of parsers"
    for wall in ("network", "writes", "reads", "memory", "processes", "privileges"):
        assert wall in parsers.fact
    if landlock.abi():
        assert parsers.status is Status.OK
        assert f"nothing (Landlock ABI {landlock.abi()})" in parsers.fact
    held, open_ = Hold(True, "by something"), Hold(False, "the kernel has no Landlock")
    report = Confinement(held, open_, open_, held, held, held)
    monkeypatch.setattr(SandboxReader, "confinements", lambda _: {"parsers": report})
    (lacking,) = machine.sandbox(settings)
    assert lacking.status is Status.WARN and lacking.remedy
    assert "Missing: writes: the kernel has no Landlock; reads: the kernel" in lacking.fact
    assert "In force: network: by something" in lacking.fact
