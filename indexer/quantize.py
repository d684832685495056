"""Token vectors to one signed byte per dimension and back.

Each dimension has its own fixed scale, shipped with the projection, so that a code needs no number
stored beside it and codes of different passages compare. It knows no model and no storage. The
trade-off is 1 byte per dimension where float32 takes 4, at no measurable cost in nDCG
(numbers in projection.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray, Int8Array

CODE_LIMIT = 127
"""Codes lie in [-127, 127]: symmetric, so that a vector and its negative round alike."""


def quantize(vectors: FloatArray, scale: FloatArray) -> Int8Array:
    """(n, dim) float32 to (n, dim) int8: the nearest multiple of `scale` (dim,), clipped.

    A value within ±127 · scale is off by at most scale / 2.
    """
    steps = np.rint(vectors / scale)
    np.clip(steps, -CODE_LIMIT, CODE_LIMIT, out=steps)
    codes: Int8Array = steps.astype(np.int8)
    return codes


def dequantize(codes: Int8Array, scale: FloatArray) -> FloatArray:
    """(n, dim) int8 back to (n, dim) float32."""
    vectors: FloatArray = codes.astype(np.float32) * scale
    return vectors


def scale_query(vectors: FloatArray, scale: FloatArray) -> FloatArray:
    """Query tokens (n, dim) float32 that take codes directly: `codes @ scaled.T` is the cosine."""
    scaled: FloatArray = (vectors * scale).astype(np.float32)
    return scaled


def fit_scale(vectors: FloatArray) -> FloatArray:
    """The (dim,) float32 scale under which no value of `vectors` (n, dim) is clipped."""
    widest = np.abs(vectors).max(axis=0)
    scale: FloatArray = np.maximum(widest / CODE_LIMIT, 1e-8).astype(np.float32)
    return scale
