"""/v1/jobs: what is being indexed, how far it is, how every file ended; cancel and retry.

Jobs are made by uploads (`documents.py`) and by the command line: a path on the server's disk is
never taken from a request.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from longleaf.api import jobs
from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.schemas import JobFileList, JobFileView, JobList, JobView
from longleaf.api.http.service import Served
from longleaf.core.catalog.jobs import JobState
from longleaf.core.types import Outcome

router = APIRouter(
    prefix="/v1/jobs",
    tags=["jobs"],
    responses=PROBLEM_RESPONSES,
    default_response_class=PlainJSON,
)

_ID = Path(description="The job's id.", max_length=64)


@router.get("", summary="List jobs")
async def list_jobs(
    service: Served,
    state: Annotated[
        list[JobState] | None, Query(description="Only these states (repeatable).")
    ] = None,
    before: Annotated[
        str | None, Query(max_length=64, description="Go on behind this job (`next`).")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> JobList:
    """Jobs, newest first."""
    store, scope = service.runtime.catalog.jobs, service.scope

    def work() -> JobList:
        at = None if before is None else store.get(before, scope).id
        found = store.newest(scope, state, at, limit + 1)
        more = found[limit - 1].public_id if len(found) > limit else None
        return JobList(jobs=[JobView.of(job) for job in found[:limit]], next=more)

    return await service.read(work)


@router.get("/{job_id}", summary="Read a job")
async def get_job(service: Served, job_id: str = _ID) -> JobView:
    """A job's state and counts."""
    store = service.runtime.catalog.jobs
    return await service.read(lambda: JobView.of(store.get(job_id, service.scope)))


@router.get("/{job_id}/files", summary="List a job's files")
async def get_files(
    service: Served,
    job_id: str = _ID,
    outcome: Annotated[
        list[Outcome] | None, Query(description="Only files that ended so (repeatable).")
    ] = None,
    after: Annotated[str, Query(max_length=4096, description="Go on behind this key.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> JobFileList:
    """The files that were begun: under way with their phase, or ended with their outcome."""
    store = service.runtime.catalog.jobs

    def work() -> JobFileList:
        job = store.get(job_id, service.scope)
        found = store.files(job, after, limit + 1, outcome)
        return JobFileList(
            job=JobView.of(job),
            files=[JobFileView.of(file) for file in found[:limit]],
            next=found[limit - 1].key if len(found) > limit else None,
        )

    return await service.read(work)


@router.post("/{job_id}/cancel", summary="Stop a job")
async def cancel_job(service: Served, job_id: str = _ID) -> JobView:
    """A running job ends after its batch; what it has indexed stays."""
    store = service.runtime.catalog.jobs
    return await service.write(lambda: JobView.of(store.cancel(job_id, service.scope)))


@router.post("/{job_id}/retry", summary="Do an ended job again")
async def retry_job(service: Served, job_id: str = _ID) -> JobView:
    """Put it in line again; unchanged files are skipped."""
    catalog = service.runtime.catalog
    return await service.write(lambda: JobView.of(jobs.retry(catalog, job_id, service.scope)))
