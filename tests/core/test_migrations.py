"""A catalog of an older schema is brought up whole, or left as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, make_url
from tests.postgres import PostgresServer

from longleaf.core.access import Role
from longleaf.core.catalog import Catalog, migrations, schema
from longleaf.core.catalog.database import Database
from longleaf.core.catalog.keys import KeyWrite
from longleaf.core.errors import CatalogBroken
from longleaf.core.store_settings import CatalogSettings
from longleaf.core.types import Scope

# What version 1 had and this version changes; everything else is the same in both.
BACK_TO_1 = """
    ALTER TABLE contents ADD COLUMN source_map JSON NOT NULL DEFAULT '[]';
    ALTER TABLE contents DROP COLUMN regions;
    ALTER TABLE generations DROP COLUMN settings;
    ALTER TABLE passages DROP COLUMN role;
    ALTER TABLE passages DROP COLUMN checksum; ALTER TABLE vectors DROP COLUMN checksum;
    ALTER TABLE revisions DROP COLUMN checksum; DELETE FROM meta WHERE key = 'epoch';
    DROP TABLE layouts; DROP TABLE job_files; DROP TABLE jobs; DROP TABLE erasures;
    ALTER TABLE collections DROP COLUMN instruction; ALTER TABLE collections DROP COLUMN rerank;
    DROP TABLE judgements; DROP TABLE reader_ids;
    DROP INDEX documents_by_title; DROP INDEX documents_by_update;
    ALTER TABLE documents DROP COLUMN title_key;
    DROP TABLE ocr_pages; DROP TABLE signature_bands; DROP TABLE signatures;
    DROP TABLE title_words; DROP TABLE sessions; DROP TABLE sign_ins;
    UPDATE meta SET value = '1' WHERE key = 'schema_version';
"""


_BACK_TO_8 = """
    ALTER TABLE sessions DROP COLUMN person; DROP TABLE sign_ins;
    UPDATE meta SET value = '8' WHERE key = 'schema_version';
"""


class Old:
    """A catalog of an older version, looked at past our own code."""

    def __init__(self, folder: Path, settings: CatalogSettings) -> None:
        self.folder, self.settings = folder, settings
        url = f"sqlite:///{folder / 'catalog.sqlite3'}"
        if settings.url:
            url = make_url(settings.url).set(drivername="postgresql+psycopg")
        self.engine = create_engine(url)

    def execute(self, script: str) -> None:
        with self.engine.begin() as connection:
            for statement in filter(str.strip, script.split(";")):
                connection.exec_driver_sql(statement)

    def columns(self) -> dict[str, set[str]]:
        inspector = inspect(self.engine)
        return {
            name: {column["name"] for column in inspector.get_columns(name)}
            for name in inspector.get_table_names()
        }

    def open(self) -> Catalog:
        return Catalog(self.folder, self.settings)


@pytest.fixture
def old(tmp_path: Path, catalog_settings: CatalogSettings) -> Any:
    catalog = Catalog(tmp_path, catalog_settings)
    catalog.create_collection("law")
    catalog.close()
    opened = Old(tmp_path, catalog_settings)
    opened.execute(BACK_TO_1)
    yield opened
    opened.engine.dispose()


def differences(connection: Connection) -> list[Any]:
    """What alembic sees between the tables that are there and those that should be."""
    # SQLite has one kind of integer, so its columns' declared types mean nothing.
    types = connection.dialect.name != "sqlite"
    context = MigrationContext.configure(connection, opts={"compare_type": types})
    found: list[Any] = compare_metadata(context, schema.metadata)
    return found


def test_version_1_becomes_the_current_schema(old: Old) -> None:
    with old.engine.connect() as connection:
        assert len(differences(connection)) > 15  # the comparison sees what is missing
    catalog = old.open()
    assert [each.name for each in catalog.collections(Scope.all())] == ["law"]
    with catalog.database.reading() as connection:
        assert differences(connection) == []
        assert migrations.stored_version(connection) == schema.SCHEMA_VERSION
    catalog.close()


def test_sessions_of_version_8_go_on(tmp_path: Path, catalog_settings: CatalogSettings) -> None:
    catalog = Catalog(tmp_path, catalog_settings)
    key, token = catalog.keys.create(KeyWrite("anne", Role.READ))
    session = catalog.keys.open_session(key.caller(), 600.0)
    catalog.close()
    opened = Old(tmp_path, catalog_settings)
    opened.execute(_BACK_TO_8)
    assert "person" not in opened.columns()["sessions"]
    catalog = opened.open()
    assert catalog.keys.caller(session) == catalog.keys.caller(token) == key.caller()
    with catalog.database.reading() as connection:
        assert differences(connection) == []
    catalog.close()
    opened.engine.dispose()


def test_an_upgrade_that_fails_changes_nothing(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    before = old.columns()
    step = migrations._STEPS[1]

    def half(*given: Any) -> None:
        step(*given)
        raise RuntimeError("the power failed")

    monkeypatch.setitem(migrations._STEPS, 1, half)
    with pytest.raises(RuntimeError):
        old.open()
    assert old.columns() == before
    monkeypatch.undo()
    old.open().close()


@pytest.mark.parametrize("version", [0, schema.SCHEMA_VERSION + 1])
def test_versions_that_it_does_not_know_are_refused(old: Old, version: int) -> None:
    old.execute(f"UPDATE meta SET value = '{version}' WHERE key = 'schema_version'")
    with pytest.raises(CatalogBroken, match=f"version {version}"):
        old.open()


def test_a_catalog_that_has_lost_tables_is_refused_and_left_alone(
    tmp_path: Path, catalog_settings: CatalogSettings
) -> None:
    """Made anew, the tables would be empty and the loss would be seen by nobody."""
    Catalog(tmp_path, catalog_settings).close()
    damaged = Old(tmp_path, catalog_settings)
    damaged.execute("DROP TABLE audit")
    before = damaged.columns()
    with pytest.raises(CatalogBroken, match=r"lost tables \(audit\)") as raised:
        damaged.open()
    assert "longleaf restore" in raised.value.hint
    assert damaged.columns() == before
    damaged.engine.dispose()


def test_tables_of_another_program_are_refused_and_left_alone(
    tmp_path: Path, catalog_settings: CatalogSettings, request: pytest.FixtureRequest
) -> None:
    if catalog_settings.url:
        server: PostgresServer = request.getfixturevalue("postgres")
        catalog_settings = CatalogSettings(url=server.empty_database())
    other = Old(tmp_path, catalog_settings)
    other.execute("CREATE TABLE documents (id INTEGER); CREATE TABLE meta (id INTEGER)")
    with pytest.raises(CatalogBroken, match=r"not Longleaf's \(documents, meta\)"):
        other.open()
    assert other.columns() == {"documents": {"id"}, "meta": {"id"}}
    other.engine.dispose()


def test_a_new_database_gets_the_current_schema(tmp_path: Path, postgres: PostgresServer) -> None:
    database = Database.open(tmp_path, postgres.empty_database())
    with database.reading() as connection:
        assert differences(connection) == []
        assert migrations.is_current(connection)
    database.close()
