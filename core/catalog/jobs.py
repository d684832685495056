"""Jobs: what is to be indexed, who works on it, and how every file ended.

A job outlives every process. Whoever works on it holds a lease and renews it; a lease that ran out
says that its worker died or hangs, and the next worker takes the job up again. A worker that comes
back late finds its lease gone inside its next transaction (`require_lease`) and writes nothing.
A file that was under way when a worker died has one more try behind it; after `MAX_TRIES` it is
given up by name and the job goes on. A job that kills its workers without any file under way fails.

It knows no file format and runs nothing. Times are seconds since the epoch.
"""

from __future__ import annotations

import enum
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from longleaf.core.catalog import bounds
from longleaf.core.catalog.database import Database, insert_row
from longleaf.core.catalog.schema import job_files, jobs
from longleaf.core.errors import Conflict, NotFound
from longleaf.core.types import Outcome, Scope

MAX_TRIES = 3
LEASE_SECONDS = 30.0
_IDS_KEPT = 1_000
"""Documents of a file that its row names; a JSONL may hold a million."""

KEEP_FINISHED_SECONDS = 30 * 24 * 3600.0
"""Finished jobs older than this are forgotten (the documents and file outcomes stay)."""


class JobState(enum.StrEnum):
    """QUEUED and RUNNING are open; the others are how a job ends."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        return self in (JobState.QUEUED, JobState.RUNNING)


class LeaseLost(Conflict):
    """Another worker has taken the job over: stop, and write nothing more."""

    code = "lease_lost"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as stored. `spec` is what to do; `counts` how many files ended how, and "passages"."""

    id: int
    public_id: str
    kind: str
    collection: str
    spec: Mapping[str, Any]
    state: JobState
    cancel: bool
    tries: int
    error: str
    counts: Mapping[str, int]
    total_files: int | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    lease_owner: str | None
    lease_until: float | None


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file of a job: under way while `outcome` is None, then ended."""

    key: str
    phase: str
    phase_done: int = 0
    phase_total: int = 0
    tries: int = 0
    outcome: Outcome | None = None
    reason: str = ""
    detail: str = ""
    document_count: int = 0
    changed_count: int = 0
    document_ids: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker reports with every heartbeat. `under_way`: (key, phase, done, total)."""

    counts: Mapping[str, int] = field(default_factory=dict)
    total_files: int | None = None
    under_way: Sequence[tuple[str, str, int, int]] = ()


