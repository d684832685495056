"""`longleaf backup` and `longleaf restore`: the whole data folder, away and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longleaf.api.cli.output import console, print_json, quiet_logs
from longleaf.api.cli.progress import showing_progress

Home = Annotated[Path | None, typer.Option(help="The data folder (default: LONGLEAF_HOME).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def register(app: typer.Typer) -> None:
    app.command("backup")(backup)
    app.command("restore")(restore)


def backup(
    folder: Annotated[Path, typer.Argument(help="The backup: a folder that is not there yet.")],
    link_from: Annotated[
        Path | None,
        typer.Option(help="Hard-link originals that this earlier backup has (same disk)."),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Save the data folder as it is at one moment, while it is in use.

    Holds documents, originals and vectors; search indexes are made from them. Exits with 1 when
    something in the data folder was damaged already; the backup then holds all the rest.
    """
    quiet_logs()
    from longleaf.api.backup import back_up, require_one_folder
    from longleaf.core.config import load_settings

    settings = load_settings({"home": home}).settings
    require_one_folder(settings)
    with showing_progress(quiet=as_json) as progress:
        done = back_up(settings.home, folder.absolute(), link_from=link_from, progress=progress)
    manifest = done.manifest
    if as_json:
        print_json(
            {
                "backup": str(done.folder),
                "documents": manifest.documents,
                "passages": manifest.passages,
                "originals": len(manifest.originals),
                "bytes": manifest.bytes,
                "seconds": round(done.seconds, 2),
                "problems": manifest.problems,
            }
        )
    else:
        console().print(
            f"{manifest.documents:,} documents, {manifest.passages:,} passages and "
            f"{len(manifest.originals):,} originals ({manifest.bytes / 1e6:,.1f} MB) in "
            f"{done.seconds:.1f} s: {done.folder}"
        )
        for problem in manifest.problems:
            console().print(f"[red]damaged before[/] {problem}", markup=True)
    if manifest.problems:
        raise typer.Exit(1)


def restore(
    folder: Annotated[Path, typer.Argument(help="A folder that longleaf backup made.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Give up what the data folder holds now.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a data folder of a backup, every byte checked. Stop everything that uses it first.

    The next search, or longleaf serve, makes the index from it.
    """
    quiet_logs()
    from longleaf.api import restoring
    from longleaf.api.backup import require_one_folder
    from longleaf.core.config import load_settings

    settings = load_settings({"home": home}).settings
    require_one_folder(settings)
    with showing_progress(quiet=as_json) as progress:
        done = restoring.restore(folder, settings.home, replace=replace, progress=progress)
    if as_json:
        print_json(
            {
                "home": str(done.home),
                "documents": done.documents,
                "passages": done.passages,
                "seconds": round(done.seconds, 2),
            }
        )
    else:
        console().print(
            f"{done.documents:,} documents and {done.passages:,} passages are in {done.home} "
            f"({done.seconds:.1f} s). longleaf rebuild makes the index now, the next search by "
            "itself."
        )
