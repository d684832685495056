"""Qwen3 as a second stage: loading, checking, windows, duplicates, stored ids, and its refusals."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.reranker.qwen3.models import train  # noqa: E402

from longleaf.core.budget import GIVEN_UP, Budget  # noqa: E402
from longleaf.core.errors import ConfigError, InvalidRequest, ModelUnavailable  # noqa: E402
from longleaf.core.protocols import ReaderQuery  # noqa: E402
from longleaf.core.types import PassageText, ReadingInput  # noqa: E402
from longleaf.reranker.instructions import instruction_text  # noqa: E402
from longleaf.reranker.qwen3.check import PROBES, require_sense, run_probes  # noqa: E402
from longleaf.reranker.qwen3.engine import Engine  # noqa: E402
from longleaf.reranker.qwen3.graphs import Buckets  # noqa: E402
from longleaf.reranker.qwen3.load import Loaded, Qwen3Options, _limits, open_qwen3  # noqa: E402
from longleaf.reranker.qwen3.plan import CostModel  # noqa: E402
from longleaf.reranker.qwen3.reader import (  # noqa: E402
    WINDOW_OVERLAP_TOKENS,
    Qwen3Reranker,
    TextScorer,
    probability,
)
from longleaf.reranker.qwen3.template import document_parts, windows  # noqa: E402
from longleaf.reranker.qwen3.tickets import Priority  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trained")
    train(made)
    return made


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Iterator[Loaded]:
    opened = open_qwen3(Qwen3Options(str(folder), allow_cpu=True, max_pair_tokens=512))
    yield opened
    opened.close()


def candidate(rank: int, *texts: str, title: str = "A title") -> ReadingInput:
    passages = tuple(
        PassageText(
            point_id=100 * rank + n,
            passage_id=1000 * rank + n,
            start_char=0,
            end_char=len(text),
            first_page=None,
            last_page=None,
            headings=(),
            token_count=len(text.split()),
            text=text,
        )
        for n, text in enumerate(texts)
    )
    return ReadingInput(rank, title, 1_000, 0, passages)


def query(text: str, instruction: str | None = None) -> ReaderQuery:
    return ReaderQuery(text, instruction, None)


def test_the_check_passes_a_model_that_has_learned_it(loaded: Loaded) -> None:
    assert all(verdict.is_right for verdict in run_probes(loaded.scorer))
    assert len(require_sense(loaded.scorer, "it")) == len(PROBES)


def test_a_conversion_with_its_labels_swapped_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from tokenizers import Tokenizer

    converted = tmp_path / "converted"
    shutil.copytree(folder, converted)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tensors = load_file(converted / "model.safetensors")
    rows = tensors["model.embed_tokens.weight"]
    yes, no = tokenizer.token_to_id("yes"), tokenizer.token_to_id("no")
    options = Qwen3Options(str(converted), allow_cpu=True, max_pair_tokens=512)
    tensors["score.weight"] = (rows[yes] - rows[no])[None].clone()
    save_file(tensors, converted / "model.safetensors", metadata={"format": "pt"})
    open_qwen3(options).close()
    tensors["score.weight"] = torch.stack([rows[no], rows[yes]])
    save_file(tensors, converted / "model.safetensors", metadata={"format": "pt"})
    open_qwen3(options).close()
    tensors["score.weight"] = -tensors["score.weight"]
    save_file(tensors, converted / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable, match="nonsense above sense in 4 of 4 probes"):
        open_qwen3(options)


def test_without_a_gpu_it_refuses_unless_asked_for(folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ModelUnavailable, match="needs a GPU"):
        open_qwen3(Qwen3Options(str(folder)))


def test_readings_follow_the_logits_and_tell_probabilities(loaded: Loaded) -> None:
    probe = PROBES[2]
    inputs = [
        candidate(1, probe.irrelevant, title=""),
        candidate(2, probe.irrelevant, probe.relevant, title=""),
        candidate(3, probe.relevant, title=""),
    ]
    readings = {r.rank: r for r in loaded.reranker.read(query(probe.query), inputs, Budget())}
    assert readings[2].score == readings[3].score > readings[1].score
    assert readings[3].probability == pytest.approx(1 / (1 + math.exp(-readings[3].score)))
    assert dict(readings[2].passage_scores)[200] == readings[1].score, "equal texts, equal scores"
    best = max(readings[2].passage_scores, key=lambda pair: pair[1])
    assert best[0] == 201


def test_the_instruction_changes_the_score_and_presets_are_named(loaded: Loaded) -> None:
    inputs = [candidate(1, PROBES[0].relevant)]

    def score(instruction: str | None) -> float:
        asked = query(PROBES[0].query, instruction)
        return next(iter(loaded.reranker.read(asked, inputs, Budget()))).score

    assert score(None) == score("web") == score(instruction_text("web"))
    assert score("statutes") == score(instruction_text("statutes")) != score(None)


def test_a_long_text_is_read_in_windows_and_the_best_one_counts(loaded: Loaded) -> None:
    scorer, probe = loaded.scorer, PROBES[1]
    prefix = scorer.template.prefix(instruction_text(None), probe.query)
    room = scorer.template.room(prefix)
    filler = scorer.template.document("", "the tenant pays the rent and " * 400)
    answer = scorer.template.document("", probe.relevant)
    text = np.concatenate([filler[: 2 * room], answer, filler[: room // 2]])
    [found] = scorer.score(prefix, [text])
    assert found.windows > 2 and found.tokens_read == len(text)
    spans = windows(len(text), room, min(WINDOW_OVERLAP_TOKENS, room // 4))
    each = list(scorer.score(prefix, [text[start:end] for start, end in spans]))
    assert found.logit == pytest.approx(max(one.logit for one in each), abs=1e-4)


def test_windows_may_count_by_their_mean(loaded: Loaded) -> None:
    by_mean = TextScorer(loaded.scorer.template, loaded.engine, "mean")
    prefix = by_mean.template.prefix(instruction_text(None), PROBES[1].query)
    text = by_mean.template.document("", PROBES[1].relevant + " the tenant pays rent and" * 400)
    room = by_mean.template.room(prefix)
    spans = windows(len(text), room, min(WINDOW_OVERLAP_TOKENS, room // 4))
    parts = [text[begin:end] for begin, end in spans]
    each = [one.logit for one in loaded.scorer.score(prefix, parts)]
    [found] = by_mean.score(prefix, [text])
    [best] = loaded.scorer.score(prefix, [text])
    assert len(each) == found.windows > 2
    assert found.logit == pytest.approx(sum(each) / len(each), abs=1e-4)
    assert best.logit == pytest.approx(max(each), abs=1e-4)
    assert best.logit > found.logit


def test_a_reading_says_in_how_many_windows_it_was_read(loaded: Loaded) -> None:
    inputs = [
        candidate(1, PROBES[0].relevant),
        candidate(2, PROBES[0].relevant, "the tenant pays the rent and " * 400),
    ]
    asked = query(PROBES[0].query)
    readings = {r.rank: r for r in loaded.reranker.read(asked, inputs, Budget())}
    assert readings[1].windows == 1 and readings[2].windows > 2


class Stored:
    """Ids as indexing stores them."""

    def __init__(self, loaded: Loaded, inputs: Sequence[ReadingInput]) -> None:
        template = loaded.scorer.template
        self.ids = {
            passage.passage_id: template.encode_documents(
                [document_parts(item.title, passage.text)[1]]
            )[0]
            for item in inputs
            for passage in item.passages
        }
        self.tokenizer = template.fingerprint

    def reader_ids(self, tokenizer: str, passage_ids: Sequence[int]) -> dict[int, Any]:
        assert tokenizer == self.tokenizer
        return {each: self.ids[each] for each in passage_ids if each in self.ids}


def test_stored_ids_give_the_same_scores_as_the_text(loaded: Loaded) -> None:
    inputs = [candidate(n, PROBES[n % 4].relevant, PROBES[n % 3].irrelevant) for n in range(1, 6)]
    inputs.append(candidate(9, PROBES[0].relevant, title=""))
    stored = Stored(loaded, inputs)
    del stored.ids[2000]  # a passage that was indexed before the profile had a reader
    fast = Qwen3Reranker(loaded.scorer, "x", stored=stored)
    by_text = {r.rank: r for r in loaded.reranker.read(query("who pays?"), inputs, Budget())}
    by_ids = {r.rank: r for r in fast.read(query("who pays?"), inputs, Budget())}
    for rank, reading in by_text.items():
        assert by_ids[rank].score == pytest.approx(reading.score, abs=1e-5)


def test_bulk_and_whoever_left_are_told_to_the_engine(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    real = loaded.engine.submit

    def submit(*given: Any, **options: Any) -> Any:
        asked.append(options)
        return real(*given, **options)

    monkeypatch.setattr(loaded.engine, "submit", submit)
    inputs = [candidate(n, PROBES[n % 4].relevant) for n in range(1, 4)]
    bulk = ReaderQuery("who pays?", None, None, is_bulk=True)
    assert len(list(loaded.reranker.read(bulk, inputs, Budget()))) == 3
    list(loaded.reranker.read(query("who pays?"), inputs, Budget()))
    assert [each["priority"] for each in asked] == [Priority.BULK, Priority.INTERACTIVE]
    gone = Budget(given_up=lambda: True)
    assert list(loaded.reranker.read(bulk, inputs, gone)) == []
    assert gone.spent() == GIVEN_UP


def test_a_query_that_leaves_no_room_is_refused(loaded: Loaded) -> None:
    with pytest.raises(InvalidRequest):
        list(loaded.reranker.read(query("who pays? " * 500), [candidate(1, "x")], Budget()))


@pytest.mark.parametrize(("tokens", "words"), [(100, "512 to"), (50_000, "512 to")])
def test_lengths_that_cannot_be_are_refused(folder: Path, tokens: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_qwen3(Qwen3Options(str(folder), allow_cpu=True, max_pair_tokens=tokens))


def test_models_that_cannot_be_had_name_the_setting(tmp_path: Path) -> None:
    for model in (str(tmp_path / "nowhere"), "not a model"):
        with pytest.raises(ModelUnavailable, match=r"reranker\.model"):
            open_qwen3(Qwen3Options(model, allow_cpu=True))
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json"):
        open_qwen3(Qwen3Options(str(tmp_path), allow_cpu=True))


def test_more_positions_than_the_model_has_are_refused(folder: Path, tmp_path: Path) -> None:
    short = shutil.copytree(folder, tmp_path / "short")
    config = json.loads((short / "config.json").read_text())
    config["max_position_embeddings"] = 1_000
    (short / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="The model has 1,000 positions"):
        open_qwen3(Qwen3Options(str(short), allow_cpu=True, max_pair_tokens=1_001))


def test_a_device_that_cannot_run_it_is_told_as_such(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr("longleaf.reranker.qwen3.fit.fit", refuses)
    with pytest.raises(ModelUnavailable, match=r"does not run on (cpu|cuda): no kernel image"):
        open_qwen3(Qwen3Options(str(folder), allow_cpu=True, max_pair_tokens=512))


def test_a_probability_is_the_softmax_over_yes_and_no() -> None:
    for yes, no in ((1.5, -0.25), (-30.0, 12.0), (4.0, 4.0)):
        pair = torch.tensor([yes, no], dtype=torch.float64)
        assert probability(yes - no) == pytest.approx(float(pair.softmax(0)[0]), rel=1e-12)


def test_a_probability_is_right_at_both_ends() -> None:
    assert probability(0.0) == 0.5
    assert probability(-50.0) == pytest.approx(1.93e-22, rel=0.01)
    assert probability(800.0) == 1.0 and probability(-800.0) == 0.0


class Slow(Engine):
    """Takes what has a deadline for too much."""

    def submit(self, *given: Any, **options: Any) -> Any:
        self.cost = CostModel(1e9, 0.0, 0.0)
        return super().submit(*given, **options)


def test_why_nothing_was_read_is_told(loaded: Loaded) -> None:
    engine = Slow(loaded.engine.scorer, loaded.engine.limits, loaded.engine.cost)
    reranker = Qwen3Reranker(TextScorer(loaded.scorer.template, engine), "x")
    try:
        budget = Budget(deadline_ms=60_000.0)
        assert list(reranker.read(query("who pays?"), [candidate(1, "a")], budget)) == []
        assert budget.spent() is None
        assert budget.stopped_because == "the deadline would have passed"
        assert len(list(reranker.read(query("who pays?"), [candidate(1, "a")], Budget()))) == 1
    finally:
        engine.close()


def test_a_token_budget_reads_the_first_ones_and_says_so(loaded: Loaded) -> None:
    inputs = [candidate(n, "the tenant pays the rent", "who pays") for n in range(1, 9)]
    budget = Budget(max_tokens=20)
    read = sorted(r.rank for r in loaded.reranker.read(query("who pays?"), inputs, budget))
    assert read == [1, 2, 3] and budget.tokens_used == 21 and budget.spent() == "token budget"


def test_one_document_at_a_time_gives_the_same_bits_in_any_company(folder: Path) -> None:
    options = Qwen3Options(str(folder), allow_cpu=True, max_pair_tokens=512, deterministic=True)
    opened = open_qwen3(options)
    try:
        inputs = [candidate(n, PROBES[n % 4].relevant + " more" * n) for n in range(1, 8)]

        def scores(some: Sequence[ReadingInput]) -> dict[int, float]:
            found = opened.reranker.read(query("who pays?"), some, Budget())
            return {reading.rank: reading.score for reading in found}

        together = scores(inputs)
        assert {**scores(inputs[:1]), **scores(inputs[1:][::-1])} == together
        assert len(set(together.values())) == 7
    finally:
        opened.close()


def test_deterministic_batches_fit_the_size_that_all_are_padded_to() -> None:
    buckets = Buckets()
    bounds = _limits(Qwen3Options("x", deterministic=True), "cuda", buckets)
    assert bounds.batch_tokens <= buckets.rows[-1]
    assert 2 * bounds.batch_items <= buckets.sequences[-1]
    assert _limits(Qwen3Options("x", batch_tokens=99), "cuda", buckets).batch_tokens == 99


def test_a_closed_reranker_says_so(folder: Path) -> None:
    opened = open_qwen3(Qwen3Options(str(folder), allow_cpu=True, max_pair_tokens=512))
    assert opened.reranker.failure is None
    opened.close()
    opened.close()
    assert opened.reranker.failure == "The reranker is closed."
    with pytest.raises(ModelUnavailable, match="closed"):
        list(opened.reranker.read(query("who pays?"), [candidate(1, "x")], Budget()))


def test_a_tokenizer_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    other = tmp_path / "other"
    shutil.copytree(folder, other)
    tokenizer = Tokenizer.from_file(str(other / "tokenizer.json"))
    tokenizer.add_tokens(["more", "and more"])
    tokenizer.save(str(other / "tokenizer.json"))
    with pytest.raises(ModelUnavailable, match="do not belong together"):
        open_qwen3(Qwen3Options(str(other), allow_cpu=True))
