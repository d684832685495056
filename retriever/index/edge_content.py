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

from longleaf.core.protocols import IndexEntry
from longleaf.retriever.index import followed, payload
from longleaf.retriever.index.edge import EdgeIndex
from longleaf.retriever.index.followed import ChangeLog
from longleaf.retriever.index.stored import difference

if TYPE_CHECKING:
    import qdrant_edge as qe

_POINTS_PER_READ = 500


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
    return followed.why_unusable(index._state, index.passage_count(), change_log)


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
        what = difference(stored.get(point.id), point)
        if what is not None:
            yield document_id, what
