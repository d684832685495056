"""A BERT encoder's forward pass for one short text, without the model library between the products.

For 20 tokens the library's 150 module calls take as long as a third of the arithmetic (one core of
a CPU without bfloat16: 25 ms through transformers, 16-18 ms here, minimum of 40). It knows the
layers of one architecture (`BertModel`, post-norm, absolute positions, GELU) and takes its weights
from the loaded model, which stays the reference: a test holds both to the same numbers. Passages
keep going through the library: in batches of 2,048 tokens nothing was gained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: tuple[torch.Tensor, torch.Tensor]  # (3 * dim, dim), (3 * dim,)
    out: tuple[torch.Tensor, torch.Tensor]  # (dim, dim), (dim,)
    attention_norm: tuple[torch.Tensor, torch.Tensor]
    up: tuple[torch.Tensor, torch.Tensor]  # (inner, dim), (inner,)
    down: tuple[torch.Tensor, torch.Tensor]  # (dim, inner), (dim,)
    norm: tuple[torch.Tensor, torch.Tensor]


class QueryForward:
    """`hidden(ids)` equals `model(ids).last_hidden_state` for one unpadded sequence."""

    def __init__(self, model: Any) -> None:
        """`model`: a `transformers.BertModel` in evaluation mode. Its weights are shared."""
        import torch

        config = model.config
        assert config.model_type == "bert" and config.hidden_act == "gelu"
        self._dim = int(config.hidden_size)
        self._heads = int(config.num_attention_heads)
        self._eps = float(config.layer_norm_eps)
        embeddings = model.embeddings
        self._words = embeddings.word_embeddings.weight
        # Every token is of type 0, so its row can be added to the positions once.
        types = embeddings.token_type_embeddings.weight[0]
        self._positions = (embeddings.position_embeddings.weight + types).detach()
        self._norm = (embeddings.LayerNorm.weight, embeddings.LayerNorm.bias)
        self._layers = []
        for layer in model.encoder.layer:
            own = layer.attention.self
            parts = (own.query, own.key, own.value)
            self._layers.append(
                _Layer(
                    qkv=(
                        torch.cat([part.weight for part in parts]).detach(),
                        torch.cat([part.bias for part in parts]).detach(),
                    ),
                    out=_pair(layer.attention.output.dense),
                    attention_norm=_pair(layer.attention.output.LayerNorm),
                    up=_pair(layer.intermediate.dense),
                    down=_pair(layer.output.dense),
                    norm=_pair(layer.output.LayerNorm),
                )
            )

    def hidden(self, ids: Sequence[int]) -> torch.Tensor:
        """The last layer's states, (len(ids), dim) in the model's dtype."""
        import torch
        from torch.nn.functional import gelu, linear, scaled_dot_product_attention

        count = len(ids)
        states = self._words[torch.tensor(ids)] + self._positions[:count]
        states = self._normal(states, self._norm)
        for layer in self._layers:
            qkv = linear(states, *layer.qkv).view(count, 3, self._heads, -1).permute(1, 2, 0, 3)
            query, key, value = qkv[:, None]  # (1, heads, count, dim / heads) each
            mixed = scaled_dot_product_attention(query, key, value)[0]
            mixed = mixed.transpose(0, 1).reshape(count, self._dim)
            states = self._normal(linear(mixed, *layer.out) + states, layer.attention_norm)
            inner = gelu(linear(states, *layer.up))
            states = self._normal(linear(inner, *layer.down) + states, layer.norm)
        return states

    def _normal(
        self, states: torch.Tensor, weights: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        from torch.nn.functional import layer_norm

        return layer_norm(states, (self._dim,), *weights, self._eps)


def _pair(module: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return module.weight, module.bias
