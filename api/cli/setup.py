"""`longleaf config` and `longleaf demo`: looking around and trying out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longleaf.api.cli.output import console, print_json, quiet_logs

DEMO_QUERIES = (
    "which licences end my patent grant if I sue?",
    '"without warranty" liability for damages -BSD',
    "may I sell a modified version without giving out its source code?",
)


def register(app: typer.Typer) -> None:
    app.command("config")(config)
    app.command("demo")(demo)


def config(
    home: Annotated[Path | None, typer.Option(help="The data folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Every setting with its value, where the value came from and what it does."""
    from rich.table import Table

    from longleaf.core.config import load_settings, setting_names, setting_variable, shown_value

    loaded = load_settings({"home": home})
    rows = [
        {
            "setting": name,
            "value": shown_value(loaded.settings, name),
            "origin": loaded.origins[name],
            "variable": setting_variable(name),
            "description": description,
        }
        for name, description in setting_names().items()
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("setting", "value", "from", "what it does")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("setting", "value", "origin", "description")))
    out = console()
    out.print(table)
    out.print(f"Settings file: {loaded.settings.home / 'longleaf.toml'}; variables: LONGLEAF_…")


def demo(
    docs: Annotated[
        Path | None, typer.Option(help="Index this folder instead of the licence texts.")
    ] = None,
    home: Annotated[Path, typer.Option(help="The demo's data folder.")] = Path(".demo"),
    query: Annotated[
        list[str] | None, typer.Option(help="Ask this instead of the examples (repeatable).")
    ] = None,
) -> None:
    """Index real documents and search them in two stages; ends by itself.

    The documents are the licence and copyright texts on this machine: every installed Python
    distribution's, and on Debian /usr/share/common-licenses and /usr/share/doc/*/copyright.
    """
    quiet_logs()
    import time

    from longleaf.api.cli.corpus import index
    from longleaf.api.cli.searching import print_answer
    from longleaf.api.http.search import answer_search
    from longleaf.api.wire import open_runtime
    from longleaf.core.config import load_settings
    from longleaf.indexer.demo_corpus import collect

    out = console()
    home = home.absolute()
    settings = load_settings({"home": home}).settings
    if docs is None:
        corpus = collect(home / "corpus")
        out.print(
            f"Collected {corpus.files:,} licence and copyright texts of this machine "
            f"({corpus.bytes / 1e6:.1f} MB) in {home / 'corpus'}; {corpus.left_out:,} more were "
            "left out to keep the demo short"
        )
        docs, collection = home / "corpus", "licences"
    else:
        collection = "documents"
    started = time.perf_counter()
    index([docs], collection=collection, prune=True, home=home)
    out.print(f"Indexed in {time.perf_counter() - started:.1f} s\n")

    runtime = open_runtime(settings, follow=False)
    try:
        runtime.follower.catch_up()
        for asked in query or DEMO_QUERIES:
            out.rule(f"[bold]{asked}", align="left")
            # One licence is in many packages: shown once, with where else it is.
            body = {"query": asked, "limit": 3, "collapse": True}
            print_answer(answer_search(runtime, body), passage_count=2)
    finally:
        runtime.close()
    out.print("\nNow: make serve, and open the page it names. Your own: make demo DOCS=folder")
