"""`longleaf collections`: named sets of documents, and how each is read."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, cast

import typer

from longleaf.api.cli.corpus import AsJson, Home, say_what_is_left
from longleaf.api.cli.opening import opened_catalog
from longleaf.api.cli.output import console, print_json

if TYPE_CHECKING:
    from longleaf.core.catalog import ReadingDefaults
    from longleaf.core.types import DepthChoice

collections_app = typer.Typer(help="List, create and delete collections.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(collections_app, name="collections")


@collections_app.command("list")
def list_collections(home: Home = None, as_json: AsJson = False) -> None:
    """The collections, with how many documents each holds."""
    from rich.table import Table

    from longleaf.core.types import Scope

    with opened_catalog(home) as catalog:
        found = catalog.collections(Scope.all())
    if as_json:
        print_json([asdict(each) for each in found])
        return
    if not found:
        console().print("No collections yet. longleaf index PATH makes the first.")
        return
    table = Table("collection", "BM25 language", "documents", "description")
    for each in found:
        table.add_row(each.name, each.language, f"{each.document_count:,}", each.description)
    console().print(table)


_Depth = Annotated[
    str | None,
    typer.Option(help="What is read here: passage, document or auto; default: as configured."),
]
_ReadCandidates = Annotated[
    int | None, typer.Option(min=0, max=1000, help="Read so many candidates; 0: as configured.")
]
_DeadlineMs = Annotated[
    float | None, typer.Option(min=0, help="Time to read in, milliseconds; 0: as configured.")
]
_MaxTokens = Annotated[
    int | None, typer.Option(min=0, help="Document tokens to read; 0: as configured.")
]


def _reading(
    known: ReadingDefaults,
    depth: str | None,
    candidates: int | None,
    deadline_ms: float | None,
    max_tokens: int | None,
) -> ReadingDefaults:
    """`known` with what was given. Raises InvalidRequest for a depth that is none."""
    said = None if depth == "default" else cast("DepthChoice | None", depth)
    return replace(
        known,
        depth=known.depth if depth is None else said,
        candidates=known.candidates if candidates is None else candidates or None,
        deadline_ms=known.deadline_ms if deadline_ms is None else deadline_ms or None,
        max_tokens=known.max_tokens if max_tokens is None else max_tokens or None,
    )


@collections_app.command("create")
def create_collection(
    name: str,
    language: Annotated[str, typer.Option(help="BM25 language, or none.")] = "english",
    description: Annotated[str, typer.Option(help="For people.")] = "",
    instruction: Annotated[
        str, typer.Option(help="What counts as an answer here: a preset's name or words.")
    ] = "",
    depth: _Depth = None,
    read_candidates: _ReadCandidates = None,
    deadline_ms: _DeadlineMs = None,
    max_tokens: _MaxTokens = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a collection."""
    from longleaf.api import wire
    from longleaf.core.catalog import ReadingDefaults

    with opened_catalog(home) as catalog:
        made = catalog.create_collection(
            name,
            wire.check_language(language),
            description,
            instruction,
            _reading(ReadingDefaults(), depth, read_candidates, deadline_ms, max_tokens),
        )
    print_json(asdict(made)) if as_json else console().print(f"Collection {name} is there.")


@collections_app.command("describe")
def describe_collection(
    name: str,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    instruction: Annotated[
        str | None, typer.Option(help="What counts as an answer here: a preset's name or words.")
    ] = None,
    depth: _Depth = None,
    read_candidates: _ReadCandidates = None,
    deadline_ms: _DeadlineMs = None,
    max_tokens: _MaxTokens = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Change what is said of a collection; what is left out stays."""
    from longleaf.core.types import Scope

    with opened_catalog(home) as catalog:
        scope = Scope.all().narrowed([name])
        catalog.collection_languages(scope, [name])  # NotFound where it is not there
        [known] = catalog.collections(scope)
        catalog.describe_collection(
            name,
            Scope.all(),
            description=description,
            instruction=instruction,
            rerank=_reading(known.rerank, depth, read_candidates, deadline_ms, max_tokens),
        )
        [found] = catalog.collections(scope)
    if as_json:
        print_json(asdict(found))
    else:
        console().print(f"Collection {name}: {found.description or 'no description'}; instruction:")
        console().print(found.instruction or "the configured one", markup=False)
        set_here = ", ".join(f"{part} {value}" for part, value in found.rerank.stored().items())
        console().print(f"Reading: {set_here or 'as configured'}", markup=False)


@collections_app.command("reindex")
def reindex_collection(
    name: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Read every document's file again, as after installing OCR; a worker does it.

    Titles, metadata and groups stay. (Another model, or another way to cut passages: longleaf
    reindex, which needs no file.)
    """
    from longleaf.api import jobs
    from longleaf.api.cli.jobs import plain
    from longleaf.core.types import Scope

    if not yes:
        typer.confirm(f"Read every file of collection {name} again?", abort=True)
    with opened_catalog(home) as catalog:
        job = jobs.read_collection_again(catalog, name, Scope.all())
    if as_json:
        print_json(plain(job))
        return
    console().print(
        f"Job {job.public_id}: longleaf serve, or longleaf worker, does it; "
        f"longleaf jobs show {job.public_id} tells how far it is."
    )


@collections_app.command("delete")
def delete_collection(
    name: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Delete a collection with all its documents, texts, vectors and originals."""
    from longleaf.core.config import load_settings
    from longleaf.core.types import Scope

    if not yes:
        typer.confirm(f"Delete collection {name} and everything in it?", abort=True)
    settings = load_settings({"home": home}).settings
    with opened_catalog(home, settings) as catalog:
        count = catalog.delete_collection(name, Scope.all())
    if as_json:
        print_json({"deleted": name, "documents": count})
    else:
        console().print(f"Deleted {name} with {count:,} documents.")
        say_what_is_left(settings)
