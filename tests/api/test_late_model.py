"""embedder.late_model from settings to hits: a generation of two models, read, marked, examined."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.api.conftest import Client
from tests.api.test_reindexing import filled, live, passages, settings_of
from tests.indexer.colberts import DIM, build_pylate

from longleaf.api import reindexing, wire
from longleaf.api.app import create_app
from longleaf.api.doctor.examine import Examination, Wishes
from longleaf.api.late_model import DOUBT
from longleaf.api.wire import Runtime
from longleaf.core.config import Settings
from longleaf.core.errors import ConfigError, GenerationMismatch, NotFound
from longleaf.indexer.embed import MiniLMEmbedder
from longleaf.indexer.embed_late import PairedEmbedder
from longleaf.indexer.parsers.here import ReadHere
from longleaf.reranker.maxsim import maxsim

if TYPE_CHECKING:
    from longleaf.core.protocols import Embedder

QUESTION = "Who pays for repairs of the roof?"
ROOF = "The landlord shall repair the roof within thirty days of a notice."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_pylate(tmp_path_factory.mktemp("checkpoint") / "tiny-colbert")


@pytest.fixture(autouse=True)
def _one_dense_model(minilm: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real bundled model, loaded once for all tests; files are read in this process."""

    def load(_settings: Settings, reasons: dict[str, str]) -> Embedder:
        reasons["embedder"] = minilm.name
        return minilm

    monkeypatch.setattr(wire, "_open_dense", load)
    monkeypatch.setattr(wire, "open_reader", lambda *_: ReadHere())


@contextmanager
def answering(settings: Settings) -> Iterator[tuple[Runtime, Client]]:
    runtime = wire.open_runtime(settings, follow=False)
    try:
        runtime.follower.catch_up()
        yield runtime, Client(create_app(runtime))
    finally:
        runtime.close()


@pytest.fixture(scope="module")
def made_by_both(
    tmp_path_factory: pytest.TempPathFactory, minilm: MiniLMEmbedder, model: Path
) -> Path:
    """A data folder made with the bundled model and then anew with the checkpoint beside it."""
    home = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "_open_dense", lambda *_: minilm)
        patch.setattr(wire, "open_reader", lambda *_: ReadHere())
        filled(home)
        done = reindexing.reindex(settings_of(home, embedder__late_model=str(model)))
    assert (done.changed, done.embedded, done.switched) == (True, 6, True)
    return home


def test_reindex_makes_a_generation_of_both_models(made_by_both: Path, model: Path) -> None:
    # Set nowhere now: what the documents were made with.
    with answering(settings_of(made_by_both)) as (runtime, client):
        assert runtime.settings.embedder.late_model == str(model)
        assert isinstance(runtime.embedder, PairedEmbedder)
        generation = live(runtime.catalog)
        assert (generation.dim, generation.token_dim) == (384, DIM)
        assert len(runtime.catalog.generations.opened()) == 1, "the old one is gone"
        assert set(passages(runtime.catalog, generation)) == set("012345")
        assert runtime.embedder.name == "all-MiniLM-L6-v2 + tiny-colbert"
        reranker = runtime.engine.reranker
        assert reranker is not None and reranker.name == "late"
        assert (reranker.first_stage_weight, reranker.min_score) == (1.0, None)
        chosen = client.get("/readyz").json()["chosen"]
        assert "tiny-colbert in" in chosen["token vectors"]
        assert "32 bytes a token" in chosen["token vectors"]
        assert "more than 48 tokens in windows, queries filled up to 16" in chosen["token vectors"]
        assert DOUBT not in chosen


