"""Judgements out to files and in again, and what they say of reading."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from longleaf.api import judging, rebuilding, wire
from longleaf.api.cli.main import app as cli
from longleaf.api.evaluate import feedback
from longleaf.api.evaluate.metrics import condensed, judged_share, sign_flip_p
from longleaf.api.evaluate.run import EvalOptions, StagedResult, evaluate
from longleaf.core import ids
from longleaf.core.catalog import Catalog
from longleaf.core.catalog.judgements import Judgement, JudgementWrite, plain_query
from longleaf.core.config import Settings, load_settings
from longleaf.core.errors import InvalidRequest, LongleafError, NotFound
from longleaf.core.types import Scope
from longleaf.indexer.parsers.here import ReadHere

if TYPE_CHECKING:
    from longleaf.indexer.embed import MiniLMEmbedder

EVERYONE = Scope.all()
RENT = "who pays the rent?"


# --- files -------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, minilm: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, for commands; the model is loaded once."""

    def load(settings: Settings, _reasons: dict[str, str]) -> tuple[Any, Any]:
        return minilm, wire.open_chunker(settings, minilm)

    monkeypatch.setattr(wire, "open_models", load)
    monkeypatch.setattr(wire, "open_reader", lambda *_: ReadHere())
    home = tmp_path / "home"
    parts = wire.open_write_side(load_settings({"home": home}, {}).settings)
    parts.catalog.create_collection("law")
    for number in range(8):
        text = f"Lease {number}. " + (
            "The tenant pays the rent. " if number % 2 else "A roof leaks. "
        )
        parts.indexer.index_bytes(
            "law", "english", text.encode(), f"{number}.txt", key=f"no {number}"
        )
    rebuilding.follow_once(parts)
    parts.close()
    return home


def judge(home: Path, grades: dict[tuple[str, str], int], who: str = "ann") -> None:
    catalog = Catalog(home)
    writes = [
        JudgementWrite(query, ids.document_id("law", key), grade, who)
        for (query, key), grade in grades.items()
    ]
    catalog.judgements.put(writes, EVERYONE)
    catalog.close()


def kept(home: Path) -> dict[tuple[str, str, str], int]:
    catalog = Catalog(home)
    found = catalog.judgements.found(EVERYONE)
    catalog.close()
    return {(each.query, each.key, each.judge): each.grade for each in found}


def command(*words: str | Path) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_table_goes_out_and_comes_in_again(home: Path, tmp_path: Path) -> None:
    odd = 'what is "rent", really?'
    formula = '=HYPERLINK("http://evil.example","rent")'
    judge(home, {(RENT, "no 1"): 2, (odd, "no 2"): -1, (formula, "no 3"): 0})
    judge(home, {(RENT, "no 1"): 1}, "ben")
    before = kept(home)
    assert any(formula in str(each) for each in before)
    printed = command("judge", "export", "-", "--home", home)
    rows = list(csv.DictReader(io.StringIO(printed, newline="")))
    assert len(rows) == 4 and set(rows[0]) == set(judging.COLUMNS)
    assert f"'{formula}" in [row["query"] for row in rows], "a spreadsheet would run it"
    table = tmp_path / "out.csv"
    said = command("judge", "export", table, "--home", home)
    assert "4 judgements of 3 queries" in said
    for place in (table, table / "below.csv"):
        with pytest.raises(InvalidRequest, match=r"already|written"):
            command("judge", "export", place, "--home", home)
    with Catalog(home)._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM judgements")
    told = json.loads(command("judge", "import", table, "--home", home, "--json"))
    assert told == {"judgements": 4, "queries": 3, "unknown_documents": []}
    assert kept(home) == before
    command("judge", "import", table, "--home", home)
    assert kept(home) == before, "another run changes nothing"
    assert command("judge", "export", "-", "--home", home) == printed, "nor when it was said"
    catalog = Catalog(home)
    [old] = [j for j in catalog.judgements.found(EVERYONE) if j.judge == "ben"]
    catalog.judgements.put([JudgementWrite(old.query, old.document_id, old.grade, "ben")], EVERYONE)
    [same] = [j for j in catalog.judgements.found(EVERYONE) if j.judge == "ben"]
    catalog.close()
    assert same == old, "the same opinion again is not a new one"


