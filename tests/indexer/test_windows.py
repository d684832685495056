"""The baseline of benchmarks/chunking.py is what it says: every word, in windows of whole words."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.indexer.test_chunk import CONTRACT, minilm, own_tokens

from longleaf.core.types import Document, Section

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "chunking.py"


@pytest.fixture(scope="module")
def chunking() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_chunking", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("overlap_tokens", [0, 12])
@pytest.mark.parametrize("text", [CONTRACT, "word " * 400, "a" * 4_000, " \n", "one"])
def test_windows_hold_every_word(chunking: ModuleType, text: str, overlap_tokens: int) -> None:
    passages = chunking.WindowChunker(minilm(), 64, overlap_tokens).chunk(Document(text, ""))
    covered = 0
    for ordinal, passage in enumerate(passages):
        piece = text[passage.start_char : passage.end_char]
        body = passage.start_char + passage.overlap_chars
        assert passage.ordinal == ordinal and passage.headings == ()
        assert piece == piece.strip() and own_tokens(piece) <= 64
        assert not text[covered:body].strip()
        assert passage.start_char == 0 or text[passage.start_char - 1].isspace()
        if overlap_tokens == 0:
            assert passage.overlap_chars == 0
        covered = passage.end_char
    assert not text[covered:].strip()
    if text == CONTRACT and overlap_tokens:
        assert all(passage.overlap_chars > 0 for passage in passages[1:])


def test_kinds_of_chunkers(chunking: ModuleType) -> None:
    text = "1. RENT\n\n" + "The tenant pays the rent. " * 30
    document = Document(text, "", sections=(Section("1. RENT", 1, 0, len(text)),))
    headings = {}
    for kind in chunking.KINDS:
        chunker = chunking.chunker_of(chunking.Cell.of(f"{kind}:64:0"), minilm(), "test")
        headings[kind] = chunker.chunk(document)[-1].headings
    assert headings == {
        "product": ("1. RENT",),
        "no-clauses": ("1. RENT",),
        "no-sections": (),
        "windows": (),
    }


def test_a_part_keeps_only_queries_that_it_can_answer(chunking: ModuleType, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    (whole / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{n}", "title": "", "text": f"text {n}"} for n in range(5)]
    queries = [{"_id": f"q{n}", "text": f"query {n}"} for n in range(3)]
    spans = [
        {"query-id": f"q{n}", "corpus-id": f"d{2 * n}", "start": 0, "end": 4, "answer": "text"}
        for n in range(3)
    ]
    for name, rows in (("corpus", corpus), ("queries", queries), ("snippets", spans)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (whole / f"{name}.jsonl").write_text(lines)
    (whole / "qrels" / "test.tsv").write_text(
        "q0\td0\t1\nq1\td2\t1\nq1\td3\t1\nq2\td4\t1\nq2\td1\t0\n"
    )
    part = chunking.load_beir(chunking.write_part(whole, tmp_path / "part", "test", 2), "test")
    assert part.document_keys == {"d0", "d2", "d4"}
    assert part.qrels == {"q0": {"d0": 1}, "q2": {"d4": 1}}
    assert {query_id: len(spans) for query_id, spans in part.gold.items()} == {"q0": 1, "q2": 1}
