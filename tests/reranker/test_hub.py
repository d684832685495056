"""Model folders and the hub's cache: what is whole, what is asked for, and what is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from longleaf.core.errors import ModelUnavailable
from longleaf.reranker.hub import INDEX, PATTERNS, is_whole, model_folder


def whole_folder(folder: Path, *, shards: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    names = [f"model-{n}.safetensors" for n in range(shards)] or ["model.safetensors"]
    for name in names:
        (folder / name).write_bytes(b"weights")
    if shards:
        index = {"weight_map": {f"tensor{n}": name for n, name in enumerate(names)}}
        (folder / INDEX).write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("shards", [0, 3])
def test_whole_is_every_file_that_is_named(tmp_path: Path, shards: int) -> None:
    folder = whole_folder(tmp_path / "model", shards=shards)
    assert is_whole(folder)
    for file in [each for each in folder.iterdir() if each.name != INDEX]:
        kept = file.read_bytes()
        file.unlink()
        assert not is_whole(folder), file.name
        file.write_bytes(kept)
    if shards:
        for broken in ("", "[]", '{"weight_map": 3}'):
            (folder / INDEX).write_text(broken)
            assert not is_whole(folder)


class Hub:
    """`snapshot_download` with a cache folder and a hub folder, either of which may be missing."""

    def __init__(self, cache: Path | None, hub: Path | None) -> None:
        self.cache, self.hub = cache, hub
        self.asked: list[bool] = []

    def __call__(self, model: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        assert allow_patterns == list(PATTERNS)
        self.asked.append(not local_files_only)
        found = self.cache if local_files_only else self.hub
        if found is None:
            raise LocalEntryNotFoundError("Cannot reach it.\nMore words.")
        return str(found)


def test_what_the_cache_holds_whole_asks_no_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(whole_folder(tmp_path / "cache"), None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    assert model_folder("owner/name", "reranker.model") == hub.cache
    assert hub.asked == [False]


def test_a_download_that_broke_off_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = whole_folder(tmp_path / "cache", shards=2)
    (cache / "model-1.safetensors").unlink()
    hub = Hub(cache, whole_folder(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    assert model_folder("owner/name", "reranker.model") == hub.hub


def test_without_a_hub_the_setting_and_the_command_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Hub(None, None))
    for local_only in (False, True):
        with pytest.raises(ModelUnavailable, match=r"models pull owner/name.*reranker\.model"):
            model_folder("owner/name", "reranker.model", local_only=local_only)


@pytest.mark.parametrize("model", ["/not/there", "./not", "~/not", "name", "a/b/c"])
def test_what_is_no_hub_id_is_never_asked_for(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", never)
    with pytest.raises(ModelUnavailable, match="is not a folder"):
        model_folder(model, "reranker.model")
