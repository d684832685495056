"""`longleaf doctor`: one page of plain facts, and what to do about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longleaf.api.cli.output import console, print_json, quiet_logs

if TYPE_CHECKING:
    from longleaf.api.doctor.report import Finding

_COLOURS = {"OK": "green", "WARN": "yellow", "FAIL": "red"}


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Read everything, not a sample; compare index content.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be made again from what is whole.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --repair, remove orphans without asking.")
    ] = False,
    recall: Annotated[
        bool, typer.Option("--recall", help="Measure recall@100 of the index by exact search.")
    ] = False,
    queries: Annotated[
        int, typer.Option(min=0, max=100_000, help="Queries for --recall, drawn from passages.")
    ] = 200,
    query: Annotated[
        list[str] | None, typer.Option(help="A query of yours for --recall (repeatable).")
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="The data folder (default: LONGLEAF_HOME).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Examine installation, data folder and index; say what is well, what is not and what to do.

    Exits with 0 where nothing is FAIL, 1 where something is, 2 for wrong usage. Reads and compares;
    only --repair changes anything, and never what the catalog refers to.
    """
    quiet_logs()
    from longleaf.api.doctor.examine import Examination, Wishes
    from longleaf.core.config import load_settings

    settings = load_settings({"home": home}).settings

    def confirm(question: str) -> bool:
        return yes or (not as_json and typer.confirm(question, default=False))

    wishes = Wishes(deep, repair, recall, queries, tuple(query or ()), confirm)
    if as_json:
        report = Examination(settings, wishes).run()
        print_json(report.plain())
    else:
        with console().status("Looking") as status:
            report = Examination(
                settings,
                wishes,
                _print,
                lambda what, done, total: status.update(f"{what}: {done:,} of {total:,}"),
            ).run()
        for mended in report.repaired:
            console().print(f"[green]mended[/] {mended}")
        console().print(f"All in all: [{_COLOURS[report.worst]}]{report.worst}[/]")
    if report.worst == "FAIL":
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    from rich.markup import escape

    out = console()
    colour = _COLOURS[finding.status]
    out.print(f"[{colour}]{finding.status:<4}[/] {finding.subject:<16} {escape(finding.fact)}")
    for detail in finding.details:
        out.print(f"{'':22}{escape(detail)}")
    if finding.remedy:
        out.print(f"{'':22}→ {escape(finding.remedy)}")
