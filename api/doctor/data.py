"""How the catalog and what lies beside it are: files, rows, orphans, followers, jobs, generations.

Reads only. `core.catalog.verify` does the checking; here its findings get words and a remedy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from longleaf.api.doctor.report import DEEP_REPAIR, REPAIR, Finding, fail, ok, warn
from longleaf.core.catalog import Catalog, orphans, repair
from longleaf.core.catalog.database import DATABASE
from longleaf.core.catalog.jobs import JobState
from longleaf.core.catalog.postgres import PostgresDatabase
from longleaf.core.catalog.verify import Check, Verifier, verify_file
from longleaf.core.types import Scope

_STUCK_SECONDS = 120.0
_LAG = 10_000
_FROM_BACKUP = (
    "Restore a backup (longleaf restore), or delete the document and index its file again."
)
_REMEDIES = {
    f"{what} against their checksums": f"{DEEP_REPAIR} makes them anew from the texts."
    for what in ("passages", "dense vectors", "token vectors")
}

Progress = Callable[[str, int, int], None]


def file(home: Path, *, deep: bool) -> tuple[Finding, Check]:
    """SQLite's own check, before anything is opened for writing."""
    check = verify_file(home / DATABASE, deep=deep)
    if not check.wrong:
        return ok("catalog file", f"{check.total:,} {check.what}: sound"), check
    remedy = "Stop everything that uses it, and restore a backup: longleaf restore"
    if repair.only_indexes_are_damaged(check):
        remedy = f"Only SQLite's indexes are damaged: {REPAIR}"
    return fail("catalog file", _wrong(check), remedy, details=_details(check)), check


def server(catalog: Catalog) -> Iterator[Finding]:
    """The Postgres server behind a catalog, and whether a commit is as durable as we say."""
    database = catalog.database
    assert isinstance(database, PostgresDatabase)
    facts = database.facts()
    yield ok(
        "catalog database",
        f"{database.where}, schema {facts['schema']}: Postgres {facts['version']}, "
        f"{database.size_bytes() / 2**20:,.1f} MiB",
    )
    for setting in ("fsync", "full_page_writes"):
        if facts[setting] != "on":
            yield fail(
                "catalog database",
                f"{setting} is off: a power cut may take what was acknowledged, or all of it.",
                f"Set {setting} = on in the server's postgresql.conf.",
            )


def contents(verifier: Verifier) -> Iterator[Finding]:
    """Every check of what the catalog holds."""
    for check in verifier.checks():
        subject, _, how = check.what.partition(" against ")
        looked = (
            f"{check.checked:,} of {check.total:,} looked at (--deep looks at all)"
            if check.sampled
            else f"all {check.total:,} looked at"
        )
        against = f" against {how}" if how else ""
        if check.wrong:
            remedy = _REMEDIES.get(check.what, _FROM_BACKUP)
            fact = f"{_wrong(check)}; {looked}"
            yield fail(subject, fact, remedy, details=_details(check))
        else:
            yield ok(subject, f"{looked}{against}")


def _wrong(check: Check) -> str:
    return f"{check.wrong:,} wrong: {check.problems[0].where} {check.problems[0].detail}"


def _details(check: Check) -> tuple[str, ...]:
    return tuple(f"{problem.where}: {problem.detail}" for problem in check.problems)


def left_behind(catalog: Catalog) -> tuple[Finding, orphans.Orphans]:
    """What nothing refers to."""
    found = orphans.find(catalog)
    if not found.count:
        return ok("orphans", "none: everything beside the catalog is referred to"), found
    kinds = {
        "originals": found.originals,
        "segments": found.segments,
        "temporary files": found.temporary,
        "texts without a document": found.contents,
    }
    named = ", ".join(f"{len(each):,} {name}" for name, each in kinds.items() if each)
    fact = f"{named} that nothing refers to ({found.bytes / 2**20:.1f} MiB)"
    return warn("orphans", fact, f"They only cost space. {REPAIR} removes them."), found


def erasure(catalog: Catalog, seconds: float | None) -> Finding:
    """Whether copies of what was deleted lie in the files longer than they should."""
    since = catalog.erasure.unscrubbed_since()
    if since is None:
        return ok("erasure", "no copy of what was deleted is left in the files")
    minutes = (time.time() - since) / 60.0
    fact = f"copies of what was deleted may lie in the files since {minutes:,.0f} minutes"
    if seconds is not None and minutes * 60.0 < 2 * seconds:
        return ok("erasure", f"{fact}; a server removes them, or longleaf compact")
    return warn("erasure", fact, "longleaf compact, or a server (retriever.erase_minutes).")


def followers(catalog: Catalog) -> Iterator[Finding]:
    """Who follows the log, how far behind, and who holds it back for nothing."""
    head, horizon = catalog.head_seq(), catalog.log_horizon()
    yield ok("change log", f"head {head:,}, kept from {horizon:,}, epoch {catalog.epoch()}")
    for name, (seq, seen_at) in repair.followers(catalog).items():
        behind, days = head - seq, (time.time() - seen_at) / 86400
        about = f"{name} is {behind:,} changes behind" if behind else f"{name} is up to date"
        if is_gone(catalog, name):
            fact = f"{name} follows no more: its folder is gone. It holds back the log."
            yield warn("followers", fact, REPAIR)
        elif behind >= _LAG or (behind and days > 1):
            remedy = "longleaf serve or any longleaf search brings it up to date."
            yield warn("followers", f"{about}, last seen {days:.1f} days ago", remedy)
        else:
            yield ok("followers", about)


def is_gone(catalog: Catalog, name: str) -> bool:
    """Whether a follower is an index folder of this machine that is no longer there."""
    folder = catalog.followed_here(name)
    return folder is not None and not folder.exists()


def jobs(catalog: Catalog) -> Iterator[Finding]:
    """Jobs that stand still, and jobs that failed."""
    open_jobs = catalog.jobs.newest(Scope.all(), [JobState.QUEUED, JobState.RUNNING], limit=1000)
    now = time.time()
    stuck = [
        job
        for job in open_jobs
        if job.state is JobState.RUNNING and (job.lease_until or 0.0) < now - _STUCK_SECONDS
    ]
    waiting = [
        job
        for job in open_jobs
        if job.state is JobState.QUEUED and job.created_at < now - _STUCK_SECONDS
    ]
    running = len(open_jobs) - len(stuck) - len(waiting)
    if stuck:
        yield warn(
            "jobs",
            f"{len(stuck):,} stand still: their worker has died and no other took them up.",
            "Start a worker (longleaf serve has one): it goes on where they stopped.",
            details=tuple(f"{job.public_id}: {job.kind} into {job.collection}" for job in stuck),
        )
    if waiting and not running:
        yield warn(
            "jobs",
            f"{len(waiting):,} wait and nothing works on them.",
            "Start a worker: longleaf serve has one.",
        )
    failed = catalog.jobs.newest(Scope.all(), [JobState.FAILED], limit=20)
    if failed:
        details = tuple(f"{job.public_id}: {job.error}" for job in failed)
        yield warn("jobs", f"{len(failed):,} failed lately", "longleaf jobs", details=details)
    if not stuck and not failed and not (waiting and not running):
        yield ok("jobs", f"{len(open_jobs):,} open, none stands still")
