"""What a Qdrant collection says of its passages, against what the catalog would have it say.

As `edge_content` does for the shard: it finds what is wrong with what is stored; what the server
derives of it (codes, graph, payload indexes) is proven only by making the index anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from longleaf.core.protocols import IndexEntry
from longleaf.retriever.index import payload
from longleaf.retriever.index.batches import batches
from longleaf.retriever.index.qdrant import QdrantIndex, points_of
from longleaf.retriever.index.stored import difference

_POINTS_PER_READ = 500


def differences(index: QdrantIndex, entries: Iterable[IndexEntry]) -> Iterator[tuple[int, str]]:
    """(document id, what differs) of every passage that is not stored as it should be."""
    expected = ((entry.document_id, point) for entry in entries for point in points_of(entry))
    for some in batches(expected, _POINTS_PER_READ):
        stored = {
            int(record.id): record
            for record in index.records([int(point.id) for _, point in some], True, vectors=True)
        }
        for document_id, point in some:
            what = difference(stored.get(int(point.id)), point)
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
