"""Model folders and the hub's cache: what is whole, what is asked for, and what is said."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from longleaf.core.errors import ModelUnavailable
from longleaf.reranker.hub import (
    INDEX,
    PATTERNS,
    cached_models,
    is_whole,
    model_folder,
    pull_model,
)


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


def git_hash(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


class _Files(BaseHTTPRequestHandler):
    """As much of a hub as fetching one model needs."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        commit = "0123456789abcdef0123456789abcdef01234567"
        if "/tree/" in self.path:
            tree = [
                {"type": "file", "path": name, "size": len(body), "oid": git_hash(body)}
                for name, body in self.files.items()
            ]
            body = json.dumps(tree).encode()
        elif self.path.startswith("/api/models/owner/name"):
            siblings = [{"rfilename": name} for name in self.files]
            told = {"id": "owner/name", "sha": commit, "siblings": siblings, "private": False}
            body = json.dumps(told).encode()
        else:
            body = self.files.get(self.path.rpartition("/")[2], b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{git_hash(body)}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_pulling_fetches_weights_and_words_and_nothing_that_runs(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "config.json": b'{"model_type": "qwen3"}', "tokenizer.json": b"{}",
        "model.safetensors": b"weights", "modeling.py": b"import os", "weights.bin": b"pickle",
    }  # fmt: skip
    monkeypatch.setattr(_Files, "files", files)
    monkeypatch.setattr(_Files, "asked", [])
    folder = pull_model("owner/name", tmp_path / "model", endpoint=hub)
    assert folder == tmp_path / "model"
    names = {file.name for file in folder.iterdir() if file.is_file()}
    assert names == {"config.json", "tokenizer.json", "model.safetensors"}
    assert not any("modeling" in path or ".bin" in path for path in _Files.asked)
    monkeypatch.setattr(_Files, "files", {n: b for n, b in files.items() if n != "tokenizer.json"})
    with pytest.raises(ModelUnavailable, match="no safetensors weights"):
        pull_model("owner/name", tmp_path / "other", endpoint=hub)
    with pytest.raises(ModelUnavailable, match="is no hub id"):
        pull_model("./owner", endpoint=hub)


def test_without_a_hub_pulling_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="cannot be had from the hub"):
        pull_model("owner/name", tmp_path / "model", endpoint="http://127.0.0.1:9")


def test_the_cache_is_listed(tmp_path: Path) -> None:
    assert cached_models(tmp_path / "nowhere") == []
    commit = "0123456789abcdef0123456789abcdef01234567"
    for model, kind in (("owner--reads", "qwen3"), ("owner--other", "bert")):
        repository = tmp_path / f"models--{model}"
        snapshot = whole_folder(repository / "snapshots" / commit)
        (snapshot / "config.json").write_text(json.dumps({"model_type": kind}))
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text(commit)
    [found] = cached_models(tmp_path)
    assert found.model == "owner/reads" and found.is_whole and found.size_bytes > 0
    (found.folder / "model.safetensors").unlink()
    assert not cached_models(tmp_path)[0].is_whole