def test_qrels_go_out_and_come_in_again(home: Path, tmp_path: Path) -> None:
    judge(home, {(RENT, "no 1"): 3, (RENT, "no 2"): 0, ("roof", "no 2"): 1})
    judge(home, {(RENT, "no 1"): 1}, "ben")
    judge(home, {(RENT, "no 1"): 2}, "cleo")
    command("judge", "export", tmp_path / "trec", "--format", "trec", "--home", home)
    qrels = (tmp_path / "trec/qrels.txt").read_text().splitlines()
    assert qrels == ["q1 0 no%201 2", "q1 0 no%202 0", "q2 0 no%202 1"], "the median of three"
    assert (tmp_path / "trec/queries.tsv").read_text() == f"q1\t{RENT}\nq2\troof\n"
    command(
        "judge", "import", tmp_path / "trec/qrels.txt", "--queries", tmp_path / "trec/queries.tsv",
        "--collection", "law", "--judge", "eve", "--home", home,
    )  # fmt: skip
    eve = {key[:2] for key in kept(home) if key[2] == "eve"}
    assert eve == {(RENT, "no 1"), (RENT, "no 2"), ("roof", "no 2")}, (
        "%20 is read as it was written"
    )
    catalog = Catalog(home)
    for query, key in eve:
        catalog.judgements.remove(query, ids.document_id("law", key), EVERYONE, "eve")
    catalog.close()
    command("judge", "export", tmp_path / "beir", "--format", "beir", "--home", home)
    with pytest.raises(InvalidRequest, match="there already"):
        command("judge", "export", tmp_path / "beir", "--format", "beir", "--home", home)
    tabbed = tmp_path / "beir/qrels/test.tsv"
    tabbed.write_text(tabbed.read_text().replace("%20", " "))
    command(
        "judge", "import", tabbed, "--queries", tmp_path / "beir/queries.jsonl",
        "--collection", "law", "--judge", "dora", "--home", home,
    )  # fmt: skip
    dora = {key: grade for key, grade in kept(home).items() if key[2] == "dora"}
    assert dora == {
        (RENT, "no 1", "dora"): 2, (RENT, "no 2", "dora"): 0, ("roof", "no 2", "dora"): 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("query,key\nx,no 1\n", "columns query, grade"),
        ("query,grade\nx,1\n", "document_id or key"),
        ("query,key,grade\nx,no 1,good\n", "line 2: grade 'good'"),
        ("query,key,grade\nx,no 1,1.5\n", "line 2: grade '1.5'"),
        ("query,key,grade\nx,,1\n", "line 2: no document_id"),
        ("query,key,grade\n,no 1,1\n", "judged query"),
        ("query,key,grade\nx,no 1,99\n", "grade 99"),
        ("query,key,grade\n", "no judgement"),
        ("query,key,grade\nx,no 1,1\ny,no 99,1\n", "1 of the judged documents are not here"),
        ("query,key,grade,start_char\nx,no 1,1,4\n", "both or none"),
        ('query,key,grade,note\nx,no 1,1,"5 inch\ny,no 2,0,\n', "quotation mark"),
        ("query,key,grade\nx,no 1,1\nx,no 1,0\n", "another grade"),
        ("query,key,grade,judged_at\nx,no 1,1,yesterday\n", "line 2: judged_at"),
        ("query,key,grade,end_char,start_char\nx,no 1,1,1e300,1\n", "line 2"),
        (f"query,key,grade\n{'x' * 200_000},no 1,1\n", "larger than field limit"),
        ("query,key,grade\nx,no 1,1\nx,no 2,99\n", "line 3: The grade 99"),
        ("", "first line"),
    ],
)
def test_a_table_that_cannot_be_read_changes_nothing(
    home: Path, tmp_path: Path, table: str, words: str
) -> None:
    csv.field_size_limit(131_072)  # a parser in this process raises it
    file = tmp_path / "in.csv"
    file.write_text(table)
    with pytest.raises(LongleafError) as refused:
        command("judge", "import", file, "--collection", "law", "--home", home)
    assert words in f"{refused.value.message} {refused.value.hint}"
    assert kept(home) == {}


def test_qrels_that_cannot_be_read(home: Path, tmp_path: Path) -> None:
    qrels, texts = tmp_path / "q.trec", tmp_path / "texts.tsv"
    qrels.write_text("1 0 a 1\n2 0 b 1\n")
    texts.write_text("1\tfirst\n")
    asked = ("judge", "import", qrels, "--queries", texts, "--home", home)
    with pytest.raises(InvalidRequest, match="which --collection"):
        command(*asked)
    with pytest.raises(InvalidRequest, match="'2', which has no text"):
        command(*asked, "--collection", "law")
    for bad in ("1 first\n", '{"_id": 1}\n', "1\ta\n1\tb\n", '{"_id": 1, "text": 3}\n'):
        texts.write_text(bad)
        with pytest.raises(InvalidRequest, match="line"):
            command(*asked, "--collection", "law")
    texts.write_text("1\tfirst\n2\tsecond\n")
    with pytest.raises(InvalidRequest, match="2 of the judged documents are not here: "):
        command(*asked, "--collection", "law")
    qrels.write_bytes(b"1 0 \xff 1\n")
    with pytest.raises(LongleafError):
        command(*asked, "--collection", "law")
    file = tmp_path / "some.csv"
    file.write_text("query,key,grade\nx,no 1,1\ny,no 99,1\n")
    some = ("judge", "import", file, "--collection", "law", "--skip-unknown", "--home", home)
    assert "1 judged documents are not here" in command(*some)
    assert kept(home) == {("x", "no 1", "import"): 1}