class Jobs:
    """The jobs of one catalog. Thread-safe: every method is one transaction."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    # --- asking for work -----------------------------------------------------------------------

    def create(
        self, kind: str, collection: str, spec: Mapping[str, Any], owner: str | None = None
    ) -> Job:
        """Enter a job; with `owner`, already taken by that worker. Forgets very old ones."""
        now = self._clock()
        public_id = secrets.token_hex(8)
        with self._database.writing() as connection:
            connection.execute(delete(jobs).where(jobs.c.finished_at < now - KEEP_FINISHED_SECONDS))
            insert_row(
                connection,
                insert(jobs).values(
                    public_id=public_id,
                    kind=kind,
                    collection=collection,
                    spec=dict(spec),
                    state=JobState.RUNNING if owner else JobState.QUEUED,
                    cancel=False,
                    tries=0,
                    counts={},
                    created_at=now,
                    started_at=now if owner else None,
                    lease_owner=owner,
                    lease_until=now + LEASE_SECONDS if owner else None,
                ),
            )
            return _job(connection, public_id)

    def cancel(self, public_id: str, scope: Scope) -> Job:
        """Ask a job to stop; one that nobody works on has stopped when this returns.

        Raises NotFound, and Conflict for a job that has ended.
        """
        now = self._clock()
        with self._database.writing() as connection:
            job = _visible(connection, public_id, scope)
            if not job.state.is_open:
                raise Conflict(f"The job {public_id} is {job.state} already.")
            changes: dict[str, Any] = {"cancel": True}
            if job.state is JobState.QUEUED or (job.lease_until or 0.0) < now:
                changes |= {"state": JobState.CANCELLED, "finished_at": now, "lease_owner": None}
                _clear_under_way(connection, job.id)
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(**changes))
            return _job(connection, public_id)

    def retry(self, public_id: str, scope: Scope) -> Job:
        """Put an ended job in line again, its files' tries forgotten. Raises NotFound, Conflict."""
        with self._database.writing() as connection:
            job = _visible(connection, public_id, scope)
            if job.state.is_open:
                raise Conflict(
                    f"The job {public_id} is {job.state}: there is nothing to retry yet."
                )
            connection.execute(delete(job_files).where(job_files.c.job_id == job.id))
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job.id)
                .values(
                    state=JobState.QUEUED,
                    cancel=False,
                    tries=0,
                    error="",
                    counts={},
                    total_files=None,
                    started_at=None,
                    finished_at=None,
                    lease_owner=None,
                    lease_until=None,
                )
            )
            return _job(connection, public_id)

    # --- working -------------------------------------------------------------------------------

    def claim(self, owner: str) -> Job | None:
        """The oldest job that nobody works on, now leased to `owner`; None when there is none.

        A job whose lease ran out counts as well: its files under way get a try, or, when there
        were none, the job does. One that has used them up is failed here and passed over.
        """
        now = self._clock()
        free = or_(
            jobs.c.state == JobState.QUEUED,
            and_(jobs.c.state == JobState.RUNNING, jobs.c.lease_until < now),
        )
        # Looked at without the write lock first: an idle worker asks four times a second.
        with self._database.reading() as connection:
            if connection.execute(select(jobs.c.id).where(free).limit(1)).first() is None:
                return None
        with self._database.writing() as connection:
            while True:
                row = connection.execute(
                    select(jobs.c.public_id).where(free).order_by(jobs.c.id).limit(1)
                ).first()
                if row is None:
                    return None
                job = _job(connection, row.public_id)
                if job.cancel:
                    _end(connection, job.id, JobState.CANCELLED, "", now)
                    continue
                tries = job.tries + (1 if self._lost(connection, job) else 0)
                if tries >= MAX_TRIES:
                    error = f"its worker died {tries} times before any file was begun"
                    _end(connection, job.id, JobState.FAILED, error, now)
                    continue
                connection.execute(
                    update(jobs)
                    .where(jobs.c.id == job.id)
                    .values(
                        state=JobState.RUNNING,
                        tries=tries,
                        started_at=job.started_at or now,
                        lease_owner=owner,
                        lease_until=now + LEASE_SECONDS,
                    )
                )
                return _job(connection, job.public_id)

    def _lost(self, connection: Connection, job: Job) -> bool:
        """Whether a worker died on this job with no file to blame; files to blame get a try."""
        if job.state is not JobState.RUNNING:
            return False
        blamed = connection.execute(
            update(job_files)
            .where(
                job_files.c.job_id == job.id,
                job_files.c.outcome.is_(None),
                # One with its tries behind it is read no more: what died since is not its fault.
                job_files.c.tries < MAX_TRIES,
            )
            .values(tries=job_files.c.tries + 1)
        )
        return blamed.rowcount == 0

    def tries(self, job: Job) -> dict[str, int]:
        """key -> tries of the files that were under way when a worker died."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(job_files.c.key, job_files.c.tries).where(
                    job_files.c.job_id == job.id, job_files.c.tries > 0
                )
            )
            return {row.key: int(row.tries) for row in rows}

    def heartbeat(self, job: Job, owner: str, progress: Progress) -> bool:
        """Renew the lease and write down how far it is; True when the job is to be cancelled.

        Raises LeaseLost when another worker has it.
        """
        now = self._clock()
        with self._database.writing() as connection:
            require_lease(connection, job, owner)
            changes: dict[str, Any] = {
                "lease_until": now + LEASE_SECONDS,
                "counts": dict(progress.counts),
                "total_files": progress.total_files,
            }
            if progress.counts:
                changes["tries"] = 0  # it gets on
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(**changes))
            ended = _ended_keys(connection, job.id, [key for key, *_ in progress.under_way])
            for key, phase, done, total in progress.under_way:
                if key in ended:  # it ended after the worker looked
                    continue
                values = {"phase": phase, "phase_done": done, "phase_total": total}
                _put_file(connection, job.id, key, values | {"outcome": None, "updated_at": now})
            stop = select(jobs.c.cancel).where(jobs.c.id == job.id)
            return bool(connection.execute(stop).scalar_one())

    def end_files(self, job: Job, owner: str, files: Sequence[JobFile]) -> None:
        """How files ended that no transaction of theirs speaks of. Raises LeaseLost."""
        with self._database.writing() as connection:
            end_files(connection, job, owner, files)

    def end(
        self,
        job: Job,
        owner: str,
        state: JobState,
        counts: Mapping[str, int],
        error: str = "",
    ) -> None:
        """How the job ended. Raises LeaseLost when another worker has it."""
        with self._database.writing() as connection:
            require_lease(connection, job, owner)
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(counts=dict(counts)))
            _end(connection, job.id, state, error, self._clock())

    def release(self, job: Job, owner: str, counts: Mapping[str, int]) -> None:
        """Give a job back unfinished, to be taken up again at once; nobody is to blame."""
        with self._database.writing() as connection:
            require_lease(connection, job, owner)
            _clear_under_way(connection, job.id)
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job.id)
                .values(
                    state=JobState.QUEUED,
                    counts=dict(counts),
                    lease_owner=None,
                    lease_until=None,
                )
            )

    # --- looking -------------------------------------------------------------------------------

    def get(self, public_id: str, scope: Scope) -> Job:
        """One job. Raises NotFound when there is none that the scope may see."""
        with self._database.reading() as connection:
            return _visible(connection, public_id, scope)

    def newest(
        self,
        scope: Scope,
        states: Iterable[JobState] | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Jobs, newest first, from before the id `before`."""
        query = select(jobs)
        if scope.collections is not None:
            query = query.where(jobs.c.collection.in_(sorted(scope.collections)))
        if states is not None:
            query = query.where(jobs.c.state.in_([state.value for state in states]))
        if before is not None:
            query = query.where(jobs.c.id < before)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(jobs.c.id.desc()).limit(limit)).all()
        return [job_from_row(row) for row in rows]

    def files(
        self,
        job: Job,
        after: str = "",
        limit: int = 100,
        outcomes: Iterable[Outcome] | None = None,
    ) -> list[JobFile]:
        """The job's files that were begun, by key, from behind `after`."""
        query = select(job_files).where(job_files.c.job_id == job.id)
        query = query.where(job_files.c.key > bounds.before_nul(after))
        if outcomes is not None:
            query = query.where(job_files.c.outcome.in_([each.value for each in outcomes]))
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(job_files.c.key).limit(limit)).all()
        return [file_from_row(row) for row in rows]

    def open_count(self) -> int:
        """How many jobs are queued or running."""
        open_states = [state.value for state in JobState if state.is_open]
        query = select(func.count()).select_from(jobs).where(jobs.c.state.in_(open_states))
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())


