"""`longleaf search`: ask the running server, or open the index if there is none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longleaf.api.cli.output import console, print_json, quiet_logs

if TYPE_CHECKING:
    from rich.text import Text

    from longleaf.core.config import Settings

_EXCERPT_CHARS = 700
_VERSIONS_NAMED = 3


def register(app: typer.Typer) -> None:
    app.command("search")(search)


def search(
    query: Annotated[str, typer.Argument(help='Words, "phrases", -minus, field:value.')],
    collection: Annotated[
        list[str] | None, typer.Option(help="Only in this collection (repeatable).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Documents to print.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="Documents to skip first.")] = 0,
    where: Annotated[
        str | None, typer.Option("--filter", help='A filter, e.g. {"field":"year","gte":2020}.')
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank/--no-rerank", help="Read the candidates (second stage).")
    ] = True,
    deadline_ms: Annotated[
        float | None, typer.Option(min=0.001, help="Time to read in, milliseconds.")
    ] = None,
    depth: Annotated[
        str | None, typer.Option(help="What is read of a document: passage, document or auto.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Document tokens to read.")] = None,
    instruction: Annotated[
        str | None,
        typer.Option(help="What counts as an answer, for models that take it: words, or a preset."),
    ] = None,
    passages: Annotated[int, typer.Option(min=1, help="Passages to print of each.")] = 1,
    collapse: Annotated[
        bool, typer.Option("--collapse", help="Show versions of the same text once.")
    ] = False,
    facet: Annotated[
        list[str] | None,
        typer.Option(help="Count this metadata field's values in the window (repeatable)."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print how each score came about.")
    ] = False,
    home: Annotated[Path | None, typer.Option(help="The data folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Search in two stages and print ranked documents with the passages that decided."""
    quiet_logs()
    import json

    from longleaf.core.config import load_settings
    from longleaf.core.errors import InvalidRequest

    try:
        tree = json.loads(where) if where else None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"--filter is not JSON: {error}.") from None
    body: dict[str, Any] = {
        "query": query,
        "collections": collection or None,
        "filter": tree,
        "limit": limit,
        "offset": offset,
        "rerank": {
            "enabled": rerank,
            "deadline_ms": deadline_ms if rerank else None,
            "depth": depth if rerank else None,
            "max_tokens": max_tokens if rerank else None,
            "instruction": instruction,
        },
        "collapse": collapse,
        "facets": facet or [],
        "explain": explain,
    }
    answer = ask(load_settings({"home": home}).settings, body)
    if as_json:
        print_json(answer)
    else:
        print_answer(answer, passages)
        if explain:
            from longleaf.api.cli.explaining import print_explanation

            print_explanation(answer, console())


def ask(settings: Settings, body: dict[str, Any]) -> dict[str, Any]:
    """The API's answer to `body`: from the running server, else from an engine opened here."""
    from longleaf.api.running import find_server, local_headers

    url = find_server(settings.home)
    if url is not None:
        from longleaf.api.asking import Longleaf

        with Longleaf(url, local_headers(settings.home)) as server:
            return server.search(body)
    from longleaf.api import wire
    from longleaf.api.http.search import answer_search

    runtime = wire.open_runtime(settings, follow=False)
    try:
        runtime.follower.catch_up()
        return answer_search(runtime, body)
    finally:
        runtime.close()


def _excerpt(passage: dict[str, Any]) -> Text:
    """The passage on one line, query words marked, cut where the screen should not be filled."""
    from rich.text import Text

    shown = Text("    ")
    text, start_char = passage["text"], passage["start_char"]
    marks = {n for start, end in passage["highlights"] for n in range(start, end)}
    for word in re.finditer(r"\S+", text[:_EXCERPT_CHARS]):
        marked = start_char + word.start() in marks or start_char + word.end() - 1 in marks
        shown.append(word.group(), style="bold yellow" if marked else None)
        shown.append(" ")
    if len(text) > _EXCERPT_CHARS:
        shown.append(f"… ({len(text) - _EXCERPT_CHARS:,} more characters)", style="dim")
    return shown


def _scores(scores: dict[str, Any]) -> str:
    """A passage that only reading the whole document has found has none of the first stage's."""
    named = (("dense", "dense", 3), ("bm25", "bm25", 2), ("read", "reading", 3))
    told = [f"{name} {scores[key]:.{n}f}" for name, key, n in named if scores[key] is not None]
    return " ".join(told)


def _facet(facet: dict[str, Any]) -> str:
    """One line: the values of a field and how many documents of the window have each."""
    counted = ", ".join(f"{each['value']} ({each['count']:,})" for each in facet["values"])
    more = f" and {facet['more_values']:,} more values" if facet["more_values"] else ""
    return (
        f"{facet['field']}: {counted or 'nothing'}{more}; {facet['without_count']:,} of "
        f"{facet['document_count']:,} documents have none"
    )


def print_answer(answer: dict[str, Any], passage_count: int = 1) -> None:
    """Ranked documents, the deciding passages, both stages' scores, timings."""
    from rich.markup import escape

    from longleaf.core.ids import PART_MARK

    out = console()
    for hit in answer["hits"]:
        reading, first = hit["reading"], hit["first_stage"]
        _, mark, part = hit["key"].removeprefix(hit["source"]).partition(PART_MARK)
        source = escape(f"{hit['source']}{mark}{part}")
        out.print(f"[bold]{hit['rank']:>2}. {escape(hit['title'])}[/]  {source}")
        read = (
            f"{'whole document: ' if reading['depth'] == 'document' else ''}"
            f"read {reading['tokens_read']:,} of {reading['tokens_total']:,} tokens, "
            f"{answer['reranker']} {reading['score']:.3f}"
            if reading
            else "not read"
        )
        out.print(
            f"    final {hit['score']:.3f} | first stage: rank {first['rank']}, "
            f"score {first['score']:.3f} | {read}",
            style="dim",
        )
        if hit["suspicious"]:
            told = f"    suspicious: {'; '.join(hit['suspicious'])}"
            out.print(told, style="yellow", markup=False)
        for passage in hit["passages"][:passage_count]:
            scores = passage["scores"]
            page = f"p. {passage['first_page']} · " if passage["first_page"] else ""
            path = " › ".join(passage["headings"])
            out.print(
                f"    {page}{escape(path)} [{passage['start_char']:,}-{passage['end_char']:,}] "
                + _scores(scores),
                style="cyan",
                markup=False,
            )
            out.print(_excerpt(passage))
        if versions := hit["versions"]:
            keys = ", ".join(version["key"] for version in versions[:_VERSIONS_NAMED])
            more = len(versions) - _VERSIONS_NAMED
            rest = f" and {more} more" if more > 0 else ""
            said = f"    + {len(versions)} of nearly the same text: {keys}{rest}"
            out.print(said, markup=False)
        out.print()
    if not answer["hits"]:
        out.print("Nothing found.")
    for counted in answer["facets"]:
        out.print(_facet(counted), markup=False)
    timings = answer["timings_ms"]
    out.print(
        f"{answer['found_count']} documents found, {answer['reranked_count']} read by "
        f"{answer['reranker'] or 'nobody'}"
        + (f" ({answer['whole_count']} whole); " if answer["whole_count"] else "; ")
        + ", ".join(f"{name} {ms:.1f} ms" for name, ms in timings.items()),
        style="dim",
    )
    for problem in answer["degraded"]:
        out.print(f"Degraded ({problem['stage']}): {problem['reason']}", style="yellow")
    for warning in answer["warnings"]:
        out.print(f"Warning: {warning}", style="yellow", markup=False)
