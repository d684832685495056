"""What only Postgres has: several writers on one log, a server that can be away, its own limits."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import text
from tests.core.test_catalog import DIM, TOKEN_DIM, write
from tests.postgres import PASSWORD, PostgresServer

from longleaf.core.catalog import Catalog
from longleaf.core.catalog import postgres as postgres_module
from longleaf.core.catalog.postgres import PostgresDatabase
from longleaf.core.catalog.verify import Verifier
from longleaf.core.config import load_settings, shown_value
from longleaf.core.errors import (
    CatalogBroken,
    CatalogBusy,
    CatalogUnavailable,
    ConfigError,
    InvalidRequest,
)
from longleaf.core.store_settings import CatalogSettings, without_password
from longleaf.core.types import Scope

ROOT = Path(__file__).parents[2]
WRITERS = 8


@pytest.fixture
def shared(postgres: PostgresServer) -> CatalogSettings:
    return CatalogSettings(url=postgres.database())


@pytest.fixture
def database(shared: CatalogSettings) -> Iterator[PostgresDatabase]:
    opened = PostgresDatabase(shared.url)
    yield opened
    opened.close()


# --- the log ---------------------------------------------------------------------------------


_WRITER = """
import sys
from pathlib import Path
from longleaf.core.catalog import Catalog
from longleaf.core.store_settings import CatalogSettings, without_password
from tests.core.test_catalog import write
settings = CatalogSettings.model_validate_json(sys.stdin.readline())
catalog = Catalog(Path(sys.argv[1]), settings)
generation = catalog.live_generation()
for number in range(int(sys.argv[3])):
    catalog.commit(generation, [write(f"{sys.argv[2]}-{number}", f"text {number % 50}")])
catalog.close()
"""


class Follower(threading.Thread):
    """Reads the log as an index does, always from behind what it has seen."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__()
        self._catalog = catalog
        self.ended = threading.Event()
        self.seen: list[int] = []
        self.late: list[int] = []

    def run(self) -> None:
        last_round = False
        while True:
            # Asked from the beginning now and then: a seq that came late would be missed else.
            fresh = [change.seq for change in self._catalog.changes_since(self._last(), 5000)]
            self.seen += fresh
            known = set(self.seen)
            below = self._catalog.changes_since(max(0, self._last() - 500), 600)
            self.late += [
                each.seq for each in below if each.seq <= self._last() and each.seq not in known
            ]
            if last_round and not fresh:
                return
            last_round = self.ended.wait(0.02)

    def _last(self) -> int:
        return self.seen[-1] if self.seen else 0


COMMITS = int(os.environ.get("LONGLEAF_TEST_COMMITS", "1000"))
"""In all, of eight processes. docs/LOG.md tells what 10,000 gave."""


@pytest.mark.parametrize("commits", [COMMITS])
def test_eight_writers_give_one_log_in_the_order_of_their_commits(
    tmp_path: Path, shared: CatalogSettings, commits: int
) -> None:
    """No reader ever sees a seq appear below one that it has seen, and none is missing."""
    catalog = Catalog(tmp_path / "reader", shared)
    catalog.create_collection("law")
    catalog.open_generation("chunker-1", "embedder-1", "tiny", DIM, TOKEN_DIM)
    catalog.record_follower("one", 0)  # the log is kept from here
    followers = [Follower(catalog) for _ in range(2)]
    for follower in followers:
        follower.start()
    begun = time.monotonic()
    writers = []
    for number in range(WRITERS):
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _WRITER),
                *(str(tmp_path / f"w{number}"), str(number), str(commits // WRITERS)),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(shared.model_dump_json().encode() + b"\n")
        process.stdin.close()
        writers.append(process)
    ended = [process.wait() for process in writers]
    seconds = time.monotonic() - begun
    for follower in followers:
        follower.ended.set()
        follower.join()
    assert ended == [0] * WRITERS
    for follower in followers:
        assert follower.late == []
        # Gapless: a seq is taken in the transaction that uses it, so one rolled back gives it back.
        assert follower.seen == list(range(1, commits + 1))
    assert catalog.head_seq() == commits
    with catalog.database.reading() as connection:
        # The transaction ids of rows say nothing of commits; their order in the log does, and one
        # writer's documents stand there as it committed them.
        order = connection.execute(
            text(
                "SELECT d.key FROM changes c JOIN documents d ON d.id = c.document_id ORDER BY seq"
            )
        ).scalars()
        by_writer: dict[str, list[int]] = {}
        for key in order:
            writer, number = key.split("-")
            by_writer.setdefault(writer, []).append(int(number))
    assert set(by_writer) == {str(number) for number in range(WRITERS)}
    assert all(each == sorted(each) for each in by_writer.values())
    print(f"{commits} commits by {WRITERS} processes in {seconds:.1f} s")
    catalog.close()


def test_a_transaction_that_fails_takes_no_seq(tmp_path: Path, shared: CatalogSettings) -> None:
    catalog = Catalog(tmp_path, shared)
    catalog.create_collection("law")
    generation = catalog.open_generation("chunker-1", "embedder-1", "tiny", DIM, TOKEN_DIM)
    catalog.record_follower("one", 0)

    def fail(*_: object) -> None:
        raise RuntimeError("the power failed")

    catalog.commit(generation, [write("a", "words")])
    with pytest.raises(RuntimeError):
        catalog.commit(generation, [write("b", "other words")], also=fail)
    catalog.commit(generation, [write("c", "more words")])
    assert [change.seq for change in catalog.changes_since(0)] == [1, 2]
    catalog.close()


# --- transactions ----------------------------------------------------------------------------


def test_a_writer_sees_what_the_one_before_has_written(database: PostgresDatabase) -> None:
    """Check-then-insert needs no second thought: 8 threads, one row."""

    def count_up(_: int) -> None:
        with database.writing() as connection:
            found = connection.execute(
                text("SELECT value FROM meta WHERE key = 'counter'")
            ).scalar()
            if found is None:
                connection.execute(text("INSERT INTO meta VALUES ('counter', '1')"))
            else:
                connection.execute(
                    text("UPDATE meta SET value = :value WHERE key = 'counter'"),
                    {"value": str(int(found) + 1)},
                )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(200)))
    with database.reading() as connection:
        found = connection.execute(text("SELECT value FROM meta WHERE key = 'counter'")).scalar()
    assert found == "200"


