"""/v1/uploads: every upload and how it stands, so that a page finds its uploads again.

The same jobs as /v1/jobs, each with its one file, its outcome and the next step, in one answer:
whoever sent 100 files asks once a second and not 100 times. Sending is /v1/documents', cancelling
and retrying /v1/jobs'.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.schemas import time_of
from longleaf.api.http.service import Served, Service
from longleaf.api.next_steps import OF_CANCELLED, OF_FAILED, next_step
from longleaf.core.catalog.jobs import JobState
from longleaf.core.catalog.uploads import Upload
from longleaf.core.types import Outcome

router = APIRouter(
    prefix="/v1/uploads",
    tags=["jobs"],
    responses=PROBLEM_RESPONSES,
    default_response_class=PlainJSON,
)

_MOST_JOBS = 100


class UploadProgress(BaseModel):
    """An upload: a job and the one file that it is about."""

    job: str = Field(description="The job: /v1/jobs/{job} cancels and retries it.")
    name: str = Field(description="The file's name.")
    key: str | None = Field(description="The key it was sent under, such as its path in a folder.")
    collection: str
    state: str = Field(description="queued, running, done, failed or cancelled.")
    cancelling: bool = Field(description="It was asked to stop and soon does.")
    phase: str = Field(description="parse, ocr, convert, embed or ended; empty before.")
    phase_done: int
    phase_total: int = Field(description="Units of the phase in all (pages, passages); 0: unknown.")
    outcome: str | None = Field(description="How the file ended; null before, or once forgotten.")
    reason: str = Field(description="Why it was rejected.")
    detail: str = Field(description="What was seen in the file, or why the job failed.")
    next_step: str = Field(description="What to do about it; empty: nothing.")
    can_retry: bool = Field(description="Its bytes are still here, so /v1/jobs/{job}/retry does.")
    warnings: list[str]
    document_ids: list[str] = Field(description="Of the first 1,000 documents.")
    document_count: int
    is_unchanged: bool = Field(description="Exactly that was there before.")
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, upload: Upload, *, can_retry: bool) -> UploadProgress:
        job, file = upload.job, upload.file
        outcome = file.outcome if file else None
        step = next_step(outcome, file.reason if file else "")
        if job.state is JobState.CANCELLED:
            step = OF_CANCELLED
        elif job.state is JobState.FAILED:
            step = OF_FAILED
        return cls(
            job=job.public_id,
            name=str(job.spec.get("name", "")),
            key=job.spec.get("key"),
            collection=job.collection,
            state=job.state.value,
            cancelling=job.cancel and job.state.is_open,
            phase=file.phase if file else "",
            phase_done=file.phase_done if file else 0,
            phase_total=file.phase_total if file else 0,
            outcome=outcome.value if outcome else None,
            reason=file.reason if file else "",
            detail=job.error or (file.detail if file else ""),
            next_step=step,
            can_retry=can_retry,
            warnings=list(file.warnings) if file else [],
            document_ids=list(file.document_ids) if file else [],
            document_count=file.document_count if file else 0,
            is_unchanged=outcome in _TAKEN and file is not None and file.changed_count == 0,
            created_at=time_of(job.created_at),
            finished_at=None if job.finished_at is None else time_of(job.finished_at),
        )


class UploadList(BaseModel):
    uploads: list[UploadProgress] = Field(description="Newest first.")
    next: str | None = Field(description="Ask with before=this for older ones; null: no more.")
    open_count: int = Field(description="How many wait or are under way, of all that you may see.")


_TAKEN = (Outcome.INDEXED, Outcome.INDEXED_WITH_WARNINGS)


@router.get("", summary="List uploads")
async def list_uploads(
    service: Served,
    collection: Annotated[str | None, Query(description="Only into this collection.")] = None,
    job: Annotated[
        list[str] | None,
        Query(max_length=_MOST_JOBS, description="Only these jobs (repeatable)."),
    ] = None,
    open: Annotated[bool, Query(description="Only those that wait or are under way.")] = False,  # noqa: A002
    before: Annotated[
        str | None, Query(max_length=64, description="Go on behind this job (`next`).")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> UploadList:
    """Uploads, newest first, each with its file, how far it is, how it ended and what to do."""
    return await service.read(
        lambda: found_uploads(
            service,
            limit,
            collection=collection,
            job_ids=job,
            only_open=open,
            before=before,
        )
    )


def found_uploads(service: Service, limit: int, **which: Any) -> UploadList:
    """What `list_uploads` answers."""
    catalog = service.runtime.catalog
    found, open_count = catalog.uploads(service.scope, limit=limit + 1, **which)
    more = found[limit - 1].job.public_id if len(found) > limit else None
    found = found[:limit]
    # Asked of the store only for what somebody may want to do again.
    ended = {str(each.job.spec.get("original")) for each in found if _went_wrong(each)}
    kept = ended - catalog.blobs.missing(ended)
    return UploadList(
        uploads=[
            UploadProgress.of(
                each,
                can_retry=_went_wrong(each) and str(each.job.spec.get("original")) in kept,
            )
            for each in found
        ],
        next=more,
        open_count=open_count,
    )


def _went_wrong(upload: Upload) -> bool:
    if upload.job.state.is_open:
        return False
    outcome = upload.file.outcome if upload.file else None
    return upload.job.state is not JobState.DONE or outcome in (Outcome.REJECTED, Outcome.NO_TEXT)
