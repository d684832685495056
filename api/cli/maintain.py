"""`longleaf reindex` and `longleaf compact`: documents made anew, files made anew."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from longleaf.api.cli.output import console, print_json, quiet_logs, shown_progress

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Home = Annotated[Path | None, typer.Option(help="The data folder (default: LONGLEAF_HOME).")]

_NICE = 10
"""Searches on the same cores come first; an idle machine is used all the same."""


def register(app: typer.Typer) -> None:
    app.command("reindex")(reindex)
    app.command("compact")(compact)


def reindex(
    model: Annotated[
        str | None, typer.Option(help="The embedder's model: bundled, a folder, or a hub id.")
    ] = None,
    projection: Annotated[
        str | None, typer.Option(help="Projection file for the model's token vectors.")
    ] = None,
    late_model: Annotated[
        str | None,
        typer.Option(help="A late-interaction checkpoint (ColBERT) for the token vectors."),
    ] = None,
    target_tokens: Annotated[int | None, typer.Option(help="Most tokens of a passage.")] = None,
    overlap_tokens: Annotated[
        int | None, typer.Option(help="Tokens that a passage repeats of the one before.")
    ] = None,
    wait: Annotated[
        bool, typer.Option(help="Wait until a running server answers from the new passages.")
    ] = True,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Cut and embed all documents anew, beside what answers, after settings or flags changed.

    A running server goes on answering and switches by itself. Killed, it goes on when run again.
    What is set nowhere stays as the documents were indexed.
    """
    quiet_logs()
    from longleaf.api import reindexing
    from longleaf.core.config import load_settings

    flags = {
        "home": home,
        "embedder.model": model,
        "embedder.projection": projection,
        "embedder.late_model": late_model,
        "chunker.target_tokens": target_tokens,
        "chunker.overlap_tokens": overlap_tokens,
    }
    asked = load_settings(flags)
    reindexing.require_agreement(asked, load_settings({"home": home}))
    os.nice(_NICE)
    with shown_progress(as_json) as show:
        done = reindexing.reindex(asked.settings, wait=wait, progress=show)
    if as_json:
        print_json(asdict(done))
    elif not done.changed:
        console().print("All documents are indexed with these settings already.")
    else:
        then = "" if done.switched else " The running server switches to them by itself."
        console().print(f"{done.embedded:,} documents were cut and embedded anew.{then}")


def compact(home: Home = None, as_json: AsJson = False) -> None:
    """Make the files of index and catalog anew, without a trace of what was deleted.

    A running server goes on answering. It does this by itself, too: `retriever.erase_minutes`
    after a deletion, and when many passages were added or deleted.
    """
    quiet_logs()
    from longleaf.api import compacting
    from longleaf.core.config import load_settings

    settings = load_settings({"home": home}).settings
    with shown_progress(as_json) as show:
        done = compacting.compact(settings, progress=show)
    if as_json:
        print_json(asdict(done))
        return
    for what, before, after in (
        ("Index", done.index_bytes_before, done.index_bytes_after),
        ("Catalog", done.catalog_bytes_before, done.catalog_bytes_after),
    ):
        console().print(f"{what}: {before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now.")
