"""What an index follows: the change log, the current state of a document, and the clearing up.

The log names documents, never content; a follower reads the current state, so following is
idempotent and may skip states. A replaced revision is kept until every follower has passed its
replacement, so that an index a second behind still answers with a text that was whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, delete, func, insert, select, update

from longleaf.core import ids
from longleaf.core.catalog import content_rows, erasure, migrations, schema
from longleaf.core.catalog.reads import batches, content_texts, head_from_row, head_query
from longleaf.core.catalog.records import Change, DocumentHead, Generation
from longleaf.core.catalog.schema import (
    changes,
    collections,
    documents,
    followers,
    passages,
    revisions,
    vectors,
)
from longleaf.core.protocols import IndexEntry, IndexPassage
from longleaf.core.types import Role

PHRASE_OVERHANG_CHARS = 160
"""How far a passage's phrase text runs into what follows, so that phrases across a border count."""

_COMPACTION_ASKED = "compaction_asked"
_COMPACTION_FAILURE = "compaction_failure"

FOLLOWER_FORGOTTEN_SECONDS = 7 * 24 * 3600.0
"""A follower not seen for so long no longer holds the log back; it rebuilds when it returns."""


def head_seq(connection: Connection) -> int:
    stored = select(schema.meta.c.value).where(schema.meta.c.key == "last_seq")
    return int(connection.execute(stored).scalar_one())


def log_horizon(connection: Connection) -> int:
    """The seq up to which the log has been truncated; a follower below it rebuilds."""
    stored = select(schema.meta.c.value).where(schema.meta.c.key == "log_horizon")
    return int(connection.execute(stored).scalar_one())


def epoch(connection: Connection) -> str:
    """Which history the log tells: another one after a backup was restored."""
    stored = select(schema.meta.c.value).where(schema.meta.c.key == migrations.EPOCH)
    return str(connection.execute(stored).scalar_one())


def changes_since(connection: Connection, seq: int, limit: int) -> list[Change]:
    rows = connection.execute(
        select(changes.c.seq, changes.c.document_id, changes.c.op)
        .where(changes.c.seq > seq)
        .order_by(changes.c.seq)
        .limit(limit)
    )
    return [Change(row.seq, row.document_id, row.op) for row in rows]


def all_document_ids(connection: Connection) -> list[int]:
    return [row.id for row in connection.execute(select(documents.c.id).order_by(documents.c.id))]


def index_entries(
    connection: Connection, document_ids: Sequence[int], generation: Generation
) -> Iterator[IndexEntry]:
    """The current state of those documents that still exist, as an index stores them."""
    languages = {
        row.name: row.language
        for row in connection.execute(select(collections.c.name, collections.c.language))
    }
    for batch in batches(list(document_ids), 256):
        heads = [
            head_from_row(row)
            for row in connection.execute(head_query().where(documents.c.id.in_(batch)))
        ]
        texts = content_texts(connection, [head.content_id for head in heads])
        stored: dict[int, list[tuple[int, int, int, list[str], str, bytes]]] = {}
        for row in connection.execute(
            select(
                passages.c.content_id,
                passages.c.ordinal,
                passages.c.start_char,
                passages.c.end_char,
                passages.c.headings,
                passages.c.role,
                vectors.c.dense,
            )
            .join(vectors, vectors.c.passage_id == passages.c.id)
            .where(
                passages.c.content_id.in_(list(texts)),
                passages.c.chunker_id == generation.chunker_id,
                vectors.c.embedder_id == generation.embedder_id,
            )
            .order_by(passages.c.content_id, passages.c.ordinal)
        ):
            stored.setdefault(row.content_id, []).append(tuple(row)[1:])
        for head in heads:
            rows = stored.get(head.content_id, [])
            yield _entry(head, texts[head.content_id], rows, languages[head.collection])


