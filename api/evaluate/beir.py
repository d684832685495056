"""A BEIR folder to a `BeirCollection`: queries, judgements, gold spans, and what is odd about them.

Knows nothing of indexing: the engine reads `corpus_path` with its own JSONL parser. Here the corpus
is streamed once, for its keys, its hash (the scratch catalog's cache key) and the few texts that
gold spans point into, so memory holds keys and not texts (about 100 bytes a document).
A folder that cannot be evaluated raises `InvalidRequest`; one that can, with flaws, says them in
`notes` with counts.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from longleaf.core.errors import InvalidRequest, NotFound

_QREL_SUFFIXES = (".tsv", ".txt", ".trec", ".qrels")


@dataclass(frozen=True, slots=True)
class GoldSpan:
    """`text[start_char:end_char]` of a document answers the query; `answer` is that slice."""

    query_id: str
    document_key: str
    start_char: int
    end_char: int
    answer: str | None


@dataclass(frozen=True, slots=True)
class BeirCollection:
    """Everything that an evaluation needs besides the documents' texts.

    `queries`: id to text, only those with judgements, in the file's order. `qrels`: query id to
    document key to grade. `gold`: query id to its spans, only for `queries`. `counts`: what was
    read and what was odd, by name; `notes`: the odd things as sentences.
    """

    name: str
    folder: Path
    split: str
    corpus_path: Path
    corpus_sha256: str
    document_keys: frozenset[str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    gold: Mapping[str, tuple[GoldSpan, ...]]
    counts: Mapping[str, int]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Corpus:
    sha256: str = ""
    keys: set[str] = field(default_factory=set)
    duplicates: int = 0
    bad_lines: int = 0
    spans_matching: int = 0
    spans_unverified: int = 0
    mismatches: list[GoldSpan] = field(default_factory=list)


def load_beir(folder: Path, split: str = "test", qrels_path: Path | None = None) -> BeirCollection:
    """Read `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv` and, if there, `snippets.jsonl`.

    `qrels_path` replaces the split's file. Raises `NotFound` for a missing file and
    `InvalidRequest` with file and line for one that cannot be read.
    """
    for name in ("corpus.jsonl", "queries.jsonl"):
        if not (folder / name).is_file():
            raise NotFound(
                f"{folder} has no {name}.",
                "An evaluation folder holds corpus.jsonl, queries.jsonl and qrels/<split>.tsv.",
            )
    qrels = read_qrels(qrels_path or _split_path(folder, split))
    texts = _read_queries(folder / "queries.jsonl")
    gold = _read_snippets(folder / "snippets.jsonl")
    corpus = _scan_corpus(folder / "corpus.jsonl", gold)
    queries = {query_id: text for query_id, text in texts.items() if query_id in qrels}
    if not queries:
        raise InvalidRequest(
            f"No query of {folder / 'queries.jsonl'} is judged in split {split!r}.",
            "Check that query ids are the same in both files.",
        )
    kept = {query_id: qrels[query_id] for query_id in queries}
    spans: dict[str, list[GoldSpan]] = defaultdict(list)
    for span in gold:
        if span.query_id in queries:
            spans[span.query_id].append(span)
    judged = {(q, d) for q, grades in kept.items() for d in grades}
    counts = {
        "documents": len(corpus.keys),
        "queries": len(queries),
        "judgements": len(judged),
        "queries_without_judgements": len(texts) - len(queries),
        "judged_queries_without_text": len(qrels) - len(kept),
        "judged_documents_missing": len({d for _, d in judged} - corpus.keys),
        "corpus_duplicate_keys": corpus.duplicates,
        "corpus_bad_lines": corpus.bad_lines,
        "gold_spans": sum(map(len, spans.values())),
        "gold_spans_of_other_queries": len(gold) - sum(map(len, spans.values())),
        "gold_spans_matching": corpus.spans_matching,
        "gold_spans_mismatching": len(corpus.mismatches),
        "gold_spans_without_answer": corpus.spans_unverified,
        "gold_spans_in_missing_documents": sum(s.document_key not in corpus.keys for s in gold),
    }
    return BeirCollection(
        name=folder.resolve().name,
        folder=folder,
        split=split,
        corpus_path=folder / "corpus.jsonl",
        corpus_sha256=corpus.sha256,
        document_keys=frozenset(corpus.keys),
        queries=queries,
        qrels=kept,
        gold={query_id: tuple(members) for query_id, members in spans.items()},
        counts=counts,
        notes=_notes(counts, corpus.mismatches),
    )


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Query id to document key to grade, from BEIR's 3 columns or TREC's 4 (second one ignored).

    Tab-separated lines may hold ids with spaces. A first line whose grade is no number is a header.
    Raises `InvalidRequest` for a bad line or two different grades of one pair.
    """
    if not path.is_file():
        raise NotFound(f"There is no {path}.")
    qrels: dict[str, dict[str, int]] = {}
    first = True
    for number, line in _lines(path):
        columns = line.split("\t") if line.count("\t") >= 2 else line.split()
        if len(columns) not in (3, 4):
            columns = line.split()
        if len(columns) not in (3, 4):
            _refuse(path, number, "expected query, document, grade (or TREC's four columns)")
        query_id, document_key = columns[0].strip(), columns[-2].strip()
        was_first, first = first, False
        try:
            grade = float(columns[-1])
        except ValueError:
            if was_first:
                continue
            _refuse(path, number, f"the grade {columns[-1]!r} is no number")
        if not grade.is_integer():
            _refuse(path, number, f"the grade {columns[-1]!r} is no whole number")
        grades = qrels.setdefault(query_id, {})
        if grades.setdefault(document_key, int(grade)) != int(grade):
            _refuse(path, number, f"{query_id} and {document_key} have two different grades")
    return qrels


