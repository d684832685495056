"""A content's rows: text, layout, passages, vectors; put whole or in slices, found when whole.

Inside somebody else's transaction, like `writes`. It knows no documents: who has a content is a
revision's affair, and a content that nobody has is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, func, insert, select

from longleaf.core.catalog import checksums, erasure, reads, title_words, versions
from longleaf.core.catalog.database import insert_row
from longleaf.core.catalog.records import ContentWrite, Generation
from longleaf.core.catalog.schema import (
    TEXT_BLOCK_CHARS,
    chunkings,
    contents,
    layouts,
    passages,
    revisions,
    segments,
    text_blocks,
    vectors,
)
from longleaf.core.catalog.segments import SegmentRef


def find_content(connection: Connection, digest: str, generation: Generation) -> int | None:
    """The content with this digest if it has all this generation's vectors, else None."""
    found = connection.execute(
        select(contents.c.id)
        .join(chunkings, chunkings.c.content_id == contents.c.id)
        .where(
            contents.c.digest == digest,
            chunkings.c.chunker_id == generation.chunker_id,
            reads.is_complete(generation),
        )
    ).scalar_one_or_none()
    return None if found is None else int(found)


def put_content(
    connection: Connection,
    content: ContentWrite,
    refs: Sequence[SegmentRef | None],
    generation: Generation,
) -> int:
    """Store text, passages and vectors of one generation; returns the content's id.

    The vectors are those of the passages from `content.first` on. What is there already stays.
    """
    content_id = connection.execute(
        select(contents.c.id).where(contents.c.digest == content.digest)
    ).scalar_one_or_none()
    if content_id is None:
        content_id = _insert_text(connection, content)
    if content.signature is not None:
        versions.put_signature(connection, content_id, content.signature)
    passage_ids = _passage_ids(connection, content_id, content, generation)
    have = _with_vectors(connection, passage_ids, generation)
    pairs = zip(passage_ids, refs, strict=True)
    erasure.note_records(connection, [ref for each, ref in pairs if ref and each in have])
    segment_ids = _segment_ids(connection, {ref.segment for ref in refs if ref})
    rows: list[dict[str, Any]] = [
        {
            "passage_id": passage_id,
            "embedder_id": generation.embedder_id,
            "dense": vector.dense.astype("<f2").tobytes(),
            "segment_id": segment_ids[ref.segment] if ref else None,
            "segment_offset": ref.offset if ref else None,
            "truncated_tokens": vector.truncated_tokens,
        }
        for passage_id, vector, ref in zip(passage_ids, content.vectors, refs, strict=True)
        if passage_id not in have
    ]
    for row in rows:
        row["checksum"] = checksums.of_vector(row)
    if rows:
        connection.execute(insert(vectors), rows)
    return int(content_id)


def vectors_written(connection: Connection, digest: str, generation: Generation) -> int:
    """How many passages of a content have their vectors: where a long one is to be gone on with."""
    return int(
        connection.execute(
            select(func.count())
            .select_from(contents)
            .join(passages, passages.c.content_id == contents.c.id)
            .join(vectors, vectors.c.passage_id == passages.c.id)
            .where(
                contents.c.digest == digest,
                passages.c.chunker_id == generation.chunker_id,
                vectors.c.embedder_id == generation.embedder_id,
            )
        ).scalar_one()
    )


def _passage_ids(
    connection: Connection, content_id: int, content: ContentWrite, generation: Generation
) -> list[int]:
    """The ids of the passages that `content` has vectors for; all are inserted if none is there."""
    chunked = select(chunkings.c.content_id).where(
        chunkings.c.content_id == content_id, chunkings.c.chunker_id == generation.chunker_id
    )
    if connection.execute(chunked).first() is None:
        _insert_passages(connection, content_id, content, generation)
    rows = connection.execute(
        select(passages.c.id)
        .where(
            passages.c.content_id == content_id,
            passages.c.chunker_id == generation.chunker_id,
            passages.c.ordinal >= content.first,
            passages.c.ordinal < content.first + len(content.vectors),
        )
        .order_by(passages.c.ordinal)
    )
    return [int(row.id) for row in rows]


