"""Mending what a check found, with what the catalog still has; nothing that it refers to goes.

An index is mended through the log: a document named in it anew is applied anew by whoever follows,
in whichever process. Passages and vectors are made again from the text. Indexes of the SQLite file
are made again from its tables. Texts, metadata and originals are not made from anything here: they
come back from a backup or from their files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlalchemy import Connection, delete, select

from longleaf.core.catalog import content_rows, feed, generations, reads, schema, writes
from longleaf.core.catalog.catalog import Catalog
from longleaf.core.catalog.records import ContentWrite, DocumentText, Generation
from longleaf.core.catalog.verify import Check

_ABOUT_INDEXES = ("missing from index", "wrong # of entries in index", "non-unique entry in index")


def only_indexes_are_damaged(check: Check) -> bool:
    """Whether all that SQLite complains of is what `remake_indexes` makes right."""
    named = len(check.problems) == check.wrong
    return named and all(
        any(words in problem.detail for words in _ABOUT_INDEXES) for problem in check.problems
    )


def remake_indexes(path: Path) -> None:
    """Make the SQLite file's own indexes anew from its tables."""
    import contextlib
    import sqlite3

    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=60.0)) as file:
        file.execute("PRAGMA synchronous=FULL")
        file.execute("REINDEX")


def push_again(catalog: Catalog, document_ids: Iterable[int]) -> int:
    """Name documents in the log anew, so that every index applies their current state.

    Ids of documents that are no longer there make indexes drop what they still have of them.
    Returns how many were named.
    """
    wanted = sorted(set(document_ids))
    with catalog._database.writing() as connection:
        _name_again(connection, wanted)
    return len(wanted)


def _name_again(connection: Connection, document_ids: Sequence[int]) -> None:
    table = schema.documents
    for batch in reads.batches(document_ids):
        query = select(table.c.id, table.c.collection, table.c.revision_id).where(
            table.c.id.in_(reads.among(batch))
        )
        known = {row.id: (row.collection, row.revision_id) for row in connection.execute(query)}
        entries = [
            (document_id, *known[document_id], "put")
            if document_id in known
            else (document_id, "", 0, "delete")
            for document_id in batch
        ]
        writes.append_log(connection, entries)


def remake_passages(catalog: Catalog, generation: Generation, content: ContentWrite) -> None:
    """Replace a content's passages and vectors of `generation`, in one transaction."""
    refs = catalog._append_tokens(content)
    catalog._segment_writer.sync()
    passages, chunkings, contents = schema.passages, schema.chunkings, schema.contents
    with catalog._database.writing() as connection:
        generations.require_open(connection, generation)
        content_id = connection.execute(
            select(contents.c.id).where(contents.c.digest == content.digest)
        ).scalar()
        if content_id is None:
            return
        for table in (passages, chunkings):
            connection.execute(
                delete(table).where(
                    table.c.content_id == content_id, table.c.chunker_id == generation.chunker_id
                )
            )
        content_rows.put_content(connection, content, refs, generation)
        revisions = schema.revisions
        documents = select(revisions.c.document_id).where(revisions.c.content_id == content_id)
        _name_again(connection, sorted({row[0] for row in connection.execute(documents)}))


def content_text(catalog: Catalog, content_id: int) -> tuple[str, str, DocumentText] | None:
    """(digest, title, text) of a content; None when it has just been erased."""
    table = schema.contents
    with catalog._database.reading() as connection:
        row = connection.execute(
            select(table.c.digest, table.c.title).where(table.c.id == content_id)
        ).first()
        text = reads.document_text(connection, content_id)
    return None if row is None or text is None else (row.digest, row.title, text)


def followers(catalog: Catalog) -> dict[str, tuple[int, float]]:
    """name -> (seq, when it was last seen) of everything that holds back the log."""
    table = schema.followers
    with catalog._database.reading() as connection:
        rows = connection.execute(select(table).order_by(table.c.name))
        return {row.name: (int(row.seq), float(row.seen_at)) for row in rows}


def forgotten_after_seconds() -> float:
    return feed.FOLLOWER_FORGOTTEN_SECONDS
