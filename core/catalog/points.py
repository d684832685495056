"""Which passages an index of a generation should hold, straight from the tables.

The slow, obvious side of every comparison: of ids (is each passage there, and nothing else?) and
of vectors (what would an exact search find?). Ids come all at once, 16 bytes a passage; vectors
come in blocks, so that memory stays flat however large the catalog is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import Connection, Select, select

from longleaf.core import ids
from longleaf.core.catalog import feed
from longleaf.core.catalog.reader import CatalogReader
from longleaf.core.catalog.reads import among, batches
from longleaf.core.catalog.records import Generation
from longleaf.core.catalog.schema import documents, passages, revisions, vectors
from longleaf.core.types import Role

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray

_BLOCK = 8192

_ASIDE = frozenset(role.value for role in Role if role.is_aside)


def expected_points(
    catalog: CatalogReader, generation: Generation
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """(point ids ascending, the document id of each, the log's head on that snapshot)."""
    with catalog._database.reading() as connection:
        head = feed.head_seq(connection)
        rows = connection.execute(_current(generation), execution_options={"yield_per": _BLOCK})
        pairs = np.array(
            [(_point(row.revision_id, row.ordinal, row.role), row.document_id) for row in rows],
            dtype=np.int64,
        ).reshape(-1, 2)
    order = np.argsort(pairs[:, 0], kind="stable")
    return pairs[order, 0], pairs[order, 1], head


def vector_blocks(
    connection: Connection, generation: Generation
) -> Iterator[tuple[NDArray[np.int64], FloatArray]]:
    """(point ids, dense vectors of unit length (n, dim)) of all passages, block by block."""
    query = _current(generation).add_columns(vectors.c.dense)
    rows = connection.execute(query, execution_options={"yield_per": _BLOCK})
    for block in rows.partitions(_BLOCK):
        points = [_point(row.revision_id, row.ordinal, row.role) for row in block]
        stored = np.frombuffer(b"".join(row.dense for row in block), dtype="<f2")
        dense = stored.astype(np.float32).reshape(len(block), generation.dim)
        # Half floats are off unit length by 0.001; an index normalises what it is given.
        dense /= np.linalg.norm(dense, axis=1, keepdims=True)
        yield np.array(points, dtype=np.int64), dense


def documents_of_revisions(connection: Connection, revision_ids: list[int]) -> dict[int, int]:
    """revision id -> document id, of those that the catalog still knows."""
    found: dict[int, int] = {}
    for batch in batches(revision_ids):
        query = select(revisions.c.id, revisions.c.document_id).where(
            revisions.c.id.in_(among(batch))
        )
        found |= {row.id: row.document_id for row in connection.execute(query)}
    return found


def _current(generation: Generation) -> Select[Any]:
    return (
        select(
            documents.c.id.label("document_id"),
            documents.c.revision_id,
            passages.c.ordinal,
            passages.c.role,
        )
        .select_from(documents)
        .join(revisions, revisions.c.id == documents.c.revision_id)
        .join(passages, passages.c.content_id == revisions.c.content_id)
        .join(vectors, vectors.c.passage_id == passages.c.id)
        .where(
            passages.c.chunker_id == generation.chunker_id,
            vectors.c.embedder_id == generation.embedder_id,
        )
    )


def _point(revision_id: int, ordinal: int, role: str) -> int:
    return ids.point_id(revision_id, ordinal, role in _ASIDE)
