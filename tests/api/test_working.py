"""The worker as a process: it does what is in line, dies, hangs, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.api.conftest import own_process

from longleaf.api import jobs, wire
from longleaf.api.working import WorkerProcess
from longleaf.core.catalog import Catalog
from longleaf.core.catalog import jobs as stored
from longleaf.core.catalog.jobs import Job, JobState
from longleaf.core.config import Settings, load_settings
from longleaf.core.types import Scope
from longleaf.indexer.prepare import Labels
from longleaf.indexer.specs import FolderSpec, UploadSpec

pytestmark = pytest.mark.slow
ALL = Scope.all()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    flags = {"home": tmp_path / "home", "indexer.commit_passages": 4}
    return load_settings(flags, {}).settings


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    opened = wire.open_catalog(settings)
    opened.create_collection("law")
    yield opened
    opened.close()


def until(what: Callable[[], object], seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def state(catalog: Catalog, job: Job) -> JobState:
    return catalog.jobs.get(job.public_id, ALL).state


def test_a_worker_indexes_as_the_documents_there_were_indexed(
    settings: Settings, catalog: Catalog, tmp_path: Path
) -> None:
    """Nobody has set how long passages are; whoever indexed first had, by a flag."""
    flags = {"home": settings.home, "chunker.target_tokens": 48}
    first = wire.open_write_side(load_settings(flags, {}).settings)
    first.indexer.index_bytes("law", "english", b"A first lease.", "a", key="a", labels=Labels())
    first.close()
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "b.txt").write_text("The tenant pays. " * 60)
    job = jobs.ask_for_folder(catalog, "law", FolderSpec((str(folder),)))
    worker = WorkerProcess(settings)
    try:
        until(lambda: state(catalog, job) in (JobState.DONE, JobState.FAILED))
        assert state(catalog, job) is JobState.DONE
    finally:
        worker.close()
    assert catalog.count(ALL).passages > 5


def test_a_killed_worker_is_replaced_and_its_job_is_done_to_the_end(
    settings: Settings, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"Lease {number}. The tenant pays. " * 30)
    job = jobs.ask_for_folder(catalog, "law", FolderSpec((str(folder),)))
    worker = WorkerProcess(settings)
    try:
        until(lambda: catalog.documents(ALL))
        victim = worker.pid
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        until(lambda: worker.pid not in (None, victim))
        # Its lease must run out first; we are not going to wait for that.
        with catalog._database.writing() as connection:
            connection.exec_driver_sql("UPDATE jobs SET lease_until = 0")
        until(lambda: state(catalog, job) is JobState.DONE)
        assert len(catalog.documents(ALL, limit=100)) == 40
    finally:
        worker.close()
    assert worker.pid is None


@own_process
def test_closing_gives_the_job_back_and_another_worker_ends_it(
    settings: Settings, catalog: Catalog, tmp_path: Path
) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"Lease {number}. The tenant pays. " * 30)
    job = jobs.ask_for_folder(catalog, "law", FolderSpec((str(folder),)))
    worker = WorkerProcess(settings)
    until(lambda: catalog.documents(ALL))
    worker.close()
    assert state(catalog, job) in (JobState.QUEUED, JobState.DONE)
    done = subprocess.run(
        [sys.executable, "-m", "longleaf.api.cli", "worker", "--until-idle", "--json",
         "--home", str(settings.home)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert '"jobs": 1' in done.stdout
    assert state(catalog, job) is JobState.DONE
    assert len(catalog.documents(ALL, limit=100)) == 30


def test_a_worker_that_hangs_loses_its_job_and_writes_nothing_when_it_wakes(
    settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = WorkerProcess(settings)
    try:
        upload = jobs.ask_for_upload(catalog, "law", b"The first lease.", UploadSpec("", "a.txt"))
        until(lambda: state(catalog, upload) is JobState.DONE)  # the models are loaded now
        pid = hanging.pid
        assert pid is not None
        long_text = b"The tenant pays the rent on the first day. " * 6_000
        job = jobs.ask_for_upload(catalog, "law", long_text, UploadSpec("", "long.txt", "long"))
        until(lambda: state(catalog, job) is JobState.RUNNING)
        os.kill(pid, signal.SIGSTOP)
        with catalog._database.writing() as connection:
            connection.exec_driver_sql("UPDATE jobs SET lease_until = 0 WHERE state = 'running'")
        taken = catalog.jobs.claim("another")
        assert taken is not None and taken.public_id == job.public_id
        os.kill(pid, signal.SIGCONT)
        time.sleep(2 * 2.0 + 1.0)  # it beats once and hears that the lease is gone
        owner = catalog.jobs.get(job.public_id, ALL).lease_owner
        assert owner == "another"
        assert [head.key for head in catalog.documents(ALL)] != ["long"]
        catalog.jobs.end(taken, "another", JobState.CANCELLED, {})
        # It goes on with what comes next.
        after = jobs.ask_for_upload(catalog, "law", b"The last lease.", UploadSpec("", "z.txt"))
        until(lambda: state(catalog, after) is JobState.DONE)
        assert hanging.pid == pid
    finally:
        hanging.close()


def test_a_worker_dies_with_its_parent(settings: Settings, catalog: Catalog) -> None:
    code = (
        "import sys, os, time, json\n"
        "from longleaf.core.config import Settings\n"
        "from longleaf.api.working import WorkerProcess\n"
        "worker = WorkerProcess(Settings.model_validate_json(sys.argv[1]))\n"
        "while worker.pid is None: time.sleep(0.05)\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, settings.model_dump_json()], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    until(gone)


def test_models_that_cannot_be_loaded_fail_the_job_with_the_reason(
    settings: Settings, catalog: Catalog, tmp_path: Path
) -> None:
    broken = settings.model_copy(
        update={"embedder": settings.embedder.model_copy(update={"model": str(tmp_path)})}
    )
    worker = WorkerProcess(broken)
    try:
        job = jobs.ask_for_upload(catalog, "law", b"The lease.", UploadSpec("", "a.txt"))
        until(lambda: not state(catalog, job).is_open)
        ended = catalog.jobs.get(job.public_id, ALL)
        assert ended.state is JobState.FAILED and str(tmp_path) in ended.error
    finally:
        worker.close()
    assert stored.MAX_TRIES == 3
