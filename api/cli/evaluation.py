"""`longleaf eval`: how good is each stage on a judged collection?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longleaf.api.cli.output import console, print_json, quiet_logs


def register(app: typer.Typer) -> None:
    app.command("eval")(evaluate_collection)


def evaluate_collection(
    folder: Annotated[Path, typer.Argument(help="corpus.jsonl, queries.jsonl, qrels/<split>.tsv.")],
    split: Annotated[str, typer.Option(help="Which qrels: test, train, dev.")] = "test",
    qrels: Annotated[
        Path | None, typer.Option(help="Judgements from this file instead (TSV or TREC).")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Write TREC run files of every stage here.")
    ] = None,
    given_run: Annotated[
        Path | None, typer.Option(help="Rerank this first stage (TREC run or TSV) instead.")
    ] = None,
    relevant_from: Annotated[
        int, typer.Option(help="Lowest grade that counts as relevant for R@100 and MRR@10.")
    ] = 1,
    depth: Annotated[
        str | None,
        typer.Option(help="Compare depths of the second stage: all, or passage, document, auto."),
    ] = None,
    language: Annotated[str, typer.Option(help="BM25 language.")] = "english",
    home: Annotated[Path | None, typer.Option(help="The data folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure bm25, dense, fused and final on a BEIR-layout folder, with paired intervals.

    The corpus is indexed into a scratch catalog under the data folder, cached by content.
    """
    quiet_logs()
    from longleaf.api.evaluate.beir import load_beir
    from longleaf.api.evaluate.engine import EngineUnderTest, open_scratch
    from longleaf.api.evaluate.report import print_report, to_json
    from longleaf.api.evaluate.run import EvalOptions, check_depths, evaluate
    from longleaf.api.evaluate.trec import read_run, write_runs
    from longleaf.api.wire import check_language
    from longleaf.core.config import load_settings, setting_names, setting_value

    depths = check_depths(depth)
    settings = load_settings({"home": home}).settings
    collection = load_beir(folder, split, qrels)
    given = read_run(given_run, collection.queries, collection.document_keys) if given_run else None
    progress_out = console(stderr=True)
    from rich.progress import Progress

    with Progress(console=progress_out, transient=True, disable=as_json) as progress:
        indexing = progress.add_task("Indexing (passages)", total=None)
        runtime = open_scratch(
            settings,
            collection,
            check_language(language),
            lambda count: progress.advance(indexing, count),
        )
        try:
            progress.remove_task(indexing)
            asking = progress.add_task("Queries")
            chosen = {
                name: setting_value(settings, name)
                for name in setting_names()
                if name.split(".")[0] in ("embedder", "chunker", "retriever", "reranker")
            }
            report = evaluate(
                collection,
                EngineUnderTest(
                    runtime,
                    spans=bool(collection.gold) and not depths,
                    depths=depths,
                ),
                EvalOptions(relevant_from=relevant_from, given_run=given, settings=chosen),
                lambda done, total: progress.update(asking, completed=done, total=total),
            )
        finally:
            runtime.close()
    if run is not None:
        write_runs(run, report.rankings, collection.qrels)
    if as_json:
        print_json(to_json(report))
    else:
        print_report(report)
