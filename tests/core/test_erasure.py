"""What is deleted leaves no byte behind, whoever is killed when."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from tests.core.test_catalog import DIM, EVERYONE, TOKEN_DIM, content, source, write

from longleaf.core.catalog import (
    Catalog,
    ContentWrite,
    DocumentWrite,
    Generation,
    erasure,
    hold,
    orphans,
    schema,
)
from longleaf.core.catalog.jobs import JobState
from longleaf.core.catalog.segments import SegmentReader, SegmentRef, read_record
from longleaf.core.catalog.writes import ContentGone
from longleaf.core.errors import Conflict, TooLarge

ROOT = Path(__file__).parents[2]

on_sqlite = pytest.mark.parametrize("catalog_settings", ["sqlite"], indirect=True)
"""Of the bytes in a database server's files nothing is promised."""

SECRET = "zyxwvsecret"


def secret_write(catalog: Catalog, key: str = "secret") -> DocumentWrite:
    """A document whose words, key, metadata, file and vectors occur nowhere else."""
    text = f"{SECRET} words"
    made = content(text, title=SECRET, width=4)
    vectors = tuple(
        replace(
            each,
            dense=np.linspace(0.1, 0.9, DIM, dtype=np.float32),
            token_codes=np.frombuffer(SECRET_CODES, np.int8).reshape(2, TOKEN_DIM),
        )
        for each in made.vectors
    )
    return replace(
        write(f"{SECRET}-{key}", text, metadata={"about": SECRET}),
        digest=made.digest,
        content=ContentWrite(made.digest, made.document, made.passages, vectors),
        source=f"{SECRET}.txt",
        warnings=(f"a warning on {SECRET}",),
        original=catalog.blobs.put(SECRET.encode() * 50),
        source_key=f"{SECRET}.txt",
    )


SECRET_CODES = bytes(range(101, 101 + 2 * TOKEN_DIM))
NEEDLES = (
    SECRET.encode(),
    SECRET.encode("utf-16-le"),
    SECRET_CODES,
    np.linspace(0.1, 0.9, DIM, dtype=np.float32).astype("<f2").tobytes(),
)


