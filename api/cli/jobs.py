"""`longleaf jobs`, `worker` and `watch`: what is being indexed, and who does it."""

from __future__ import annotations

import signal
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longleaf.api.cli.opening import opened_catalog
from longleaf.api.cli.output import console, print_json, quiet_logs

if TYPE_CHECKING:
    from longleaf.core.catalog.jobs import Job, JobFile

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Home = Annotated[Path | None, typer.Option(help="The data folder (default: LONGLEAF_HOME).")]
JobId = Annotated[str, typer.Argument(help="The job's id.")]

jobs_app = typer.Typer(help="List, show, cancel and retry jobs.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(jobs_app, name="jobs")
    app.command("watch")(watch)
    app.command("worker")(worker)


@jobs_app.command("list")
def list_jobs(
    all_jobs: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Jobs, newest first: queued and running ones, with --all the ended ones as well."""
    from rich.table import Table

    from longleaf.core.catalog.jobs import JobState
    from longleaf.core.types import Scope

    states = None if all_jobs else [state for state in JobState if state.is_open]
    with opened_catalog(home) as catalog:
        found = catalog.jobs.newest(Scope.all(), states, limit=limit)
    if as_json:
        print_json([plain(job) for job in found])
        return
    if not found:
        console().print("No jobs." if all_jobs else "Nothing is queued or running (--all: ended).")
        return
    table = Table("id", "state", "kind", "collection", "what", "files so far")
    for job in found:
        table.add_row(
            job.public_id, str(job.state), job.kind, job.collection, _what(job), _counts(job)
        )
    console().print(table)


@jobs_app.command("show")
def show_job(
    job_id: JobId,
    limit: Annotated[int, typer.Option(min=1, help="Files listed at most.")] = 100,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """One job with its files: under way, and how they ended. (Unchanged files are only counted.)"""
    from rich.markup import escape

    from longleaf.core.types import Scope

    with opened_catalog(home) as catalog:
        job = catalog.jobs.get(job_id, Scope.all())
        files = catalog.jobs.files(job, limit=limit)
    if as_json:
        print_json(plain(job) | {"files": [plain_file(file) for file in files]})
        return
    out = console()
    out.print(f"{job.public_id} {job.state} ({job.kind} into {job.collection}): {_what(job)}")
    out.print(f"{_counts(job)}{f'  error: {escape(job.error)}' if job.error else ''}")
    for file in files:
        ended = f"{file.outcome}{f': {file.reason}' if file.reason else ''}"
        way = f"{file.phase} {file.phase_done}/{file.phase_total or '?'}"
        out.print(f"  {ended if file.outcome else way}  {escape(file.key)}")
        if file.detail:
            out.print(f"      {escape(file.detail)}")


@jobs_app.command("cancel")
def cancel_job(job_id: JobId, home: Home = None, as_json: AsJson = False) -> None:
    """Stop a job: one that runs ends after its batch, and keeps what is done."""
    from longleaf.core.types import Scope

    with opened_catalog(home) as catalog:
        job = catalog.jobs.cancel(job_id, Scope.all())
    said = "is cancelled." if not job.state.is_open else "will stop after its batch."
    print_json(plain(job)) if as_json else console().print(f"{job.public_id} {said}")


@jobs_app.command("retry")
def retry_job(job_id: JobId, home: Home = None, as_json: AsJson = False) -> None:
    """Put an ended job in line again. (An upload whose bytes are gone must be sent again.)"""
    from longleaf.api import jobs
    from longleaf.core.types import Scope

    with opened_catalog(home) as catalog:
        job = jobs.retry(catalog, job_id, Scope.all())
    print_json(plain(job)) if as_json else console().print(f"{job.public_id} is {job.state}.")


def worker(
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when no job is left.")
    ] = False,
    child: Annotated[
        int, typer.Option("--child", hidden=True, help="Started by this process id.")
    ] = 0,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Do jobs until stopped. `longleaf serve` starts one by itself; more share the work."""
    quiet_logs()
    from longleaf.api import working
    from longleaf.core import logs
    from longleaf.core.config import load_settings

    if child:
        raise typer.Exit(working.run_as_child(child))
    settings = load_settings({"home": home}).settings
    logs.configure(settings.log.form, settings.log.number)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if not as_json:
        console().print("Waiting for jobs (ctrl-C stops after the batch under way).")
    done = working.work(settings, stopping, until_idle=until_idle)
    print_json({"jobs": done}) if as_json else console().print(f"{done} jobs done.")


def watch(
    folder: Annotated[Path, typer.Argument(help="The folder to follow.")],
    collection: Annotated[str, typer.Option(help="Where to; made if it is not there.")] = "default",
    language: Annotated[
        str | None, typer.Option(help="BM25 language of a collection that is made (english).")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Only files that match this pattern (repeatable).")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No files that match this pattern (repeatable).")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Access group of these documents (repeatable).")
    ] = None,
    keep_removed: Annotated[
        bool, typer.Option("--keep-removed", help="Keep documents whose file is gone.")
    ] = False,
    rescan_minutes: Annotated[
        float, typer.Option(min=0.1, help="Look at the whole folder again after so long.")
    ] = 15.0,
    polling: Annotated[
        bool, typer.Option("--polling", help="For network drives that send no events.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Follow a folder: index it now, then whatever changes in it, until stopped (ctrl-C)."""
    quiet_logs()
    from rich.markup import escape

    from longleaf.api import watching, wire
    from longleaf.api.cli.corpus import ensure_collection, follow
    from longleaf.core.config import load_settings
    from longleaf.indexer.specs import FolderSpec

    settings = load_settings({"home": home}).settings
    parts = wire.open_write_side(settings)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        ensure_collection(parts.catalog, collection, language)
        spec = FolderSpec(
            paths=(str(folder.resolve(strict=False)),),
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
            groups=tuple(group or ()),
            prune=not keep_removed,
            missing_is_gone=True,
        )

        def report(result: Any) -> None:
            if result.outcome.value == "unchanged":
                return
            if as_json:
                print_json(asdict(result) | {"outcome": result.outcome.value})
            else:
                reason = f": {result.reason}" if result.reason else ""
                console().print(f"{result.outcome.value}{reason}  {escape(result.key)}")

        def done() -> None:
            follow(parts, as_json=True)

        def problem(error: str) -> None:
            if as_json:
                print_json({"problem": error})
            else:
                console().print(f"Not done: {error}", style="yellow", markup=False)

        if not as_json:
            console().print(f"Following {folder} (ctrl-C stops).")
        watching.watch_folder(
            parts.indexer,
            collection,
            folder,
            spec,
            stopping,
            on_result=report,
            on_round=done,
            on_problem=problem,
            rescan_seconds=rescan_minutes * 60.0,
            polling=polling,
        )
    finally:
        parts.close()


def plain(job: Job) -> dict[str, Any]:
    """A job as JSON, without what only workers need."""
    left_out = ("id", "lease_owner", "lease_until", "tries", "cancel")
    return {name: value for name, value in asdict(job).items() if name not in left_out}


def plain_file(file: JobFile) -> dict[str, Any]:
    """A job's file as JSON."""
    return asdict(file) | {"outcome": file.outcome.value if file.outcome else None}


def _what(job: Job) -> str:
    what = ", ".join(job.spec.get("paths", ())) or str(job.spec.get("name", ""))
    return what or "all of it, read again"


def _counts(job: Job) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(job.counts.items())) or "none"
