"""Qwen3 weights from a folder of safetensors to the tensors that scoring needs; no code, no hub.

Read: config.json, *.safetensors (with or without an index). Fused here: query, key and value into
one matrix, gate and up into another, and the vocabulary head into the single row W[yes] - W[no],
kept in float32: bfloat16 logits tie, which costs up to 38 points of MRR (aclanthology
2026.acl-short.33). The head is the embedding where the checkpoint ties them (0.6B, 4B) and
`lm_head` where it does not (8B). A checkpoint converted to sequence classification brings its row
as `score.weight`. What is not Qwen3, or incomplete, is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longleaf.core.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch

_HINT = "Set reranker.model to a folder with a Qwen3-Reranker (config.json, *.safetensors)."


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a Qwen3 model. `heads` query heads share `kv_heads` key-value heads."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    norm_eps: float
    rope_theta: float
    max_positions: int

    @classmethod
    def of_config(cls, config: Mapping[str, Any], where: str) -> ModelShape:
        """From a config.json. Raises ModelUnavailable for another architecture or scaled rope."""
        if config.get("model_type") != "qwen3":
            raise ModelUnavailable(
                f"{where} is a {config.get('model_type')!r} model, not qwen3.",
                f"{_HINT} Other rerankers: reranker.kind cross-encoder.",
            )
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise ModelUnavailable(
                f"{where} scales its positions ({kind}); only unscaled ones are scored exactly.",
                "Remove rope_scaling from its config.json: 32,768 tokens need none.",
            )
        if config.get("attention_bias") or config.get("use_sliding_window"):
            raise ModelUnavailable(
                f"{where} has attention biases or a sliding window, which no Qwen3-Reranker has.",
                _HINT,
            )
        try:
            heads = int(config["num_attention_heads"])
            return cls(
                layers=int(config["num_hidden_layers"]),
                hidden=int(config["hidden_size"]),
                inner=int(config["intermediate_size"]),
                heads=heads,
                kv_heads=int(config["num_key_value_heads"]),
                head_dim=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
                vocabulary=int(config["vocab_size"]),
                norm_eps=float(config["rms_norm_eps"]),
                rope_theta=float(rope.get("rope_theta") or config["rope_theta"]),
                max_positions=int(config["max_position_embeddings"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelUnavailable(f"{where}: its config.json lacks {error}.", _HINT) from error


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer, matrices as (out, in)."""

    input_norm: torch.Tensor  # (hidden,)
    qkv: torch.Tensor  # ((heads + 2 * kv_heads) * head_dim, hidden)
    q_norm: torch.Tensor  # (head_dim,)
    k_norm: torch.Tensor  # (head_dim,)
    out: torch.Tensor  # (hidden, heads * head_dim)
    inner_norm: torch.Tensor  # (hidden,)
    gate_up: torch.Tensor  # (2 * inner, hidden)
    down: torch.Tensor  # (hidden, inner)


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """All that scoring needs; `head` is float32, the rest has the model's dtype."""

    shape: ModelShape
    embedding: torch.Tensor  # (vocabulary, hidden)
    layers: tuple[LayerWeights, ...]
    norm: torch.Tensor  # (hidden,)
    head: torch.Tensor  # (hidden,) float32: W[yes] - W[no]


