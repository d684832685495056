"""Model folders: what is found, what is refused, and that nothing of a model is ever run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from longleaf.core.errors import ModelUnavailable
from longleaf.indexer.models import BUNDLED_PACKAGE, bundled_minilm, resolve_model


def safe_folder(folder: Path, value: float = 1.0) -> Path:
    folder.mkdir(parents=True)
    save_file({"w": np.full(4, value, np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


def test_the_bundled_model_is_found_without_importing_its_package() -> None:
    assert (bundled_minilm() / "tokenizer.json").is_file()
    assert BUNDLED_PACKAGE not in sys.modules


def test_a_package_with_other_weights_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / BUNDLED_PACKAGE
    safe_folder(package / "model")
    (package / "__init__.py").write_text("raise SystemExit('the package was run')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelUnavailable, match=r"not the published all-MiniLM-L6-v2.*Reinstall"):
        bundled_minilm()


def test_a_local_folder_is_named_and_hashed(tmp_path: Path) -> None:
    one = resolve_model(str(safe_folder(tmp_path / "one")))
    same = resolve_model(str(safe_folder(tmp_path / "same")))
    other = resolve_model(str(safe_folder(tmp_path / "other", value=2.0)))
    assert one.sha256 == same.sha256 != other.sha256
    (tmp_path / "same" / "tokenizer.json").write_text("{}")
    assert resolve_model(str(tmp_path / "same")).sha256 != one.sha256


def test_changed_weights_are_hashed_again(tmp_path: Path) -> None:
    folder = safe_folder(tmp_path / "model")
    before = resolve_model(str(folder)).sha256
    save_file({"w": np.zeros(5, np.float32)}, folder / "model.safetensors")
    assert resolve_model(str(folder)).sha256 != before


@pytest.mark.parametrize("name", ["no/such/folder", "./missing", "word", "", "../a/b"])
def test_a_name_that_is_neither_folder_nor_hub_id_is_refused(name: str) -> None:
    with pytest.raises(ModelUnavailable, match=r"embedder\.model"):
        resolve_model(name)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelUnavailable, match="no safetensors weights"):
        resolve_model(str(tmp_path))


def test_a_module_with_only_pickled_weights_is_refused(tmp_path: Path) -> None:
    folder = safe_folder(tmp_path / "model")
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelUnavailable, match="2_Dense"):
        resolve_model(str(folder))


@pytest.mark.parametrize(
    "modules", [json.dumps([{"type": "custom_code.Evil", "path": ""}]), "not json", "[1]"]
)
def test_a_model_that_brings_its_own_code_is_refused(tmp_path: Path, modules: str) -> None:
    folder = safe_folder(tmp_path / "model")
    (folder / "modules.json").write_text(modules)
    with pytest.raises(ModelUnavailable, match=r"code of its author|cannot be read"):
        resolve_model(str(folder))


def test_a_hub_model_that_cannot_be_had_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelUnavailable, match=r"set embedder\.model to the local folder"):
        resolve_model("longleaf-tests/no-such-model")
