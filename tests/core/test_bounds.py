"""What one of the databases could not hold is refused by both, in the same words."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from tests.core.test_catalog import EVERYONE, source, write
from tests.postgres import PostgresServer

from longleaf.core import ids
from longleaf.core.catalog import Catalog, Generation, reads
from longleaf.core.catalog.judgements import Judgement, JudgementWrite
from longleaf.core.errors import InvalidRequest, LongleafError, NotFound
from longleaf.core.store_settings import CatalogSettings
from longleaf.core.types import Scope


def _random(size_bytes: int) -> str:
    """Words that do not compress: Postgres packs what does into an index as well."""
    chosen = random.Random(size_bytes)
    return "".join(chr(chosen.randrange(0x1F300, 0x1F600)) for _ in range(size_bytes // 4))


LONGEST = _random(2000)
LONGER = _random(2004)


def test_the_longest_names_fit(catalog: Catalog, generation: Generation) -> None:
    given = write(LONGEST, "words", metadata={LONGEST: 1}, source_key=f"upload:{LONGEST}")
    [result] = catalog.commit(generation, [given], source(f"upload:{LONGEST}", LONGEST))
    judged = JudgementWrite(LONGEST, result.public_id, 1, judge="j" * 255)
    catalog.judgements.put([judged], EVERYONE)
    [found] = catalog.judgements.found(EVERYONE, query=LONGEST)
    assert (found.query, found.key) == (LONGEST, LONGEST)
    assert catalog.metadata_fields(["law"]) == {LONGEST}


REFUSED: dict[str, Callable[[Any], Any]] = {
    "key": lambda given: replace(given, key=LONGER),
    "key with a NUL": lambda given: replace(given, key="a\0b"),
    "source": lambda given: replace(given, source_key=LONGER),
    "source of an upload": lambda given: replace(given, source_key=f"upload:{LONGER}"),
    "field": lambda given: replace(given, metadata={LONGER: 1}),
    "field with a NUL": lambda given: replace(given, metadata={"a\0": 1}),
    "group with a NUL": lambda given: replace(given, groups=("a\0b",)),
    "group with half a pair": lambda given: replace(given, groups=("\ud800",)),
    "nan": lambda given: replace(given, metadata={"v": float("nan")}),
    "infinity": lambda given: replace(given, metadata={"v": float("inf")}),
    "created": lambda given: replace(given, created_at=float("nan")),
    "updated": lambda given: replace(given, updated_at=float("inf")),
    "revision": lambda given: replace(given, revision=2**40),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_document_that_a_database_could_not_hold_is_refused(
    what: str, catalog: Catalog, generation: Generation
) -> None:
    with pytest.raises(InvalidRequest):
        catalog.commit(generation, [write("fine", "words"), REFUSED[what](write("a", "text"))])
    assert catalog.documents(EVERYONE) == []
    assert catalog.documents(Scope(frozenset({"law"}), frozenset({"a"}))) == []
    assert list(catalog.segment_folder.glob("*.seg")) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"query": LONGER}, "2,004 bytes of UTF-8; up to 2,000 are kept"),
        ({"query": "a\0"}, "NUL"),
        ({"judge": "\U0001f600" * 200}, "500 bytes"),
        ({"judged_at": float("nan")}, "judged_at"),
        ({"revision": 2**40}, "revision"),
    ],
)
def test_a_judgement_that_a_database_could_not_hold_is_refused(
    changed: dict[str, Any], said: str, catalog: Catalog, generation: Generation
) -> None:
    [result] = catalog.commit(generation, [write("a", "words")])
    judged = Judgement("rent", result.public_id, 1)
    with pytest.raises(InvalidRequest, match=said):
        catalog.judgements.put([replace(judged, **changed)], EVERYONE)


def test_what_is_said_of_a_collection_holds_no_nul(catalog: Catalog) -> None:
    for change in ({"description": "a\0b"}, {"instruction": "\ud800"}):
        with pytest.raises(InvalidRequest, match="cannot be stored"):
            catalog.describe_collection("law", EVERYONE, **change)
        with pytest.raises(InvalidRequest, match="cannot be stored"):
            catalog.create_collection("other", **change)


@pytest.mark.parametrize("asked", ["a\0b", "\ud800"])
def test_what_cannot_be_stored_names_nothing(
    asked: str, catalog: Catalog, generation: Generation
) -> None:
    [result] = catalog.commit(generation, [write("a", "words")])
    for ask in (
        lambda: catalog.document(asked, EVERYONE),
        lambda: catalog.delete_document(asked, EVERYONE),
        lambda: catalog.jobs.get(asked, EVERYONE),
        lambda: catalog.judgements.put([JudgementWrite("q", asked, 1)], EVERYONE),
        lambda: catalog.judgements.remove(asked, result.public_id, EVERYONE),
        lambda: catalog.judgements.remove("q", asked, EVERYONE),
    ):
        with pytest.raises(NotFound):
            ask()
    assert catalog.judgements.found(EVERYONE, query=asked) == []


def test_a_list_goes_on_behind_a_cursor_with_a_nul(
    catalog: Catalog, generation: Generation
) -> None:
    keys = "abcdef"
    catalog.commit(generation, [write(key, f"words {key}") for key in keys])
    listed = sorted(ids.document_id("law", key) for key in keys)
    found = catalog.documents(EVERYONE, f"{listed[2]}\0z")
    assert [head.public_id for head in found] == listed[3:]


def test_what_the_bounds_let_through_is_named_all_the_same(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    catalog = Catalog(tmp_path, CatalogSettings(url=postgres.database()))
    catalog.create_collection("law")
    with pytest.raises(InvalidRequest, match="longer than an index"):
        _insert_long(catalog)
    with pytest.raises(LongleafError) as caught, catalog.database.reading() as connection:
        connection.execute(text("SELECT :a"), {"a": "a\0b"})
    assert "change" not in str(caught.value)
    catalog.close()


def _insert_long(catalog: Catalog) -> None:
    with catalog.database.writing() as connection:
        asked = text("INSERT INTO meta VALUES (:key, '1')")
        connection.execute(asked, {"key": _random(4000)})


def test_a_page_of_documents_is_read_by_indexes(tmp_path: Path, postgres: PostgresServer) -> None:
    """Not by sorting all documents, which is what Postgres does when it expects one row."""
    catalog = Catalog(tmp_path, CatalogSettings(url=postgres.database()))
    catalog.create_collection("law")
    _many_documents(catalog, 20_000)
    said: list[tuple[str, Any]] = []

    def note(_c: object, _k: object, statement: str, parameters: Any, *_: object) -> None:
        said.append((statement, parameters))

    event.listen(catalog.database.engine, "before_cursor_execute", note)
    with catalog.database.reading() as connection:
        assert len(reads.list_heads(connection, EVERYONE, "8", 100)) == 100
    event.remove(catalog.database.engine, "before_cursor_execute", note)
    [(statement, parameters)] = [each for each in said if "ORDER BY" in each[0]]
    with catalog.database.reading() as connection:
        plan = _plan(connection, statement, parameters)
    assert "Seq Scan" not in plan and "Sort" not in plan, plan
    assert "documents_public_id_key" in plan
    catalog.close()


def _plan(connection: Connection, statement: str, parameters: Any) -> str:
    found = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
    return "\n".join(row[0] for row in found)


def _many_documents(catalog: Catalog, count: int) -> None:
    each = f"FROM generate_series(1, {count}) i"
    with catalog.database.writing() as connection:
        for statement in (
            "INSERT INTO contents (digest, title, text_chars, pages, sections)"
            f" SELECT md5(i::text), 't', 100, '[]', '[]' {each}",
            "INSERT INTO documents (public_id, collection, key, revision_id, created_at,"
            f" updated_at) SELECT md5('d' || i), 'law', 'k' || i, i, 1, 1 {each}",
            "INSERT INTO revisions (document_id, revision, content_id, metadata, groups, source,"
            " media_type, warnings, created_at)"
            f" SELECT i, 1, i, '{{}}', '[]', 's', 't', '[]', 1 {each}",
        ):
            connection.exec_driver_sql(statement)
    catalog.database.vacuum()