def _entry(
    head: DocumentHead,
    text: str,
    rows: Sequence[tuple[int, int, int, list[str], str, bytes]],
    bm25_language: str,
) -> IndexEntry:
    return IndexEntry(
        document_id=head.document_id,
        revision_id=head.revision_id,
        public_id=head.public_id,
        collection=head.collection,
        key=head.key,
        title=head.title,
        source=head.source,
        media_type=head.media_type,
        bm25_language=bm25_language,
        groups=head.groups,
        metadata=head.metadata,
        language=head.language,
        passages=tuple(
            IndexPassage(
                point_id=ids.point_id(head.revision_id, ordinal, Role(role).is_aside),
                text="\n".join((head.title, *headings, text[start:end])),
                phrase_text=text[start : end + PHRASE_OVERHANG_CHARS],
                dense=content_rows.dense_from_blob(dense),
            )
            for ordinal, start, end, headings, role, dense in rows
        ),
    )


def record_follower(connection: Connection, name: str, seq: int) -> None:
    """Note that follower `name` has durably applied the log up to `seq`."""
    now = time.time()
    found = connection.execute(
        update(followers).where(followers.c.name == name).values(seq=seq, seen_at=now)
    )
    if not found.rowcount:
        connection.execute(insert(followers).values(name=name, seq=seq, seen_at=now))


def forget_follower(connection: Connection, name: str) -> None:
    connection.execute(delete(followers).where(followers.c.name == name))


def forget_followers_in(connection: Connection, folder: str) -> None:
    """Forget the followers named by something in `folder`, but not by the folder itself."""
    below = func.substr(followers.c.name, 1, len(folder) + 1) == f"{folder}/"
    connection.execute(delete(followers).where(below))


def compaction_asked(connection: Connection) -> int:
    """The number of the last request to make every index's files anew, 0 for none."""
    return int(migrations.meta_value(connection, _COMPACTION_ASKED) or 0)


def ask_for_compaction(connection: Connection) -> int:
    """Enter such a request; returns its number."""
    number = compaction_asked(connection) + 1
    meta = schema.meta
    old = (_COMPACTION_ASKED, _COMPACTION_FAILURE)
    connection.execute(delete(meta).where(meta.c.key.in_(old)))
    connection.execute(insert(meta).values(key=_COMPACTION_ASKED, value=str(number)))
    return number


def note_compaction_failure(connection: Connection, reason: str) -> None:
    """Say why an index could not be made anew, for whoever asked for it."""
    meta = schema.meta
    connection.execute(delete(meta).where(meta.c.key == _COMPACTION_FAILURE))
    connection.execute(insert(meta).values(key=_COMPACTION_FAILURE, value=reason))


def compaction_failure(connection: Connection) -> str | None:
    """What went wrong since the last request, if anything did."""
    return migrations.meta_value(connection, _COMPACTION_FAILURE)


def collect_garbage(connection: Connection) -> None:
    """Drop what every follower has passed: replaced revisions, old log rows.

    What is to be done to files after it is noted for `erasure.Erasure.settle`.
    """
    oldest = connection.execute(
        select(func.min(followers.c.seq)).where(
            followers.c.seen_at > time.time() - FOLLOWER_FORGOTTEN_SECONDS
        )
    ).scalar()
    passed = head_seq(connection) if oldest is None else int(oldest)
    old = connection.execute(
        select(revisions.c.id, revisions.c.content_id, revisions.c.original).where(
            revisions.c.superseded_seq <= passed
        )
    ).all()
    for batch in batches([row.id for row in old]):
        connection.execute(delete(revisions).where(revisions.c.id.in_(batch)))
    content_rows.drop_unused_contents(connection, {row.content_id for row in old})
    if old:
        erasure.note_deletion(connection)
    connection.execute(delete(changes).where(changes.c.seq <= passed))
    # A follower that registers late must not move the horizon back over rows that are gone.
    horizon = max(passed, log_horizon(connection))
    connection.execute(
        update(schema.meta).where(schema.meta.c.key == "log_horizon").values(value=str(horizon))
    )
    erasure.note_originals(connection, {row.original for row in old if row.original})
