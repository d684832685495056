"""Loads sentence-transformers CrossEncoders: weights as safetensors, no code from the model.

It knows how to open a model, not how to read with one. A folder is opened without the network; a
hub id may download. What cannot be had or is not what it should be is one error that names the
setting.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from longleaf.core.control_tokens import ControlTokens
from longleaf.core.errors import ModelUnavailable

_SETTING = "Set `reranker.model` to a folder with a sentence-transformers CrossEncoder"


def model_fingerprint(model: str) -> str:
    """Changes when a folder's files change (name, size, time); a hub id stands for itself.

    Reading gigabytes to hash them would cost more than loading; a copied folder merely looks new.
    """
    folder = Path(model)
    if not folder.is_dir():
        return model
    listing = [
        f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}"
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".json", ".safetensors", ".txt", ".model"}
    ]
    return f"{folder.name}@{hashlib.sha256(chr(10).join(listing).encode()).hexdigest()[:16]}"


def load_cross_encoder(model: str, *, device: str | None, bf16: bool) -> Any:
    """A `sentence_transformers.CrossEncoder` with one output, ready to predict raw logits.

    Raises ModelUnavailable when it cannot be had, has no safetensors, wants to run its own code,
    or has more than one output.
    """
    import torch
    from sentence_transformers import CrossEncoder

    local = Path(model).is_dir()
    if local and not any(Path(model).rglob("*.safetensors")):
        raise ModelUnavailable(
            f"The folder {model} holds no *.safetensors weights.",
            f"Other formats can run code and are not opened. {_SETTING} in that format.",
        )
    try:
        encoder = CrossEncoder(
            model,
            device=device,
            trust_remote_code=False,
            local_files_only=local,
            model_kwargs={"use_safetensors": True},
            # The order needs logits: a sigmoid makes good candidates equal in float32.
            activation_fn=torch.nn.Identity(),
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        where = "in that folder" if local else "on this machine or the hub"
        raise ModelUnavailable(
            f"The cross-encoder {model} cannot be loaded {where}: {_first_line(error)}",
            f"{_SETTING} (safetensors weights, no custom code).",
        ) from error
    if encoder.num_labels != 1:
        raise ModelUnavailable(
            f"{model} gives {encoder.num_labels} numbers for a pair; a reranker needs one.",
            f"{_SETTING} that was trained for ranking.",
        )
    _limit_length(encoder)
    encoder.to(torch.bfloat16 if bf16 else torch.float32)
    return encoder.eval()


def control_tokens_of(encoder: Any, model: str) -> ControlTokens:
    """Of a loaded CrossEncoder's tokenizer. Raises ModelUnavailable where it is not a fast one."""
    from tokenizers import Tokenizer

    backend = getattr(encoder.tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ModelUnavailable(
            f"The cross-encoder {model} has no fast tokenizer, and without one nobody can tell "
            "whether a document spells the model's control tokens.",
            f"{_SETTING} that has a tokenizer.json.",
        )
    whole = Tokenizer.from_str(backend.to_str())
    whole.no_truncation()
    whole.no_padding()
    return ControlTokens(whole)


def _limit_length(encoder: Any) -> None:
    """A tokenizer saved without a length lets pairs through that the model has no place for."""
    positions = getattr(encoder.config, "max_position_embeddings", None)
    length = encoder.max_seq_length
    if positions is not None and (length is None or length > positions):
        encoder.max_seq_length = positions


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
