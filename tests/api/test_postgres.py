"""The programs on a catalog in Postgres: real processes, one database, no traceback anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.api.conftest import ON_POSTGRES
from tests.postgres import PASSWORD, PostgresServer

from longleaf.api import wire
from longleaf.api.evaluate.engine import open_scratch
from longleaf.core.config import Settings, load_settings
from longleaf.core.store_settings import CatalogSettings

TEXT = "Lease\n\nThe tenant shall pay the rent on the first day of each month.\n"


class Machine:
    """A data folder and an environment: what another server has, on the same catalog."""

    def __init__(self, folder: Path, url: str) -> None:
        self.home = folder / "home"
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LONGLEAF_")},
            "LONGLEAF_HOME": str(self.home),
            "LONGLEAF_CATALOG__URL": url,
            "LONGLEAF_CATALOG__ORIGINALS": str(folder.parent / "shared" / "originals"),
            "LONGLEAF_CATALOG__TOKEN_VECTORS": str(folder.parent / "shared" / "token-vectors"),
        }

    def run(self, *arguments: str, code: int | None = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "longleaf.api.cli", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert code is None or done.returncode == code, done.stdout
        assert "Traceback" not in done.stdout
        assert PASSWORD not in done.stdout and "%2F" not in done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def machines(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer
) -> tuple[Machine, Machine]:
    """Two, and the first has indexed a file."""
    folder, url = tmp_path_factory.mktemp("machines"), postgres.empty_database()
    first, second = (Machine(folder / name, url) for name in ("first", "second"))
    (folder / "lease.txt").write_text(TEXT)
    first.run("index", str(folder / "lease.txt"))
    return first, second


def test_what_one_machine_indexed_the_other_finds(machines: tuple[Machine, Machine]) -> None:
    found = [json.loads(each.run("search", "tenant rent", "--json")) for each in machines]
    ids = [[hit["document_id"] for hit in answer["hits"]] for answer in found]
    assert ids[0] == ids[1] and len(ids[0]) == 1
    for machine in machines:
        assert not (machine.home / "catalog.sqlite3").exists()
        assert not (machine.home / "originals").exists()


def test_the_doctor_looks_at_the_server_and_not_at_a_file(
    machines: tuple[Machine, Machine],
) -> None:
    said = machines[1].run("doctor", "--deep", code=None)
    assert "Postgres 1" in said and "postgresql://longleaf:***@" in said
    # The tests' server is set so where it holds no other test's catalog, and that must be told.
    assert ("fsync is off" in said) is not ON_POSTGRES
    assert "all 1 looked at" in said
    assert "catalog file" not in said


def test_backup_and_restore_name_the_way(machines: tuple[Machine, Machine], tmp_path: Path) -> None:
    for command in ("backup", "restore"):
        said = machines[0].run(command, str(tmp_path / "there"), code=None)
        assert "pg_dump" in said and "longleaf export" in " ".join(said.split())
    assert not (tmp_path / "there").exists()


def test_compact_and_export_work_as_elsewhere(
    machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    assert "Catalog:" in machines[0].run("compact")
    machines[0].run("export", str(tmp_path / "all"))
    assert len(list((tmp_path / "all" / "originals").rglob("??????????*"))) == 1
    assert ":***@" in machines[0].run("config", "--json")


def test_an_evaluation_keeps_its_collection_out_of_the_shared_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SimpleNamespace(fingerprint="f")
    opened: list[Settings] = []

    def open_write_side(settings: Settings) -> None:
        opened.append(settings)
        raise InterruptedError

    monkeypatch.setattr(wire, "open_models", lambda *_: (made, made))
    monkeypatch.setattr(wire, "open_write_side", open_write_side)
    shared = load_settings({"home": tmp_path, "catalog.url": "postgresql://h/x"}, {}).settings
    collection: Any = SimpleNamespace(corpus_sha256="c")
    with pytest.raises(InterruptedError):
        open_scratch(shared, collection, "english")
    assert opened[0].catalog == CatalogSettings()
    assert opened[0].home != shared.home


def test_a_server_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    away = Machine(tmp_path / "away", "postgresql://longleaf:hunter2secret@127.0.0.1:1/x")
    for command in (["search", "rent"], ["doctor"], ["jobs", "list"]):
        said = away.run(*command, code=None)
        assert "catalog" in said and "hunter2secret" not in said