def holding(folder: Path, needles: tuple[bytes, ...] = NEEDLES) -> dict[str, list[int]]:
    """File -> which of the needles it holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            if inside := [number for number, needle in enumerate(needles) if needle in data]:
                found[str(path.relative_to(folder))] = inside
    return found


@on_sqlite
def test_a_deleted_document_leaves_no_byte(catalog: Catalog, generation: Generation) -> None:
    catalog.commit(generation, [write("other", "some other words", source_key="other.txt")])
    [result] = catalog.commit(generation, [secret_write(catalog)])
    said = replace(source(f"{SECRET}.txt")[0], detail=f"saw {SECRET}", keep_keys=None)
    catalog.commit(generation, [], [said])
    assert {0, 2, 3} <= {each for held in holding(catalog.folder).values() for each in held}
    catalog.delete_document(result.public_id, EVERYONE)
    # That the file was read must stay, or the next run would bring the document back.
    table = schema.sources
    with catalog._database.writing() as connection:
        row = connection.execute(select(table).where(table.c.key == f"{SECRET}.txt")).one()
        assert row.detail == ""
        connection.execute(table.update().where(table.c.id == row.id).values(key="gone.txt"))
    catalog.erasure.scrub()
    assert holding(catalog.folder) == {}
    [head] = catalog.documents(EVERYONE)
    found = catalog.passages(head, generation)
    assert len(catalog.token_vectors([each.passage_id for each in found], generation)[0]) == 16


def ended_upload(catalog: Catalog, spec: dict[str, object], error: str = "") -> None:
    catalog.jobs.create("upload", "law", spec)
    job = catalog.jobs.claim("worker")
    assert job is not None
    catalog.jobs.end(job, "worker", JobState.DONE, {}, error)


@on_sqlite
@pytest.mark.parametrize("by", ["key", "hash", "collection"])
def test_an_uploads_job_keeps_nothing_of_its_document(
    catalog: Catalog, generation: Generation, by: str
) -> None:
    original = catalog.blobs.put(b"the bytes")
    key = SECRET if by == "key" else f"sha256:{original}"
    said = {
        "original": original, "name": f"{SECRET}.txt", "metadata": {"party": SECRET},
        "key": SECRET if by == "key" else None,
    }  # fmt: skip
    ended_upload(catalog, said, f"saw {SECRET}")
    made = replace(write("x", "words"), key=key, source_key=f"upload:{key}", original=original)
    [result] = catalog.commit(generation, [made], [source(f"upload:{key}", key)[0]])
    waits = catalog.jobs.create("upload", "law", {**said, "metadata": {"party": "still to come"}})
    assert holding(catalog.folder, NEEDLES[:1])
    if by == "collection":
        catalog.delete_collection("law", EVERYONE)
    else:
        catalog.delete_document(result.public_id, EVERYONE)
        assert catalog.sources("law") == {}
    assert catalog.jobs.get(waits.public_id, EVERYONE).spec["metadata"] == {
        "party": "still to come"
    }
    catalog.jobs.cancel(waits.public_id, EVERYONE)
    with catalog._database.writing() as connection:
        connection.execute(schema.jobs.delete().where(schema.jobs.c.id == waits.id))
        erasure.note_deletion(connection)
    catalog.erasure.scrub()
    assert holding(catalog.folder, NEEDLES[:1]) == {}


def test_the_file_of_a_deleted_part_goes_and_its_other_parts_stay(
    catalog: Catalog, generation: Generation
) -> None:
    mail = catalog.blobs.put(SECRET.encode() + b" mail with an attachment")
    parts = ("mail.eml", "mail.eml!/a.pdf", "mail.eml!/b.pdf")
    writes = [
        replace(write(key, f"part {n}"), original=mail, source_key="mail.eml")
        for n, key in enumerate(parts)
    ]
    elsewhere = replace(write("copy.eml", "part 0"), original=mail, source_key="copy.eml")
    results = catalog.commit(generation, [*writes, elsewhere], source("mail.eml", *parts))
    catalog.delete_document(results[0].public_id, EVERYONE)
    heads = {head.key: head for head in catalog.documents(EVERYONE)}
    assert {key: head.original for key, head in heads.items()} == {
        "mail.eml!/a.pdf": None, "mail.eml!/b.pdf": None, "copy.eml": mail,
    }  # fmt: skip
    assert catalog.sources("law")["mail.eml"].document_count == 2
    catalog.delete_document(results[3].public_id, EVERYONE)
    assert not catalog.blobs.exists(mail)
    assert len(list(catalog.documents(EVERYONE))) == 2


def test_equal_content_keeps_its_vectors_until_its_last_document_goes(
    catalog: Catalog, generation: Generation
) -> None:
    first, second = catalog.commit(
        generation,
        [secret_write(catalog, "one"), replace(secret_write(catalog, "two"), source_key="copy")],
    )
    catalog.delete_document(first.public_id, EVERYONE)
    catalog.erasure.scrub()
    head = catalog.document(second.public_id, EVERYONE)
    found = catalog.passages(head, generation)
    codes, _, _ = catalog.token_vectors([each.passage_id for each in found], generation)
    assert codes.tobytes() == SECRET_CODES * len(found)
    assert catalog.blobs.exists(head.original or "")
    catalog.delete_document(second.public_id, EVERYONE)
    assert holding(catalog.folder, (SECRET_CODES,)) == {}
    assert not catalog.blobs.exists(head.original or "")


def test_a_replaced_revision_leaves_no_byte_once_every_index_has_passed_it(
    catalog: Catalog, generation: Generation
) -> None:
    catalog.record_follower("slow", 0)
    catalog.commit(generation, [secret_write(catalog)])
    key = secret_write(catalog).key
    catalog.commit(generation, [replace(write("x", "other words"), key=key)])
    assert 2 in next(iter(holding(catalog.folder / "token-vectors").values()))
    catalog.record_follower("slow", catalog.head_seq())
    assert holding(catalog.folder, NEEDLES[2:]) == {}


def test_a_reader_that_has_the_record_mapped_is_told_that_it_is_gone(
    catalog: Catalog, generation: Generation
) -> None:
    [kept] = catalog.commit(generation, [write("kept", "kept words")])
    [result] = catalog.commit(generation, [write("gone", "gone words")])
    reader = Catalog(catalog.folder, catalog.settings)
    ids = [
        passage.passage_id
        for each in (kept, result)
        for passage in catalog.passages(catalog.document(each.public_id, EVERYONE), generation)
    ]
    assert len(reader.token_vectors(ids, generation)[0]) == 20
    refs = _refs(catalog)
    catalog.delete_document(result.public_id, EVERYONE)
    for opened in (reader._segment_reader, SegmentReader(catalog.folder / "token-vectors")):
        codes, starts, prefixes = opened.gather(refs)
        assert (codes.shape, starts.tolist(), prefixes.tolist()) == ((10, 4), [0, 10, 10], [1, 0])
    assert len(reader.token_vectors(ids, generation)[0]) == 10
    reader.close()


def _refs(catalog: Catalog) -> list[SegmentRef]:
    table = schema.vectors
    with catalog._database.reading() as connection:
        query = select(schema.segments.c.name, table.c.segment_offset).join(schema.segments)
        return [SegmentRef(*row) for row in connection.execute(query)]


_KILLED = """
import os, signal, sys
from pathlib import Path
from longleaf.core.catalog import Catalog, erasure
from longleaf.core.store_settings import CatalogSettings
from longleaf.core.types import Scope
catalog = Catalog(Path(sys.argv[1]), CatalogSettings.model_validate_json(sys.argv[-1]))
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
when = sys.argv[3]
if when == "after the commit":
    catalog.erasure.settle = die
