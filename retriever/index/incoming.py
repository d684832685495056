"""What an index takes in: of each document the newest revision, and only vectors that can be found.

Every index asks here before it changes anything, so that a bad vector leaves all of it as it was,
and before it searches: engines take NaN without a word, and then never find it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.errors import CatalogBroken, GenerationMismatch, ModelUnavailable
from longleaf.core.protocols import IndexEntry

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray

REBUILD = "Make the index anew from the catalog: longleaf rebuild"


def newest(entries: Sequence[IndexEntry], dim: int) -> dict[int, IndexEntry]:
    """Document id -> its newest entry among these. Raises GenerationMismatch or CatalogBroken for
    one with a vector that is not (dim,) or not finite."""
    found: dict[int, IndexEntry] = {}
    for entry in entries:
        for passage in entry.passages:
            _check(passage.dense, dim, entry.key)
        seen = found.get(entry.document_id)
        if seen is None or entry.revision_id >= seen.revision_id:
            found[entry.document_id] = entry
    return found


def query(vector: FloatArray, dim: int) -> FloatArray:
    """The query's vector itself, if it is (dim,) and finite. Raises GenerationMismatch, or
    ModelUnavailable: nothing is wrong with what is stored."""
    if vector.shape != (dim,):
        raise GenerationMismatch(
            f"The query has a vector of shape {vector.shape}; the index holds dim {dim}.",
            "Set the embedder back to what the documents were embedded with (longleaf config "
            "shows the settings), or embed everything anew: longleaf reindex",
        )
    if not np.isfinite(vector).all():
        raise ModelUnavailable(
            "The embedder failed: the query's vector is not finite.",
            "Ask again, or in other words; if it stays so, set embedder.dtype to float32.",
        )
    return vector


def _check(vector: FloatArray, dim: int, key: str) -> None:
    if vector.shape != (dim,):
        raise GenerationMismatch(
            f"Document {key!r} has a vector of shape {vector.shape}; the index holds dim {dim}.",
            REBUILD,
        )
    if not np.isfinite(vector).all():
        raise CatalogBroken(
            f"Document {key!r} has a vector that is not finite.", "Index the document again."
        )
