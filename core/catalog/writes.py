"""Putting and deleting documents inside one write transaction.

Everything slow (parsing, embedding, segment fsync) has happened before; a transaction only
inserts rows, and allocates `seq` last, under the write lock, so commit order is seq order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence

from sqlalchemy import (
    BigInteger,
    Connection,
    String,
    cast,
    delete,
    func,
    insert,
    select,
    update,
)

from longleaf.core import ids
from longleaf.core.catalog import checksums, content_rows, erasure, job_traces, schema, titles
from longleaf.core.catalog.database import insert_row
from longleaf.core.catalog.records import (
    DocumentWrite,
    PutResult,
    SourceWrite,
)
from longleaf.core.catalog.schema import (
    changes,
    documents,
    revisions,
    sources,
)
from longleaf.core.errors import NotFound
from longleaf.core.types import Outcome

UPLOAD_MARK = "upload:"
"""How the key of a source begins that was no file of a folder."""

IMPORTED_MARK = "imported:"
"""How `ingest_version` begins where only an import says that the source is a file here: its path is
the sender's word, and is not opened before `longleaf index` has come to it."""


def was_read_here(ingest_version: str) -> bool:
    """Whether a source was read to its end on this machine, and not only named by an import."""
    return bool(ingest_version) and not ingest_version.startswith(IMPORTED_MARK)


class ContentGone(Exception):
    """A digest that the writer counted on has been erased meanwhile: prepare it again."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest


def put_document(
    connection: Connection, write: DocumentWrite, content_id: int, source_id: int | None
) -> tuple[PutResult, list[tuple[int, str, int, str]]]:
    """Make `write` the current state of its document; returns the result and log entries.

    Where the file around a document changed but not the document (another line of a JSONL), its
    revision stays and only names the new original.
    """
    now = time.time()
    metadata = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in sorted(write.metadata.items())
    }
    wanted = {
        "content_id": content_id,
        "metadata": metadata,
        "groups": sorted(write.groups),
        "source": write.source,
        "media_type": write.media_type,
        "original": write.original,
        "language": write.language,
        "warnings": list(write.warnings),
    }
    old = connection.execute(
        select(documents, revisions.c.revision, *(revisions.c[name] for name in wanted))
        .join(revisions, revisions.c.id == documents.c.revision_id)
        .where(documents.c.collection == write.collection, documents.c.key == write.key)
    ).first()
    public_id = ids.document_id(write.collection, write.key)
    if old is not None and all(
        _same(old._mapping[name], value) for name, value in wanted.items() if name != "original"
    ):
        if source_id != old.source_id:
            connection.execute(
                update(documents).where(documents.c.id == old.id).values(source_id=source_id)
            )
        if write.original != old.original:
            connection.execute(
                update(revisions)
                .where(revisions.c.id == old.revision_id)
                .values(original=write.original)
            )
        same = PutResult(
            public_id,
            old.id,
            old.revision_id,
            old.revision,
            changed=False,
            replaced_original=old.original if old.original != write.original else None,
        )
        return same, []
    if old is None:
        document_id = insert_row(
            connection,
            insert(documents).values(
                public_id=public_id,
                collection=write.collection,
                key=write.key,
                revision_id=0,
                source_id=source_id,
                created_at=now if write.created_at is None else write.created_at,
                updated_at=now,
            ),
        )
        number = 1
    else:
        document_id, number = old.id, old.revision + 1
    number = max(number, write.revision)
    stated = {"document_id": int(document_id), "revision": number, **wanted}
    revision_id = insert_row(
        connection,
        insert(revisions).values(created_at=now, checksum=checksums.of_revision(stated), **stated),
    )
    connection.execute(
        update(documents)
        .where(documents.c.id == document_id)
        .values(
            revision_id=revision_id,
            source_id=source_id,
            title_key=titles.of_content(connection, content_id),
            updated_at=now if write.updated_at is None else write.updated_at,
        )
    )
    result = PutResult(
        public_id,
        int(document_id),
        int(revision_id),
        number,
        changed=True,
        replaced_source=_other_source(connection, old, source_id),
    )
    return result, [(int(document_id), write.collection, int(revision_id), "put")]


def _same(stored: object, wanted: object) -> bool:
    """Equal, and of the same type: 1, 1.0 and true are three values of metadata."""
    return json.dumps(stored, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def _other_source(connection: Connection, old: object, source_id: int | None) -> str | None:
    """The key of the file that this document came from before, if it was another one."""
    before = getattr(old, "source_id", None)
    if before is None or before == source_id:
        return None
    return connection.execute(select(sources.c.key).where(sources.c.id == before)).scalar()


def delete_documents(
    connection: Connection, document_ids: Sequence[int]
) -> tuple[list[tuple[int, str, int, str]], list[str]]:
    """Delete documents and what only they used; returns log entries and the originals let go of."""
    entries: list[tuple[int, str, int, str]] = []
    originals: set[str] = set()
    content_ids: set[int] = set()
    for row in connection.execute(select(documents).where(documents.c.id.in_(document_ids))).all():
        job_traces.forget_key(connection, row.collection, [row.key])
        # How its file ended may quote it; that it was read must stay, or it would be read again.
        of_file = sources.c.id == row.source_id
        connection.execute(update(sources).where(of_file).values(detail=""))
        for revision in connection.execute(
            select(revisions.c.content_id, revisions.c.original).where(
                revisions.c.document_id == row.id
            )
        ):
            content_ids.add(revision.content_id)
            if revision.original:
                originals.add(revision.original)
        entries.append((row.id, row.collection, row.revision_id, "delete"))
        connection.execute(delete(revisions).where(revisions.c.document_id == row.id))
        connection.execute(delete(documents).where(documents.c.id == row.id))
    content_rows.drop_unused_contents(connection, content_ids)
    if entries:
        erasure.note_deletion(connection)
    return entries, sorted(originals)


def forget_part(connection: Connection, source_id: int, original: str | None) -> None:
    """A document of this file was deleted: what else the file is known by must not tell of it.

    The original holds it, so the file's other documents let go of that; another file with the same
    bytes keeps it. An upload without any document left is forgotten.
    """
    of_file = select(documents.c.id).where(documents.c.source_id == source_id)
    if original is not None:
        connection.execute(
            update(revisions)
            .where(revisions.c.document_id.in_(of_file), revisions.c.original == original)
            .values(original=None)
        )
    left = len(connection.execute(of_file).all())
    this = sources.c.id == source_id
    if (
        left == 0
        and connection.execute(
            select(sources.c.id).where(this, sources.c.key.startswith(UPLOAD_MARK))
        ).first()
    ):
        connection.execute(delete(sources).where(this))
        return
    connection.execute(update(sources).where(this).values(document_count=left))


def put_source(connection: Connection, write: SourceWrite) -> int:
    """Record how a file ended; returns the source's id."""
    require_collection(connection, write.collection)
    values = {
        "sha256": write.sha256,
        "size_bytes": write.size_bytes,
        "mtime_ns": write.mtime_ns,
        "ingest_version": write.ingest_version,
        "outcome": write.outcome.value,
        "reason": write.reason,
        "detail": write.detail,
        "document_count": write.document_count,
        "updated_at": time.time(),
    }
    known = connection.execute(
        select(sources.c.id).where(
            sources.c.collection == write.collection, sources.c.key == write.key
        )
    ).scalar()
    if known is None:
        row = insert(sources).values(collection=write.collection, key=write.key, **values)
        return insert_row(connection, row)
    connection.execute(update(sources).where(sources.c.id == known).values(**values))
    return int(known)


