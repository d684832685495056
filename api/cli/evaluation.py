"""`longleaf eval`: how good is each stage on a judged collection?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longleaf.api.cli.output import console, print_json, quiet_logs

if TYPE_CHECKING:
    from longleaf.core.config import Settings


def register(app: typer.Typer) -> None:
    app.command("eval")(evaluate_collection)


def evaluate_collection(
    folder: Annotated[
        Path | None, typer.Argument(help="corpus.jsonl, queries.jsonl, qrels/<split>.tsv.")
    ] = None,
    from_feedback: Annotated[
        bool,
        typer.Option(
            "--from-feedback", help="Ask your own index what was judged in it (no folder then)."
        ),
    ] = False,
    feedback_collection: Annotated[
        str | None, typer.Option("--collection", help="With --from-feedback: of this collection.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which qrels: test, train, dev.")] = "test",
    unjudged: Annotated[
        str,
        typer.Option(
            help="With --from-feedback: documents without a judgement are left-out, or wrong."
        ),
    ] = "left-out",
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

    The corpus is indexed into a scratch catalog under the data folder, cached by content. With
    --from-feedback judgements are your own and the index is the live one: is reranking worth it?
    """
    quiet_logs()
    from longleaf.core.errors import InvalidRequest

    if from_feedback:
        if folder is not None or qrels is not None or given_run is not None:
            raise InvalidRequest(
                "--from-feedback asks your own index.", "Leave out folder, --qrels, --given-run."
            )
        if unjudged not in ("left-out", "wrong"):
            raise InvalidRequest(f"--unjudged {unjudged}: left-out and wrong are taken.")
        _from_feedback(
            home,
            feedback_collection,
            relevant_from,
            depth,
            run,
            judged_only=unjudged == "left-out",
            as_json=as_json,
        )
        return
    if folder is None:
        raise InvalidRequest(
            "What is to be evaluated?", "A folder in BEIR layout, or --from-feedback."
        )
    from longleaf.api.evaluate.beir import load_beir
    from longleaf.api.evaluate.engine import EngineUnderTest, open_scratch
    from longleaf.api.evaluate.report import print_report, to_json
    from longleaf.api.evaluate.run import EvalOptions, check_depths, evaluate
    from longleaf.api.evaluate.trec import read_run, write_runs
    from longleaf.api.wire import check_language
    from longleaf.core.config import load_settings

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
            chosen = _settings_told(settings)
            report = evaluate(
                collection,
                EngineUnderTest(
                    runtime,
                    spans=bool(collection.gold),
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


def _settings_told(settings: Settings) -> dict[str, object]:
    """The settings that a report names."""
    from longleaf.core.config import setting_names, shown_value

    return {
        name: shown_value(settings, name)
        for name in setting_names()
        if name.split(".")[0] in ("embedder", "chunker", "retriever", "reranker")
    }


def _from_feedback(
    home: Path | None,
    collection: str | None,
    relevant_from: int,
    depth: str | None,
    run: Path | None,
    *,
    judged_only: bool,
    as_json: bool,
) -> None:
    from rich.progress import Progress

    from longleaf.api import wire
    from longleaf.api.evaluate import feedback
    from longleaf.api.evaluate.engine import EngineUnderTest
    from longleaf.api.evaluate.report import print_report, print_table, to_json
    from longleaf.api.evaluate.run import EvalOptions, check_depths, evaluate
    from longleaf.api.evaluate.trec import write_runs
    from longleaf.api.judging import one_collection
    from longleaf.core.config import load_settings
    from longleaf.core.types import Scope

    depths = check_depths(depth)
    settings = load_settings({"home": home}).settings
    # Each stage is to be timed as it works, and not as it remembers.
    reader = settings.reranker.model_copy(update={"cached_readings": 0})
    runtime = wire.open_runtime(settings.model_copy(update={"reranker": reader}), follow=False)
    try:
        scope = Scope.all()
        name = one_collection(runtime.catalog, collection, scope)
        judgements = runtime.catalog.judgements.found(scope, [name])
        queries = feedback.feedback_queries(
            name, judgements, relevant_from, judged_only=judged_only
        )
        if not queries.queries:
            raise feedback.nothing_tells(name)
        runtime.follower.catch_up()
        with Progress(console=console(stderr=True), transient=True, disable=as_json) as progress:
            asking = progress.add_task("Queries")
            report = evaluate(
                queries,
                EngineUnderTest(runtime, spans=False, depths=depths, collection=name, plain=False),
                EvalOptions(
                    relevant_from=relevant_from,
                    judged_only=judged_only,
                    settings=_settings_told(settings),
                ),
                lambda done, total: progress.update(asking, completed=done, total=total),
            )
    finally:
        runtime.close()
    if run is not None:
        write_runs(run, report.rankings, queries.qrels)
    if as_json:
        print_json(to_json(report) | feedback.to_json(report))
        return
    print_report(report)
    table = feedback.query_table(report)
    if table is not None:
        print_table(table, console())
    told = feedback.verdict(report)
    console().print(told.words if told else "There is no second stage to judge.", markup=False)
