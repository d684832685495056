"""Checksums of the rows that nothing else could prove right: found flipped, they are told.

A content is checked by its digest, an original by its name, a token record by its own CRC; a
document's public id is made of its key. What is left are the places of passages, dense vectors,
and a revision's metadata and access groups: SQLite keeps whatever the disk gives back. CRC-32
finds every damage of up to 32 neighbouring bits and misses one in four billion of the others; it
is no proof against somebody who writes to the file. Cost: about five bytes a row. `verify.py`
compares; a column that is added to these tables and means something belongs in here.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

_PASSAGE = (
    "content_id",
    "chunker_id",
    "ordinal",
    "start_char",
    "end_char",
    "first_page",
    "last_page",
    "headings",
    "token_count",
    "overlap_chars",
    "role",
)
_VECTOR = ("passage_id", "embedder_id", "segment_id", "segment_offset", "truncated_tokens")
# `original` is proven by the file it names and changes with the file around a document;
# `superseded_seq` is written when the next revision comes.
_REVISION = (
    "document_id",
    "revision",
    "content_id",
    "metadata",
    "groups",
    "source",
    "media_type",
    "language",
    "warnings",
)


def of_passage(row: Mapping[str, Any]) -> int:
    """The checksum of a row of `passages`."""
    return _of_values(row, _PASSAGE)


def of_vector(row: Mapping[str, Any]) -> int:
    """The checksum of a row of `vectors`, its blob included."""
    known = struct.pack("<5q", *(-1 if row[name] is None else row[name] for name in _VECTOR))
    return zlib.crc32(row["dense"], zlib.crc32(known))


def of_revision(row: Mapping[str, Any]) -> int:
    """The checksum of a row of `revisions`."""
    return _of_values(row, _REVISION)


def _of_values(row: Mapping[str, Any], names: tuple[str, ...]) -> int:
    values = [row[name] for name in names]
    return zlib.crc32(json.dumps(values, sort_keys=True).encode("ascii"))
