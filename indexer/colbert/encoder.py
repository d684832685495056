"""A late-interaction checkpoint's tensors: backbone and projections, ids to unit vectors.

The backbone is loaded by transformers from safetensors, without code of an author; every weight
that the architecture has must be in the files, because a backbone with weights left at random
answers as quickly as a trained one. Projections are read by us and computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.errors import ModelUnavailable
from longleaf.indexer import models
from longleaf.indexer.colbert.checkpoint import CHOOSE, Checkpoint, Layer

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray

_INLINE = "linear.weight"
_UNUSED = ("pooler.",)
"""Weights that no token vector goes through; checkpoints leave them out."""


@dataclass(frozen=True, slots=True)
class _Projection:
    """y = activation(x weight' + bias) [+ x, or + x residual']; weights (out, in) float32."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    activation: str
    residual: torch.Tensor | None
    adds_input: bool

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        import torch

        made: torch.Tensor = torch.nn.functional.linear(states, self.weight, self.bias)
        made = getattr(torch.nn, self.activation)()(made)
        if self.residual is not None:
            made = made + torch.nn.functional.linear(states, self.residual)
        return made + states if self.adds_input else made


class TokenEncoder:
    """`vectors` of batches; thread-safe. `positions`: the longest sequence it can take.

    Raises ModelUnavailable where weights are missing, have other shapes or cannot be read.
    """

    def __init__(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> None:
        self.device = device
        self._model = _backbone(checkpoint.transformer, device, dtype)
        self.positions = _positions(self._model)
        self._pad_id = int(getattr(self._model.config, "pad_token_id", None) or 0)
        self._projections = _projections(checkpoint, int(self._model.config.hidden_size), device)
        self.token_dim = int(self._projections[-1].weight.shape[0])

    def vectors(
        self,
        batch: Sequence[Sequence[int]],
        kept: Sequence[NDArray[np.int64]],
        attended: Sequence[int] | None = None,
    ) -> FloatArray:
        """The `kept` positions' vectors, sequence after sequence: (sum of len(kept), token_dim)
        float32 of unit length.

        `attended`: of each sequence, how many of its first tokens the others see (None: all).
        """
        import torch

        width = max(len(ids) for ids in batch)
        ids = np.full((len(batch), width), self._pad_id, np.int64)
        mask = np.zeros((len(batch), width), np.int64)
        for row, row_ids in enumerate(batch):
            ids[row, : len(row_ids)] = row_ids
            mask[row, : len(row_ids) if attended is None else attended[row]] = 1
        flat = np.concatenate([row * width + positions for row, positions in enumerate(kept)])
        with torch.inference_mode():
            states = self._model(
                input_ids=torch.from_numpy(ids).to(self.device),
                attention_mask=torch.from_numpy(mask).to(self.device),
            ).last_hidden_state
            rows = states.reshape(-1, states.shape[-1])[torch.from_numpy(flat).to(self.device)]
            rows = rows.float()
            for projection in self._projections:
                rows = projection(rows)
            made: FloatArray = torch.nn.functional.normalize(rows, dim=1).cpu().numpy()
        return made


def _backbone(folder: Path, device: str, dtype: str) -> Any:
    import torch
    from transformers import AutoModel

    try:
        with models.quiet_loading():
            model, found = AutoModel.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=getattr(torch, dtype),
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelUnavailable(
            f"The model in {folder} cannot be loaded: {error}", CHOOSE
        ) from error
    missing = sorted(name for name in found["missing_keys"] if not name.startswith(_UNUSED))
    if missing:
        raise ModelUnavailable(
            f"The model in {folder} lacks {len(missing)} of the weights that its architecture has, "
            f"{missing[0]} for one: it is of another architecture than config.json says, or needs "
            "code of its author, which Longleaf never runs.",
            CHOOSE,
        )
    return model.to(device).eval()


def _positions(model: Any) -> int:
    """As many as the model was made for; RoBERTa's kin begin to count behind the padding's."""
    told = int(getattr(model.config, "max_position_embeddings", 0) or 512)
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return told if padding is None else told - padding - 1


def _projections(checkpoint: Checkpoint, hidden: int, device: str) -> list[_Projection]:
    layers = [
        _projection(layer, _tensors(layer.weights), layer.weights) for layer in checkpoint.layers
    ]
    if not layers:
        inline = Layer(checkpoint.transformer, "Identity", False)
        layers = [_projection(inline, _inline_weight(checkpoint.transformer), inline.weights)]
    width = hidden
    for layer in layers:
        if layer.weight.shape[1] != width:
            raise ModelUnavailable(
                f"A projection of the model takes {layer.weight.shape[1]} dimensions, but what "
                f"stands before it gives {width}.",
                CHOOSE,
            )
        width = int(layer.weight.shape[0])
    return [
        _Projection(
            layer.weight.to(device),
            None if layer.bias is None else layer.bias.to(device),
            layer.activation,
            None if layer.residual is None else layer.residual.to(device),
            layer.adds_input,
        )
        for layer in layers
    ]


def _projection(layer: Layer, tensors: dict[str, torch.Tensor], file: Path) -> _Projection:
    weight = tensors.get(_INLINE)
    residual = tensors.get("residual.weight")
    if weight is None or weight.ndim != 2:
        raise ModelUnavailable(f"{file} has no {_INLINE} of two dimensions.", CHOOSE)
    square = weight.shape[0] == weight.shape[1]
    if layer.residual and not square and residual is None:
        raise ModelUnavailable(f"{file} has no residual.weight.", CHOOSE)
    bias = tensors.get("linear.bias")
    return _Projection(
        weight.float(),
        None if bias is None else bias.float(),
        layer.activation,
        residual.float() if layer.residual and residual is not None else None,
        layer.residual and square,
    )


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelUnavailable(
            f"The projection {file} cannot be read as safetensors: {error}.",
            f"Other formats can run code when loaded; convert it to safetensors. {CHOOSE}",
        ) from error


def _inline_weight(folder: Path) -> dict[str, torch.Tensor]:
    """The projection that lies among the backbone's weights."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as opened:
            if _INLINE in opened.keys():  # noqa: SIM118 - not a mapping
                return {_INLINE: opened.get_tensor(_INLINE)}
    return {}
