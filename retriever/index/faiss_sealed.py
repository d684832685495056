"""What finds the nearest passages of some segments quicker than a scan of each of them.

Segments come and go meanwhile: rows of one that is gone are never found, and one that is not
covered is scanned beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray
    from longleaf.retriever.index.faiss_segment import Segment
    from longleaf.retriever.index.faiss_view import Live


class Sealed(Protocol):
    """Inverted lists, or vectors on GPUs."""

    def covers(self, segment: Segment) -> bool: ...

    def search(
        self,
        lives: Sequence[Live],
        masks: Sequence[NDArray[np.bool_]],
        query: FloatArray,
        limit: int,
    ) -> list[tuple[int, NDArray[np.int64], FloatArray]]:
        """(number in `lives`, rows, scores): the nearest `limit` or more of the passages that the
        masks let through, of those `lives` that are covered."""
        ...
