"""Late-interaction checkpoints that Longleaf cannot run as they were trained, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.indexer.colberts import DIM, build_native, build_pylate

from longleaf.core.errors import ModelUnavailable
from longleaf.indexer.embed_late import LateTokens


def _edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def _dense_only(folder: Path) -> None:
    told = json.loads((folder / "modules.json").read_text())
    kinds = {"2_Pooling": "sentence_transformers.models.Pooling"}
    told += [{"idx": 2, "name": "2", "path": path, "type": kind} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(told))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {}}))


def _drop_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["mixer.weight"] = weights.pop("encoder.layer.0.attention.self.query.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "one vector a text": (_dense_only, "one vector of a text"),
    "code of its author": (
        lambda f: (f / "modules.json").write_text(
            (f / "modules.json").read_text().replace("pylate.models.Dense.Dense", "own.Dense")
        ),
        "code of its author (own.Dense)",
    ),
    "a weight under another name": (_drop_weight, "lacks 1 of the weights"),
    "a pickled projection": (
        lambda f: (f / "1_Dense/model.safetensors").rename(f / "1_Dense/pytorch_model.bin"),
        "pickled weights: 1_Dense/pytorch_model.bin",
    ),
    "a damaged projection": (
        lambda f: (f / "1_Dense/model.safetensors").write_bytes(b"{}"),
        "cannot be read as safetensors",
    ),
    "no projection": (
        lambda f: (f / "modules.json").write_text(
            json.dumps(json.loads((f / "modules.json").read_text())[:1])
        ),
        "has no projection",
    ),
    "a projection of another width": (
        lambda f: _project(f, DIM, 65),
        "takes 65 dimensions",
    ),
    "an unknown activation": (
        lambda f: _edit(f / "1_Dense/config.json", activation_function="own.Activation"),
        "activation that Longleaf does not know: own.Activation",
    ),
    "a marker that is no token": (
        lambda f: _edit(f / "config_sentence_transformers.json", document_prefix="[Doc]"),
        "'[Doc]'",
    ),
    "a length that is none": (
        lambda f: _edit(f / "config_sentence_transformers.json", query_length="long"),
        "query_length = 'long'",
    ),
    "no JSON": (
        lambda f: (f / "config_sentence_transformers.json").write_text("{"),
        "cannot be read",
    ),
}


def _project(folder: Path, *shape: int) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"linear.weight": torch.ones(shape)}, folder / "1_Dense/model.safetensors")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_run_as_it_was_trained_is_refused(tmp_path: Path, name: str) -> None:
    spoil, told = REFUSED[name]
    folder = build_pylate(tmp_path / "model")
    spoil(folder)
    with pytest.raises(ModelUnavailable) as refused:
        LateTokens(str(folder), device="cpu")
    assert told in str(refused.value) and refused.value.hint


def test_a_pickled_backbone_is_refused(tmp_path: Path) -> None:
    folder = build_pylate(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="only pickled weights"):
        LateTokens(str(folder), device="cpu")
    with pytest.raises(ModelUnavailable, match=r"embedder\.late_model = 'nowhere'"):
        LateTokens("nowhere")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda f: _edit(f / "2_MultiVectorMask/config.json", keep_only_token_ids=[5]), "pictures"),
        (lambda f: _rename(f, "Normalize", "token_pooling.TokenPooling"), "TokenPooling"),
        (lambda f: _edit(f / "3_Normalize/config.json", module_input_name="x"), "unit length"),
        (lambda f: _edit(f / "sentence_bert_config.json", query_expansion={
            "strategy": "min", "length": 9, "token": "<none>"}), "fills queries up"),
    ],
)  # fmt: skip
def test_native_folders_that_need_more_are_refused(
    tmp_path: Path, spoil: Callable[[Path], Any], told: str
) -> None:
    folder = build_native(tmp_path / "native", build_pylate(tmp_path / "pylate"))
    spoil(folder)
    with pytest.raises(ModelUnavailable, match=told):
        LateTokens(str(folder), device="cpu")


def _rename(folder: Path, kind: str, other: str) -> None:
    file = folder / "modules.json"
    file.write_text(
        file.read_text().replace(
            f"sentence_transformers.base.modules.normalize.{kind}", f"sentence_transformers.{other}"
        )
    )