_GRADES = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b c", '"q", x']), st.integers(0, 7)), st.integers(-2, 3),
    max_size=12,
)  # fmt: skip


@given(_GRADES, st.integers(1, 3))
def test_one_grade_of_each_pair(grades: dict[tuple[str, int], int], judges: int) -> None:
    judgements = [
        Judgement(query, str(key), grade + n, f"j{n}", id=1, key=str(key))
        for (query, key), grade in grades.items()
        for n in range(judges)
    ]
    found = judging.judged(judgements, by_key=True)
    flat = {
        (found.queries[query_id], key): grade
        for query_id, all_ in found.qrels.items()
        for key, grade in all_.items()
    }
    middle = (judges - 1) // 2
    assert flat == {(query, str(key)): grade + middle for (query, key), grade in grades.items()}
    assert list(found.queries) == list(found.qrels)


@given(st.text())
def test_white_space_tells_no_two_queries_apart(text: str) -> None:
    assert plain_query(plain_query(text)) == plain_query(text) == plain_query(f" {text}\t")
    assert plain_query(text).split() == text.split()


# --- is reranking worth it here? ----------------------------------------------------------------


class Staged:
    """A search whose second stage puts the document `right` first, for the queries in `helps`."""

    def __init__(self, helps: set[str], hurts: set[str]) -> None:
        self.helps, self.hurts = helps, hurts

    def search(self, query_text: str) -> StagedResult:
        fused = (("unjudged", 3.0), ("wrong", 2.0), ("right", 1.0))
        final = (("unjudged", 3.0), ("right", 2.0), ("wrong", 1.0))
        if query_text in self.hurts:
            fused, final = final, fused
        elif query_text not in self.helps:
            final = fused
        return StagedResult(
            {"bm25": fused, "fused": fused, "final": final}, {}, {"fused": 10.0, "final": 25.0}
        )

    def rerank_given(self, query_text: str, given: Any) -> StagedResult:
        raise NotImplementedError


def report_of(helps: int, hurts: int, alike: int) -> Any:
    names = [f"q{n}" for n in range(helps + hurts + alike)]
    judgements = [
        Judgement(name, key, grade, key=key)
        for name in names
        for key, grade in (("right", 1), ("wrong", 0))
    ]
    queries = feedback.feedback_queries("law", judgements)
    assert len(queries.queries) == len(names)
    engine = Staged(set(names[:helps]), set(names[helps : helps + hurts]))
    return evaluate(queries, engine, EvalOptions(judged_only=True))


def test_the_verdict_says_what_is_known_and_what_is_not() -> None:
    gain = 1 - 0.6309
    worth = feedback.verdict(report_of(12, 1, 3))
    assert (
        worth is not None
        and worth.is_clear
        and worth.difference == pytest.approx(gain * 11 / 16, abs=1e-3)
    )
    assert worth.words.startswith("Reranking is worth it here: nDCG@10 +0.25")
    assert "16 queries (12 won, 1 lost, p = 0.00" in worth.words and "15 ms more" in worth.words
    worse = feedback.verdict(report_of(1, 12, 3))
    assert worse is not None and worse.words.startswith("Reranking makes it worse here")
    broken = report_of(12, 1, 3)
    broken = replace(broken, degraded={"rerank: late failed": 16})
    told = feedback.verdict(broken)
    assert told is not None and not told.is_clear and "it did not work" in told.words
    some = feedback.verdict(replace(broken, degraded={"rerank: deadline": 3}))
    assert some is not None and some.is_clear and "On 3 of them" in some.words
    unknown = feedback.verdict(report_of(3, 1, 4))
    assert unknown is not None and not unknown.is_clear
    assert "cannot be told yet" in unknown.words and "would tell a difference" in unknown.words
    same = feedback.verdict(report_of(0, 0, 5))
    assert same is not None and same.p == 1.0 and same.difference == 0.0


def test_wins_and_losses_are_named() -> None:
    report = report_of(2, 1, 3)
    table = feedback.query_table(report)
    assert table is not None
    assert [row[0] for row in table.rows] == ["q0", "q1", "q2"]
    assert [row[3][0] for row in table.rows] == ["+", "+", "-"]
    told = feedback.to_json(report)
    assert len(told["by_query"]) == 6 and told["verdict"]["words"]
    [gap] = [
        c
        for c in report.comparisons
        if (c.stage, c.over, c.measure) == ("final", "fused", "ndcg@10")
    ]
    assert (gap.won, gap.lost) == (2, 1)
    assert report.stages["final"].judged_share == pytest.approx(2 / 3)
    assert feedback.query_table(report_of(0, 0, 2)) is None


