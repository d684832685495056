"""A job's end is always written down, and a worker that lost its lease changes nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.indexer.test_run import SizedEmbedder, target

from longleaf.api import jobs as asking
from longleaf.core.catalog import Catalog, orphans
from longleaf.core.catalog import jobs as stored
from longleaf.core.catalog.jobs import Job, JobState
from longleaf.core.catalog.listing import Order
from longleaf.core.config import IndexerSettings
from longleaf.core.errors import CatalogBusy, LongleafError, NoSpace
from longleaf.core.types import Outcome, Scope
from longleaf.indexer.build import Indexer
from longleaf.indexer.chunk import PassageChunker
from longleaf.indexer.parsers.here import ReadHere
from longleaf.indexer.prepare import Labels
from longleaf.indexer.specs import FolderSpec, UploadSpec, spec_of
from longleaf.indexer.work import do_job

ALL = Scope.all()
BEAT = 0.02


@pytest.fixture
def indexer(tmp_path: Path, minilm: Any) -> Iterator[Indexer]:
    catalog = Catalog(tmp_path / "data")
    catalog.create_collection("law")
    embedder = SizedEmbedder("one")
    live = target(catalog, PassageChunker(minilm.tokenizer, "t", 60), embedder)
    yield Indexer(catalog, [live], ReadHere(), IndexerSettings(commit_passages=2))
    catalog.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "documents"
    root.mkdir()
    for number in range(6):
        (root / f"{number}.txt").write_text(f"Clause {number}. The tenant pays the rent.")
    return root


def asked(indexer: Indexer, folder: Path, **more: Any) -> Job:
    spec = FolderSpec(paths=(str(folder),), **more)
    return asking.ask_for_folder(indexer.catalog, "law", spec, owner="me")


class SlowReader(ReadHere):
    """Does something before each file is opened."""

    def __init__(self, before: Callable[[str], None]) -> None:
        super().__init__()
        self._before = before

    def open(self, data: bytes, name: str, *rest: Any) -> Any:
        self._before(name)
        return super().open(data, name, *rest)


def test_a_folder_job_to_its_end(indexer: Indexer, folder: Path) -> None:
    (folder / "empty.txt").write_bytes(b"")
    job = asked(indexer, folder, metadata={"year": 2020, "tags": ("a", "b")}, groups=("partners",))
    assert do_job(indexer, job, "me") is JobState.DONE
    store = indexer.catalog.jobs
    ended = store.get(job.public_id, ALL)
    assert (ended.state, ended.counts) == (
        JobState.DONE,
        {"indexed": 6, "rejected": 1, "passages": 6},
    )
    files = {Path(file.key).name: file for file in store.files(ended)}
    assert files["empty.txt"].reason == "empty"
    assert files["0.txt"].outcome is Outcome.INDEXED
    head = indexer.catalog.document(files["0.txt"].document_ids[0], ALL)
    assert head.metadata == {"year": 2020, "tags": ("a", "b"), "keywords": ("a", "b")}
    assert head.groups == ("partners",)

    again = asked(
        indexer, folder, metadata={"year": 2020, "tags": ("a", "b")}, groups=("partners",)
    )
    assert do_job(indexer, again, "me") is JobState.DONE
    counts = store.get(again.public_id, ALL).counts
    assert counts["unchanged"] == 6 and counts["rejected"] == 1


def test_an_upload_job_keeps_the_bytes_only_as_the_documents_original(indexer: Indexer) -> None:
    catalog = indexer.catalog
    good = asking.ask_for_upload(catalog, "law", b"The lease.", UploadSpec("", "a.txt", "a"))
    bad = asking.ask_for_upload(catalog, "law", b"%PDF no", UploadSpec("", "b.pdf", "b"))
    for job in (good, bad):
        claimed = catalog.jobs.claim("me")
        assert claimed is not None and claimed.public_id == job.public_id
        assert do_job(indexer, claimed, "me") is JobState.DONE
    assert catalog.blobs.exists(good.spec["original"])
    assert not catalog.blobs.exists(bad.spec["original"]), "nobody refers to it"
    [file] = catalog.jobs.files(bad)
    assert (file.outcome, file.reason) == (Outcome.REJECTED, "malformed")
    with pytest.raises(LongleafError, match="Upload the file again"):
        asking.retry(catalog, bad.public_id, ALL)


def test_a_failure_is_the_jobs_error(indexer: Indexer, folder: Path) -> None:
    job = asked(indexer, folder / "nowhere")
    assert do_job(indexer, job, "me") is JobState.FAILED
    assert "does not exist" in indexer.catalog.jobs.get(job.public_id, ALL).error
    gone = indexer.catalog.jobs.create("folder", "gone", {"paths": [str(folder)]}, "me")
    assert do_job(indexer, gone, "me") is JobState.FAILED
    assert "no collection 'gone'" in indexer.catalog.jobs.get(gone.public_id, ALL).error


@pytest.mark.parametrize(
    "why", [NoSpace("There is no room left."), CatalogBusy("It has been locked.")]
)
def test_a_job_waits_for_the_disk_where_it_is_told_to(
    indexer: Indexer, folder: Path, monkeypatch: pytest.MonkeyPatch, why: LongleafError
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise why

    job = asked(indexer, folder)
    with monkeypatch.context() as patch:
        patch.setattr(indexer.catalog, "commit", full)
        assert do_job(indexer, job, "me", wait_for_room=True) is JobState.QUEUED
        again = indexer.catalog.jobs.claim("me")
        assert again is not None and again.tries == 0
        assert do_job(indexer, again, "me") is JobState.FAILED
    assert indexer.catalog.jobs.get(job.public_id, ALL).error == why.message
    indexer.catalog.jobs.retry(job.public_id, ALL)
    again = indexer.catalog.jobs.claim("me")
    assert again is not None and do_job(indexer, again, "me") is JobState.DONE
    assert len(indexer.catalog.documents(ALL)) == 6


def test_an_end_that_cannot_be_written_is_done_again(
    indexer: Indexer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker lives on: somebody else held the lock for a minute, or a stopped process did."""
    job = asked(indexer, folder)

    def locked(*_: Any, **__: Any) -> None:
        raise CatalogBusy("It has been locked.")

    with monkeypatch.context() as patch:
        patch.setattr(indexer.catalog.jobs, "end", locked)
        assert do_job(indexer, job, "me") is JobState.RUNNING
    monkeypatch.setattr(indexer.catalog.jobs, "_clock", lambda: time.time() + 3600)
    again = indexer.catalog.jobs.claim("another")
    assert again is not None and again.public_id == job.public_id
    assert do_job(indexer, again, "another") is JobState.DONE
    assert len(indexer.catalog.documents(ALL)) == 6