elif when == "after unlinking":
    catalog.erasure._overwrite = die
elif when == "in the middle of overwriting":
    real = os.fdatasync
    os.fdatasync = die
elif when == "after overwriting":
    real = erasure.erase_records
    erasure.erase_records = lambda *a: (real(*a), die())
elif when == "before the log is cut":
    catalog._database.truncate_log = die
catalog.delete_document(sys.argv[2], Scope.all())
"""


@pytest.mark.parametrize(
    "when",
    [
        "after the commit",
        "after unlinking",
        "in the middle of overwriting",
        "after overwriting",
        "before the log is cut",
    ],
)
def test_killed_after_the_deletion_the_next_start_does_the_rest(
    catalog: Catalog, generation: Generation, when: str
) -> None:
    catalog.commit(generation, [write("other", "some other words")])
    [result] = catalog.commit(generation, [replace(secret_write(catalog), source_key=None)])
    catalog.close()
    killed = subprocess.run(
        [
            *(sys.executable, "-c", _KILLED, str(catalog.folder), result.public_id, when),
            catalog.settings.model_dump_json(),
        ],
        cwd=ROOT,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    again = Catalog(catalog.folder, catalog.settings)
    assert holding(catalog.folder, NEEDLES[1:]) == {}
    assert list(again.blobs.stored()) == []
    assert [head.key for head in again.documents(EVERYONE)] == ["other"]
    again.erasure.scrub()
    assert holding(catalog.folder) == {}
    again.close()


def test_token_vectors_of_a_write_that_fails_are_overwritten(
    catalog: Catalog, generation: Generation
) -> None:
    made = secret_write(catalog)
    with pytest.raises(ContentGone):
        catalog.commit(generation, [made, write("b", "never written", known=True)])
    assert holding(catalog.folder / "token-vectors") == {}
    # And of one that finds the content there already: another process was quicker.
    catalog.commit(generation, [write("a", "the same words")])
    before = (catalog.folder / "token-vectors").glob("*.seg")
    again = write("b", "the same words")
    catalog.commit(generation, [again])
    refs = _refs(catalog)
    assert len(refs) == len(set(refs)) == 2
    for path in before:
        data = path.read_bytes()
        assert data.count(b"LLT2") == 2


_CRASHED = """
import os, signal, sys
from pathlib import Path
from longleaf.core.store_settings import CatalogSettings
from tests.core.test_catalog import *
from tests.core.test_erasure import secret_write
catalog = Catalog(Path(sys.argv[1]), CatalogSettings.model_validate_json(sys.argv[-1]))
generation = catalog.live_generation()
catalog._database.writing = lambda: os.kill(os.getpid(), signal.SIGKILL)
catalog.commit(generation, [secret_write(catalog)])
"""


@pytest.mark.parametrize("by", ["the next writer", "scrub"])
def test_what_a_crash_left_between_token_vectors_is_wiped(
    catalog: Catalog, generation: Generation, by: str
) -> None:
    catalog.commit(generation, [write("a", "words")])
    catalog._segment_writer.close()
    crashed = subprocess.run(
        [
            *(sys.executable, "-c", _CRASHED, str(catalog.folder)),
            catalog.settings.model_dump_json(),
        ],
        cwd=ROOT,
        check=False,
    )
    assert crashed.returncode == -signal.SIGKILL
    assert holding(catalog.folder / "token-vectors", (SECRET_CODES,))
    if by == "scrub":
        catalog.erasure.scrub()
    else:
        catalog.commit(generation, [write("b", "more words")])
    assert holding(catalog.folder / "token-vectors", (SECRET_CODES,)) == {}
    refs = _refs(catalog)
    assert len(SegmentReader(catalog.folder / "token-vectors").gather(refs)[0]) == (
        5 if by == "scrub" else 15
    )


@on_sqlite
def test_sqlite_leaves_copies_of_moved_rows_and_a_scrub_does_not(
    catalog: Catalog, generation: Generation
) -> None:
    """Random puts and deletions of rows of many sizes; without the scrub this fails sometimes."""
    choose = random.Random(4)
    alive: dict[str, tuple[str, str]] = {}
    dead: set[str] = set()
    catalog.record_follower("one", 0)
    for number in range(400):
        if choose.random() < 0.6 or not alive:
            mark, key = f"zq{number:07d}qz", f"k{choose.randrange(120)}"
            words = range(choose.choice([5, 40, 400, 2000]))
            text = " ".join(f"w{choose.randrange(999)}" if n % 7 else mark for n in words)
            made = content(text, title=mark, width=max(10, len(text) // choose.choice([1, 4, 30])))
            [result] = catalog.commit(
                generation,
                [replace(write(key, text), digest=made.digest, content=made, metadata={"m": mark})],
            )
            dead |= {alive[key][0]} if key in alive else set()
            alive[key] = (mark, result.public_id)
        else:
            key = choose.choice(sorted(alive))
            mark, public_id = alive.pop(key)
            catalog.delete_document(public_id, EVERYONE)
            dead.add(mark)
        if number % 50 == 0:
            catalog.record_follower("one", catalog.head_seq())
    catalog.record_follower("one", catalog.head_seq())
    assert catalog.erasure.unscrubbed_since() is not None
    catalog.erasure.scrub()
    assert catalog.erasure.unscrubbed_since() is None
    found = {
        match.decode()
        for path in catalog.folder.rglob("*")
        if path.is_file()
        for match in re.findall(rb"zq[0-9]{7}qz", path.read_bytes())
    }
    assert found == {mark for mark, _ in alive.values()}
    assert dead


def test_a_deletion_during_the_scrub_is_for_the_next_one(
    catalog: Catalog, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = catalog.commit(generation, [write("a", "words"), write("b", "more words")])
    catalog.delete_document(first.public_id, EVERYONE)
    since = catalog.erasure.unscrubbed_since()
    real = catalog._database.vacuum

    def vacuum() -> None:
        real()
        catalog.delete_document(second.public_id, EVERYONE)

    monkeypatch.setattr(catalog._database, "vacuum", vacuum)
    catalog.erasure.scrub()
    assert catalog.erasure.unscrubbed_since() == since
    monkeypatch.undo()
    catalog.erasure.scrub()
    assert catalog.erasure.unscrubbed_since() is None


@on_sqlite
def test_a_scrub_says_what_keeps_it_from_being_done(
    catalog: Catalog, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    [result] = catalog.commit(generation, [write("a", "words")])
    catalog.delete_document(result.public_id, EVERYONE)
    with catalog._database.reading() as connection:
        connection.execute(select(schema.meta)).all()
        with pytest.raises(TooLarge, match="a reader has had"):
            catalog.erasure.scrub()
    assert catalog.erasure.unscrubbed_since() is not None
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 1000})())
    with pytest.raises(TooLarge, match="MB are free"):
        catalog.erasure.scrub()
    monkeypatch.undo()
    catalog.erasure.scrub()


def test_a_backup_holds_erasing_off_and_nothing_is_forgotten(
    catalog: Catalog, generation: Generation
) -> None:
    first, _ = catalog.commit(generation, [write("a", "words"), write("b", "more words")])
    folder = catalog.folder / "token-vectors"
    before = _records(catalog, folder)
    with hold.nothing_erased(catalog.folder):
        catalog.delete_document(first.public_id, EVERYONE)
        with pytest.raises(Conflict, match="A backup is under way"):
            catalog.erasure.scrub()
        with pytest.raises(Conflict, match="A backup is under way"):
            orphans.remove(catalog, orphans.find(catalog))
        # Neither does a writer that takes the segment up, though no row names the records now.
        catalog._segment_writer.close()
        catalog.commit(generation, [write("c", "other words")])
        assert before <= _records(catalog, folder)
    with hold.erasing(catalog.folder) as may, hold.erasing(catalog.folder) as another:
        assert may and another
    catalog.erasure.settle()
    gone = before - _records(catalog, folder)
    assert gone and gone < before
    catalog.erasure.scrub()


def _records(catalog: Catalog, folder: Path) -> set[tuple[str, int]]:
    """(segment, offset) of whole records at every place where one may begin."""
    found = set()
    for path in folder.glob("*.seg"):
        with path.open("rb") as file:
            data = path.read_bytes()
            for match in re.finditer(rb"LLT[2V]", data):
                if read_record(file.fileno(), match.start()) is not None:
                    found.add((path.name, match.start()))
    return found
