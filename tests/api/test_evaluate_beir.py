"""Reading a BEIR folder: what is read, what is counted, what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from longleaf.api.evaluate.beir import load_beir, read_qrels
from longleaf.core.errors import InvalidRequest, NotFound

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def _lines(*records: object) -> str:
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    here = tmp_path / "small"
    (here / "qrels").mkdir(parents=True)
    (here / "corpus.jsonl").write_text(
        _lines(
            {"_id": "d1", "title": "One", "text": "The quick brown fox."},
            {"_id": 2, "title": "", "text": "jumps\u2028over\u0085the lazy dog"},
            "this is no JSON",
            {"_id": "d1", "text": "again"},
        ),
        encoding="utf-8",
    )
    (here / "queries.jsonl").write_text(
        _lines({"_id": "q2", "text": "dog"}, {"_id": "q1", "text": "fox"}, {"_id": 3, "text": "-"})
    )
    (here / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq2\t2\t1\nq2\tgone\t1\nq9\td1\t1\n"
    )
    return here


def test_everything_odd_is_counted_and_said(folder: Path) -> None:
    collection = load_beir(folder)
    assert collection.name == "small"
    assert list(collection.queries.items()) == [("q2", "dog"), ("q1", "fox")]
    assert collection.qrels == {"q2": {"2": 1, "gone": 1}, "q1": {"d1": 2}}
    assert collection.document_keys == {"d1", "2"}
    content = (folder / "corpus.jsonl").read_bytes()
    assert collection.corpus_sha256 == hashlib.sha256(content).hexdigest()
    expected = {
        "documents": 2,
        "queries": 2,
        "judgements": 3,
        "queries_without_judgements": 1,
        "judged_queries_without_text": 1,
        "judged_documents_missing": 1,
        "corpus_duplicate_keys": 1,
        "corpus_bad_lines": 1,
    }
    assert expected.items() <= collection.counts.items()
    assert len(collection.notes) == 5


def test_gold_spans_are_checked_against_the_text(folder: Path) -> None:
    spans = [
        {"query-id": "q1", "corpus-id": "d1", "start": 4, "end": 9, "answer": "quick"},
        {"query-id": "q1", "corpus-id": "d1", "start": 4, "end": 9, "answer": "brown"},
        {"query-id": "q1", "corpus-id": "d1", "start": 4, "end": 9},
        {"query-id": "q2", "corpus-id": 2, "start": 5, "end": 10, "answer": "\u2028over"},
        {"query-id": "q2", "corpus-id": "gone", "start": 0, "end": 1, "answer": "x"},
        {"query-id": "q7", "corpus-id": "d1", "start": 0, "end": 3, "answer": "The"},
    ]
    (folder / "snippets.jsonl").write_text(_lines(*spans))
    collection = load_beir(folder)
    assert {query: len(found) for query, found in collection.gold.items()} == {"q1": 3, "q2": 2}
    expected = {
        "gold_spans": 5,
        "gold_spans_of_other_queries": 1,
        "gold_spans_matching": 3,
        "gold_spans_mismatching": 1,
        "gold_spans_without_answer": 1,
        "gold_spans_in_missing_documents": 1,
    }
    assert expected.items() <= collection.counts.items()
    assert any("1 gold spans differ from the text" in note for note in collection.notes)


@pytest.mark.parametrize(
    "content",
    [
        "query-id\tcorpus-id\tscore\nq1\ta file.txt\t1\nq2\td\t0\n",
        "q1\ta file.txt\t1\nq2\td\t0\n",
        "\ufeffq1\ta file.txt\t1\r\n\r\nq2\td\t0\r\n",
        "q1\t0\ta file.txt\t1\nq2\t0\td\t0\n",
        "q1\ta file.txt\t1\nq1\ta file.txt\t1\nq2 Q0 d 0\n",
    ],
    ids=["header", "bare", "bom-crlf", "trec-tabs", "repeated-and-spaces"],
)
def test_qrels_in_every_accepted_form(tmp_path: Path, content: str) -> None:
    path = tmp_path / "test.tsv"
    path.write_text(content, encoding="utf-8", newline="")
    assert read_qrels(path) == {"q1": {"a file.txt": 1}, "q2": {"d": 0}}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("q1 d1\n", "line 1: expected query"),
        ("q1\td1\t1\nq1\td2\tyes\n", "line 2: the grade 'yes' is no number"),
        ("q1\td1\t0.5\n", "no whole number"),
        ("q1\td1\t1\nq1\td1\t2\n", "two different grades"),
    ],
)
def test_bad_qrels_are_refused_with_the_line(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "test.tsv"
    path.write_text(content)
    with pytest.raises(InvalidRequest, match=what):
        read_qrels(path)


def test_missing_files_say_what_to_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Splits there: test"):
        load_beir(folder, "train")
    with pytest.raises(NotFound, match=r"corpus\.jsonl"):
        load_beir(tmp_path)
    with pytest.raises(NotFound, match="There is no"):
        load_beir(folder, qrels_path=tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("name", "line", "what"),
    [
        ("queries.jsonl", '{"_id": "q1"}', "queries.jsonl, line 1"),
        ("queries.jsonl", '["q1"]', "no JSON object"),
        ("snippets.jsonl", '{"query-id": "q", "corpus-id": "d", "start": 4, "end": 4}', "no char"),
        ("snippets.jsonl", '{"corpus-id": "d", "start": 4, "end": 5}', "query-id"),
        ("corpus.jsonl", "", "holds no document"),
    ],
)
def test_bad_lines_are_refused(folder: Path, name: str, line: str, what: str) -> None:
    (folder / name).write_text(line + "\n")
    with pytest.raises(InvalidRequest, match=what):
        load_beir(folder)


def test_queries_of_another_collection_are_refused(folder: Path) -> None:
    (folder / "queries.jsonl").write_text(_lines({"_id": "other", "text": "x"}))
    with pytest.raises(InvalidRequest, match="No query"):
        load_beir(folder)


@pytest.mark.parametrize(
    ("name", "split", "documents", "queries", "spans"),
    [
        ("scifact", "test", 5183, 300, 0),
        ("scifact", "train", 5183, 809, 0),
        ("legalbench_rag/contractnli", "test", 95, 977, 1389),
        ("covid_qa", "test", 54, 778, 778),
        ("trec_dl19_rerank", "test", 14581, 43, 0),
    ],
)
def test_real_collections(name: str, split: str, documents: int, queries: int, spans: int) -> None:
    if not (DATA / name / "corpus.jsonl").is_file():
        pytest.skip(f"{name} is not on this machine")
    counts = load_beir(DATA / name, split).counts
    assert (counts["documents"], counts["queries"]) == (documents, queries)
    assert counts["gold_spans_matching"] == spans
    assert counts["gold_spans_mismatching"] == counts["judged_documents_missing"] == 0