@pytest.mark.parametrize("spec", [{"paths": 5}, {"wrong": True}, {}])
def test_a_job_of_another_version_fails_by_name(indexer: Indexer, spec: dict[str, Any]) -> None:
    job = indexer.catalog.jobs.create("folder", "law", spec, "me")
    assert do_job(indexer, job, "me") is JobState.FAILED
    assert "another version" in indexer.catalog.jobs.get(job.public_id, ALL).error


def test_specs_come_back_as_they_were(indexer: Indexer, folder: Path) -> None:
    given = FolderSpec(("/a", "/b"), ("*.pdf",), (), ("g",), {"n": 1, "f": 1.5, "b": True}, True)
    job = asking.ask_for_folder(indexer.catalog, "law", given)
    spec = spec_of(job)
    assert spec == given
    assert [type(value) for value in spec.metadata.values()] == [int, float, bool]


def test_cancelling_keeps_what_is_done(indexer: Indexer, folder: Path) -> None:
    store = indexer.catalog.jobs
    job = asked(indexer, folder)

    def cancel_at_3(name: str) -> None:
        if name == "3.txt":
            store.cancel(job.public_id, ALL)
            time.sleep(5 * BEAT)

    indexer.reader = SlowReader(cancel_at_3)
    assert do_job(indexer, job, "me", heartbeat_seconds=BEAT) is JobState.CANCELLED
    ended = store.get(job.public_id, ALL)
    assert ended.state is JobState.CANCELLED
    done = len(indexer.catalog.documents(ALL))
    assert done == ended.counts.get("indexed", 0) < 6


def test_a_worker_that_stops_gives_the_job_back_at_once(indexer: Indexer, folder: Path) -> None:
    stopping = threading.Event()
    indexer.reader = SlowReader(lambda name: stopping.set() if name == "2.txt" else None)
    job = asked(indexer, folder)
    assert do_job(indexer, job, "me", stopping=stopping) is JobState.QUEUED
    indexer.reader = ReadHere()
    again = indexer.catalog.jobs.claim("another")
    assert again is not None and again.public_id == job.public_id and again.tries == 0
    assert do_job(indexer, again, "another") is JobState.DONE
    assert len(indexer.catalog.documents(ALL)) == 6


