"""Doing a job: what its spec says, under a lease that is renewed, to an end that is written down.

It knows the kinds of job and nothing of who asked for them or which process this is. Whatever
happens, the job ends with a state and a sentence, or stays leased for the next worker to find.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from longleaf.core.catalog import Source
from longleaf.core.catalog.jobs import (
    MAX_TRIES,
    Job,
    JobFile,
    JobState,
    LeaseLost,
    Progress,
    end_files,
)
from longleaf.core.errors import CatalogBusy, CatalogUnavailable, LongleafError, NoSpace
from longleaf.core.types import Scope
from longleaf.indexer.again import read_all_again
from longleaf.indexer.build import FileResult, Indexer
from longleaf.indexer.prepare import Labels
from longleaf.indexer.records import OnPassages, OnResult, ignore_passages, ignore_result
from longleaf.indexer.specs import CollectionSpec, FolderSpec, UploadSpec, spec_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

_log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 2.0
"""How often a worker says that it lives; its lease is 15 times longer."""


class Cancelled(Exception):
    """Somebody asked the job to stop."""


class Stopping(Exception):
    """This process ends: the job goes back to the line."""


class JobSupervisor:
    """`indexer.records.Supervisor` for a job: renews its lease in a thread of its own."""

    def __init__(
        self,
        indexer: Indexer,
        job: Job,
        owner: str,
        stopping: threading.Event | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.total_files: int | None = None
        self._jobs = indexer.catalog.jobs
        self._job = job
        self._owner = owner
        self._tries = self._jobs.tries(job)
        self._stopping = stopping or threading.Event()
        self._heartbeat_seconds = heartbeat_seconds
        self._lock = threading.Lock()
        self._under_way: dict[str, tuple[str, int, int]] = {}
        self._why_not: Exception | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="longleaf-lease", daemon=True)

    def __enter__(self) -> JobSupervisor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Raise LeaseLost, Cancelled or Stopping once there is a reason to."""
        if self._why_not is not None:
            raise self._why_not
        if self._stopping.is_set():
            raise Stopping

    def under_way(self, key: str, phase: str, done: int, total: int) -> None:
        with self._lock:
            self._under_way[key] = (phase, done, total)

    def ended(self, connection: Connection, files: Sequence[FileResult]) -> None:
        """Write how files ended, if the lease is still ours."""
        end_files(connection, self._job, self._owner, [_job_file(file) for file in files])
        with self._lock:
            for file in files:
                self._under_way.pop(file.key, None)

    def left_alone(self, file: FileResult) -> None:
        """Write how a file ended that no run has taken. Raises LeaseLost."""
        self._jobs.end_files(self._job, self._owner, [_job_file(file)])
        with self._lock:
            self._under_way.pop(file.key, None)

    def given_up(self, key: str) -> str | None:
        tries = self._tries.get(key, 0)
        if tries < MAX_TRIES:
            return None
        return f"its worker died or hung {tries} times while it was being read"

    def note(self, result: FileResult) -> None:
        """A file's outcome is durable."""
        with self._lock:
            self.counts[result.outcome.value] += 1

    def note_passages(self, count: int) -> None:
        with self._lock:
            self.counts["passages"] += count

    def _beat(self) -> None:
        while not self._over.wait(self._heartbeat_seconds):
            with self._lock:
                progress = Progress(
                    dict(self.counts),
                    self.total_files,
                    under_way=[(key, *where) for key, where in self._under_way.items()],
                )
            try:
                if self._jobs.heartbeat(self._job, self._owner, progress):
                    self._why_not = Cancelled()
            except LeaseLost as error:
                self._why_not = error
                return
            except Exception:
                # A busy or full disk: the lease still has time, and the next beat tries again.
                _log.exception("job.heartbeat_failed", job=self._job.public_id)


def _job_file(file: FileResult) -> JobFile:
    return JobFile(
        file.key,
        "ended",
        outcome=file.outcome,
        reason=file.reason,
        detail=file.detail,
        document_count=file.document_count,
        changed_count=file.changed_count,
        document_ids=file.document_ids,
        warnings=file.warnings,
    )


