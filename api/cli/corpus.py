"""`longleaf index`, `rebuild`, `documents`: what is in the catalog."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longleaf.api.cli.opening import opened_catalog
from longleaf.api.cli.output import console, print_json, quiet_logs, shown_progress

if TYPE_CHECKING:
    from rich.progress import Progress

    from longleaf.api.wire import WriteSide
    from longleaf.core.catalog import Catalog
    from longleaf.core.config import Settings
    from longleaf.core.types import Outcome
    from longleaf.indexer.build import FileResult

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Home = Annotated[Path | None, typer.Option(help="The data folder (default: LONGLEAF_HOME).")]

documents_app = typer.Typer(help="List, show and delete documents.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.command("index")(index)
    app.command("rebuild")(rebuild)
    app.add_typer(documents_app, name="documents")


def index(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders, folders recursively.")],
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
    meta: Annotated[
        list[str] | None, typer.Option(help="Metadata for these documents, name=value.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove documents whose file is gone.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Read every file anew, deleted documents' too.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 if any file was rejected.")
    ] = False,
    background: Annotated[
        bool,
        typer.Option("--background", help="Only ask for it: a worker (longleaf serve) does it."),
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Index files and folders. Unchanged files are skipped; run again after an interruption.

    With --json, one line for each file once it is durable, then a summary.
    """
    quiet_logs()
    from longleaf.api import jobs, reading, wire, working
    from longleaf.core.catalog.jobs import JobState
    from longleaf.core.config import load_settings
    from longleaf.core.errors import LongleafError
    from longleaf.core.types import Scope
    from longleaf.indexer.specs import FolderSpec
    from longleaf.indexer.work import do_job

    for name in group or ():
        _require_unicode(name)
    spec = FolderSpec(
        paths=tuple(_existing(path) for path in paths),
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        groups=tuple(group or ()),
        metadata=_metadata(meta or []),
        prune=prune,
        again=again,
    )
    settings = load_settings({"home": home}).settings
    if background:
        catalog = wire.open_catalog(settings)
        try:
            ensure_collection(catalog, collection, language)
            asked = jobs.ask_for_folder(catalog, collection, spec)
        finally:
            catalog.close()
        if as_json:
            print_json({"job": asked.public_id})
        else:
            console().print(f"Job {asked.public_id}: longleaf jobs show {asked.public_id}")
        return
    parts = wire.open_write_side(settings)
    try:
        ensure_collection(parts.catalog, collection, language)
        results: list[FileResult] = []
        owner = working.owner_name()
        job = jobs.ask_for_folder(parts.catalog, collection, spec, owner)

        def go(show: Callable[[FileResult], None], on_passages: Callable[[int], None]) -> None:
            def report(result: FileResult) -> None:
                results.append(result)
                show(result)

            state = do_job(parts.indexer, job, owner, on_result=report, on_passages=on_passages)
            if state is not JobState.DONE:
                ended = parts.catalog.jobs.get(job.public_id, Scope.all())
                raise LongleafError(
                    ended.error or f"The job {job.public_id} is {ended.state}.",
                    "What was reported is safe; run the command again to go on.",
                )

        if as_json:
            go(lambda result: print_json(_plain(result)), lambda _count: None)
        else:
            with _progress() as progress:
                task = progress.add_task("Indexing", total=None)
                passages = 0

                def passed(count: int) -> None:
                    nonlocal passages
                    passages += count
                    if not progress.console.is_terminal:
                        progress.console.print(f"{passages:,} passages are in the catalog")
                    progress.update(task, description=f"Indexing ({passages:,} passages)")

                go(lambda _result: progress.advance(task), passed)
        reading.store_reader_ids(settings.reranker, parts.catalog)
        counts = Counter(result.outcome for result in results)
        followed = follow(parts, as_json)
        if as_json:
            summary = {outcome.value: count for outcome, count in counts.items()}
            print_json({"summary": summary, "index": followed})
        else:
            _print_outcomes(results, counts, followed)
    finally:
        parts.close()
    if strict and any(result.outcome.value == "rejected" for result in results):
        raise typer.Exit(3)


