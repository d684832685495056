"""`cross-encoder`: loading safely, counting what was cut, reading whole candidates."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.reranker.tiny import (
    StoredTokens,
    TickingClock,
    build_cross_encoder,
    library,
    one_torch_thread,
    query_of,
)
from tests.reranker.tiny import reading_input as make_input

from longleaf.core.budget import Budget
from longleaf.core.errors import ModelUnavailable
from longleaf.reranker.crossencoder import CrossEncoderReranker
from longleaf.reranker.models import load_cross_encoder

QUERY = query_of("patent court")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with one_torch_thread():
        yield build_cross_encoder(tmp_path_factory.mktemp("model"))


def test_scores_are_the_models_raw_logits_with_the_title_in_front(folder: str) -> None:
    item = make_input(1, ["gene cell", "lease"], title="treaty")
    (reading,) = CrossEncoderReranker(folder, device="cpu").read(QUERY, [item], Budget())
    model = load_cross_encoder(folder, device="cpu", bf16=False)
    pairs = [("patent court", "treaty\ngene cell"), ("patent court", "treaty\nlease")]
    expected = [float(model.predict([pair])[0]) for pair in pairs]
    assert [score for _, score in reading.passage_scores] == expected
    assert any(not 0.0 <= score <= 1.0 for score in expected)  # no sigmoid
    (untitled,) = CrossEncoderReranker(folder, device="cpu", read_title=False).read(
        QUERY, [item], Budget()
    )
    assert untitled.score != reading.score


def test_what_does_not_fit_is_counted(folder: str) -> None:
    # 48 tokens: [CLS] 2 query [SEP] 1 title + passage [SEP] leaves 42 for the passage.
    item = make_input(1, ["gene " * 50, "lease " * 42, "cell"], title="treaty")
    (reading,) = CrossEncoderReranker(folder, device="cpu").read(QUERY, [item], Budget())
    assert reading.truncated_tokens == 8
    assert reading.tokens_read == 42 + 42 + 1
    assert reading.tokens_total == 93


def test_overlap_counts_once(folder: str) -> None:
    item = make_input(1, ["gene cell gene cell"])
    first = item.passages[0]
    second = type(first)(2, 2, 10, 29, None, None, (), 4, "gene cell gene cell")
    both = type(item)(1, "", 6, first.passage_id, (second, first))
    (reading,) = CrossEncoderReranker(folder, device="cpu").read(QUERY, [both], Budget())
    assert reading.tokens_read == 6  # characters 0-19 and 10-29: half of the second is new


def test_batches_agree_with_single_pairs(folder: str) -> None:
    inputs = library(40, StoredTokens())
    alone = {
        r.rank: r.score
        for r in CrossEncoderReranker(folder, device="cpu").read(QUERY, inputs, Budget())
    }
    batched = CrossEncoderReranker(folder, device="cpu", batch_pairs=8)
    for reading in batched.read(QUERY, inputs, Budget()):
        assert reading.score == pytest.approx(alone[reading.rank], abs=1e-4)  # padding's noise


def test_bf16_is_close(folder: str) -> None:
    item = make_input(1, ["gene cell"])
    (exact,) = CrossEncoderReranker(folder, device="cpu").read(QUERY, [item], Budget())
    (rounded,) = CrossEncoderReranker(folder, device="cpu", bf16=True).read(QUERY, [item], Budget())
    assert rounded.score == pytest.approx(exact.score, abs=0.1)
    assert rounded.score != exact.score


def test_deadline_exactly(folder: str) -> None:
    inputs = [make_input(rank, ["gene", "cell"]) for rank in range(1, 6)]
    clock = TickingClock(tick_ms=1.0)
    # The budget is asked once for the window (1 ms) and before each pair (2, 3, ... ms).
    budget = Budget(deadline_ms=7.0, clock=clock)
    readings = list(CrossEncoderReranker(folder, device="cpu").read(QUERY, inputs, budget))
    # Pairs at 2-6 ms were read: two candidates whole, the third only half and so not at all.
    assert [reading.rank for reading in readings] == [1, 2]


def test_a_candidate_without_passages_stays_unread(folder: str) -> None:
    inputs = [make_input(1, []), make_input(2, ["gene"])]
    readings = CrossEncoderReranker(folder, device="cpu").read(QUERY, inputs, Budget())
    assert [reading.rank for reading in readings] == [2]


def test_fingerprint_follows_the_weights(folder: str, tmp_path: Path) -> None:
    other = build_cross_encoder(tmp_path / "model", max_tokens=40)
    assert CrossEncoderReranker(folder).fingerprint != CrossEncoderReranker(other).fingerprint
    assert CrossEncoderReranker(folder).fingerprint == CrossEncoderReranker(folder).fingerprint


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model = build_cross_encoder(tmp_path, safetensors=False)
    with pytest.raises(ModelUnavailable, match=r"no \*\.safetensors") as caught:
        list(CrossEncoderReranker(model).read(QUERY, [make_input(1, ["gene"])], Budget()))
    assert "reranker.model" in caught.value.hint


def test_several_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="3 numbers"):
        load_cross_encoder(build_cross_encoder(tmp_path, outputs=3), device="cpu", bf16=False)


def test_a_models_own_code_is_not_run(tmp_path: Path) -> None:
    import json

    model = Path(build_cross_encoder(tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    config["model_type"] = "house-made"
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    (model / "config.json").write_text(json.dumps(config))
    (model / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelUnavailable):
        load_cross_encoder(str(model), device="cpu", bf16=False)
    assert not (tmp_path / "ran").exists()


def test_a_model_that_cannot_be_had_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailable) as caught:
        load_cross_encoder("nobody/has-this-model", device="cpu", bf16=False)
    assert "reranker.model" in str(caught.value)


def test_importing_loads_no_model_library() -> None:
    code = (
        "import sys, longleaf.reranker.crossencoder, longleaf.reranker.late, "
        "longleaf.reranker.read; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
