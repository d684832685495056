"""What a late-interaction checkpoint says of itself, read from its JSON files alone.

Three forms are known: PyLate's (a sentence-transformers folder with a `pylate` projection and flat
keys), sentence-transformers' own MultiVectorEncoder, and the one of stanford-futuredata's ColBERT
(all weights in one file, artifact.metadata). Defaults that a file leaves out are those of the
library that wrote it. No weight is read here, no model loaded, and no code of an author run.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from longleaf.core.errors import ModelUnavailable

SETTING = "embedder.late_model"
CHOOSE = (
    f"Set {SETTING} to a folder or hub id of a ColBERT checkpoint as PyLate, sentence-transformers "
    "(MultiVectorEncoder) or stanford-futuredata's ColBERT save them (docs/late.md)."
)
_PYLATE_KEYS = {"query_prefix", "document_prefix", "query_length", "document_length"}
_ACTIVATIONS = {"Identity", "Tanh", "GELU", "ReLU", "SiLU"}

Form = Literal["pylate", "sentence-transformers", "stanford"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A projection: `weights` is its file; activation as torch.nn names it."""

    weights: Path
    activation: str
    residual: bool


@dataclass(frozen=True, slots=True)
class Side:
    """How queries, or documents, begin: `marker` is one token of the vocabulary ("": none),
    `lead` words after it. `is_text`: the marker is words too, where the tokenizer has no such
    token."""

    marker: str
    lead: str
    is_text: bool


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What decides ids and vectors beside weights and tokenizer.

    `transformer` is the backbone's folder. `layers` empty: the projection is `linear.weight` among
    the backbone's weights. Lengths count every token, [CLS], marker and [SEP] too; None: as long
    as the model's positions. `expansion`: what a query is filled up with, up to `query_tokens`
    (None: the tokenizer's mask token).
    """

    form: Form
    transformer: Path
    layers: tuple[Layer, ...]
    query: Side
    document: Side
    query_tokens: int | None
    document_tokens: int | None
    expands: bool
    attends_to_expansion: bool
    expansion: str | None
    skipped_words: tuple[str, ...]
    skips_in_queries: bool

    def told(self) -> dict[str, Any]:
        """All of it that does not depend on where the folder lies."""
        told = asdict(self)
        told.pop("transformer")
        told["layers"] = [[each.activation, each.residual] for each in self.layers]
        return told


def read_checkpoint(folder: Path) -> Checkpoint:
    """Raises ModelUnavailable where the folder is no late-interaction checkpoint, or one that
    Longleaf cannot run as it was trained."""
    told = _json(folder / "config_sentence_transformers.json")
    if (folder / "modules.json").is_file():
        return _of_modules(folder, told)
    architectures = _json(folder / "config.json").get("architectures") or []
    if "HF_ColBERT" in architectures:
        return _stanford(folder)
    raise ModelUnavailable(f"{folder} is no late-interaction checkpoint.", CHOOSE)


def _of_modules(folder: Path, told: Mapping[str, Any]) -> Checkpoint:
    modules = [
        (str(each["type"]).rpartition(".")[2], folder / str(each["path"]))
        for each in _json(folder / "modules.json", list)
    ]
    if not modules or modules[0][0] != "Transformer":
        raise ModelUnavailable(f"The model in {folder} does not begin with a transformer.", CHOOSE)
    layers = tuple(_layer(path) for kind, path in modules if kind == "Dense")
    if told.get("model_type") == "MultiVectorEncoder":
        checkpoint = _native(folder, told, modules, layers)
    elif told.get("model_type") == "ColBERT" or _PYLATE_KEYS & told.keys():
        # PyLate itself leaves out whatever is neither transformer nor projection.
        checkpoint = _pylate(told, modules[0][1], layers)
    else:
        raise ModelUnavailable(
            f"The model in {folder} makes one vector of a text and none for its tokens.",
            f"Use it as embedder.model. {CHOOSE}",
        )
    if not layers:
        raise ModelUnavailable(f"The model in {folder} has no projection.", CHOOSE)
    return checkpoint


def _pylate(told: Mapping[str, Any], transformer: Path, layers: tuple[Layer, ...]) -> Checkpoint:
    prompts = told.get("prompts") or {}

    def side(name: str, otherwise: str) -> Side:
        marker = told.get(f"{name}_prefix")
        marker = otherwise if marker is None else str(marker)
        return Side(marker, str(prompts.get(name) or "").removeprefix(marker), False)

    skipped = told.get("skiplist_words")
    expands = told.get("do_query_expansion") is not False
    return Checkpoint(
        form="pylate",
        transformer=transformer,
        layers=layers,
        query=side("query", "[Q] "),
        document=side("document", "[D] "),
        query_tokens=_length(told, "query_length", 32),
        document_tokens=_length(told, "document_length", 180),
        expands=expands,
        attends_to_expansion=expands and bool(told.get("attend_to_expansion_tokens")),
        expansion=None,
        skipped_words=tuple(string.punctuation if skipped is None else map(str, skipped)),
        skips_in_queries=False,
    )


def _native(
    folder: Path,
    told: Mapping[str, Any],
    modules: list[tuple[str, Path]],
    layers: tuple[Layer, ...],
) -> Checkpoint:
    known = ("Transformer", "Dense", "MultiVectorMask", "Normalize")
    if foreign := [kind for kind, _ in modules if kind not in known]:
        raise ModelUnavailable(
            f"The model in {folder} has parts that Longleaf does not know: {', '.join(foreign)}.",
            CHOOSE,
        )
    transformer = modules[0][1]
    knobs = _json(transformer / "sentence_bert_config.json")
    masks = [_json(path / "config.json") for kind, path in modules if kind == "MultiVectorMask"]
    mask: dict[str, Any] = masks[0] if masks else {}
    if mask.get("keep_only_token_ids"):
        raise ModelUnavailable(f"The model in {folder} reads pictures.", CHOOSE)
    kind, last = modules[-1]
    name = _json(last / "config.json").get("module_input_name")
    if kind != "Normalize" or name != "token_embeddings":
        raise ModelUnavailable(
            f"The vectors of the model in {folder} are not of unit length: no Normalize ends it.",
            CHOOSE,
        )
    prompts = told.get("prompts") or {}
    document = next((prompts[n] for n in ("document", "passage", "corpus") if n in prompts), "")
    expansion = knobs.get("query_expansion") or {}
    tasks = mask.get("skiplist_tasks") or ["document"]
    skipped = tuple(map(str, mask.get("skiplist_words") or ()))
    return Checkpoint(
        form="sentence-transformers",
        transformer=transformer,
        layers=layers,
        query=Side("", str(prompts.get("query") or ""), True),
        document=Side("", str(document or ""), True),
        query_tokens=_length(expansion, "length", None) or _length(knobs, "query_length", None),
        document_tokens=_length(knobs, "document_length", None),
        expands=bool(expansion),
        attends_to_expansion=bool(expansion.get("attend")),
        expansion=expansion.get("token"),
        skipped_words=skipped if "document" in tasks else (),
        skips_in_queries="query" in tasks,
    )


def _stanford(folder: Path) -> Checkpoint:
    told = _json(folder / "artifact.metadata")
    return Checkpoint(
        form="stanford",
        transformer=folder,
        layers=(),
        query=Side(str(told.get("query_token_id") or "[unused0]"), "", False),
        document=Side(str(told.get("doc_token_id") or "[unused1]"), "", False),
        query_tokens=_length(told, "query_maxlen", 32),
        document_tokens=_length(told, "doc_maxlen", 220),
        expands=True,
        attends_to_expansion=bool(told.get("attend_to_mask_tokens")),
        expansion=None,
        skipped_words=tuple(string.punctuation) if told.get("mask_punctuation", True) else (),
        skips_in_queries=False,
    )


def _layer(folder: Path) -> Layer:
    told = _json(folder / "config.json")
    activation = str(told.get("activation_function") or "torch.nn.Identity")
    name = activation.rpartition(".")[2]
    if not activation.startswith("torch.nn.") or name not in _ACTIVATIONS:
        raise ModelUnavailable(
            f"The projection in {folder} has an activation that Longleaf does not know: "
            f"{activation}.",
            f"It knows {', '.join(sorted(_ACTIVATIONS))} of torch.nn. {CHOOSE}",
        )
    return Layer(folder / "model.safetensors", name, bool(told.get("use_residual")))


def _length(told: Mapping[str, Any], name: str, otherwise: int | None) -> int | None:
    value = told.get(name)
    if value is None:
        return otherwise
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelUnavailable(f"The checkpoint says {name} = {value!r}, no length.", CHOOSE)
    return value


def _json(file: Path, kind: type = dict) -> Any:
    """What stands in a file; nothing where there is none."""
    try:
        told = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return kind()
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{file} cannot be read: {error}.", CHOOSE) from error
    if not isinstance(told, kind):
        raise ModelUnavailable(f"{file} does not hold a JSON {kind.__name__}.", CHOOSE)
    return told