def test_readers_have_one_snapshot_and_cannot_write(database: PostgresDatabase) -> None:
    asked = text("SELECT count(*) FROM meta")
    with database.reading() as reading:
        before = reading.execute(asked).scalar()
        with database.writing() as writing:
            writing.execute(text("INSERT INTO meta VALUES ('new', '1')"))
        assert reading.execute(asked).scalar() == before
    with database.reading() as reading:
        assert reading.execute(asked).scalar() == before + 1  # type: ignore[operator]
    with pytest.raises(CatalogUnavailable), database.reading() as reading:
        reading.execute(text("DELETE FROM meta"))


def test_what_is_acknowledged_survives_a_crash_of_the_server(
    tmp_path: Path, postgres: PostgresServer, shared: CatalogSettings
) -> None:
    """Whatever the URL says, a commit waits for the disk; and connections come back."""
    lax = f"{shared.url}?options=-csynchronous_commit%3Doff"
    database = PostgresDatabase(lax)
    with database.writing() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
        connection.execute(text("INSERT INTO meta VALUES ('kept', '1')"))
    postgres.kill()
    try:
        with pytest.raises(CatalogUnavailable, match="Is the server running"):
            database.reading().__enter__()
    finally:
        postgres.start()
    with database.reading() as connection:
        kept = connection.execute(text("SELECT value FROM meta WHERE key = 'kept'")).scalar()
    assert kept == "1"
    database.close()


def test_names_are_looked_for_in_one_schema_only(database: PostgresDatabase) -> None:
    with database.writing() as connection:
        assert connection.execute(text("SHOW search_path")).scalar() == "public, pg_temp"
        connection.execute(text("CREATE TEMP TABLE documents (id int)"))
        found = connection.execute(text("SELECT 'documents'::regclass::oid")).scalar()
        ours = connection.execute(text("SELECT 'public.documents'::regclass::oid")).scalar()
        assert found == ours


def test_two_catalogs_in_two_schemas_do_not_wait_for_each_other(
    postgres: PostgresServer, shared: CatalogSettings
) -> None:
    name = shared.url.rpartition("/")[2]
    postgres.execute(name, "CREATE SCHEMA other")
    first = PostgresDatabase(shared.url)
    second = PostgresDatabase(f"{shared.url}?options=-csearch_path%3Dother")
    with first.writing(), second.writing() as connection:
        assert connection.execute(text("SELECT current_schema()")).scalar() == "other"
        assert connection.execute(text("SELECT count(*) FROM collections")).scalar() == 0
    first.close()
    second.close()


# --- what goes wrong ------------------------------------------------------------------------------


