"""What a Qdrant collection says of its passages, against what the catalog would have it say.

As `edge_content` does for the shard: it finds what is wrong with what is stored; what the server
derives of it (codes, graph, payload indexes) is proven only by making the index anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.protocols import IndexEntry
from longleaf.retriever.index import payload
from longleaf.retriever.index.batches import batches
from longleaf.retriever.index.edge_folder import BM25, DENSE
from longleaf.retriever.index.qdrant import QdrantIndex, points_of

if TYPE_CHECKING:
    from qdrant_client import models

_POINTS_PER_READ = 500
_TOLERANCE = 1e-6
"""What the server's own normalisation may differ by."""


def differences(index: QdrantIndex, entries: Iterable[IndexEntry]) -> Iterator[tuple[int, str]]:
    """(document id, what differs) of every passage that is not stored as it should be."""
    expected = ((entry.document_id, point) for entry in entries for point in points_of(entry))
    for some in batches(expected, _POINTS_PER_READ):
        stored = {
            int(record.id): record
            for record in index.records([int(point.id) for _, point in some], True, vectors=True)
        }
        for document_id, point in some:
            what = _difference(stored.get(int(point.id)), point)
            if what is not None:
                yield document_id, what


def document_ids(index: QdrantIndex, point_ids: Sequence[int]) -> set[int]:
    """Which documents these points say they are of; points that name none are left out."""
    found = set()
    for some in batches(point_ids, _POINTS_PER_READ):
        for record in index.records(some, [payload.DOCUMENT]):
            document_id = (record.payload or {}).get(payload.DOCUMENT)
            if isinstance(document_id, int):
                found.add(document_id)
    return found


def _difference(record: models.Record | None, point: models.PointStruct) -> str | None:
    if record is None:
        return "is not there"
    if record.payload != point.payload:
        return "has other words or labels"
    have: Any = record.vector or {}
    want: Any = point.vector
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


def _terms(sparse: models.SparseVector | None) -> dict[int, float]:
    if sparse is None:
        return {}
    pairs = zip(sparse.indices, sparse.values, strict=True)
    return {int(term): float(np.float32(weight)) for term, weight in pairs}
