"""The packed forward pass against Hugging Face's, pair by pair; every shortcut on and off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.reranker.qwen3.models import build, random_ids, reference  # noqa: E402

from longleaf.core.errors import ModelUnavailable  # noqa: E402
from longleaf.reranker.qwen3.attention import EagerAttention  # noqa: E402
from longleaf.reranker.qwen3.model import Qwen3Scorer, Switches  # noqa: E402
from longleaf.reranker.qwen3.packing import Group, pack_rows  # noqa: E402
from longleaf.reranker.qwen3.weights import load_weights  # noqa: E402

YES, NO = 7, 9
SHAPES = {
    "GQA 2, tied": {"heads": 4, "kv_heads": 2, "tied": True},
    "GQA 4, untied": {"heads": 8, "kv_heads": 2, "tied": False, "seed": 1},
    "no GQA": {"heads": 2, "kv_heads": 2, "tied": True, "layers": 1, "seed": 2},
}


@pytest.fixture(scope="module", params=list(SHAPES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("qwen3")
    model = build(folder, **SHAPES[request.param])
    weights = load_weights(folder, YES, NO, dtype=torch.float32, device="cpu")
    return model, Qwen3Scorer(weights, EagerAttention())


def scores(
    scorer: Qwen3Scorer, groups: Sequence[Group], *, alone: bool = False, last: bool = True
) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        batch = scorer.batch(pack_rows(groups))
        found = scorer.score(batch, alone=alone, switches=Switches(last_rows_only=last))
    assert found.dtype == torch.float32
    return np.asarray(found.double().numpy())


def test_every_score_is_that_of_the_pair_alone(pair: Any) -> None:
    model, scorer = pair
    prefix, *documents = random_ids(3, 23, 40, 5, 90, 17, 1, 150)
    expected = reference(model, prefix, documents, YES, NO)
    assert np.abs(expected).max() > 0.1, "the test would prove nothing"
    for last in (True, False):
        packed = scores(scorer, [(prefix, documents)], last=last)
        assert np.abs(packed - expected).max() < 1e-4
        one_by_one = [scores(scorer, [(prefix, [d])], alone=True, last=last)[0] for d in documents]
        assert np.abs(one_by_one - expected).max() < 1e-4
        unshared = [(prefix[:0], [np.concatenate([prefix, d])]) for d in documents]
        assert np.abs(scores(scorer, unshared, last=last) - expected).max() < 1e-4


def test_two_queries_share_a_batch(pair: Any) -> None:
    model, scorer = pair
    first, second, *documents = random_ids(4, 11, 30, 20, 44, 8, 31)
    together = scores(scorer, [(first, documents[:3]), (second, documents[1:])])
    expected = [
        *reference(model, first, documents[:3], YES, NO),
        *reference(model, second, documents[1:], YES, NO),
    ]
    assert np.abs(together - expected).max() < 1e-4


def test_order_and_company_change_nothing(pair: Any) -> None:
    _, scorer = pair
    prefix, *documents = random_ids(5, 12, *([30, 7, 55, 16, 90] * 20))  # 100 documents
    together = scores(scorer, [(prefix, documents)])
    order = np.random.default_rng(6).permutation(len(documents))
    shuffled = scores(scorer, [(prefix, [documents[n] for n in order])])
    assert np.abs(shuffled - together[order]).max() < 1e-5
    alone = [scores(scorer, [(prefix, [document])])[0] for document in documents]
    assert np.abs(np.array(alone) - together).max() < 1e-5


def test_another_document_of_equal_length_leaves_the_others_bit_for_bit(pair: Any) -> None:
    _, scorer = pair
    prefix, *documents = random_ids(7, 12, 30, 41, 30, 22)
    before = scores(scorer, [(prefix, documents)])
    documents[2] = random_ids(8, 30)[0]
    after = scores(scorer, [(prefix, documents)])
    assert before[2] != after[2]
    assert (np.delete(before, 2) == np.delete(after, 2)).all()


def test_bfloat16_errs_no_more_than_the_librarys(tmp_path: Path) -> None:
    model = build(tmp_path, heads=4, kv_heads=2, layers=4)
    prefix, *documents = random_ids(9, 20, *([64] * 24))
    exact = reference(model, prefix, documents, YES, NO)
    library = reference(model.bfloat16(), prefix, documents, YES, NO)
    weights = load_weights(tmp_path, YES, NO, dtype=torch.bfloat16, device="cpu")
    ours = scores(Qwen3Scorer(weights, EagerAttention()), [(prefix, documents)])
    error = np.sqrt(np.mean((ours - exact) ** 2))
    assert error <= 1.5 * np.sqrt(np.mean((library - exact) ** 2))
    assert len(set(ours.tolist())) == len(ours), "float32 differences do not tie"


def test_the_head_is_the_difference_of_two_rows(tmp_path: Path) -> None:
    model = build(tmp_path, tied=False)
    weights = load_weights(tmp_path, YES, NO, dtype=torch.float32, device="cpu")
    rows = model.lm_head.weight.detach()
    assert torch.equal(weights.head, rows[YES] - rows[NO])
    assert not torch.equal(rows, model.model.embed_tokens.weight)


@pytest.mark.parametrize("labels", [1, 2])
def test_a_conversion_to_sequence_classification_loads(tmp_path: Path, labels: int) -> None:
    from safetensors.torch import load_file, save_file

    build(tmp_path, tied=True)
    reranker = load_weights(tmp_path, YES, NO, dtype=torch.float32, device="cpu")
    tensors = load_file(tmp_path / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"]
    row = embedding[YES] - embedding[NO]
    tensors["score.weight"] = row[None] if labels == 1 else embedding[[NO, YES]].clone()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"architectures": ["Qwen3ForSequenceClassification"], "num_labels": labels}
    (tmp_path / "config.json").write_text(json.dumps(config))
    converted = load_weights(tmp_path, 0, 1, dtype=torch.float32, device="cpu")
    assert torch.allclose(converted.head, reranker.head, atol=1e-6)


def _edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "llama"}, "not qwen3"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "scales its positions"),
        ({"use_sliding_window": True}, "sliding window"),
        ({"hidden_size": 128}, "its config says"),
        ({"num_hidden_layers": 9}, "lack"),
    ],
)
def test_what_is_no_qwen3_reranker_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    build(tmp_path)
    _edit(tmp_path, **changes)
    with pytest.raises(ModelUnavailable, match=words):
        load_weights(tmp_path, YES, NO, dtype=torch.float32, device="cpu")


def test_weights_that_can_run_code_or_are_damaged_are_refused(tmp_path: Path) -> None:
    build(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:2_000])
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        load_weights(tmp_path, YES, NO, dtype=torch.float32, device="cpu")
    file.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="can run code"):
        load_weights(tmp_path, YES, NO, dtype=torch.float32, device="cpu")