def test_late_reads_the_checkpoints_vectors_and_marks_the_sentences(made_by_both: Path) -> None:
    with answering(settings_of(made_by_both)) as (runtime, client):
        body = {"query": QUESTION, "highlight": "sentences", "explain": True, "limit": 6}
        answer = client.post("/v1/search", json=body).json()
        assert answer["degraded"] == [] and answer["reranker"] == "late"
        engine = runtime.engine
        asked = runtime.embedder.embed_query(QUESTION).tokens
        assert len(answer["hits"]) == 6
        for hit in answer["hits"]:
            head = engine.catalog.document(hit["document_id"], scope=_everyone())
            stored = engine.catalog.passages(head, engine.generation)
            by_start = {each.start_char: each.passage_id for each in stored}
            scores = []
            for shown in hit["passages"]:
                ids = [by_start[shown["start_char"]], stored[0].passage_id]
                codes, starts, prefix = engine.catalog.token_vectors(ids, engine.generation)
                own, title = codes[: starts[1]], codes[starts[1] : starts[1] + prefix[1]]
                scores.append(maxsim(np.concatenate([own, title]), asked))
            assert hit["reading"]["score"] == pytest.approx(max(scores), abs=0.02)
            texts = {
                shown["text"][each["start_char"] - shown["start_char"] :][: len(ROOF)]
                for shown in hit["passages"]
                for each in shown["sentences"]
            }
            assert ROOF in texts, texts


def _everyone() -> Any:
    from longleaf.core.types import Scope

    return Scope.all()


def test_given_texts_are_read_by_the_checkpoint_alone(
    made_by_both: Path, minilm: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(settings_of(made_by_both)) as (runtime, client):

        def not_asked(*_: Any) -> Any:
            raise AssertionError("a dense vector that nobody needs")

        monkeypatch.setattr(minilm, "embed_passages", not_asked)
        monkeypatch.setattr(minilm, "embed_query", not_asked)
        documents = ["The deposit is returned when the lease has ended.", ROOF]
        body = {"query": QUESTION, "documents": documents}
        answer = client.post("/v1/rerank", json=body)
        assert answer.status_code == 200, answer.text
        assert [each["index"] for each in answer.json()["results"]] == [1, 0]
        embedder: Any = runtime.embedder
        about = client.get("/v1/rerank").json()
        assert about["fingerprint"].endswith(embedder.of_tokens.fingerprint)
        assert about["min_score"] is None


def test_doctor_says_what_model_reads_and_what_is_wrong_with_it(
    made_by_both: Path, tmp_path: Path
) -> None:
    report = Examination(settings_of(made_by_both), Wishes()).run()
    told = {f"{finding.subject}: {finding.fact}": finding.status for finding in report.findings}
    assert any(each.startswith("token vectors: tiny-colbert in ") for each in told), told
    assert not any(each.startswith(DOUBT) for each in told)
    assert [told[each] for each in told if each.startswith("generation: ")] == ["OK"]

    odd = build_pylate(tmp_path / "odd", backbone="modernbert")
    settings = settings_of(tmp_path / "home", embedder__late_model=str(odd))
    report = Examination(settings, Wishes()).run()
    [doubt] = [finding for finding in report.findings if finding.subject == DOUBT]
    assert doubt.status == "WARN" and doubt.remedy
    assert "odd ranks nonsense above sense in 1 of 4" in doubt.fact


def test_other_files_under_the_same_name_are_refused(tmp_path: Path) -> None:
    model = build_pylate(tmp_path / "model")
    settings = settings_of(tmp_path / "home", embedder__late_model=str(model))
    wire.open_write_side(settings).close()
    wire.open_write_side(settings_of(tmp_path / "home")).close()
    file = model / "config_sentence_transformers.json"
    was = file.read_text()
    file.write_text(was.replace('"document_length": 48', '"document_length": 64'))
    with pytest.raises(GenerationMismatch, match=r"embedder\.late_model"):
        wire.open_write_side(settings)
    file.write_text(was)
    wire.open_write_side(settings).close()
    with pytest.raises(GenerationMismatch, match=r"embedder\.late_document_tokens is 64"):
        wire.open_write_side(settings_of(tmp_path / "home", embedder__late_document_tokens=64))
    with pytest.raises(GenerationMismatch, match=r"embedder\.late_model is ''"):
        wire.open_write_side(settings_of(tmp_path / "home", embedder__late_model=""))


def test_settings_that_would_do_nothing_are_refused(tmp_path: Path, model: Path) -> None:
    for wrong, told in (
        ({"embedder__late_document_tokens": 100}, "late_model is not"),
        ({"embedder__late_model": str(model), "embedder__projection": "p"}, "projection"),
    ):
        with pytest.raises(ConfigError, match=told):
            wire.open_write_side(settings_of(tmp_path / "home", **wrong))
    with pytest.raises(NotFound):
        reindexing.reindex(settings_of(tmp_path / "home"))