def test_queries_that_tell_nothing_are_not_asked_and_are_counted() -> None:
    judgements = [
        Judgement("all good", "a", 1, key="a"),
        Judgement("all good", "b", 1, key="b"),
        Judgement("none good", "a", 0, key="a"),
        Judgement("none good", "b", -1, key="b"),
        Judgement("both", "a", 1, key="a"),
        Judgement("both", "b", 0, key="b"),
    ]
    queries = feedback.feedback_queries("law", judgements)
    assert list(queries.queries.values()) == ["both"]
    assert queries.counts["queries_all_alike"] == 2
    assert any("2 judged queries were not asked" in note for note in queries.notes)
    lenient = feedback.feedback_queries("law", judgements, judged_only=False)
    assert list(lenient.queries.values()) == ["all good", "both"]
    assert any("counts as not relevant" in note for note in lenient.notes)


def test_rankings_are_condensed_to_what_was_judged() -> None:
    qrels = {"q": {"a": 1, "c": 0}}
    rankings = {"q": [("x", 4.0), ("c", 3.0), ("y", 2.0), ("a", 1.0)], "r": [("a", 1.0)]}
    assert condensed(rankings, qrels) == {"q": [("c", 3.0), ("a", 1.0)], "r": []}
    assert judged_share(rankings, qrels) == pytest.approx(2 / 5)
    assert judged_share(rankings, qrels, 1) == 0.0
    assert judged_share({}, qrels) == 0.0


def test_randomisation_agrees_with_counting_all_signs() -> None:
    gaps = [0.4, 0.3, -0.1, 0.2, 0.5, 0.0, 0.1]
    from itertools import product

    observed = abs(sum(gaps))
    signs = list(product((-1, 1), repeat=len(gaps)))
    reached = sum(
        abs(sum(s * g for s, g in zip(each, gaps, strict=True))) >= observed - 1e-12
        for each in signs
    )
    assert sign_flip_p(gaps) == reached / len(signs), "of few queries all signs are looked at"
    many = [0.3, -0.1, 0.05] * 7
    half = sign_flip_p(many, resamples=4_000)
    assert half == pytest.approx(sign_flip_p(many, resamples=40_000, seed=3), abs=0.01)
    assert sign_flip_p([]) == 1.0 == sign_flip_p([0.0, 0.0])
    assert sign_flip_p([1.0] * 30) < 0.001


def test_eval_from_feedback_asks_the_live_index(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidRequest, match="Nothing has been judged"):
        command("eval", "--from-feedback", "--home", home)
    judge(home, {(RENT, f"no {n}"): n % 2 for n in range(8)})
    judge(home, {("which roof leaks?", f"no {n}"): 1 - n % 2 for n in range(8)})
    judge(home, {("lease", "no 1"): 1, ("lease", "no 2"): 1})
    told = json.loads(command("eval", "--from-feedback", "--home", home, "--json"))
    assert told["queries"] == 2 and told["split"] == "feedback" and told["collection"] == "law"
    assert told["stages"]["final"]["ndcg@10"] == pytest.approx(1.0)
    assert told["stages"]["final"]["judged_share"] == pytest.approx(1.0)
    assert told["settings"]["judged_only"] is True
    assert len(told["by_query"]) == 2 and told["verdict"]["cost_ms"] > 0
    runs = tmp_path / "runs"
    printed = command(
        "eval", "--from-feedback", "--collection", "law", "--home", home, "--run", runs
    )
    assert "reranking is worth it here" in printed.lower() or "cannot be told yet" in printed
    assert (runs / "final.trec").is_file() and (runs / "qrels.trec").is_file()
    asked = ("eval", "--from-feedback", "--home", home, "--json", "--unjudged")
    told = json.loads(command(*asked, "wrong"))
    assert told["queries"] == 3 and told["stages"]["final"]["judged_share"] is None
    with pytest.raises(InvalidRequest, match="left-out and wrong"):
        command(*asked, "maybe")
    monkeypatch.setenv("LONGLEAF_RERANKER__KIND", "none")
    assert "There is no second stage to judge." in command(
        "eval", "--from-feedback", "--home", home
    )
    monkeypatch.delenv("LONGLEAF_RERANKER__KIND")
    with pytest.raises(InvalidRequest, match="own index"):
        command("eval", tmp_path, "--from-feedback", "--home", home)
    with pytest.raises(InvalidRequest, match="What is to be evaluated"):
        command("eval", "--home", home)
    with pytest.raises(NotFound, match="nowhere"):
        command("eval", "--from-feedback", "--collection", "nowhere", "--home", home)
