"""The matrix that makes token vectors small, with the scale of their codes.

Fitted once by benchmarks/fit_projection.py on openly licensed text that no evaluation uses, and
never refitted to a user's corpus: codes of every installation and every document then compare.
This module applies a matrix; it neither fits one nor runs a model.

What smallness costs, as nDCG@10 of MaxSim alone over the dense top 100 (mean of scifact train,
cacm and cranfield; dense alone 0.523): 384 float32 0.560, 192 0.552, 128 0.543, 128 int8 0.544,
128 int4 0.542, 96 int8 0.541, 64 int8 0.537. Centring (0.540), whitening (0.543) and earlier
layers (0.510 and less) gained nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.errors import ConfigError
from longleaf.indexer.quantize import CODE_LIMIT

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray

MINILM_PROJECTION = Path(__file__).parent / "data" / "minilm-l6-v2-tokens128.safetensors"


@dataclass(frozen=True, slots=True)
class Projection:
    """`matrix`: (hidden_dim, token_dim) float32; `scale`: (token_dim,) float32, of the codes."""

    matrix: FloatArray
    scale: FloatArray

    @property
    def hidden_dim(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def token_dim(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def sha256(self) -> str:
        """Hex sha256 over the numbers, so that a reworded description changes no fingerprint."""
        digest = hashlib.sha256(str(self.matrix.shape).encode())
        digest.update(np.ascontiguousarray(self.matrix).tobytes())
        digest.update(np.ascontiguousarray(self.scale).tobytes())
        return digest.hexdigest()

    def apply(self, hidden: FloatArray) -> FloatArray:
        """(n, hidden_dim) float32 to (n, token_dim) float32, each row of unit length."""
        return unit_rows(hidden @ self.matrix)


def unit_rows(vectors: FloatArray) -> FloatArray:
    """(n, dim) float32, each row of unit length; a row of zeros stays one."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: FloatArray = (vectors / np.maximum(length, 1e-12)).astype(np.float32)
    return unit


def identity(dim: int) -> Projection:
    """Token vectors as the model makes them. The scale never clips a unit vector."""
    return Projection(np.eye(dim, dtype=np.float32), np.full(dim, 1 / CODE_LIMIT, np.float32))


def load_projection(path: Path, hidden_dim: int) -> Projection:
    """Read a projection for a model of `hidden_dim`.

    Raises `ConfigError` when the file cannot be read or fits another model's width.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    hint = "Make one for this model with benchmarks/fit_projection.py."
    try:
        tensors = load_file(path)
        projection = Projection(
            tensors["matrix"].astype(np.float32), tensors["scale"].astype(np.float32)
        )
    except (OSError, SafetensorError, KeyError) as error:
        raise ConfigError(f"The token projection {path} cannot be read: {error}.", hint) from error
    if projection.matrix.ndim != 2 or projection.scale.shape != projection.matrix.shape[1:]:
        raise ConfigError(f"The token projection {path} has no (hidden, dim) matrix.", hint)
    if projection.hidden_dim != hidden_dim:
        raise ConfigError(
            f"The token projection {path} takes {projection.hidden_dim} dimensions, the model "
            f"gives {hidden_dim}.",
            hint,
        )
    return projection