def do_job(
    indexer: Indexer,
    job: Job,
    owner: str,
    *,
    stopping: threading.Event | None = None,
    on_result: OnResult = ignore_result,
    on_passages: OnPassages = ignore_passages,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    wait_for_room: bool = False,
) -> JobState:
    """Do a job that `owner` has claimed, and write down how it ended; returns that.

    Everything that goes wrong becomes the job's error, except KeyboardInterrupt, which cancels
    the job and is raised again, and a lost lease, after which the job is another worker's.
    QUEUED is returned when `stopping` was set: the job waits for the next worker. With
    `wait_for_room` it does so when the disk is full, another process keeps the catalog locked,
    or its server does not answer; else that is the job's error. RUNNING: its end could not be
    written, so its lease runs out and it is done again, which changes nothing that is there.
    """
    jobs = indexer.catalog.jobs
    with JobSupervisor(indexer, job, owner, stopping, heartbeat_seconds) as supervisor:

        def report(result: FileResult) -> None:
            supervisor.note(result)
            on_result(result)

        def passed(count: int) -> None:
            supervisor.note_passages(count)
            on_passages(count)

        state, error = JobState.DONE, ""
        try:
            _do(indexer, job, supervisor, report, passed)
        except LeaseLost:
            _log.warning("job.lease_lost", job=job.public_id)
            return JobState.RUNNING
        except Cancelled:
            state = JobState.CANCELLED
        except Stopping:
            jobs.release(job, owner, supervisor.counts)
            return JobState.QUEUED
        except KeyboardInterrupt:
            _try_to_end(indexer, job, owner, supervisor.counts)
            raise
        except (NoSpace, CatalogBusy, CatalogUnavailable) as failure:
            if wait_for_room:
                _log.warning("job.waits", job=job.public_id, reason=failure.message)
                with suppress(LongleafError):  # else its lease runs out
                    jobs.release(job, owner, supervisor.counts)
                return JobState.QUEUED
            state, error = JobState.FAILED, str(failure)
        except LongleafError as failure:
            state, error = JobState.FAILED, str(failure)
        except Exception:
            _log.exception("job.failed", job=job.public_id)
            # Not its words: whoever may see the job would see this machine's paths and statements.
            error = f"Longleaf failed on this job; the log has the cause at job={job.public_id}."
            state = JobState.FAILED
        try:
            jobs.end(job, owner, state, supervisor.counts, error)
        except LeaseLost:
            return JobState.RUNNING
        except (NoSpace, CatalogBusy, CatalogUnavailable) as failure:
            _log.warning("job.end_not_written", job=job.public_id, reason=failure.message)
            return JobState.RUNNING
    # longleaf doctor finds an upload that stays.
    with suppress(NoSpace, CatalogBusy, CatalogUnavailable):
        if job.kind == UploadSpec.kind:
            indexer.catalog.drop_upload(str(job.spec["original"]))
    with suppress(LongleafError):  # a busy or full disk: the next job's end does it
        indexer.catalog.forget_unused_pages()
    return state


def _try_to_end(indexer: Indexer, job: Job, owner: str, counts: Mapping[str, int]) -> None:
    try:
        indexer.catalog.jobs.end(job, owner, JobState.CANCELLED, counts, "interrupted")
    except LongleafError:
        _log.warning("job.not_ended", job=job.public_id)


def _do(
    indexer: Indexer,
    job: Job,
    supervisor: JobSupervisor,
    on_result: Callable[[FileResult], None],
    on_passages: Callable[[int], None],
) -> None:
    spec = spec_of(job)
    catalog = indexer.catalog
    languages = catalog.collection_languages(Scope.all(), [job.collection])
    language = languages[job.collection]
    if isinstance(spec, CollectionSpec):

        def read(one: FolderSpec | UploadSpec, report: OnResult) -> None:
            _read(indexer, job.collection, language, one, supervisor, report, on_passages, {})

        read_all_again(catalog, job, supervisor, read, on_result)
        return
    _read(indexer, job.collection, language, spec, supervisor, on_result, on_passages)


def _read(
    indexer: Indexer,
    collection: str,
    language: str,
    spec: FolderSpec | UploadSpec,
    supervisor: JobSupervisor,
    on_result: OnResult,
    on_passages: OnPassages,
    known: Mapping[str, Source] | None = None,
) -> None:
    """Index what a spec names. `known`: see `Indexer.index_paths`."""
    labels = Labels(spec.groups, spec.metadata, spec.revisions)
    if isinstance(spec, UploadSpec):
        result = indexer.index_bytes(
            collection,
            language,
            indexer.catalog.blobs.get(spec.original),
            spec.name,
            key=spec.key,
            labels=labels,
            on_passages=on_passages,
            supervisor=supervisor,
        )
        on_result(result)
        return
    indexer.index_paths(
        collection,
        language,
        [Path(path) for path in spec.paths],
        include=spec.include,
        exclude=spec.exclude,
        labels=labels,
        prune=spec.prune,
        missing_is_gone=spec.missing_is_gone,
        again=spec.again,
        only=[Path(path) for path in spec.only],
        known=known,
        on_result=on_result,
        on_passages=on_passages,
        supervisor=supervisor,
    )
