"""`longleaf judge`: judgements out to files and in from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longleaf.api.cli.opening import opened_catalog
from longleaf.api.cli.output import console, print_json, quiet_logs

judge = typer.Typer(
    name="judge",
    help="Take out and bring in what people judged (thumbs, grades).",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    app.add_typer(judge)


_Collection = Annotated[str | None, typer.Option(help="Only of this collection.")]
_Home = Annotated[Path | None, typer.Option(help="The data folder.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@judge.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="A CSV file (- prints it), or a folder.")],
    kind: Annotated[
        str, typer.Option("--format", help="csv: all that is kept; trec or beir: a folder.")
    ] = "csv",
    collection: _Collection = None,
    home: _Home = None,
    as_json: _Json = False,
) -> None:
    """Write judgements as a table, as TREC qrels, or as queries and qrels in BEIR's layout.

    TREC and BEIR have one grade for a query and a document: the median of its judges.
    """
    quiet_logs()
    from longleaf.api import judging
    from longleaf.core.errors import InvalidRequest
    from longleaf.core.types import Scope

    if kind not in judging.FORMATS:
        raise InvalidRequest(f"{kind!r} is no format.", f"Use {', '.join(judging.FORMATS)}.")
    scope = Scope.all()
    with opened_catalog(home) as catalog:
        if kind != "csv":
            collection = judging.one_collection(catalog, collection, scope)
        elif collection is not None:
            catalog.collection_languages(scope, [collection])
        found = catalog.judgements.found(scope, [collection] if collection else None)
    if kind == "csv":
        table = judging.export_csv(found)
        if str(out) == "-":
            typer.echo(table, nl=False)
            return
        judging.write_new(out, table)
    else:
        judging.export_folder(found, out, kind)
    queries = len({each.query for each in found})
    if as_json:
        print_json({"judgements": len(found), "queries": queries, "path": str(out)})
    else:
        said = f"{len(found):,} judgements of {queries:,} queries are in {out}."
        console().print(said, markup=False)


@judge.command("import")
def bring_in(
    file: Annotated[Path, typer.Argument(help="A table (CSV, TSV), or qrels with --queries.")],
    collection: Annotated[
        str | None, typer.Option(help="Where documents are that are named by key.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="The queries' texts by id (JSONL or TSV): the file is qrels then."),
    ] = None,
    by: Annotated[
        str,
        typer.Option("--judge", help="Whose judgements these are, unless the file says."),
    ] = "import",
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out documents that are not here.")
    ] = False,
    home: _Home = None,
    as_json: _Json = False,
) -> None:
    """Keep the judgements of a file: all of them, or none. Another run changes nothing."""
    quiet_logs()
    from longleaf.api import judging
    from longleaf.core.types import Scope

    with opened_catalog(home) as catalog:
        done = judging.import_file(
            catalog,
            file,
            Scope.all(),
            collection=collection,
            queries=queries,
            judge=by,
            skip_unknown=skip_unknown,
        )
    if as_json:
        print_json(
            {
                "judgements": done.judgements,
                "queries": done.queries,
                "unknown_documents": list(done.unknown),
            }
        )
        return
    out = console()
    out.print(f"{done.judgements:,} judgements of {done.queries:,} queries.", markup=False)
    if done.unknown:
        out.print(f"{len(done.unknown):,} judged documents are not here and were left out.")
