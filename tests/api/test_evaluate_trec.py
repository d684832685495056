"""Run files: what is written evaluates to what was printed, and reads back as it was."""

from __future__ import annotations

from pathlib import Path

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.api.evaluate.beir import load_beir
from longleaf.api.evaluate.metrics import score_rankings
from longleaf.api.evaluate.trec import escape_id, read_run, write_runs
from longleaf.core.errors import InvalidRequest, NotFound

DL19 = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "trec_dl19_rerank"


def test_a_run_file_evaluates_to_the_same_figures(tmp_path: Path) -> None:
    """Ties, rising scores and ids with spaces, all of which trec_eval would take amiss."""
    qrels = {"q 1": {"my file.txt": 2, "b": 1}, "q2": {"z%": 1, "e": 1}}
    rankings = {
        "q 1": (("my file.txt", 1.0), ("zz", 1.0), ("b", 7.5)),
        "q2": (("a", 0.1), ("z%", 0.1), ("y", 0.1), ("e", -3e8)),
    }
    written = write_runs(tmp_path / "runs", {"final": rankings, "bm25": {}}, qrels)
    assert [path.name for path in written] == ["qrels.trec", "final.trec", "bm25.trec"]
    assert (tmp_path / "runs" / "bm25.trec").read_text() == ""
    lines = (tmp_path / "runs" / "final.trec").read_text().splitlines()
    assert lines[0] == "q%201 Q0 my%20file.txt 1 1 longleaf-final"
    judged = list(ir_measures.read_trec_qrels(str(tmp_path / "runs" / "qrels.trec")))
    run = list(ir_measures.read_trec_run(str(tmp_path / "runs" / "final.trec")))
    measures = [ir_measures.nDCG @ 10, ir_measures.R @ 100, ir_measures.RR @ 10]
    theirs = ir_measures.calc_aggregate(measures, judged, run)
    ours = score_rankings(qrels, rankings)
    means = [np.mean(list(by_query.values())) for by_query in ours.values()]
    assert [theirs[measure] for measure in measures] == pytest.approx(means, abs=1e-6)


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1),
        st.floats(-1e6, 1e6, width=32),
        min_size=1,
        max_size=20,
    )
)
def test_written_runs_read_back_in_the_same_order(
    tmp_path_factory: pytest.TempPathFactory, scores: dict[str, float]
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    ranking = tuple(sorted(scores.items(), key=lambda item: -item[1]))
    clash = any(escape_id(key) != key and escape_id(key) in scores for key in scores)
    if clash:
        with pytest.raises(InvalidRequest, match="the same in a TREC file"):
            write_runs(folder, {"final": {"q": ranking}}, {"q": {"d": 1}})
        return
    write_runs(folder, {"final": {"q": ranking}}, {"q": {"d": 1}})
    run = read_run(folder / "final.trec", {"q"}, set(scores))
    assert [key for key, _ in run.rankings["q"]] == [key for key, _ in ranking]
    assert [score for _, score in run.rankings["q"]] == pytest.approx(
        [score for _, score in ranking], rel=1e-5, abs=1e-5
    )
    assert run.notes == ()


@pytest.mark.parametrize(
    "content",
    [
        "q1 Q0 a 1 9.5 tag\nq1 Q0 b 2 9.5 tag\nq2 Q0 c 1 -1e0 tag\n",
        "q1\ta\t1\t9.5\nq1\tb\t2\t9.5\nq2\tc\t1\t-1\n",
        "q1\tQ0\ta\t1\t9.5\ttag\r\nq1\tQ0\tb\t2\t9.5\ttag\r\n\r\nq2\tQ0\tc\t1\t-1\ttag\r\n",
    ],
    ids=["trec", "tsv", "trec-tabs-crlf"],
)
def test_both_forms_are_read(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run"
    path.write_text(content, newline="")
    run = read_run(path, {"q1", "q2"}, {"a", "b", "c"})
    assert run.rankings == {"q1": (("a", 9.5), ("b", 9.5)), "q2": (("c", -1.0),)}
    assert run.notes == ()


def test_scores_rule_over_ranks_and_strangers_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("q1 Q0 a 1 1.0 t\nq1 Q0 gone 2 3.0 t\nq9 Q0 a 1 1.0 t\n")
    run = read_run(path, {"q1"}, {"a"})
    assert [key for key, _ in run.rankings["q1"]] == ["gone", "a"]
    assert run.notes == (
        "given run: 1 queries have ranks against their scores: scores rule",
        "given run: 1 documents are not in the corpus",
        "given run: 1 queries are not evaluated here",
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("q1 Q0 a 1 2.0 t\nq1 Q0 a 2 1.0 t\n", "line 2: a is there twice"),
        ("q1 Q0 a 1 nan t\n", "not finite"),
        ("q1 Q0 a first 1 t\n", "no number"),
        ("q1 a 1 2.0\n", "neither TREC's six columns"),
        ("q1 Q0 a file 1 2.0 t\n", "neither TREC's six columns"),
        ("\n", "holds no ranking"),
    ],
)
def test_bad_runs_are_refused(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "run"
    path.write_text(content)
    with pytest.raises(InvalidRequest, match=what):
        read_run(path, {"q1"}, {"a"})


def test_a_missing_run_and_an_empty_id(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_run(tmp_path / "none", set(), set())
    with pytest.raises(InvalidRequest, match="empty id"):
        escape_id("")


def test_the_given_run_of_dl19_has_its_published_figure() -> None:
    """BM25 0.507 with the judgements of this folder's split."""
    if not (DL19 / "bm25_top100.tsv").is_file():
        pytest.skip("trec_dl19_rerank is not on this machine")
    collection = load_beir(DL19)
    run = read_run(DL19 / "bm25_top100.tsv", collection.queries, collection.document_keys)
    assert run.notes == ()
    assert {len(ranking) for ranking in run.rankings.values()} == {100}
    values = score_rankings(collection.qrels, run.rankings, relevant_from=2)
    means = {name: np.mean(list(by_query.values())) for name, by_query in values.items()}
    assert means["ndcg@10"] == pytest.approx(0.5071, abs=1e-4)
    assert means["mrr@10"] == pytest.approx(0.7024, abs=1e-4)