def rebuild(
    embed: Annotated[
        bool, typer.Option("--embed", help="First do what `longleaf reindex` does.")
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="On a Qdrant server: delete what stands there under this catalog's names, even if "
            "it is another's (an index from before a backup was restored, or an abandoned one).",
        ),
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make the search index anew from the catalog. Stop `longleaf serve` first."""
    quiet_logs()
    from longleaf.api import rebuilding, reindexing
    from longleaf.core.config import load_settings

    settings = load_settings({"home": home}).settings
    with shown_progress(as_json) as show:
        if embed:
            reindexing.reindex(settings, progress=show)
        done = rebuilding.rebuild(settings, take_over=take_over, progress=show)
    if as_json:
        print_json(asdict(done))
    else:
        console().print(f"{done.documents:,} documents, {done.passages:,} passages in the index.")


@documents_app.command("list")
def list_documents(
    collection: Annotated[str | None, typer.Option(help="Only of this collection.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 100,
    after: Annotated[str | None, typer.Option(help="Go on behind this id.")] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Documents in the order of their ids."""
    from rich.table import Table

    from longleaf.core.types import Scope

    with opened_catalog(home) as catalog:
        scope = Scope.all()
        if collection is not None:
            catalog.collection_languages(scope, [collection])
            scope = scope.narrowed([collection])
        heads = catalog.documents(scope, after, limit)
    if as_json:
        print_json([asdict(head) for head in heads])
        return
    table = Table("id", "collection", "title", "characters", "source")
    for head in heads:
        table.add_row(
            head.public_id, head.collection, head.title, f"{head.text_chars:,}", head.source
        )
    console().print(table)


@documents_app.command("show")
def show_document(
    document_id: str,
    text: Annotated[bool, typer.Option("--text", help="Print the text, too.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """One document's entry, and its text if asked for."""
    from longleaf.core.types import Scope

    with opened_catalog(home) as catalog:
        head = catalog.document(document_id, Scope.all())
        body = catalog.text(head).text if text else None
    plain = asdict(head) | ({"text": body} if text else {})
    if as_json:
        print_json(plain)
    else:
        print(json.dumps(asdict(head), indent=2, ensure_ascii=False, default=str))
        if body is not None:
            print(body)


@documents_app.command("delete")
def delete_document(document_id: str, home: Home = None, as_json: AsJson = False) -> None:
    """Delete a document with its text, vectors and original."""
    from longleaf.core.config import load_settings
    from longleaf.core.types import Scope

    settings = load_settings({"home": home}).settings
    with opened_catalog(home, settings) as catalog:
        catalog.delete_document(document_id, Scope.all())
    if as_json:
        print_json({"deleted": document_id})
        return
    console().print("Deleted.")
    say_what_is_left(settings)


def say_what_is_left(settings: Settings) -> None:
    """Where a deletion is not at its end yet, and who brings it there."""
    from longleaf.api.running import find_server

    minutes = settings.retriever.erase_minutes
    serves = find_server(settings.home) is not None
    if serves and minutes:
        said = f"The server removes its last copies from the files within {minutes:g} minutes"
    else:
        said = "Copies of its words stay in the files of the index until a server runs"
    console().print(f"{said}; at once: longleaf compact")


def _existing(path: Path) -> str:
    """An absolute path as text. Raises NotFound, InvalidRequest for a name that is no text."""
    from longleaf.core.errors import NotFound
    from longleaf.indexer.sources import printable

    try:
        return str(path.resolve(strict=True))
    except (OSError, RuntimeError):
        raise NotFound(f"{printable(str(path))} does not exist.", "Check the path.") from None


def ensure_collection(catalog: Catalog, name: str, language: str | None) -> str:
    """Make the collection if it is not there; returns its BM25 language."""
    from longleaf.api import wire
    from longleaf.core.errors import Conflict
    from longleaf.core.types import Scope

    wanted = wire.check_language(language) if language else None
    known = catalog.collection_languages(Scope.all(), None).get(name)
    if known is None:
        try:
            return catalog.create_collection(name, wanted or "english").language
        except Conflict:  # another process was quicker
            known = catalog.collection_languages(Scope.all(), None)[name]
    if wanted is not None and wanted != known:
        raise Conflict(
            f"The collection {name!r} reads {known}, not {wanted}.",
            f"Index into another one: --collection {name}-{wanted} --language {wanted}",
        )
    return known


def follow(parts: WriteSide, as_json: bool) -> str:
    """Bring the index up to date, unless a running server does that; says who did."""
    from longleaf.api import rebuilding

    if as_json:
        return rebuilding.follow_once(parts)
    with _progress() as progress:
        task = progress.add_task("Updating the index")
        return rebuilding.follow_once(
            parts, lambda done, total: progress.update(task, completed=done, total=total)
        )


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console(),
    )


def _metadata(pairs: list[str]) -> dict[str, str | int | float | bool]:
    from longleaf.core.errors import InvalidRequest

    found: dict[str, str | int | float | bool] = {}
    for pair in pairs:
        _require_unicode(pair)
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidRequest(f"{pair!r} is not metadata.", "Give it as name=value.")
        try:
            number = json.loads(value)
        except ValueError:
            number = value
        found[name] = number if isinstance(number, int | float | bool) else value
    return found


def _require_unicode(text: str) -> None:
    """Raise InvalidRequest for bytes on the command line that are no text."""
    from longleaf.core.errors import InvalidRequest

    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidRequest(f"{text!r} is not valid UTF-8.", "Type it in UTF-8.") from None


def _plain(result: FileResult) -> dict[str, object]:
    return asdict(result) | {"outcome": result.outcome.value}


def _print_outcomes(results: list[FileResult], counts: Counter[Outcome], followed: str) -> None:
    from rich.markup import escape

    out = console()
    for result in results:
        if result.outcome.value not in ("indexed", "unchanged", "removed"):
            what = f"{result.outcome.value}{f': {result.reason}' if result.reason else ''}"
            out.print(f"[yellow]{what}[/] {escape(result.key)}\n    {escape(result.detail)}")
    total = ", ".join(f"{count:,} {outcome.value}" for outcome, count in counts.most_common())
    out.print(f"{len(results):,} files: {total or 'nothing to do'}. {followed}")
