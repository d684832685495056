"""A catalog of an older schema is brought up whole, or left as it was."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from longleaf.core.catalog import Catalog, migrations, schema
from longleaf.core.errors import CatalogBroken
from longleaf.core.types import Scope

# What version 1 had and this version changes; everything else is the same in both.
_BACK_TO_1 = """
    ALTER TABLE contents ADD COLUMN source_map JSON NOT NULL DEFAULT '[]';
    ALTER TABLE contents DROP COLUMN regions;
    ALTER TABLE generations DROP COLUMN settings;
    ALTER TABLE passages DROP COLUMN role;
    ALTER TABLE passages DROP COLUMN checksum; ALTER TABLE vectors DROP COLUMN checksum;
    ALTER TABLE revisions DROP COLUMN checksum; DELETE FROM meta WHERE key = 'epoch';
    DROP TABLE layouts; DROP TABLE job_files; DROP TABLE jobs; DROP TABLE erasures;
    ALTER TABLE collections DROP COLUMN instruction; ALTER TABLE collections DROP COLUMN rerank;
    DROP TABLE judgements; DROP TABLE reader_ids;
    DROP TABLE ocr_pages; DROP TABLE signature_bands; DROP TABLE signatures;
    UPDATE meta SET value = '1' WHERE key = 'schema_version';
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    catalog = Catalog(tmp_path)
    catalog.create_collection("law")
    catalog.close()
    with sqlite3.connect(tmp_path / "catalog.sqlite3") as file:
        file.executescript(_BACK_TO_1)
    return tmp_path


def columns(folder: Path) -> dict[str, set[str]]:
    with sqlite3.connect(folder / "catalog.sqlite3") as file:
        names = [
            row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        return {
            name: {row[1] for row in file.execute(f"PRAGMA table_info({name})")} for name in names
        }


def test_version_1_becomes_the_current_schema(
    old: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    catalog = Catalog(old)
    assert [each.name for each in catalog.collections(Scope.all())] == ["law"]
    catalog.close()
    fresh = tmp_path_factory.mktemp("fresh")
    Catalog(fresh).close()
    assert columns(old) == columns(fresh)


def test_an_upgrade_that_fails_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = columns(old)
    step = migrations._STEPS[1]

    def half(connection: object) -> None:
        step(connection)  # type: ignore[arg-type]
        raise RuntimeError("the power failed")

    monkeypatch.setitem(migrations._STEPS, 1, half)
    with pytest.raises(RuntimeError):
        Catalog(old)
    assert columns(old) == before
    monkeypatch.undo()
    Catalog(old).close()


@pytest.mark.parametrize("version", [0, schema.SCHEMA_VERSION + 1])
def test_versions_that_it_does_not_know_are_refused(old: Path, version: int) -> None:
    with sqlite3.connect(old / "catalog.sqlite3") as file:
        file.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (str(version),))
    with pytest.raises(CatalogBroken, match=f"version {version}"):
        Catalog(old)
