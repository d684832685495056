"""What an edge shard says of its passages, against what the catalog would have it say.

The engine keeps no checksums: a flipped bit in a vector, a term weight or a payload goes into
scores and filters without a word. So every stored point is read and compared with the one that a
fresh index would get. It finds what is wrong with what is stored; what the engine derives of it
(int8 codes, posting lists, payload indexes) is proven only by making the index anew. Cost: about
that of filling an index without its writes (10,000 passages: 10 s on two busy cores).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.protocols import IndexEntry
from longleaf.retriever.index import edge_folder, payload
from longleaf.retriever.index.edge import EdgeIndex
from longleaf.retriever.index.edge_folder import BM25, DENSE, ChangeLog

if TYPE_CHECKING:
    import qdrant_edge as qe

_POINTS_PER_READ = 500
_TOLERANCE = 1e-6
"""What the engine's own normalisation may differ by; lower bits move no fifth digit of a score."""


def differences(index: EdgeIndex, entries: Iterable[IndexEntry]) -> Iterator[tuple[int, str]]:
    """(document id, what differs) of every passage that is not stored as it should be."""
    batch: list[tuple[int, qe.Point]] = []
    for entry in entries:
        batch += [(entry.document_id, point) for point in index._points([entry])]
        if len(batch) >= _POINTS_PER_READ:
            yield from _compared(index, batch)
            batch = []
    yield from _compared(index, batch)


def why_unusable(index: EdgeIndex, change_log: ChangeLog) -> str | None:
    """Why opening this index to follow `change_log` would make it anew; None when it would not."""
    return edge_folder.why_unusable(index._state, index.passage_count(), change_log)


def document_ids(index: EdgeIndex, point_ids: Sequence[int]) -> set[int]:
    """Which documents these points say they are of, whatever the catalog knows of them.

    Points that name none are left out: only making the index anew removes them.
    """
    found = set()
    for begin in range(0, len(point_ids), _POINTS_PER_READ):
        some: list[Any] = list(point_ids[begin : begin + _POINTS_PER_READ])
        for record in index._shard.retrieve(
            some, with_payload=[payload.DOCUMENT], with_vector=False
        ):
            document_id = (record.payload or {}).get(payload.DOCUMENT)
            if isinstance(document_id, int):
                found.add(document_id)
    return found


def _compared(
    index: EdgeIndex, expected: Sequence[tuple[int, qe.Point]]
) -> Iterator[tuple[int, str]]:
    wanted: list[Any] = [point.id for _, point in expected]
    records = index._shard.retrieve(wanted, with_payload=True, with_vector=True)
    stored = {record.id: record for record in records}
    for document_id, point in expected:
        what = _difference(stored.get(point.id), point)
        if what is not None:
            yield document_id, what


def _difference(record: qe.Record | None, point: qe.Point) -> str | None:
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


def _terms(sparse: qe.SparseVector | None) -> dict[int, float]:
    if sparse is None:
        return {}
    pairs = zip(sparse.indices, sparse.values, strict=True)
    return {int(term): float(np.float32(weight)) for term, weight in pairs}
