"""A point as a Qdrant engine has it, against the one that a fresh index would get.

Records and points of the embedded engine and of a server's client are different classes of the same
shape: a payload, and vectors by name, of which the sparse one has indices and values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

DENSE, BM25 = "dense", "bm25"
"""The names of its vectors."""

_TOLERANCE = 1e-6
"""What the engine's own normalisation may differ by; lower bits move no fifth digit of a score."""


def difference(record: Any | None, point: Any) -> str | None:
    """What of the stored `record` is not as in `point`; None when all is."""
    if record is None:
        return "is not there"
    if record.payload != point.payload:
        return "has other words or labels"
    have, want = record.vector or {}, point.vector
    if DENSE not in have:
        return "has no dense vector"
    dense = np.asarray(want[DENSE], dtype=np.float32)
    dense = dense / np.linalg.norm(dense)
    stored = np.asarray(have[DENSE], dtype=np.float32)
    if not np.allclose(stored, dense, rtol=0, atol=_TOLERANCE):  # NaN is never close
        return "has another dense vector"
    if _terms(have.get(BM25)) != _terms(want[BM25]):
        return "has other BM25 terms"
    return None


def _terms(sparse: Any | None) -> dict[int, float]:
    if sparse is None:
        return {}
    pairs = zip(sparse.indices, sparse.values, strict=True)
    return {int(term): float(np.float32(weight)) for term, weight in pairs}
