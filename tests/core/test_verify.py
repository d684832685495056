"""Every kind of damage is found by the check that is there for it, and a whole catalog is clean."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.core.test_catalog import DIM, TOKEN_DIM, write

from longleaf.core.catalog import Catalog, orphans, verify
from longleaf.core.catalog.verify import Check, Verifier
from longleaf.core.errors import CatalogBroken
from longleaf.core.types import Scope

FILE = "catalog.sqlite3"
HOUR = 3600.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five documents, one of them twice replaced, one deleted, with originals and token vectors."""
    folder = tmp_path_factory.mktemp("template")
    catalog = Catalog(folder)
    catalog.create_collection("law")
    generation = catalog.open_generation("chunker", "embedder", "tiny", DIM, TOKEN_DIM)
    for number in range(5):
        original = catalog.blobs.put(f"original {number}".encode())
        text = f"The tenant of flat {number} pays rent. " * 200
        labels = {"year": 2000 + number}
        catalog.commit(
            generation,
            [write(f"k{number}", text, original=original, metadata=labels, groups=("staff",))],
        )
    for version in ("second", "third"):
        catalog.commit(generation, [write("k0", f"The {version} version of the lease.")])
    head = next(each for each in catalog.documents(Scope.all()) if each.key == "k1")
    catalog.delete_document(head.public_id, Scope.all())
    catalog.close()
    return folder


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "home")


def checks(home: Path, *, deep: bool = True) -> dict[str, Check]:
    found = verify.verify_file(home / FILE, deep=deep)
    checked = {found.what: found}
    if not found.wrong:
        catalog = Catalog(home)
        try:
            checked |= {each.what: each for each in Verifier(catalog, deep=deep).checks()}
        finally:
            catalog.close()
    return checked


def wrong(home: Path) -> dict[str, int]:
    return {what: check.wrong for what, check in checks(home).items() if check.wrong}


def sql(home: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(home / FILE, isolation_level=None)) as file:
        file.execute("PRAGMA foreign_keys=OFF")
        for statement in statements:
            assert file.execute(statement).rowcount > 0, statement


@pytest.mark.parametrize("deep", [True, False])
def test_a_whole_catalog_is_clean_and_says_what_was_looked_at(home: Path, deep: bool) -> None:
    found = checks(home, deep=deep)
    assert len(found) == 9
    assert [check.problems for check in found.values() if check.wrong] == []
    assert all(check.total > 0 and check.checked > 0 for check in found.values())
    assert not any(check.sampled for check in found.values()) or not deep


def test_without_deep_a_sample_is_read_and_said_so(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "SAMPLE", 10)
    found = checks(home, deep=False)
    sampled = {what for what, check in found.items() if check.sampled}
    assert sampled == {
        "passages against their checksums",
        "dense vectors against their checksums",
        "originals against their hashes",
        "token vectors against their checksums",
    }
    assert all(0 < found[what].checked < found[what].total for what in sampled)