def _with_vectors(
    connection: Connection, passage_ids: Sequence[int], generation: Generation
) -> set[int]:
    """Those of the passages that have this generation's vectors already."""
    found: set[int] = set()
    for batch in reads.batches(passage_ids):
        rows = connection.execute(
            select(vectors.c.passage_id).where(
                vectors.c.passage_id.in_(reads.among(batch)),
                vectors.c.embedder_id == generation.embedder_id,
            )
        )
        found.update(row.passage_id for row in rows)
    return found


def _insert_text(connection: Connection, content: ContentWrite) -> int:
    document = content.document
    content_id = insert_row(
        connection,
        insert(contents).values(
            digest=content.digest,
            title=document.title,
            text_chars=len(document.text),
            pages=[[page.number, page.start_char, page.end_char] for page in document.pages],
            sections=[[s.title, s.level, s.start_char, s.end_char] for s in document.sections],
            regions=[[each.role, each.start_char, each.end_char] for each in document.regions],
        ),
    )
    title_words.put_words(connection, content_id, document.title)
    if document.layout is not None:
        connection.execute(
            insert(layouts).values(content_id=content_id, data=document.layout.to_bytes())
        )
    blocks = [
        {
            "content_id": content_id,
            "ordinal": ordinal,
            "text": document.text[begin : begin + TEXT_BLOCK_CHARS],
        }
        for ordinal, begin in enumerate(range(0, len(document.text), TEXT_BLOCK_CHARS))
    ]
    if blocks:
        connection.execute(insert(text_blocks), blocks)
    return int(content_id)


def _insert_passages(
    connection: Connection, content_id: int, content: ContentWrite, generation: Generation
) -> None:
    rows: list[dict[str, Any]] = [
        {
            "content_id": content_id,
            "chunker_id": generation.chunker_id,
            "ordinal": passage.ordinal,
            "start_char": passage.start_char,
            "end_char": passage.end_char,
            "first_page": passage.first_page,
            "last_page": passage.last_page,
            "headings": list(passage.headings),
            "token_count": passage.token_count,
            "overlap_chars": passage.overlap_chars,
            "role": passage.role.value,
        }
        for passage in content.passages
    ]
    for row in rows:
        row["checksum"] = checksums.of_passage(row)
    if rows:
        connection.execute(insert(passages), rows)
    first = select(passages.c.id).where(
        passages.c.content_id == content_id,
        passages.c.chunker_id == generation.chunker_id,
        passages.c.ordinal == 0,
    )
    connection.execute(
        insert(chunkings).values(
            content_id=content_id,
            chunker_id=generation.chunker_id,
            first_passage_id=connection.execute(first).scalar(),
            passage_count=len(rows),
            token_count=sum(passage.token_count for passage in content.passages),
        )
    )


def _segment_ids(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in sorted(names):
        known = connection.execute(select(segments.c.id).where(segments.c.name == name)).scalar()
        if known is None:
            known = insert_row(connection, insert(segments).values(name=name))
        found[name] = int(known)
    return found


def drop_unused_contents(connection: Connection, content_ids: Iterable[int]) -> int:
    """Delete those of `content_ids` that no revision refers to; returns how many."""
    dropped = 0
    for content_id in sorted(content_ids):
        used = connection.execute(
            select(revisions.c.id).where(revisions.c.content_id == content_id).limit(1)
        ).first()
        if used is None:
            erasure.note_content(connection, content_id)
            connection.execute(delete(contents).where(contents.c.id == content_id))
            dropped += 1
    return dropped


def dense_from_blob(blob: bytes) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """(dim,) float32 from a stored (dim,) float16 little-endian blob."""
    return np.frombuffer(blob, dtype="<f2").astype(np.float32)