# --- inside somebody else's transaction ----------------------------------------------------------


def require_lease(connection: Connection, job: Job, owner: str) -> None:
    """Raise LeaseLost unless `owner` still holds the job."""
    held = connection.execute(
        select(jobs.c.id).where(
            jobs.c.id == job.id,
            jobs.c.lease_owner == owner,
            jobs.c.state == JobState.RUNNING,
        )
    ).first()
    if held is None:
        raise LeaseLost(f"The job {job.public_id} was taken over by another worker, or ended.")


def end_files(connection: Connection, job: Job, owner: str, files: Sequence[JobFile]) -> None:
    """Write down how files ended, in the transaction that made it so. Raises LeaseLost."""
    require_lease(connection, job, owner)
    now = time.time()
    for file in files:
        _put_file(
            connection,
            job.id,
            file.key,
            {
                "phase": "ended",
                "outcome": file.outcome.value if file.outcome else None,
                "reason": file.reason,
                "detail": file.detail,
                "document_count": file.document_count,
                "changed_count": file.changed_count,
                "document_ids": list(file.document_ids[:_IDS_KEPT]),
                "warnings": list(file.warnings),
                "updated_at": now,
            },
        )


def active_originals(connection: Connection) -> set[str]:
    """Originals that an open upload still needs, though no document refers to them yet."""
    open_states = [state.value for state in JobState if state.is_open]
    rows = connection.execute(
        select(jobs.c.spec).where(jobs.c.kind == "upload", jobs.c.state.in_(open_states))
    )
    return {str(row.spec.get("original")) for row in rows}


def _end(connection: Connection, job_id: int, state: JobState, error: str, now: float) -> None:
    _clear_under_way(connection, job_id)
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(state=state, error=error, finished_at=now, lease_owner=None, lease_until=None)
    )


def _clear_under_way(connection: Connection, job_id: int) -> None:
    connection.execute(
        delete(job_files).where(job_files.c.job_id == job_id, job_files.c.outcome.is_(None))
    )


def _ended_keys(connection: Connection, job_id: int, keys: Sequence[str]) -> set[str]:
    rows = connection.execute(
        select(job_files.c.key).where(
            job_files.c.job_id == job_id,
            job_files.c.key.in_(keys),
            job_files.c.outcome.is_not(None),
        )
    )
    return {row.key for row in rows}


def _put_file(connection: Connection, job_id: int, key: str, values: dict[str, Any]) -> None:
    of_this = (job_files.c.job_id == job_id) & (job_files.c.key == key)
    if not connection.execute(update(job_files).where(of_this).values(**values)).rowcount:
        row: dict[str, Any] = {
            "phase_done": 0,
            "phase_total": 0,
            "tries": 0,
            "document_ids": [],
            "warnings": [],
        }
        connection.execute(insert(job_files).values(job_id=job_id, key=key, **(row | values)))


def _visible(connection: Connection, public_id: str, scope: Scope) -> Job:
    found = _job_or_none(connection, public_id)
    seen = found is not None and (
        scope.collections is None or found.collection in scope.collections
    )
    if found is None or not seen:
        raise NotFound(f"There is no job {public_id!r}.", "longleaf jobs lists them.")
    return found


def _job(connection: Connection, public_id: str) -> Job:
    found = _job_or_none(connection, public_id)
    assert found is not None
    return found


def _job_or_none(connection: Connection, public_id: str) -> Job | None:
    if not bounds.is_storable(public_id):
        return None
    row = connection.execute(select(jobs).where(jobs.c.public_id == public_id)).first()
    return None if row is None else job_from_row(row)


def job_from_row(row: Any) -> Job:
    values = {name: row._mapping[name] for name in Job.__dataclass_fields__}
    return Job(**(values | {"state": JobState(values["state"])}))


def file_from_row(row: Any) -> JobFile:
    values = {name: row._mapping[name] for name in JobFile.__dataclass_fields__}
    values["outcome"] = None if values["outcome"] is None else Outcome(values["outcome"])
    values["document_ids"] = tuple(values["document_ids"])
    values["warnings"] = tuple(values["warnings"])
    return JobFile(**values)
