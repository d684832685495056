"""A model's folder: a local one as it is, a hub id from the cache or the hub; weights only.

Nothing that could run is ever fetched: safetensors, JSON and tokenizer files are, and nothing else.
Where there is no hub, the error names the setting that takes a folder.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from longleaf.core.errors import ModelUnavailable

PATTERNS = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.jinja")

INDEX = "model.safetensors.index.json"


def model_folder(model: str, setting: str, *, local_only: bool = False) -> Path:
    """The folder of `model`. Raises ModelUnavailable that names `setting`.

    What the cache holds whole is taken from there: a server starts alike with and without network,
    and never with other weights than the day before. `local_only`: do not ask the hub for others.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model.startswith(("~", ".")) or model.count("/") != 1:
        raise ModelUnavailable(
            f"{model} is not a folder.", f"Set {setting} to a folder, or to a hub id (owner/name)."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        with suppress(LocalEntryNotFoundError):
            cached = Path(
                snapshot_download(model, allow_patterns=list(PATTERNS), local_files_only=True)
            )
            if local_only or is_whole(cached):
                return cached
        return Path(
            snapshot_download(model, allow_patterns=list(PATTERNS), local_files_only=local_only)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{model} is not in the cache and cannot be had from the hub: {_first_line(error)}",
            f"On a machine with internet: longleaf models pull {model} --to FOLDER; then set "
            f"{setting} to that folder.",
        ) from error


def pull_model(model: str, to: Path | None = None, *, endpoint: str | None = None) -> Path:
    """Fetch a model's newest state into `to`, or into the cache. Raises ModelUnavailable.

    What is there already is not fetched again. `endpoint`: another hub than the usual one.
    """
    if model.count("/") != 1 or model.startswith((".", "~", "/")):
        raise ModelUnavailable(
            f"{model} is no hub id.", "Name it as owner/name, such as Qwen/Qwen3-Reranker-0.6B."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(model, allow_patterns=list(PATTERNS), local_dir=to, endpoint=endpoint)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{model} cannot be had from the hub: {_first_line(error)}",
            "Fetch it on a machine with internet and copy the folder.",
        ) from error
    if not is_whole(folder):
        raise ModelUnavailable(
            f"{model} has no safetensors weights with config.json and tokenizer.json.",
            "Other formats can run code and are not fetched; name another model.",
        )
    return folder


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A Qwen3 model in the hub's cache."""

    model: str
    folder: Path
    size_bytes: int
    is_whole: bool


def cached_models(cache: Path | None = None) -> list[CachedModel]:
    """The Qwen3 models of the hub's cache (or of `cache`), by name; each one's newest state."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir(cache).repos
    except CacheNotFound:
        return []
    found = []
    for each in sorted(repositories, key=lambda one: one.repo_id):
        newest = max(each.revisions, key=lambda one: one.last_modified, default=None)
        if each.repo_type != "model" or newest is None:
            continue
        folder = newest.snapshot_path
        if _model_type(folder) == "qwen3":
            found.append(CachedModel(each.repo_id, folder, newest.size_on_disk, is_whole(folder)))
    return found


def _model_type(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_text("utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def is_whole(folder: Path) -> bool:
    """Whether all weights are there: a download that broke off leaves some."""
    if not (folder / "config.json").is_file() or not (folder / "tokenizer.json").is_file():
        return False
    index = folder / INDEX
    if not index.is_file():
        return any(folder.glob("*.safetensors"))
    try:
        named = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    return all((folder / str(name)).is_file() for name in named)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