def test_waiting_for_a_writer_that_stands_still_ends_in_busy(
    shared: CatalogSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = postgres_module._BEGIN_SESSION.replace("'60s'", "'200ms'")
    monkeypatch.setattr(postgres_module, "_BEGIN_SESSION", session)
    database = PostgresDatabase(shared.url)
    with database.writing(), pytest.raises(CatalogBusy, match="kept locked"):
        database.writing().__enter__()
    database.close()


def test_a_writer_that_stands_still_is_cut_off(
    shared: CatalogSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "_IDLE_HOLDER_SECONDS", 1)
    database = PostgresDatabase(shared.url)

    def stand_still() -> None:
        with database.writing() as connection:
            connection.execute(text("INSERT INTO meta VALUES ('lost', '1')"))
            time.sleep(3)
            connection.execute(text("SELECT 1"))

    with pytest.raises(CatalogUnavailable):
        stand_still()
    with database.writing() as connection:
        found = connection.execute(text("SELECT count(*) FROM meta WHERE key = 'lost'")).scalar()
    assert found == 0
    database.close()


@pytest.mark.parametrize("wrong", ["password", "port", "database", "host"])
def test_what_cannot_be_reached_is_named_without_the_password(
    postgres: PostgresServer, shared: CatalogSettings, wrong: str, tmp_path: Path
) -> None:
    secret = "hunter2secret" if wrong in ("password", "host") else PASSWORD
    url = {
        "password": postgres.url("postgres", secret),
        "port": shared.url.replace(str(postgres.port), "1"),
        "database": postgres.url("nothing_there"),
        "host": "postgresql://longleaf:hunter2secret@/x?host=/nowhere",
    }[wrong]
    with pytest.raises(CatalogUnavailable) as caught:
        Catalog(tmp_path, CatalogSettings(url=url))
    said = "".join(traceback.format_exception(caught.value))
    assert "catalog.url" in caught.value.hint
    assert secret not in said and secret not in repr(CatalogSettings(url=url))


@pytest.mark.parametrize(
    "url", ["mysql://u:hunter2secret@h/x", "postgresql://u:hunter2secret@h:x/y"]
)
def test_an_address_of_something_else_is_a_wrong_setting(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"catalog\.url") as caught:
        Catalog(tmp_path, CatalogSettings(url=url))
    assert "hunter2secret" not in str(caught.value)


def test_another_encoding_is_refused(tmp_path: Path, postgres: PostgresServer) -> None:
    postgres.execute(
        "postgres",
        "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
    )
    with pytest.raises(CatalogBroken, match="LATIN1"):
        Catalog(tmp_path, CatalogSettings(url=postgres.url("latin")))


def test_a_role_that_may_not_make_tables_is_told_so(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    url = postgres.empty_database()
    name = url.rpartition("/")[2]
    postgres.execute("postgres", "DROP ROLE IF EXISTS poor")
    postgres.execute("postgres", "CREATE ROLE poor LOGIN PASSWORD 'poor'")
    postgres.execute(name, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    url = f"postgresql://poor:poor@127.0.0.1:{postgres.port}/{name}"
    with pytest.raises(CatalogUnavailable, match="does not let this role write"):
        Catalog(tmp_path, CatalogSettings(url=url))


def test_a_nul_character_is_refused_and_nothing_is_kept_of_its_change(
    tmp_path: Path, shared: CatalogSettings
) -> None:
    """Parsers and the API replace or refuse it before: this is for whoever calls directly."""
    catalog = Catalog(tmp_path, shared)
    catalog.create_collection("law")
    generation = catalog.open_generation("chunker-1", "embedder-1", "tiny", DIM, TOKEN_DIM)
    with pytest.raises(InvalidRequest, match="NUL"):
        catalog.commit(generation, [write("a", "fine"), write("b", "a NUL \x00 inside")])
    assert catalog.documents(Scope.all()) == []
    catalog.close()


def test_metadata_comes_back_as_it_was_to_the_last_digit(
    tmp_path: Path, shared: CatalogSettings
) -> None:
    """JSON and not JSONB, which would give 1e5 back as 100000 and refuse what JSON can escape."""
    catalog = Catalog(tmp_path, shared)
    catalog.create_collection("law")
    generation = catalog.open_generation("chunker-1", "embedder-1", "tiny", DIM, TOKEN_DIM)
    given: dict[str, Any] = {
        "integer": 1, "real": 1.0, "large": 1e25, "small": 5e-324, "true": True,
        "escaped": "\x00 and \ud800", "list": ("b", "a"), "huge": 2**63 - 1,
    }  # fmt: skip
    catalog.commit(generation, [write("a", "words", metadata=given)])
    [head] = catalog.documents(Scope.all())
    assert json.dumps(head.metadata, sort_keys=True) == json.dumps(given, sort_keys=True)
    assert {name: type(value) for name, value in head.metadata.items()} == {
        name: type(value) for name, value in given.items()
    }
    catalog.close()


DAMAGE = {
    "a text": ("texts", "UPDATE text_blocks SET text = 'Words'"),
    "a title": ("texts", "UPDATE contents SET title = 'Titlf'"),
    "a dense vector": ("dense vectors", "UPDATE vectors SET dense = set_byte(dense, 0, 9)"),
    "a passage's page": ("passages", "UPDATE passages SET first_page = 2"),
    "metadata": ("metadata and groups", """UPDATE revisions SET metadata = '{"year": 1.0}'"""),
    "a number in the log": ("documents: rows", "UPDATE meta SET value = '0' WHERE key='last_seq'"),
    "a key": ("documents: ids", "UPDATE documents SET key = 'k9'"),
    "a passage that is gone": ("documents: rows", "DELETE FROM passages WHERE ordinal = 0"),
    "a table that is gone": ("token vectors", "DROP TABLE segments CASCADE"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_each_damage_to_rows_is_told_by_its_check(
    what: str, tmp_path: Path, postgres: PostgresServer, shared: CatalogSettings
) -> None:
    """And one check that cannot go on keeps no other from being made."""
    catalog = Catalog(tmp_path, shared)
    catalog.create_collection("law")
    generation = catalog.open_generation("chunker-1", "embedder-1", "tiny", DIM, TOKEN_DIM)
    original = catalog.blobs.put(b"the file")
    catalog.record_follower("one", 0)
    catalog.commit(generation, [write("a", "words", metadata={"year": 1}, original=original)])
    found = {check.what: check for check in Verifier(catalog, deep=True).checks()}
    assert len(found) == 8
    assert [each.problems for each in found.values() if each.wrong] == []
    assert all(check.checked for check in found.values())
    check, damage = DAMAGE[what]
    postgres.execute(shared.url.rpartition("/")[2], damage)
    wrong = [each for each in Verifier(catalog, deep=True).checks() if each.wrong]
    assert [each for each in wrong if each.what.startswith(check)]
    assert len(wrong) <= 3
    catalog.close()


# --- several machines --------------------------------------------------------------------------


def test_followers_of_two_data_folders_are_told_apart(
    tmp_path: Path, shared: CatalogSettings
) -> None:
    """Two containers keep their indexes under the same path; one must not answer for the other."""
    index = Path("/data/index/generation-1")
    catalogs = [Catalog(tmp_path / name, shared) for name in ("one", "two")]
    names = [catalog.follower_name(index) for catalog in catalogs]
    assert names[0] != names[1]
    assert names[0] == catalogs[0].follower_name(index)
    assert [catalog.followed_here(names[0]) for catalog in catalogs] == [index, None]
    for catalog in catalogs:
        catalog.close()
    here = Catalog(tmp_path / "three")
    assert here.follower_name(index) == str(index)
    assert here.followed_here(str(index)) == index
    here.close()


def test_a_password_among_the_options_is_hidden_as_well(
    tmp_path: Path, postgres: PostgresServer, shared: CatalogSettings
) -> None:
    name = shared.url.rpartition("/")[2]
    secret = quote(PASSWORD, safe="")
    url = f"postgresql://longleaf@127.0.0.1:{postgres.port}/{name}?password={secret}"
    opened = PostgresDatabase(url)
    assert secret not in opened.where and "password" not in opened.where
    opened.close()
    stands = load_settings({}, {"LONGLEAF_CATALOG__URL": url}).settings
    assert shown_value(stands, "catalog.url").endswith("?password=***")
    (tmp_path / "longleaf.toml").write_text(f'[catalog]\nurl = "{url}"\n')
    with pytest.raises(ConfigError, match="secret in it"):
        load_settings({"home": tmp_path}, {})


def test_no_log_line_holds_the_password(
    tmp_path: Path, shared: CatalogSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    catalog = Catalog(tmp_path, shared)
    catalog.create_collection("law")
    catalog.erasure.scrub()
    assert PASSWORD not in catalog.database.where
    assert PASSWORD not in caplog.text
    assert os.environ.get("PGPASSWORD") is None
    catalog.close()


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("sslmodee=require", "'sslmodee'"),
        ("connect_timeout=soon", "connect_timeout"),
        ("port=abc", "port"),
        ("autocommit=1", "'autocommit'"),
    ],
)
def test_an_option_that_libpq_does_not_have_is_a_wrong_setting(
    shared: CatalogSettings, option: str, named: str
) -> None:
    with pytest.raises(ConfigError, match=r"catalog\.url has an option") as caught:
        PostgresDatabase(f"{shared.url}?{option}")
    assert named in str(caught.value)
    assert quote(PASSWORD, safe="") not in str(caught.value) and PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "password", ["hunt@er2", "hu@n/ter2", "hu@n?ter=2", "hu@n?ter2", "@hunter"]
)
def test_a_password_with_an_at_sign_is_neither_taken_nor_shown(password: str) -> None:
    url = f"postgresql://longleaf:{password}@127.0.0.1:1/x"
    assert without_password(url) == "postgresql://longleaf:***@127.0.0.1:1/x"
    with pytest.raises(ConfigError, match="%40") as caught:
        PostgresDatabase(url)
    assert not any(part in str(caught.value) for part in ("hu", "ter", "127"))
    assert without_password("postgresql://h/x?passw%6Frd=q&sslmode=a").endswith("rd=***&sslmode=a")