def note_fields(connection: Connection, documents: Iterable[DocumentWrite]) -> None:
    """Remember which metadata fields a collection has."""
    table = schema.metadata_fields
    named = {(write.collection, name) for write in documents for name in write.metadata}
    for collection in {collection for collection, _ in named}:
        known = select(table.c.collection, table.c.name).where(table.c.collection == collection)
        named -= {(row.collection, row.name) for row in connection.execute(known)}
    if named:
        rows = [{"collection": collection, "name": name} for collection, name in sorted(named)]
        connection.execute(insert(table), rows)


def source_id(connection: Connection, collection: str, key: str) -> int:
    """The id of a source, marked as interrupted until `put_source` says how it ended."""
    known = connection.execute(
        select(sources.c.id, sources.c.outcome).where(
            sources.c.collection == collection, sources.c.key == key
        )
    ).first()
    if known is not None:
        if known.outcome != Outcome.INTERRUPTED.value:
            connection.execute(
                update(sources)
                .where(sources.c.id == known.id)
                .values(outcome=Outcome.INTERRUPTED.value, size_bytes=-1, mtime_ns=-1)
            )
        return int(known.id)
    unfinished = SourceWrite(collection, key, None, -1, -1, "", Outcome.INTERRUPTED)
    return put_source(connection, unfinished)


def require_collection(connection: Connection, name: str) -> None:
    """Raise NotFound unless the collection is there."""
    found = connection.execute(
        select(schema.collections.c.name).where(schema.collections.c.name == name)
    ).first()
    if found is None:
        raise NotFound(
            f"There is no collection {name!r}.", f"Create it: longleaf collections create {name}"
        )


def append_log(connection: Connection, entries: Sequence[tuple[int, str, int, str]]) -> int:
    """Write log rows with the next seqs, last in the transaction; returns the head seq."""
    last = schema.meta.c.value
    # Held until the commit: even beside somebody without the write lock, commit order is seq order.
    allocated = (
        update(schema.meta)
        .where(schema.meta.c.key == "last_seq")
        .values(value=cast(cast(last, BigInteger) + len(entries), String))
        .returning(last)
    )
    head = int(connection.execute(allocated).scalar_one())
    seq = head - len(entries)
    rows = []
    for document_id, collection, revision_id, op in entries:
        seq += 1
        rows.append(
            {
                "seq": seq,
                "document_id": document_id,
                "collection": collection,
                "revision_id": revision_id,
                "op": op,
            }
        )
        # A replaced revision stays readable until every index has followed past this row.
        connection.execute(
            update(revisions)
            .where(
                revisions.c.document_id == document_id,
                revisions.c.id != revision_id,
                revisions.c.superseded_seq.is_(None),
            )
            .values(superseded_seq=seq)
        )
    if rows:
        connection.execute(insert(changes), rows)
    return head


def document_count(connection: Connection, collection: str) -> int:
    """How many documents a collection has."""
    return int(
        connection.execute(
            select(func.count()).select_from(documents).where(documents.c.collection == collection)
        ).scalar_one()
    )
