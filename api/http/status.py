"""/v1/status: how everything stands, each fact with what to do where something is not well.

What /readyz, /metrics and the doctor know, for a person who looks at a page. Cheap enough to be
asked every few seconds: it walks no folder and loads no model; `longleaf doctor` looks deeper.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from fastapi import APIRouter
from pydantic import BaseModel, Field

from longleaf.api.doctor import machine
from longleaf.api.doctor.report import Finding, Report, Status, fail, ok, warn
from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.health import counted, readiness
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.service import DISK, Served, Service
from longleaf.core.catalog.jobs import JobState
from longleaf.core.types import Outcome

router = APIRouter(
    prefix="/v1",
    tags=["operations"],
    responses=PROBLEM_RESPONSES,
    default_response_class=PlainJSON,
)

_LAG_WORTH_A_WORD = 1_000


class FindingView(BaseModel):
    """One fact: about what, how well it is, in words, and what to do when it is not well."""

    subject: str
    status: str = Field(description="OK, WARN or FAIL.")
    fact: str
    remedy: str = Field(description="What to do; empty: nothing.")


class StatusView(BaseModel):
    """How everything stands."""

    status: str = Field(description="The worst of the findings: OK, WARN or FAIL.")
    ready: bool = Field(description="Searches can be trusted, as /readyz says.")
    collections: int
    documents: int
    passages: int
    seen_seq: int
    head_seq: int
    lag: int = Field(description="Changes that the index has not followed yet.")
    free_bytes: int = Field(description="Room on the disk of the data folder.")
    total_bytes: int
    jobs: dict[str, int] = Field(description="Jobs of the last 30 days by state.")
    files: dict[str, int] = Field(description="Their files by how they ended.")
    findings: list[FindingView]


@router.get("/status", summary="How does everything stand?")
async def get_status(service: Served) -> StatusView:
    """Sizes, lag, room, what was chosen for this machine, and each problem with its next step."""
    return await service.probe(lambda: found_status(service))


def found_status(service: Service) -> StatusView:
    """What `get_status` answers."""
    runtime = service.runtime
    counts, standing = counted(service)
    usage = service.look(DISK, lambda: shutil.disk_usage(runtime.settings.home))
    ready, reasons = readiness(service)
    seen_seq = min(runtime.follower.applied_seq, counts.head_seq)
    lag = counts.head_seq - seen_seq
    report = Report()
    found = report.findings
    found.append(_index(ready is not None and not reasons, reasons, lag))
    found.append(_worker(service, standing.jobs[JobState.QUEUED]))
    found.append(machine.room(usage.free, usage.total))
    found += _jobs(standing.jobs, standing.files)
    chosen = runtime.reasons if ready is None else ready.chosen
    # The worker's and the disk's troubles are findings of their own.
    found += [ok(part, reason) for part, reason in chosen.items() if part not in ("worker", "disk")]
    found += machine.programs()
    return StatusView(
        status=str(report.worst),
        ready=ready is not None and not reasons,
        collections=counts.collections,
        documents=counts.documents,
        passages=counts.passages,
        seen_seq=seen_seq,
        head_seq=counts.head_seq,
        lag=lag,
        free_bytes=usage.free,
        total_bytes=usage.total,
        jobs={state.value: count for state, count in standing.jobs.items()},
        files={outcome.value: count for outcome, count in standing.files.items()},
        findings=[
            FindingView(
                subject=each.subject,
                status=str(each.status),
                fact=each.fact,
                remedy=each.remedy,
            )
            for each in sorted(found, key=lambda each: -list(Status).index(each.status))
        ],
    )


def _index(is_ready: bool, reasons: list[str], lag: int) -> Finding:
    if not is_ready:
        return fail(
            "search",
            " ".join(reasons) or "The index does not answer.",
            "It is tried again by itself. If this stays: longleaf doctor, and the server's log.",
        )
    if lag > _LAG_WORTH_A_WORD:
        return warn(
            "search",
            f"The index is {lag:,} changes behind; what came last is not found yet.",
            "Nothing: it catches up by itself.",
        )
    return ok("search", "Ready." if not lag else f"Ready; {lag:,} changes to follow.")


def _worker(service: Service, queued: int) -> Finding:
    worker = service.worker
    if worker is None:
        if queued:
            return warn(
                "worker",
                "This server has none, and uploads wait.",
                "Is one running elsewhere? longleaf worker",
            )
        return ok("worker", "Not this server's own.")
    if worker.failure is not None:
        return fail(
            "worker",
            worker.failure,
            "It is started again by itself; what was uploaded waits. The server's log says more.",
        )
    return ok("worker", "Indexes what comes in.")


def _jobs(jobs: Mapping[JobState, int], files: Mapping[Outcome, int]) -> list[Finding]:
    found = []
    if failed := jobs[JobState.FAILED]:
        found.append(
            warn(
                "jobs",
                f"{failed:,} of the last 30 days failed.",
                "longleaf jobs list --state failed says why; longleaf jobs retry does one again.",
            )
        )
    refused = files[Outcome.REJECTED] + files[Outcome.NO_TEXT]
    if refused:
        found.append(
            ok("files", f"{refused:,} of the last 30 days could not be taken; each says why.")
        )
    return found
