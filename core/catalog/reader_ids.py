"""Passages' texts as token ids, for a reranker that reads text in tokens of its own.

Kept so that no tokenizer runs over a hundred candidates for each query. They are a cache: whatever
is missing or damaged, or of another tokenizer, is made from the text, and goes with its passage. It
knows no tokenizer, only the name of one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select

from longleaf.core.catalog import reads
from longleaf.core.catalog.schema import contents, passages, reader_ids

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TYPE = np.dtype("<u4")
_STORED = select(reader_ids).where(
    reader_ids.c.passage_id.in_(reads.AMONG), reader_ids.c.tokenizer == bindparam("wanted")
)


@dataclass(frozen=True, slots=True)
class TitledText:
    """A passage without ids: its document's title and its own text."""

    passage_id: int
    title: str
    text: str


def newest(connection: Connection) -> int:
    """The highest passage id, 0 where there is none."""
    return int(connection.execute(select(func.max(passages.c.id))).scalar() or 0)


def lacking(
    connection: Connection, tokenizer: str, after_id: int, limit: int
) -> tuple[TitledText, ...]:
    """Passages behind `after_id` that have no ids of this tokenizer, by id."""
    stored = and_(reader_ids.c.passage_id == passages.c.id, reader_ids.c.tokenizer == tokenizer)
    query = (
        select(
            passages.c.id,
            passages.c.content_id,
            passages.c.start_char,
            passages.c.end_char,
            contents.c.title,
        )
        .join(contents, contents.c.id == passages.c.content_id)
        .outerjoin(reader_ids, stored)
        .where(passages.c.id > after_id, reader_ids.c.passage_id.is_(None))
        .order_by(passages.c.id)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    spans = [(row.content_id, row.start_char, row.end_char) for row in rows]
    texts = reads.slices(connection, spans)
    return tuple(TitledText(row.id, row.title, text) for row, text in zip(rows, texts, strict=True))


def put(connection: Connection, tokenizer: str, made: Mapping[int, NDArray[np.uint32]]) -> int:
    """Keep the ids of passages that are still there; returns how many."""
    among = {"among": json.dumps(list(made))}
    there = connection.execute(select(passages.c.id).where(passages.c.id.in_(reads.AMONG)), among)
    kept = [int(passage_id) for passage_id in there.scalars()]
    connection.execute(delete(reader_ids).where(reader_ids.c.passage_id.in_(reads.AMONG)), among)
    rows = []
    for passage_id in kept:
        blob = np.asarray(made[passage_id]).astype(_TYPE).tobytes()
        rows.append(
            {
                "passage_id": passage_id,
                "tokenizer": tokenizer,
                "ids": blob,
                "checksum": _checksum(passage_id, blob),
            }
        )
    if rows:
        connection.execute(insert(reader_ids), rows)
    return len(rows)


def stored(
    connection: Connection, tokenizer: str, passage_ids: Sequence[int]
) -> dict[int, NDArray[np.uint32]]:
    """passage id -> (n,) uint32, of those that have ids of this tokenizer and check out."""
    asked = {"among": json.dumps(list(passage_ids)), "wanted": tokenizer}
    return {
        passage_id: np.frombuffer(blob, _TYPE)
        for passage_id, _, blob, checksum in connection.execute(_STORED, asked)
        if _checksum(passage_id, blob) == checksum
    }


def _checksum(passage_id: int, blob: bytes) -> int:
    return zlib.crc32(blob, zlib.crc32(passage_id.to_bytes(8, "little")))
