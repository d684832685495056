"""What an administrator has set for a role or a database changes no transaction of ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from tests.postgres import PostgresServer

from longleaf.core.catalog import Catalog, schema
from longleaf.core.catalog.postgres import PostgresDatabase
from longleaf.core.errors import CatalogBroken, CatalogUnavailable
from longleaf.core.store_settings import CatalogSettings

DEFAULTS = {
    "default_transaction_isolation": ("read committed", "repeatable read", "serializable"),
    "default_transaction_read_only": ("on",),
    "default_transaction_deferrable": ("on",),
}


@pytest.fixture
def opened(postgres: PostgresServer) -> Iterator[Callable[[str, str], PostgresDatabase]]:
    """Opens a database with a default of its own."""
    all_opened = []

    def open_with(name: str, value: str) -> PostgresDatabase:
        url = postgres.database()
        database = url.rpartition("/")[2]
        postgres.execute("postgres", f"ALTER DATABASE {database} SET {name} = '{value}'")
        all_opened.append(PostgresDatabase(url))
        return all_opened[-1]

    yield open_with
    for each in all_opened:
        each.close()


@pytest.fixture
def server_version(postgres: PostgresServer) -> int:
    database = PostgresDatabase(postgres.database())
    found = database.facts()["version"]
    database.close()
    return int(found.partition(".")[0])


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in DEFAULTS.items() for value in values]
)
def test_a_writer_that_waited_sees_what_the_one_before_has_committed(
    name: str, value: str, opened: Callable[[str, str], PostgresDatabase]
) -> None:
    """A snapshot from before the wait would have it unlink an original that was just taken up."""
    database = opened(name, value)

    def look() -> int:
        with database.writing() as connection:
            asked = "SELECT count(*) FROM meta WHERE key = 'new'"
            found = int(connection.execute(text(asked)).scalar_one())
            connection.execute(text("UPDATE meta SET value = '2' WHERE key = 'new'"))
            return found

    with ThreadPoolExecutor(1) as pool:
        with database.writing() as connection:
            waiting = pool.submit(look)
            time.sleep(0.5)
            connection.execute(text("INSERT INTO meta VALUES ('new', '1')"))
        assert waiting.result() == 1
    database.vacuum()


@pytest.mark.parametrize(
    "name", ["statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"]
)
def test_a_reader_may_take_its_time(
    name: str, opened: Callable[[str, str], PostgresDatabase], server_version: int
) -> None:
    if name == "transaction_timeout" and server_version < 17:
        pytest.skip("came with PostgreSQL 17")
    database = opened(name, "200ms")
    with database.reading() as connection:
        connection.execute(text("SELECT pg_sleep(0.5)"))
        time.sleep(0.5)
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_who_is_cut_off_is_told_so_and_nothing_of_locks(
    opened: Callable[[str, str], PostgresDatabase],
) -> None:
    database = opened("work_mem", "4MB")

    def cancel(pid: int) -> None:
        time.sleep(0.5)
        with database.reading() as other:
            other.execute(text("SELECT pg_cancel_backend(:pid)"), {"pid": pid})

    def wait_long() -> None:
        with database.reading() as connection, ThreadPoolExecutor(1) as pool:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            pool.submit(cancel, pid)
            connection.execute(text("SELECT pg_sleep(10)"))

    with pytest.raises(CatalogUnavailable, match=r"cut this off.*user request"):
        wait_long()


def test_an_open_process_writes_nothing_into_a_newer_schema(
    tmp_path: Path, catalog_settings: CatalogSettings
) -> None:
    catalog = Catalog(tmp_path, catalog_settings)
    newer = str(schema.SCHEMA_VERSION + 1)
    with catalog.database.writing() as connection:
        asked = text("UPDATE meta SET value = :newer WHERE key = 'schema_version'")
        connection.execute(asked, {"newer": newer})
    with pytest.raises(CatalogBroken, match=f"version {newer} by now") as caught:
        catalog.create_collection("law")
    assert "end this process" in caught.value.hint
    catalog.close()


def test_who_still_reads_when_it_is_closed_leaves_no_connection_behind(
    postgres: PostgresServer,
) -> None:
    opened = PostgresDatabase(postgres.empty_database())
    with opened.reading() as connection:
        session = connection.connection.dbapi_connection
        assert isinstance(session, psycopg.Connection)
        opened.close()
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    assert session.closed
