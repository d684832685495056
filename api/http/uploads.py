"""/v1/uploads: every upload and how it stands, so that a page finds its uploads again.

The same jobs as /v1/jobs, each with its one file, its outcome and the next step, in one answer:
whoever sent 100 files asks once a second and not 100 times. Sending is /v1/documents', cancelling
and retrying /v1/jobs'. `kind` adds jobs of many files: folders, collections read again.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.schemas import time_of
from longleaf.api.http.service import Served, Service
from longleaf.api.next_steps import OF_CANCELLED, OF_FAILED, next_step
from longleaf.core.catalog.jobs import JobState
from longleaf.core.catalog.uploads import KIND, Upload
from longleaf.core.types import Outcome

router = APIRouter(
    prefix="/v1/uploads",
    tags=["jobs"],
    responses=PROBLEM_RESPONSES,
    default_response_class=PlainJSON,
)

_MOST_JOBS = 100


Kind = Literal["upload", "folder", "collection"]
ALL_KINDS: tuple[Kind, ...] = get_args(Kind)


class LeftFile(BaseModel):
    """A file of a job of many that did not go in, or was left as it is."""

    key: str
    outcome: str
    reason: str
    detail: str
    next_step: str


class UploadProgress(BaseModel):
    """An upload: a job and the one file that it is about. Or a job of many files."""

    job: str = Field(description="The job: /v1/jobs/{job} cancels and retries it.")
    kind: str = Field(description="upload, folder, or collection: all of it read again.")
    name: str = Field(description="The file's name; the folder's paths; the collection's name.")
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
    counts: dict[str, int] = Field(description="Of a job of many files: how many ended how.")
    total_files: int | None = Field(description="Of a job of many files; null: not known.")
    left: list[LeftFile] = Field(
        description="Of a job of many files: the first that did not go in or were left as they "
        "are; /v1/jobs/{job}/files has all."
    )
    left_count: int
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, upload: Upload, *, can_retry: bool) -> UploadProgress:
        job, file = upload.job, upload.file
        is_one = job.kind == KIND
        paths = ", ".join(job.spec.get("paths", ()))
        outcome = file.outcome if file else None
        step = next_step(outcome, file.reason if file else "")
        if job.state is JobState.CANCELLED:
            step = OF_CANCELLED
        elif job.state is JobState.FAILED:
            step = OF_FAILED
        return cls(
            job=job.public_id,
            kind=job.kind,
            name=str(job.spec["name"]) if is_one else paths or job.collection,
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
            counts={} if is_one else dict(job.counts),
            total_files=job.total_files,
            left=[
                LeftFile(
                    key=each.key,
                    outcome=str(each.outcome),
                    reason=each.reason,
                    detail=each.detail,
                    next_step=next_step(each.outcome, each.reason),
                )
                for each in upload.left
            ],
            left_count=upload.left_count,
            created_at=time_of(job.created_at),
            finished_at=None if job.finished_at is None else time_of(job.finished_at),
        )


class UploadList(BaseModel):
    uploads: list[UploadProgress] = Field(description="Newest first.")
    next: str | None = Field(description="Ask with before=this for older ones; null: no more.")
    open_count: int = Field(description="How many wait or are under way, of all that you may see.")


_NOT_TAKEN = (Outcome.REJECTED, Outcome.NO_TEXT)
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
    kind: Annotated[
        list[Kind] | None,
        Query(description="Which jobs (repeatable); left out: uploads, or any that `job` names."),
    ] = None,
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
            kinds=tuple(kind or (ALL_KINDS if job else (KIND,))),
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
    ended = {
        str(each.job.spec.get("original"))
        for each in found
        if each.job.kind == KIND and _went_wrong(each)
    }
    kept = ended - catalog.blobs.missing(ended)
    return UploadList(
        uploads=[
            UploadProgress.of(
                each,
                can_retry=_went_wrong(each)
                and (each.job.kind != KIND or str(each.job.spec.get("original")) in kept),
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
    if upload.job.kind != KIND:
        not_taken = sum(upload.job.counts.get(each.value, 0) for each in _NOT_TAKEN)
        return upload.job.state is not JobState.DONE or not_taken > 0
    return upload.job.state is not JobState.DONE or outcome in _NOT_TAKEN