def test_a_worker_whose_lease_is_gone_commits_nothing_more(
    indexer: Indexer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = indexer.catalog
    job = asked(indexer, folder)
    before: list[int] = []

    def lose_the_lease(name: str) -> None:
        if name == "3.txt":
            monkeypatch.setattr(catalog.jobs, "_clock", lambda: time.time() + 1_000.0)
            taken = catalog.jobs.claim("another")
            assert taken is not None and taken.public_id == job.public_id
            before.append(len(catalog.documents(ALL)))

    indexer.reader = SlowReader(lose_the_lease)
    # No heartbeat comes in time: the commit itself must notice.
    assert do_job(indexer, job, "me", heartbeat_seconds=60.0) is JobState.RUNNING
    assert len(catalog.documents(ALL)) <= before[0] + 2, "only what was being committed"
    owner = catalog.jobs.get(job.public_id, ALL).lease_owner
    assert owner == "another"


def test_progress_is_written_while_a_file_is_read(indexer: Indexer, folder: Path) -> None:
    store = indexer.catalog.jobs
    job = asked(indexer, folder)
    seen: list[tuple[str, str]] = []

    def look(name: str) -> None:
        if name == "5.txt":
            for _ in range(500):  # the writer's thread and the heartbeat take their time
                time.sleep(BEAT)
                seen[:] = [(Path(f.key).name, f.phase) for f in store.files(job)]
                if ("0.txt", "ended") in seen and ("5.txt", "parse") in seen:
                    break

    indexer.reader = SlowReader(look)
    do_job(indexer, job, "me", heartbeat_seconds=BEAT)
    assert ("5.txt", "parse") in seen
    assert ("0.txt", "ended") in seen


def test_ctrl_c_ends_the_job_as_cancelled(indexer: Indexer, folder: Path) -> None:
    def interrupt(name: str) -> None:
        if name == "3.txt":
            raise KeyboardInterrupt

    indexer.reader = SlowReader(interrupt)
    job = asked(indexer, folder)
    with pytest.raises(KeyboardInterrupt):
        do_job(indexer, job, "me")
    ended = indexer.catalog.jobs.get(job.public_id, ALL)
    assert (ended.state, ended.error) == (JobState.CANCELLED, "interrupted")


def test_a_file_that_killed_its_workers_is_rejected_by_name(
    indexer: Indexer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = indexer.catalog.jobs
    job = asked(indexer, folder)
    bad = str(folder / "2.txt")
    now = time.time()
    for death in range(stored.MAX_TRIES):
        store.heartbeat(job, "me", stored.Progress(under_way=[(bad, "parse", 0, 0)]))
        now += 1_000.0
        monkeypatch.setattr(store, "_clock", lambda at=now: at)
        taken = store.claim("me")
        assert taken is not None, death
    assert do_job(indexer, taken, "me") is JobState.DONE
    files = {Path(file.key).name: file for file in store.files(job)}
    assert files["2.txt"].reason == "crashes its reader" and "3 times" in files["2.txt"].detail
    assert store.get(job.public_id, ALL).counts["indexed"] == 5


@pytest.mark.parametrize(
    ("sentences", "whole", "kept", "act"),
    [
        (1, True, "upload", "deleted"),
        (1, False, "folder", "deleted"),
        (40, True, "folder", "deleted"),  # written in slices
        (1, True, "folder", "changed"),
        (1, False, "upload", "changed"),
        (40, False, "folder", "changed"),
    ],
)
def test_what_is_deleted_or_changed_while_it_is_read_again_stays_so(
    indexer: Indexer, tmp_path: Path, sentences: int, whole: bool, kept: str, act: str
) -> None:
    catalog = indexer.catalog
    file = tmp_path / "lease.txt"
    file.write_text("The tenant pays the rent on the first day of a month. " * sentences)

    def read(group: str) -> None:
        labels = Labels((group,))
        if kept == "upload":
            data = file.read_bytes()
            indexer.index_bytes("law", "english", data, "lease.txt", key="l", labels=labels)
        else:
            indexer.index_paths("law", "english", [file], labels=labels, again=True)

    read("partners")
    [head] = [each.head for each in catalog.listed(ALL, "law", Order.ID, limit=2)]

    def meanwhile(_name: str) -> None:
        if act == "changed":
            read("board")
        else:
            catalog.delete_document(head.public_id, ALL)

    if kept == "folder":  # so that there is something to write
        file.write_text("A new text of the lease, as long as the old. " * sentences)
    slow = Indexer(catalog, indexer.targets, SlowReader(meanwhile), indexer.settings)
    if whole:
        job = asking.read_collection_again(catalog, "law", ALL)
    else:
        job = asking.read_again(catalog, head.public_id, ALL)
    taken = catalog.jobs.claim("me")
    assert taken is not None
    state = do_job(slow, taken, "me")
    ended = catalog.jobs.get(job.public_id, ALL)
    if whole:
        assert state is JobState.DONE and ended.counts["unchanged"] == 1
        assert "indexed" not in ended.counts
        if act == "changed":  # of a deleted document no job tells
            [row] = catalog.jobs.files(ended)
            assert "deleted or changed" in row.detail
    else:
        assert state is JobState.FAILED and "deleted or changed" in ended.error
    left = [each.head.groups for each in catalog.listed(ALL, "law", Order.ID, limit=2)]
    assert left == ([("board",)] if act == "changed" else [])
    found = orphans.find(catalog, now=time.time() + 2 * orphans.OLD_SECONDS)
    assert not found.originals and not found.contents, "nothing of it lies about"


def test_what_nobody_expected_is_told_without_its_words(
    indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> FolderSpec:
        raise RuntimeError("SELECT secret FROM /home/anne")

    monkeypatch.setattr("longleaf.indexer.work.spec_of", broken)
    job = indexer.catalog.jobs.create("folder", "law", {"paths": ["/a"]}, "me")
    assert do_job(indexer, job, "me") is JobState.FAILED
    said = indexer.catalog.jobs.get(job.public_id, ALL).error
    assert "secret" not in said and "RuntimeError" not in said
    assert f"job={job.public_id}" in said
