"""Versions of the same text: signatures beside contents, and which contents are near each other.

A signature belongs to a content, so documents of equal text share it and it goes with the last of
them. What signatures mean is `core.similarity`'s; this module only stores and compares them. A look
for versions compares contents that share a band, at most `MOST_COMPARED` of them, so that a corpus
of one form filled in a million times costs no more than it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import Connection, insert, select

from longleaf.core.catalog import reads
from longleaf.core.catalog.records import DocumentHead, Versions
from longleaf.core.catalog.schema import documents, revisions, signature_bands, signatures
from longleaf.core.similarity import (
    estimated_jaccard,
    signature_from_bytes,
    signature_to_bytes,
)
from longleaf.core.similarity import signature_bands as bands_of
from longleaf.core.types import Scope

if TYPE_CHECKING:
    from longleaf.core.similarity import Signature

MOST_COMPARED = 10_000


def put_signature(connection: Connection, content_id: int, signature: Signature) -> None:
    """Store a content's signature; one that is there already stays."""
    known = select(signatures.c.content_id).where(signatures.c.content_id == content_id)
    if connection.execute(known).first() is not None:
        return
    connection.execute(
        insert(signatures).values(content_id=content_id, hashes=signature_to_bytes(signature))
    )
    bands = [
        {"band": band, "hash": number, "content_id": content_id}
        for band, number in enumerate(bands_of(signature))
    ]
    if bands:
        connection.execute(insert(signature_bands), bands)


def read_signatures(connection: Connection, content_ids: Sequence[int]) -> dict[int, Signature]:
    """content_id -> signature, of those contents that have been signed."""
    found: dict[int, Signature] = {}
    for batch in reads.batches(list(content_ids)):
        query = select(signatures).where(signatures.c.content_id.in_(reads.among(batch)))
        for content_id, hashes in connection.execute(query):
            found[content_id] = signature_from_bytes(hashes)
    return found


def versions_of(
    connection: Connection, head: DocumentHead, scope: Scope, min_similarity: float, limit: int
) -> Versions:
    """The documents whose current text is `head`'s, or near it, most similar first."""
    mine = read_signatures(connection, [head.content_id]).get(head.content_id)
    near, more = _near(connection, head.content_id, mine, min_similarity)
    near[head.content_id] = 1.0
    rows = []
    for batch in reads.batches(sorted(near)):
        # By content, the scope is checked on the row, as for look-ups by id (see reads).
        query = (
            select(
                documents.c.public_id,
                documents.c.collection,
                revisions.c.id,
                revisions.c.groups,
                revisions.c.content_id,
            )
            .join(documents, documents.c.revision_id == revisions.c.id)
            .where(
                revisions.c.content_id.in_(reads.among(batch)),
                documents.c.id != head.document_id,
            )
        )
        rows += [
            (-near[row.content_id], row.public_id, row.id)
            for row in connection.execute(query)
            if scope.allows(row.collection, row.groups)
        ]
    rows.sort()
    heads = reads.heads_by_revision(connection, [row[2] for row in rows[:limit]], scope)
    found = tuple((heads[row[2]], -row[0]) for row in rows[:limit] if row[2] in heads)
    return Versions(
        found, compared=bool(mine is not None and len(mine)), more=more or len(rows) > limit
    )


def _near(
    connection: Connection, content_id: int, mine: Signature | None, min_similarity: float
) -> tuple[dict[int, float], bool]:
    """(content_id -> similarity of the contents near this one, whether some were not compared)."""
    if mine is None or not len(mine):
        return {}, False
    other = signature_bands.alias("other")
    query = (
        select(other.c.content_id)
        .distinct()
        .join(
            signature_bands,
            (signature_bands.c.band == other.c.band) & (signature_bands.c.hash == other.c.hash),
        )
        .where(signature_bands.c.content_id == content_id, other.c.content_id != content_id)
        .limit(MOST_COMPARED + 1)
    )
    ids = [row.content_id for row in connection.execute(query)]
    theirs = read_signatures(connection, ids[:MOST_COMPARED])
    similar = estimated_jaccard(mine, list(theirs.values()))
    near = np.flatnonzero(similar >= min_similarity)
    keys = list(theirs)
    return {keys[n]: float(similar[n]) for n in near}, len(ids) > MOST_COMPARED