def load_weights(
    folder: Path, yes_id: int, no_id: int, *, dtype: torch.dtype, device: str
) -> ModelWeights:
    """The weights in `folder`. Raises ModelUnavailable."""
    import torch
    from safetensors import SafetensorError

    config_file = folder / "config.json"
    try:
        config = json.loads(config_file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{config_file} cannot be read: {error}.", _HINT) from error
    shape = ModelShape.of_config(config, str(folder))
    try:
        with _Shards(folder, device) as shards:
            return _assemble(shards, shape, config, (yes_id, no_id), dtype)
    except torch.OutOfMemoryError as error:
        raise ModelUnavailable(
            f"The weights in {folder} do not fit into the GPU's memory.",
            "Set reranker.model to a smaller Qwen3-Reranker, or free the GPU.",
        ) from error
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelUnavailable(
            f"The weights in {folder} cannot be read: {error}.", _HINT
        ) from error


class _Shards:
    """Tensors by name over one or many safetensors files, read when they are asked for."""

    def __init__(self, folder: Path, device: str) -> None:
        from safetensors import safe_open

        self._folder = folder
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ModelUnavailable(
                f"The folder {folder} holds no *.safetensors weights.",
                f"Other formats can run code and are not opened. {_HINT}",
            )
        opened: list[Any] = [safe_open(str(file), framework="pt", device=device) for file in files]
        self._files = opened
        self._where = {name: file for file in self._files for name in file.keys()}  # noqa: SIM118
        self._prefix = "model." if "model.norm.weight" in self._where else ""

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        self._where.clear()
        self._files.clear()

    def has(self, name: str) -> bool:
        return name in self._where

    def shape_of(self, name: str) -> tuple[int, ...]:
        return tuple(self._where[name].get_slice(name).get_shape())

    def take(self, name: str, *size: int) -> torch.Tensor:
        """A tensor outside the model's body."""
        file = self._where.get(name)
        if file is None:
            raise ModelUnavailable(f"The weights in {self._folder} lack {name}.", _HINT)
        tensor: torch.Tensor = file.get_tensor(name)
        if tuple(tensor.shape) != size:
            raise ModelUnavailable(
                f"{name} in {self._folder} is {tuple(tensor.shape)}; its config says {size}.",
                _HINT,
            )
        return tensor

    def body(self, name: str, *size: int) -> torch.Tensor:
        """A tensor of the model's body, whatever it is prefixed with."""
        return self.take(self._prefix + name, *size)


def _assemble(
    shards: _Shards,
    shape: ModelShape,
    config: Mapping[str, Any],
    yes_no: tuple[int, int],
    dtype: torch.dtype,
) -> ModelWeights:
    import torch

    hidden, inner = shape.hidden, shape.inner
    q_size, kv_size = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim

    def body(name: str, *size: int) -> torch.Tensor:
        return shards.body(name, *size).to(dtype)

    layers = []
    for number in range(shape.layers):
        at = f"layers.{number}."
        attention, inner_at = f"{at}self_attn.", f"{at}mlp."
        layers.append(
            LayerWeights(
                input_norm=body(f"{at}input_layernorm.weight", hidden),
                qkv=torch.cat(
                    [
                        body(f"{attention}q_proj.weight", q_size, hidden),
                        body(f"{attention}k_proj.weight", kv_size, hidden),
                        body(f"{attention}v_proj.weight", kv_size, hidden),
                    ]
                ),
                q_norm=body(f"{attention}q_norm.weight", shape.head_dim),
                k_norm=body(f"{attention}k_norm.weight", shape.head_dim),
                out=body(f"{attention}o_proj.weight", hidden, q_size),
                inner_norm=body(f"{at}post_attention_layernorm.weight", hidden),
                gate_up=torch.cat(
                    [
                        body(f"{inner_at}gate_proj.weight", inner, hidden),
                        body(f"{inner_at}up_proj.weight", inner, hidden),
                    ]
                ),
                down=body(f"{inner_at}down_proj.weight", hidden, inner),
            )
        )
    embedding = shards.body("embed_tokens.weight", shape.vocabulary, hidden)
    return ModelWeights(
        shape=shape,
        embedding=embedding.to(dtype),
        layers=tuple(layers),
        norm=body("norm.weight", hidden),
        head=_head(shards, shape, config, embedding, yes_no),
    )


def _head(
    shards: _Shards,
    shape: ModelShape,
    config: Mapping[str, Any],
    embedding: torch.Tensor,
    yes_no: tuple[int, int],
) -> torch.Tensor:
    """(hidden,) float32: the row whose product with the last state is logit(yes) - logit(no)."""
    if shards.has("score.weight"):
        # Of the tensor itself: a config may leave the number of its labels to a default.
        labels = shards.shape_of("score.weight")[0]
        if labels not in (1, 2):
            raise ModelUnavailable(f"A classifier of {labels} labels is no reranker.", _HINT)
        rows = shards.take("score.weight", labels, shape.hidden).float()
        row: torch.Tensor = rows[0] if labels == 1 else rows[1] - rows[0]
        return row
    tied = bool(config.get("tie_word_embeddings")) or not shards.has("lm_head.weight")
    if tied and not config.get("tie_word_embeddings", True):
        raise ModelUnavailable(
            "The checkpoint has neither a head (lm_head.weight, score.weight) nor tied embeddings.",
            _HINT,
        )
    whole = embedding if tied else shards.take("lm_head.weight", shape.vocabulary, shape.hidden)
    yes, no = yes_no
    difference: torch.Tensor = whole[yes].float() - whole[no].float()
    return difference
