"""The whole evaluation over a small engine that really searches, and how its report looks."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from longleaf.api.evaluate.beir import BeirCollection, load_beir
from longleaf.api.evaluate.report import (
    comparison_table,
    print_report,
    reports_table,
    span_comparison_table,
    span_table,
    stage_table,
    to_json,
)
from longleaf.api.evaluate.run import EvalOptions, StagedResult, StagedSearch, evaluate
from longleaf.api.evaluate.spans import RankedSpan
from longleaf.api.evaluate.trec import GivenRun
from longleaf.core.errors import InvalidRequest

TEXTS = {
    "ants": "ants walk in lines. ants carry leaves.",
    "bees": "bees make honey. bees dance.",
    "cats": "cats sleep. cats hunt mice in lines of grass.",
    "dogs": "dogs bark at cats. dogs sleep.",
}
QUERIES = {"q3": "walk lines", "q1": "cats sleep", "q2": "leaves bees", "q4": "mice"}
QRELS = {"q1": "cats", "q2": "bees", "q3": "ants", "q4": "cats"}


@dataclass
class WordCount:
    """ "bm25" counts which query words a text holds, "final" how often; ties by key."""

    asked: list[str] = field(default_factory=list)

    def search(self, query_text: str) -> StagedResult:
        self.asked.append(query_text)
        words = query_text.split()
        rankings = {
            "bm25": _ranked({key: sum(w in t for w in words) for key, t in TEXTS.items()}),
            "final": _ranked({key: sum(t.count(w) for w in words) for key, t in TEXTS.items()}),
        }
        passages = {
            stage: tuple(RankedSpan(key, 0, len(TEXTS[key]), score) for key, score in ranking)
            for stage, ranking in rankings.items()
        }
        step = float(len(self.asked))
        return StagedResult(
            rankings,
            passages,
            {"bm25": step, "final": 2 * step, "encode": 0.5},
            ("deadline", "deadline") if query_text == "mice" else (),
        )

    def rerank_given(self, query_text: str, given: Sequence[tuple[str, float]]) -> StagedResult:
        wanted = {key for key, _ in given}
        final = tuple(row for row in self.search(query_text).rankings["final"] if row[0] in wanted)
        return StagedResult({"final": final}, timings_ms={"final": 1.0})


def _ranked(scores: dict[str, int]) -> tuple[tuple[str, float], ...]:
    found = [(key, float(score)) for key, score in scores.items() if score]
    return tuple(sorted(found, key=lambda row: (-row[1], row[0])))


@pytest.fixture
def collection(tmp_path: Path) -> BeirCollection:
    folder = tmp_path / "animals"
    (folder / "qrels").mkdir(parents=True)
    corpus = [json.dumps({"_id": key, "title": "", "text": text}) for key, text in TEXTS.items()]
    (folder / "corpus.jsonl").write_text("\n".join(corpus))
    queries = [json.dumps({"_id": key, "text": text}) for key, text in QUERIES.items()]
    (folder / "queries.jsonl").write_text("\n".join(queries))
    qrels = [f"{query}\t{key}\t1" for query, key in QRELS.items()]
    (folder / "qrels" / "test.tsv").write_text("\n".join(qrels))
    span = {"query-id": "q2", "corpus-id": "bees", "start": 10, "end": 15, "answer": "honey"}
    (folder / "snippets.jsonl").write_text(json.dumps(span))
    return load_beir(folder)


def test_figures_worked_out_by_hand(collection: BeirCollection) -> None:
    engine: StagedSearch = WordCount()
    steps: list[tuple[int, int]] = []
    options = EvalOptions(budgets_chars=(40, 100), settings={"reranker": "count"})
    report = evaluate(collection, engine, options, lambda *step: steps.append(step))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    tree = to_json(report)
    json.dumps(tree, allow_nan=False)
    assert (tree["collection"], tree["split"], tree["queries"]) == ("animals", "test", 4)
    # Only q2 tells the stages apart: ants, bees in bm25; bees, ants in final.
    bm25, final = tree["stages"]["bm25"], tree["stages"]["final"]
    assert list(tree["stages"]) == ["bm25", "final"]
    assert bm25["mrr@10"] == 0.875
    assert bm25["ndcg@10"] == pytest.approx((3 + 1 / math.log2(3)) / 4)
    assert bm25["r@100"] == final["r@100"] == final["mrr@10"] == final["ndcg@10"] == 1.0
    # One warm-up query took step 1; the counted ones took 2, 3, 4, 5.
    assert (bm25["p50_ms"], final["p50_ms"]) == (3.5, 7.0)
    assert bm25["p95_ms"] == pytest.approx(4.85)
    assert tree["other_timings"] == {"encode": {"p50_ms": 0.5, "p95_ms": 0.5}}
    gap = next(c for c in tree["comparisons"] if c["measure"] == "mrr@10")
    assert (gap["stage"], gap["over"], gap["difference"]) == ("final", "bm25", 0.125)
    assert gap["interval"] == [0.0, 0.375]
    assert gap["distinguishable"] is False
    # bm25 returns the 38 characters of ants, then 2 of bees; final the 28 of bees with the honey.
    assert tree["span_queries"] == 1
    assert tree["spans"]["bm25"]["40"]["recall"] == 0.0
    assert tree["spans"]["final"]["40"]["recall"] == 1.0
    assert tree["spans"]["final"]["40"]["precision"] == 5 / 40
    assert tree["spans"]["bm25"]["100"]["precision"] == 5 / 66
    assert tree["degraded"] == {"deadline": 1}
    assert tree["settings"]["reranker"] == "count"
    assert tree["settings"]["relevant_from"] == 1


def test_queries_run_in_file_order_after_the_warm_up(collection: BeirCollection) -> None:
    engine = WordCount()
    first = evaluate(collection, engine, EvalOptions(warm_up_queries=2))
    assert engine.asked == ["walk lines", "cats sleep", *QUERIES.values()]
    again = evaluate(collection, WordCount(), EvalOptions(warm_up_queries=2))
    assert to_json(first) == to_json(again)


def test_a_given_run_is_a_stage_of_its_own(collection: BeirCollection) -> None:
    rankings = {
        "q1": (("dogs", 2.0), ("cats", 1.0)),
        "q2": (("ants", 2.0), ("bees", 1.0)),
        "q3": (("ants", 2.0),),
    }
    options = EvalOptions(given_run=GivenRun("bm25.tsv", rankings, ("given run: odd",)))
    report = evaluate(collection, WordCount(), options)
    tree = to_json(report)
    assert list(tree["stages"]) == ["given", "final"]
    assert tree["stages"]["given"]["mrr@10"] == (0.5 + 0.5 + 1.0) / 4
    assert tree["stages"]["final"]["mrr@10"] == 0.75
    assert tree["stages"]["final"]["missing_queries"] == 1
    assert tree["stages"]["given"]["p50_ms"] is None
    assert {(c["stage"], c["over"]) for c in tree["comparisons"]} == {("final", "given")}
    assert "given run: odd" in report.notes
    assert "given run: 1 evaluated queries are not in it: counted as 0" in report.notes
    assert tree["settings"]["given_run"] == "bm25.tsv"
    assert tree["spans"] == {}


def test_it_says_where_final_is_not_best(collection: BeirCollection) -> None:
    class Swapped(WordCount):
        def search(self, query_text: str) -> StagedResult:
            result = super().search(query_text)
            rankings = {"bm25": result.rankings["final"], "final": result.rankings["bm25"]}
            return replace(result, rankings=rankings)

    notes = evaluate(collection, Swapped(), EvalOptions()).notes
    expected = "final is not best at mrr@10: bm25 1.000, final 0.875 (not distinguishable)"
    assert expected in notes


def test_what_cannot_be_scored_is_refused(collection: BeirCollection) -> None:
    @dataclass
    class Says:
        result: StagedResult

        def search(self, query_text: str) -> StagedResult:
            return self.result

        def rerank_given(self, query_text: str, given: Sequence[tuple[str, float]]) -> StagedResult:
            raise AssertionError

    twice = StagedResult({"final": (("a", 2.0), ("a", 1.0))})
    lone = StagedResult({"final": ()}, {"bm25": (RankedSpan("a", 0, 1, 1.0),)})
    for result, what in (
        (twice, "final ranking of query q3 holds document 'a' twice"),
        (StagedResult({"last": ()}), "'last' is no stage"),
        (lone, "bm25 passages but no bm25 ranking"),
    ):
        with pytest.raises(InvalidRequest, match=what):
            evaluate(collection, Says(result))
    with pytest.raises(InvalidRequest, match="budget"):
        evaluate(collection, WordCount(), EvalOptions(budgets_chars=(0,)))


def test_queries_below_the_bar_are_said(collection: BeirCollection) -> None:
    report = evaluate(collection, WordCount(), EvalOptions(relevant_from=2))
    assert "4 queries have no judgement >= 2: 0 in R@100 and MRR@10" in report.notes
    assert report.stages["final"].measures["r@100"].mean == 0.0
    assert report.stages["final"].measures["ndcg@10"].mean == 1.0


def test_tables_hold_every_figure_and_print_without_colours(collection: BeirCollection) -> None:
    report = evaluate(collection, WordCount(), EvalOptions(budgets_chars=(40, 5000)))
    report = replace(report, notes=(*report.notes, "document [red]x[/red] is gone"))
    stages = stage_table(report)
    assert [row[0] for row in stages.rows] == ["bm25", "final"]
    assert stages.rows[0][3].startswith("0.875 [")
    verdicts = {row[1]: row[-1] for row in comparison_table(report).rows}
    assert verdicts == dict.fromkeys(("nDCG@10", "R@100", "MRR@10"), "not distinguishable")
    spans, gaps = span_table(report), span_comparison_table(report)
    assert spans is not None
    assert gaps is not None
    assert spans.columns[1:] == ("recall @40", "precision @40", "recall @5,000", "precision @5,000")
    assert gaps.rows[0] == ("final − bm25", "+1.000", "+0.125", "+0.000 ≈", "+0.000 ≈")
    for table in (stages, comparison_table(report), spans, gaps):
        assert all(len(row) == len(table.columns) for row in table.rows)
    out = StringIO()
    print_report(report, Console(file=out, width=120))
    shown = out.getvalue()
    assert "\x1b" not in shown
    assert "document [red]x[/red] is gone" in shown
    assert "degraded in 1 of 4 queries: deadline" in shown
    for word in ("nDCG@10", "p95 ms", "0.875 [", "not distinguishable", "recall @5,000"):
        assert word in shown


def test_a_clear_gap_is_called_one(collection: BeirCollection) -> None:
    class Backwards(WordCount):
        def search(self, query_text: str) -> StagedResult:
            result = super().search(query_text)
            wrong = (("dogs", 2.0), *((k, 1.0) for k, _ in result.rankings["bm25"] if k != "dogs"))
            return replace(result, rankings={"bm25": wrong, "final": result.rankings["final"]})

    rows = comparison_table(evaluate(collection, Backwards())).rows
    assert {row[1]: row[-1] for row in rows}["MRR@10"] == "final is better"


def test_reports_stand_side_by_side(collection: BeirCollection) -> None:
    report = evaluate(collection, WordCount(), EvalOptions())
    only_final = replace(report, stages={"final": report.stages["final"]})
    table = reports_table({"both": report, "alone": only_final}, "mrr@10")
    assert table.columns == ("", "bm25", "final")
    assert table.rows[1][1:] == ("–", "1.000 [1.000–1.000]")
    assert table.rows[0][1].startswith("0.875")
