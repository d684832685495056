"""Names that every process computes alike: point ids in an index and public document ids.

A point id packs (revision_id, ordinal, aside) into 64 bits, so an index answers with plain integers
and neither grouping by document nor weighing down a bibliography needs a payload read. Revision ids
are never reused (AUTOINCREMENT), so a point id names one passage of one state of one document for
ever.
"""

from __future__ import annotations

import base64
import hashlib

PART_MARK = "!/"
"""Between a file's key and the name of a part of it, as in `mail.eml!/contract.docx`."""
MAX_KEY_BYTES = 2_000
"""Of the key of a document or a file, in UTF-8: an index of Postgres holds 2,704 in an entry."""
ORDINAL_BITS = 20
MAX_PASSAGES_PER_DOCUMENT = 1 << ORDINAL_BITS
_REVISION_SHIFT = ORDINAL_BITS + 1
_MAX_REVISION_ID = 1 << (63 - _REVISION_SHIFT)


def point_id(revision_id: int, ordinal: int, aside: bool = False) -> int:
    """The index's id of passage `ordinal` of revision `revision_id`; fits a signed 64-bit int.

    `aside`: the passage's role is (`Role.is_aside`), and search weighs it down.
    """
    assert 0 <= ordinal < MAX_PASSAGES_PER_DOCUMENT, ordinal
    assert 0 <= revision_id < _MAX_REVISION_ID, revision_id
    return (revision_id << _REVISION_SHIFT) | (ordinal << 1) | aside


def split_point_id(point: int) -> tuple[int, int]:
    """(revision_id, ordinal) of a point id."""
    return point >> _REVISION_SHIFT, (point >> 1) & (MAX_PASSAGES_PER_DOCUMENT - 1)


def is_aside(point: int) -> bool:
    """Whether the passage is one that search weighs down."""
    return bool(point & 1)


def fits(key: str) -> bool:
    """Whether a catalog can keep that key, whichever database it is in."""
    return len(key.encode("utf-8", "surrogatepass")) <= MAX_KEY_BYTES


def document_id(collection: str, key: str) -> str:
    """The public id of a document: 26 lower-case characters, the same on every machine."""
    digest = hashlib.sha256(f"{collection}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest[:16]).decode("ascii").rstrip("=").lower()
