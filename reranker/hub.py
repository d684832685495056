"""A model's folder: a local one as it is, a hub id from the cache or the hub; weights only.

Nothing that could run is ever fetched: safetensors, JSON and tokenizer files are, and nothing else.
Where there is no hub, the error names the setting that takes a folder.
"""

from __future__ import annotations

import json
from contextlib import suppress
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
