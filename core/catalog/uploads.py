"""Uploads and how each stands: a job with the one file that it is about, in two statements.

What a page asks every second for a hundred of them. Jobs of many files (folders, collections read
again) stand in the same list if they are asked for, with the files that need somebody, and those
under way. A folder's job that found nothing new is left out once it has ended: a watched folder has
one every few minutes. It knows no outcome's meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from longleaf.core.catalog.jobs import Job, JobFile, JobState, file_from_row, job_from_row
from longleaf.core.catalog.schema import job_files, jobs
from longleaf.core.types import Outcome, Scope

KIND = "upload"
_FOLDER = "folder"
LEFT_SHOWN = 20
"""Files of a job of many that are named; `Jobs.files` has all of them."""
_LEFT = (Outcome.REJECTED, Outcome.NO_TEXT, Outcome.UNCHANGED)
_OPEN = [state.value for state in JobState if state.is_open]


@dataclass(frozen=True, slots=True)
class Upload:
    """`file` is None before a worker has begun it, and after its document was deleted.

    Of a job of many files: `file` is one that is under way, `left` the first that did not go in or
    were left as they are, of `left_count`.
    """

    job: Job
    file: JobFile | None
    left: tuple[JobFile, ...] = ()
    left_count: int = 0


def uploads(
    connection: Connection,
    scope: Scope,
    *,
    kinds: Sequence[str] = (KIND,),
    collection: str | None = None,
    job_ids: Sequence[str] | None = None,
    only_open: bool = False,
    before: str | None = None,
    limit: int = 100,
) -> list[Upload]:
    """Jobs of these kinds that the scope may see, newest first, from before the job `before`."""
    query = select(jobs).where(jobs.c.kind.in_(kinds))
    if scope.collections is not None:
        query = query.where(jobs.c.collection.in_(sorted(scope.collections)))
    if collection is not None:
        query = query.where(jobs.c.collection == collection)
    if job_ids is not None:
        query = query.where(jobs.c.public_id.in_(job_ids))
    if only_open:
        query = query.where(jobs.c.state.in_(_OPEN))
    if before is not None:
        place = select(jobs.c.id).where(jobs.c.public_id == before).scalar_subquery()
        query = query.where(jobs.c.id < place)
    begun = select(job_files.c.job_id).where(job_files.c.job_id == jobs.c.id)
    tells = or_(jobs.c.kind != _FOLDER, jobs.c.state != JobState.DONE, begun.exists())
    rows = connection.execute(query.where(tells).order_by(jobs.c.id.desc()).limit(limit)).all()
    found = [job_from_row(row) for row in rows]
    single = [job.id for job in found if job.kind == KIND]
    of_these = select(job_files).where(job_files.c.job_id.in_(single))
    files = {row.job_id: file_from_row(row) for row in connection.execute(of_these)}
    return [
        Upload(job, files.get(job.id)) if job.kind == KIND else _of_many(connection, job)
        for job in found
    ]


def _of_many(connection: Connection, job: Job) -> Upload:
    mine = select(job_files).where(job_files.c.job_id == job.id)
    now = connection.execute(mine.where(job_files.c.outcome.is_(None)).limit(1)).first()
    is_left = job_files.c.outcome.in_([each.value for each in _LEFT])
    left = connection.execute(mine.where(is_left).order_by(job_files.c.key).limit(LEFT_SHOWN))
    count = select(func.count()).where(job_files.c.job_id == job.id, is_left)
    return Upload(
        job,
        None if now is None else file_from_row(now),
        tuple(map(file_from_row, left)),
        int(connection.execute(count).scalar_one()),
    )


def open_count(connection: Connection, scope: Scope, kinds: Sequence[str] = (KIND,)) -> int:
    """How many of these jobs wait or are under way."""
    query = select(func.count()).where(jobs.c.kind.in_(kinds), jobs.c.state.in_(_OPEN))
    if scope.collections is not None:
        query = query.where(jobs.c.collection.in_(sorted(scope.collections)))
    return int(connection.execute(query).scalar_one())
