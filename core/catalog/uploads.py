"""Uploads and how each stands: a job with the one file that it is about, in two statements.

What a page asks every second for a hundred of them. It knows no outcome's meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from longleaf.core.catalog.jobs import Job, JobFile, JobState, file_from_row, job_from_row
from longleaf.core.catalog.schema import job_files, jobs
from longleaf.core.types import Scope

KIND = "upload"
_OPEN = [state.value for state in JobState if state.is_open]


@dataclass(frozen=True, slots=True)
class Upload:
    """`file` is None before a worker has begun it, and after its document was deleted."""

    job: Job
    file: JobFile | None


def uploads(
    connection: Connection,
    scope: Scope,
    *,
    collection: str | None = None,
    job_ids: Sequence[str] | None = None,
    only_open: bool = False,
    before: str | None = None,
    limit: int = 100,
) -> list[Upload]:
    """Uploads that the scope may see, newest first, from before the job `before`."""
    query = select(jobs).where(jobs.c.kind == KIND)
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
    rows = connection.execute(query.order_by(jobs.c.id.desc()).limit(limit)).all()
    found = [job_from_row(row) for row in rows]
    of_these = select(job_files).where(job_files.c.job_id.in_([job.id for job in found]))
    files = {row.job_id: file_from_row(row) for row in connection.execute(of_these)}
    return [Upload(job, files.get(job.id)) for job in found]


def open_count(connection: Connection, scope: Scope) -> int:
    """How many uploads wait or are under way."""
    query = select(func.count()).where(jobs.c.kind == KIND, jobs.c.state.in_(_OPEN))
    if scope.collections is not None:
        query = query.where(jobs.c.collection.in_(sorted(scope.collections)))
    return int(connection.execute(query).scalar_one())
