"""A collection read again: every file once, what is known of documents kept, nothing lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from tests.indexer.test_work import ALL, BEAT, SlowReader, asked, folder, indexer

from longleaf.api import jobs as asking
from longleaf.core.catalog import DocumentHead, schema, writes
from longleaf.core.catalog.jobs import JobState
from longleaf.core.catalog.listing import Order
from longleaf.core.config import IndexerSettings
from longleaf.core.errors import Conflict, NotFound
from longleaf.core.types import Outcome
from longleaf.indexer.again import spec_again
from longleaf.indexer.build import Indexer
from longleaf.indexer.specs import FolderSpec, UploadSpec
from longleaf.indexer.work import do_job

__all__ = ["folder", "indexer"]


def upload(indexer: Indexer, name: str, data: bytes, **more: Any) -> None:
    asking.ask_for_upload(indexer.catalog, "law", data, UploadSpec("", name, name, **more))
    job = indexer.catalog.jobs.claim("me")
    assert job is not None and do_job(indexer, job, "me") is JobState.DONE


def heads(indexer: Indexer) -> list[DocumentHead]:
    return [each.head for each in indexer.catalog.listed(ALL, "law", Order.ID)]


def texts(indexer: Indexer) -> dict[str, str]:
    """Key -> text, of all documents."""
    found = indexer.catalog.texts([head.revision_id for head in heads(indexer)])
    return {Path(head.key).name: found[head.revision_id] for head in heads(indexer)}


def test_files_of_folders_and_uploads_are_read_anew(indexer: Indexer, folder: Path) -> None:
    catalog = indexer.catalog
    stated = {"metadata": {"title": "The lease", "court": "ca9"}, "groups": ("partners",)}
    do_job(indexer, asked(indexer, folder, **stated), "me")
    upload(indexer, "up.txt", b"An upload of partners.", groups=("partners",))
    upload(indexer, "rows.jsonl", b'{"id": "a", "text": "One."}\n{"id": "b", "text": "Two."}\n')
    before = {head.public_id: head for head in heads(indexer)}
    (folder / "0.txt").write_text("Clause 0 as it reads today.")
    (folder / "5.txt").unlink()

    asking.read_collection_again(catalog, "law", ALL)
    with pytest.raises(Conflict, match="being read again already"):
        asking.read_collection_again(catalog, "law", ALL)
    with pytest.raises(NotFound):
        asking.read_collection_again(catalog, "nowhere", ALL)
    job = catalog.jobs.claim("me")
    assert job is not None and do_job(indexer, job, "me") is JobState.DONE

    ended = catalog.jobs.get(job.public_id, ALL)
    assert ended.counts["indexed"] == 6 and ended.counts["unchanged"] == 2
    files = catalog.jobs.files(job, outcomes=[Outcome.UNCHANGED])
    left = {Path(file.key).name: file for file in files}
    assert set(left) == {"5.txt", "rows.jsonl"}
    assert "not there any more" in left["5.txt"].detail
    assert "holds 2 documents" in left["rows.jsonl"].detail
    [told], _ = catalog.uploads(ALL, kinds=("collection",))
    assert told.left_count == 2 and list(told.left) == files
    # The text is today's; whatever was known of each stays, groups before all.
    assert texts(indexer)["0.txt"] == "Clause 0 as it reads today."
    assert len(texts(indexer)) == 9
    for head in heads(indexer):
        was = before[head.public_id]
        assert (head.title, head.groups) == (was.title, was.groups)
        assert head.metadata == was.metadata
    # That has ended: it can be asked for again.
    asking.read_collection_again(catalog, "law", ALL)


def test_a_file_that_an_import_named_is_opened_once_its_folder_was_indexed_here(
    indexer: Indexer, folder: Path
) -> None:
    do_job(indexer, asked(indexer, folder), "me")
    catalog, table = indexer.catalog, schema.sources
    with catalog._database.writing() as connection:
        marked = writes.IMPORTED_MARK + table.c.ingest_version
        connection.execute(update(table).values(ingest_version=marked))
    for head in heads(indexer):
        with pytest.raises(Conflict, match="Only an import says"):
            spec_again(catalog, head)
    (folder / "0.txt").write_text("Not what the export said.")
    found = indexer.index_paths("law", "english", [folder])
    assert found == {Outcome.UNCHANGED: 5, Outcome.INDEXED: 1}
    for head in heads(indexer):
        assert isinstance(spec_again(catalog, head), FolderSpec)


def test_a_worker_that_takes_over_goes_on_behind_what_has_ended(
    indexer: Indexer, folder: Path
) -> None:
    catalog = indexer.catalog
    do_job(indexer, asked(indexer, folder), "me")
    read: list[str] = []
    stopping = threading.Event()

    def note(name: str) -> None:
        read.append(name)
        if len(read) == 3:
            stopping.set()

    slow = Indexer(catalog, indexer.targets, SlowReader(note), IndexerSettings(commit_passages=2))
    asking.read_collection_again(catalog, "law", ALL)
    job = catalog.jobs.claim("first")
    assert job is not None
    state = do_job(slow, job, "first", stopping=stopping, heartbeat_seconds=BEAT)
    assert state is JobState.QUEUED and len(read) == 3
    job = catalog.jobs.claim("second")
    assert job is not None and do_job(slow, job, "second") is JobState.DONE
    assert sorted(set(read)) == [f"{number}.txt" for number in range(6)]
    assert len(read) <= 7, "only what was under way is read twice"
    assert catalog.jobs.get(job.public_id, ALL).counts["indexed"] == 6


def test_what_is_deleted_meanwhile_stays_deleted(indexer: Indexer, folder: Path) -> None:
    catalog = indexer.catalog
    do_job(indexer, asked(indexer, folder), "me")
    order = heads(indexer)

    def delete_the_last(name: str) -> None:
        if name == Path(order[0].key).name:
            catalog.delete_document(order[-1].public_id, ALL)

    slow = Indexer(catalog, indexer.targets, SlowReader(delete_the_last), IndexerSettings())
    asking.read_collection_again(catalog, "law", ALL)
    job = catalog.jobs.claim("me")
    assert job is not None and do_job(slow, job, "me") is JobState.DONE
    assert catalog.jobs.get(job.public_id, ALL).counts["indexed"] == 5
    assert Path(order[-1].key).name not in texts(indexer)
