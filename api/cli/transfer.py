"""`longleaf export` and `longleaf import`: documents out and in, in a form of their own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longleaf.api.cli.opening import opened_catalog
from longleaf.api.cli.output import console, print_json, quiet_logs
from longleaf.api.cli.progress import showing_progress

if TYPE_CHECKING:
    from longleaf.api.transfer.fates import Imported

Home = Annotated[Path | None, typer.Option(help="The data folder (default: LONGLEAF_HOME).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def register(app: typer.Typer) -> None:
    app.command("export")(export)
    app.command("import")(import_)


def export(
    target: Annotated[Path, typer.Argument(help="A new folder, or a new file named .tar.")],
    collection: Annotated[
        list[str] | None, typer.Option(help="Only this collection (repeatable).")
    ] = None,
    originals: Annotated[bool, typer.Option(help="Take the original files along.")] = True,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Take vectors along: 10 to 30 times the text.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write collections, documents, texts, layouts and originals in a documented form.

    JSON lines and plain files (docs/backup.md). With --vectors, an import into a folder with the
    same models embeds nothing. Exits with 1 when something had to be left out.
    """
    quiet_logs()
    from longleaf.api.transfer.exporting import Options
    from longleaf.api.transfer.exporting import export as write_export

    with opened_catalog(home) as catalog, showing_progress(quiet=as_json) as progress:
        options = Options(collection, originals, vectors)
        done = write_export(catalog, target.absolute(), options, progress)
    if as_json:
        print_json(asdict(done))
    else:
        console().print(
            f"{done.documents:,} documents, {done.originals:,} originals "
            f"({done.bytes / 1e6:,.1f} MB): {done.target}"
        )
        for each in done.left_out:
            console().print(f"[yellow]left out[/] {each}", markup=True)
    if done.left_out:
        raise typer.Exit(1)


def import_(
    source: Annotated[Path, typer.Argument(help="A folder or .tar that longleaf export made.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace documents that differ (default: keep them).")
    ] = False,
    embed: Annotated[
        bool, typer.Option("--embed", help="Embed here, even where vectors came along.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Take in an export; says what it did with each document. Run again, it goes on.

    With --json, one line for each document once it is durable, then a summary. Exits with 1 when
    a document was refused.
    """
    quiet_logs()
    from rich.markup import escape

    from longleaf.api.transfer.fates import Fate
    from longleaf.api.transfer.opening import import_into
    from longleaf.core.config import load_settings

    def tell(each: Imported) -> None:
        if as_json:
            print_json(asdict(each))
        elif each.fate in (Fate.REFUSED, Fate.KEPT) or each.detail:
            said = escape(f"{each.collection}/{each.key}: {each.detail}")
            console().print(f"[yellow]{each.fate}[/] {said}")

    settings = load_settings({"home": home}).settings
    with showing_progress(quiet=as_json) as progress:
        done = import_into(settings, source, replace=replace, embed=embed, tell=tell, show=progress)
    if as_json:
        print_json({"summary": done.plain()})
    else:
        total = ", ".join(f"{count:,} {fate}" for fate, count in done.counts.most_common())
        console().print(
            f"{total or 'Nothing to do'}. The running server, or the next search, indexes them."
        )
        for problem in done.problems:
            console().print(f"[yellow]{escape(problem)}[/]")
    if done.counts[Fate.REFUSED]:
        raise typer.Exit(1)
