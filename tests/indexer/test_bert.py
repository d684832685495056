"""The encoder gives what the model library gives, and names what is wrong with a folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from longleaf.core.errors import ModelUnavailable  # noqa: E402
from longleaf.indexer.bert import BertEncoder  # noqa: E402
from longleaf.indexer.models import bundled_minilm  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def pair(request: Any) -> tuple[BertEncoder, Any]:
    """Ours and the library's, in one dtype."""
    from transformers import AutoModel

    theirs = AutoModel.from_pretrained(
        bundled_minilm(), dtype=request.param, add_pooling_layer=False, local_files_only=True
    )
    return BertEncoder(bundled_minilm(), request.param), theirs.eval()


def _drawn(*shape: int) -> Any:
    return torch.randint(1000, 30_000, shape, generator=torch.Generator().manual_seed(shape[-1]))


def _assert_equal(found: Any, expected: Any) -> None:
    """(tokens, dim) each. bfloat16 keeps 8 bits; both round in other places, six layers deep."""
    exact = found.dtype is torch.float32
    found, expected = found.float(), expected.float()
    assert (found - expected).abs().max() < (1e-4 if exact else 0.15)
    cosine = torch.nn.functional.cosine_similarity(found.mean(0), expected.mean(0), dim=0)
    assert cosine > (1 - 1e-6 if exact else 0.999)


@pytest.mark.parametrize("length", [1, 2, 17, 64, 256])
def test_it_equals_the_library(pair: tuple[BertEncoder, Any], length: int) -> None:
    ids = _drawn(1, length)
    with torch.inference_mode():
        expected = pair[1](input_ids=ids).last_hidden_state[0]
        _assert_equal(pair[0].hidden(ids)[0], expected)


def test_padded_rows_equal_the_library_and_themselves_alone(pair: tuple[BertEncoder, Any]) -> None:
    lengths = [1, 5, 40, 33]
    ids = _drawn(len(lengths), max(lengths))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    with torch.inference_mode():
        expected = pair[1](input_ids=ids, attention_mask=mask.long()).last_hidden_state
        found = pair[0].hidden(ids, mask.long())
        for row, length in enumerate(lengths):
            _assert_equal(found[row, :length], expected[row, :length])
            _assert_equal(pair[0].hidden(ids[row : row + 1, :length])[0], expected[row, :length])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("model_type", "roberta", "model_type is 'roberta', not 'bert'"),
        ("hidden_act", "relu", "hidden_act is 'relu'"),
        ("position_embedding_type", "relative_key", "'relative_key', not 'absolute'"),
        ("hidden_size", None, "cannot be read: KeyError"),
        ("hidden_size", "many", "cannot be read: ValueError"),
        ("num_hidden_layers", 7, "encoder.layer.6.attention.self.query.weight is missing"),
        ("intermediate_size", 1000, r"has shape \(1536, 384\); expected \(1000, 384\)"),
    ],
)
def test_a_folder_that_is_another_model_is_refused(
    tmp_path: Path, name: str, value: Any, said: str
) -> None:
    config = json.loads((bundled_minilm() / "config.json").read_text()) | {name: value}
    if value is None:
        del config[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").symlink_to(bundled_minilm() / "model.safetensors")
    with pytest.raises(ModelUnavailable, match=said):
        BertEncoder(tmp_path, torch.float32)


def test_weights_that_are_damaged_are_refused(tmp_path: Path) -> None:
    shutil.copy(bundled_minilm() / "config.json", tmp_path)
    with pytest.raises(ModelUnavailable, match="cannot be read: FileNotFoundError"):
        BertEncoder(tmp_path, torch.float32)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelUnavailable, match="cannot be read: SafetensorError"):
        BertEncoder(tmp_path, torch.float32)


def test_the_model_library_is_not_imported() -> None:
    code = (
        "import sys; from longleaf.indexer.embed import MiniLMEmbedder; MiniLMEmbedder();"
        "print([name for name in ('transformers', 'sentence_transformers') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)
    assert told.stdout.strip() == b"[]"
