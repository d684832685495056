"""A BERT encoder read from a model folder: its weights and its forward pass, with torch alone.

It knows the layers of one architecture (`BertModel` of Devlin et al. 2019, arXiv:1810.04805:
post-norm, absolute positions, GELU) and nothing of tokens, pooling or vectors. The model library
stays the reference: a test holds both to the same numbers. Why it is not used here: importing it
took 2.6 to 4 of the 11 seconds that every start of a server, worker or command took (one core),
and for a query of 20 tokens its 150 module calls took as long as a third of the arithmetic (25 ms
through transformers, 16-18 ms here, minimum of 40).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from longleaf.core.errors import ModelUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    import torch

_EXPECTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
_SIZES = (
    "vocab_size", "max_position_embeddings", "type_vocab_size", "num_hidden_layers",
    "intermediate_size", "hidden_size", "num_attention_heads",
)  # fmt: skip
_HINT = "Set embedder.model to a folder: sentence-transformers then loads it."


@dataclass(frozen=True, slots=True)
class _Layer:
    """(weight, bias) of each part; weights are (out, in)."""

    qkv: tuple[torch.Tensor, torch.Tensor]  # (3 * dim, dim), (3 * dim,)
    out: tuple[torch.Tensor, torch.Tensor]  # (dim, dim), (dim,)
    attention_norm: tuple[torch.Tensor, torch.Tensor]
    up: tuple[torch.Tensor, torch.Tensor]  # (inner, dim), (inner,)
    down: tuple[torch.Tensor, torch.Tensor]  # (dim, inner), (dim,)
    norm: tuple[torch.Tensor, torch.Tensor]


class BertEncoder:
    """`hidden(ids, mask)` equals `BertModel(ids, mask).last_hidden_state`.

    `folder` holds config.json and model.safetensors; `dtype` is what the weights are computed in.
    Raises ModelUnavailable for another architecture, and for weights that are missing or of
    another shape than config.json says.
    """

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
            tensors = load_file(folder / "model.safetensors")
            words, places, types, layers, inner, self.dim, self._heads = (
                int(config[name]) for name in _SIZES
            )
            self._eps = float(config["layer_norm_eps"])
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ModelUnavailable(f"{folder} cannot be read: {error!r}.", _HINT) from error
        for name, expected in _EXPECTED.items():
            if config.get(name, expected) != expected:
                raise ModelUnavailable(
                    f"{folder}: {name} is {config[name]!r}, not {expected!r}.", _HINT
                )

        def pair(name: str, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
            return weight(f"{name}.weight", *shape), weight(f"{name}.bias", shape[0])

        def weight(name: str, *shape: int) -> torch.Tensor:
            found = tensors.get(name)
            if found is None or tuple(found.shape) != shape:
                has = "is missing" if found is None else f"has shape {tuple(found.shape)}"
                raise ModelUnavailable(f"{folder}: {name} {has}; expected {shape}.", _HINT)
            return found.to(dtype, copy=True)

        at = "embeddings"
        self._words = weight(f"{at}.word_embeddings.weight", words, self.dim)
        # Every token is of type 0, so its row can be added to the positions once.
        self._positions = (
            weight(f"{at}.position_embeddings.weight", places, self.dim)
            + weight(f"{at}.token_type_embeddings.weight", types, self.dim)[0]
        )
        self._norm = pair(f"{at}.LayerNorm", self.dim)
        self._layers = []
        for number in range(layers):
            at = f"encoder.layer.{number}"
            parts = [
                pair(f"{at}.attention.self.{part}", self.dim, self.dim)
                for part in ("query", "key", "value")
            ]
            self._layers.append(
                _Layer(
                    qkv=(torch.cat([w for w, _ in parts]), torch.cat([b for _, b in parts])),
                    out=pair(f"{at}.attention.output.dense", self.dim, self.dim),
                    attention_norm=pair(f"{at}.attention.output.LayerNorm", self.dim),
                    up=pair(f"{at}.intermediate.dense", inner, self.dim),
                    down=pair(f"{at}.output.dense", self.dim, inner),
                    norm=pair(f"{at}.output.LayerNorm", self.dim),
                )
            )

    def hidden(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """The last layer's states, (batch, width, dim) in the model's dtype.

        `ids`: (batch, width) int64. `mask`: (batch, width), true where a token is one; None where
        all are. What stands at padded places is not defined.
        """
        from torch.nn.functional import gelu, linear, scaled_dot_product_attention

        batch, width = ids.shape
        seen = None if mask is None else mask.bool()[:, None, None, :]
        states = self._normal(self._words[ids] + self._positions[:width], self._norm)
        for layer in self._layers:
            qkv = linear(states, *layer.qkv).view(batch, width, 3, self._heads, -1)
            query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (batch, heads, width, dim / heads)
            mixed = scaled_dot_product_attention(query, key, value, attn_mask=seen)
            mixed = mixed.transpose(1, 2).reshape(batch, width, self.dim)
            states = self._normal(linear(mixed, *layer.out) + states, layer.attention_norm)
            up = gelu(linear(states, *layer.up))
            states = self._normal(linear(up, *layer.down) + states, layer.norm)
        return states

    def _normal(
        self, states: torch.Tensor, weights: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        from torch.nn.functional import layer_norm

        return layer_norm(states, (self.dim,), *weights, self._eps)
