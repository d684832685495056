"""Depths of the second stage as an evaluation compares them, with the real engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.api.test_depth import ANSWER, QUERY, TEXTS

from longleaf.api import wire
from longleaf.api.evaluate.beir import load_beir
from longleaf.api.evaluate.engine import EngineUnderTest, open_scratch
from longleaf.api.evaluate.run import DEPTHS, EvalOptions, check_depths, evaluate
from longleaf.core.config import Settings, load_settings
from longleaf.core.errors import InvalidRequest
from longleaf.indexer.parsers.here import ReadHere

if TYPE_CHECKING:
    from longleaf.indexer.embed import MiniLMEmbedder


def collection(folder: Path) -> Path:
    """Three texts, one question and where it is answered in two of them."""
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": key, "title": "", "text": text} for key, text in TEXTS.items()]
    spans = [
        {
            "query-id": "1", "corpus-id": key, "start": TEXTS[key].index(ANSWER),
            "end": TEXTS[key].index(ANSWER) + len(ANSWER), "answer": ANSWER,
        }
        for key in ("minutes.txt", "trial.txt")
    ]  # fmt: skip
    for name, lines in (
        ("corpus.jsonl", documents),
        ("queries.jsonl", [{"_id": "1", "text": QUERY}]),
        ("snippets.jsonl", spans),
    ):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "qrels/test.tsv").write_text("1\tminutes.txt\t1\n1\ttrial.txt\t1\n")
    return folder


def test_depths_are_compared_by_documents_and_by_returned_characters(
    tmp_path: Path, minilm: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(settings: Settings, _reasons: dict[str, str]) -> tuple[Any, Any]:
        return minilm, wire.open_chunker(settings, minilm)

    monkeypatch.setattr(wire, "open_models", load)
    monkeypatch.setattr(wire, "open_reader", lambda *_: ReadHere())
    beir = load_beir(collection(tmp_path / "beir"))
    assert beir.counts["gold_spans_matching"] == 2
    flags = {"home": tmp_path / "home", "chunker.target_tokens": 48}
    runtime = open_scratch(load_settings(flags, {}).settings, beir, "english")
    try:
        engine = EngineUnderTest(runtime, spans=True, depths=DEPTHS)
        found = engine.search(QUERY)
        report = evaluate(beir, engine, EvalOptions(resamples=100))
    finally:
        runtime.close()
    stages = [f"final:{depth}" for depth in DEPTHS]
    assert set(found.passages) == set(stages)
    for stage in stages:
        returned = found.passages[stage]
        # The best document's deciding passages come first, each document's together.
        order = list(dict.fromkeys(span.document_key for span in returned))
        assert order == [key for key, _ in found.rankings[stage]]
        assert [span.document_key for span in returned] == sorted(
            (span.document_key for span in returned), key=order.index
        )
        assert all(0 <= span.start_char < span.end_char for span in returned)
        figures = report.stages[stage]
        assert figures.spans[500]["recall"].mean == pytest.approx(1.0)
        assert 0 < figures.spans[500]["precision"].mean < 1
    measured = {(c.stage, c.over, c.measure) for c in report.comparisons}
    assert ("final:document", "final:passage", "span_recall@500") in measured
    assert not report.degraded


def test_what_is_no_depth() -> None:
    assert check_depths(None) == () and check_depths("auto") == ("auto",)
    assert check_depths("all") == DEPTHS
    with pytest.raises(InvalidRequest, match="no depth"):
        check_depths("deep")