def _split_path(folder: Path, split: str) -> Path:
    here = folder / "qrels"
    for suffix in _QREL_SUFFIXES:
        if (here / f"{split}{suffix}").is_file():
            return here / f"{split}{suffix}"
    found = sorted(p.stem for p in here.glob("*") if p.suffix in _QREL_SUFFIXES)
    raise NotFound(
        f"{folder} has no judgements for split {split!r}.",
        f"Splits there: {', '.join(found)}." if found else f"Put them in {here / split}.tsv.",
    )


def _read_queries(path: Path) -> dict[str, str]:
    queries: dict[str, str] = {}
    for number, record in _records(path):
        key, text = _key(record.get("_id")), record.get("text")
        if key is None or not isinstance(text, str):
            _refuse(path, number, 'expected {"_id": …, "text": …}')
        if key in queries:
            _refuse(path, number, f"the query id {key!r} is there twice")
        queries[key] = text
    return queries


def _read_snippets(path: Path) -> list[GoldSpan]:
    if not path.is_file():
        return []
    spans = []
    for number, record in _records(path):
        query_id, document_key = _key(record.get("query-id")), _key(record.get("corpus-id"))
        start, end, answer = record.get("start"), record.get("end"), record.get("answer")
        if query_id is None or document_key is None:
            _refuse(path, number, 'expected "query-id" and "corpus-id"')
        if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end:
            _refuse(path, number, f"start {start!r} and end {end!r} are no character span")
        answer = answer if isinstance(answer, str) else None
        spans.append(GoldSpan(query_id, document_key, start, end, answer))
    return spans


def _scan_corpus(path: Path, gold: list[GoldSpan]) -> _Corpus:
    by_document: dict[str, list[GoldSpan]] = defaultdict(list)
    for span in gold:
        by_document[span.document_key].append(span)
    corpus, digest = _Corpus(), hashlib.sha256()
    with path.open("rb") as lines:
        for line in lines:
            digest.update(line)
            if not line.strip():
                continue
            record = _json_object(line)
            key = None if record is None else _key(record.get("_id"))
            if record is None or key is None:
                # The parser rejects this line by name; one bad line must not stop the evaluation.
                corpus.bad_lines += 1
                continue
            if key in corpus.keys:
                corpus.duplicates += 1
                continue
            corpus.keys.add(key)
            text = record.get("text")
            for span in by_document.get(key, ()):
                if span.answer is None:
                    corpus.spans_unverified += 1
                elif str(text)[span.start_char : span.end_char] == span.answer:
                    corpus.spans_matching += 1
                else:
                    corpus.mismatches.append(span)
    corpus.sha256 = digest.hexdigest()
    if not corpus.keys:
        raise InvalidRequest(f"{path} holds no document.", 'Expected {"_id": …, "text": …} lines.')
    return corpus


def _notes(counts: Mapping[str, int], mismatches: list[GoldSpan]) -> tuple[str, ...]:
    sentences = {
        "queries_without_judgements": "{} queries have no judgement in this split: skipped",
        "judged_queries_without_text": "{} judged queries are not in queries.jsonl: skipped",
        "judged_documents_missing": "{} judged documents are not in the corpus: counted as missed",
        "corpus_duplicate_keys": "{} corpus lines repeat an _id: the first line counts",
        "corpus_bad_lines": "{} corpus lines are no JSON object with an _id",
        "gold_spans_of_other_queries": "{} gold spans belong to queries outside this split",
        "gold_spans_without_answer": "{} gold spans carry no answer to check their offsets by",
        "gold_spans_in_missing_documents": "{} gold spans point into documents not in the corpus",
    }
    notes = [text.format(counts[name]) for name, text in sentences.items() if counts[name]]
    if mismatches:
        example = mismatches[0]
        notes.append(
            f"{len(mismatches)} gold spans differ from the text at their offsets: span figures are "
            f"unreliable (first: query {example.query_id}, document {example.document_key}, "
            f"{example.start_char}-{example.end_char})"
        )
    return tuple(notes)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"{path} is not UTF-8.", "Convert it to UTF-8.") from error


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path):
        record = _json_object(line)
        if record is None:
            _refuse(path, number, "no JSON object")
        yield number, record


def _json_object(line: str | bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _key(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def _refuse(path: Path, line_number: int, problem: str) -> NoReturn:
    raise InvalidRequest(f"{path}, line {line_number}: {problem}.")