DAMAGE: dict[str, tuple[str, str]] = {
    "a text": (
        "texts",
        "UPDATE text_blocks SET text = replace(text, 'rent', 'tenr') WHERE ordinal = 0",
    ),
    "a title": ("texts", "UPDATE contents SET title = 'Titlf'"),
    "a section": ("texts", "UPDATE contents SET sections = '[[\"Head\", 1, 0, 7]]'"),
    "a length": ("texts", "UPDATE contents SET text_chars = text_chars + 1"),
    "a dense vector": (
        "dense vectors",
        "UPDATE vectors SET dense = x'01' || substr(dense, 2) WHERE passage_id % 3 = 0",
    ),
    "a passage's place": (
        "passages",
        "UPDATE passages SET start_char = start_char + 1 WHERE ordinal = 3",
    ),
    "a page number": ("passages", "UPDATE passages SET first_page = 2 WHERE ordinal = 3"),
    "metadata": ("metadata and groups", "UPDATE revisions SET metadata = '{\"year\": 2001}'"),
    "access groups": (
        "metadata and groups",
        "UPDATE revisions SET groups = '[]' WHERE groups <> '[]'",
    ),
    "JSON that is none": ("passages", "UPDATE passages SET headings = '[\"H' WHERE ordinal = 3"),
    "bytes that are no text": (
        "passages",
        "UPDATE passages SET headings = CAST(x'5b22ff225d' AS TEXT) WHERE ordinal = 3",
    ),
    "a number that is none": ("passages", "UPDATE passages SET end_char = 'x' WHERE ordinal = 3"),
    "a key": ("documents: ids", "UPDATE documents SET key = 'k9' WHERE key = 'k2'"),
    "a current revision": ("documents: rows", "UPDATE documents SET revision_id = revision_id + 1"),
    "a passage that is gone": ("pages", "DELETE FROM passages WHERE ordinal = 5"),
    "a vector that is gone": (
        "documents: rows",
        "DELETE FROM vectors WHERE passage_id IN (SELECT id FROM passages WHERE ordinal = 5)",
    ),
    "the log's head": ("documents: rows", "UPDATE meta SET value = '1' WHERE key = 'last_seq'"),
    "an original's name": (
        "originals",
        "UPDATE revisions SET original = replace(original, substr(original, 1, 2), 'zz')"
        " WHERE original IS NOT NULL",
    ),
    "a segment's offset": (
        "token vectors",
        "UPDATE vectors SET segment_offset = segment_offset + 1",
    ),
    "a missing parent": ("pages", "DELETE FROM contents WHERE id = 3"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_of_a_row_is_found(home: Path, what: str) -> None:
    check, statement = DAMAGE[what]
    sql(home, statement)
    assert any(name.startswith(check) for name in wrong(home)), wrong(home)


def flip(path: Path, offset: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= bit
    path.write_bytes(data)


def shorten(path: Path, offset: int) -> None:
    os.truncate(path, offset)


@pytest.mark.parametrize("damage", [flip, shorten])
def test_damage_of_files_is_found(home: Path, damage: Callable[[Path, int], None]) -> None:
    original = next((home / "originals").glob("??/*"))
    damage(original, 3)
    [segment] = (home / "token-vectors").glob("*.seg")
    damage(segment, segment.stat().st_size // 2)
    assert set(wrong(home)) == {
        "originals against their hashes",
        "token vectors against their checksums",
    }


def test_a_file_that_is_no_database_any_more_is_told_and_not_raised(home: Path) -> None:
    data = (home / FILE).read_bytes()
    (home / FILE).write_bytes(data[: len(data) // 2])
    assert verify.verify_file(home / FILE, deep=False).wrong
    (home / FILE).write_bytes(b"\0" * len(data))
    check = verify.verify_file(home / FILE, deep=False)
    assert check.wrong == 1
    assert "database" in check.problems[0].detail


def test_many_problems_are_counted_and_a_few_named(home: Path) -> None:
    sql(home, "UPDATE passages SET token_count = token_count + 1")
    check = checks(home)["passages against their checksums"]
    assert check.wrong > len(check.problems) == 20


def test_verifying_changes_nothing(home: Path) -> None:
    def state() -> dict[str, bytes]:
        files = [path for path in home.rglob("*") if path.is_file() and "-shm" not in path.name]
        return {str(path): path.read_bytes() for path in files}

    Catalog(home).close()
    before = state()
    checks(home)
    assert state() == before


# --- orphans -----------------------------------------------------------------------------------


def test_only_what_nothing_refers_to_goes(home: Path) -> None:
    catalog = Catalog(home)
    generation = catalog.open_generation("chunker", "embedder", "tiny", DIM, TOKEN_DIM)
    catalog.commit(generation, [write("k6", "Takes up the segment that there is.")])
    blob = catalog.blobs.put(b"left by a crash before the commit")
    torn = home / "originals" / "incoming-abc"
    torn.write_bytes(b"half")
    lost = home / "token-vectors" / "0123456789abcdef.seg"
    lost.write_bytes(b"LLTV")
    now = lost.stat().st_mtime
    young = orphans.find(catalog, now=now + HOUR / 2)
    assert young.count == 0
    found = orphans.find(catalog, now=now + 2 * HOUR)
    assert (found.originals, found.segments, found.temporary, found.contents) == (
        (blob,),
        (lost.name,),
        (torn,),
        (),
    )
    assert found.bytes == len(b"left by a crash before the commit") + 8
    # Somebody takes one of them up between finding and removing.
    catalog.commit(generation, [write("k7", "A document after all.", original=blob)])
    gone = orphans.remove(catalog, found)
    assert (gone.originals, gone.segments) == ((), (lost.name,))
    assert catalog.blobs.exists(blob)
    assert not torn.exists()
    assert not lost.exists()
    catalog.close()
    assert wrong(home) == {}


def test_a_segment_that_a_writer_holds_stays(home: Path) -> None:
    catalog = Catalog(home)
    generation = catalog.open_generation("chunker", "embedder", "tiny", DIM, TOKEN_DIM)
    catalog.commit(generation, [write("k7", "This writer now holds the segment.")])
    sql(home, "DELETE FROM vectors")
    [segment] = (home / "token-vectors").glob("*.seg")
    other = Catalog(home)
    found = orphans.find(other, now=segment.stat().st_mtime + 2 * HOUR)
    assert found.segments == (segment.name,)
    assert orphans.remove(other, found).bytes == 0
    assert segment.exists()
    catalog.close()
    orphans.remove(other, found)
    assert not segment.exists()
    other.close()


def test_a_text_without_a_document_goes_unless_a_job_may_be_writing_it(home: Path) -> None:
    sql(home, "DELETE FROM revisions WHERE document_id = 3", "DELETE FROM documents WHERE id = 3")
    catalog = Catalog(home)
    job = catalog.jobs.create("folder", "law", {})
    assert orphans.find(catalog).contents == ()
    catalog.jobs.cancel(job.public_id, Scope.all())
    [content_id] = orphans.find(catalog).contents
    assert orphans.remove(catalog, orphans.find(catalog)).contents == (content_id,)
    assert orphans.find(catalog).contents == ()
    catalog.close()
    assert wrong(home) == {}


def test_reading_damaged_text_is_an_error_with_a_name(home: Path) -> None:
    sql(home, "UPDATE text_blocks SET text = CAST(x'fffe' AS TEXT)")
    catalog = Catalog(home)
    with pytest.raises(CatalogBroken, match="longleaf doctor"):
        catalog.text(catalog.documents(Scope.all())[0])
    catalog.close()
