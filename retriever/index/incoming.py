"""What an index takes in: of each document the newest revision, and only vectors that can be found.

Every index asks here before it changes anything, so that a bad vector leaves all of it as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.errors import CatalogBroken, GenerationMismatch
from longleaf.core.protocols import IndexEntry

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray

REBUILD = "Make the index anew from the catalog: longleaf rebuild"


def newest(entries: Sequence[IndexEntry], dim: int) -> dict[int, IndexEntry]:
    """Document id -> its newest entry among these. Raises what `checked` raises."""
    found: dict[int, IndexEntry] = {}
    for entry in entries:
        for passage in entry.passages:
            checked(passage.dense, dim, f"Document {entry.key!r}")
        seen = found.get(entry.document_id)
        if seen is None or entry.revision_id >= seen.revision_id:
            found[entry.document_id] = entry
    return found


def checked(vector: FloatArray, dim: int, what: str) -> FloatArray:
    """The vector itself, if it is (dim,) and finite: engines take NaN without a word, and then
    never find it again. Raises GenerationMismatch or CatalogBroken."""
    if vector.shape != (dim,):
        raise GenerationMismatch(
            f"{what} has a vector of shape {vector.shape}; the index holds dim {dim}.", REBUILD
        )
    if not np.isfinite(vector).all():
        raise CatalogBroken(f"{what} has a vector that is not finite.", "Index the document again.")
    return vector
