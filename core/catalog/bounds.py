"""What both databases can hold, checked before either is asked, so that both answer alike.

Postgres refuses a NUL in text and, in an index, an entry of more than 2,704 bytes; SQLite takes
both, stores a NaN as nothing, and neither takes half of a surrogate pair. It knows no tables.
Trade-off: SQLite's users are kept from a key of 3,000 bytes, and any catalog can move to Postgres.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from longleaf.core.catalog.records import DocumentWrite
from longleaf.core.errors import InvalidRequest
from longleaf.core.ids import MAX_KEY_BYTES, fits
from longleaf.core.types import MetaValue

MAX_INTEGER = (1 << 31) - 1
"""Of a column of four bytes."""


def is_storable(text: str) -> bool:
    """Whether a row can hold this text; what cannot be stored names nothing either."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def before_nul(text: str) -> str:
    """What texts without a NUL sort behind if they sort behind `text`."""
    return text.partition("\x00")[0]


def check_text(what: str, text: str) -> None:
    """Raise InvalidRequest, naming `what`, for text that no row can hold."""
    if not is_storable(text):
        raise InvalidRequest(
            f"{what}: holds a NUL character or half of a surrogate pair, which cannot be stored.",
            "Take it out of the text.",
        )


def check_name(what: str, text: str) -> None:
    """The same, and for text that no index can hold."""
    check_text(what, text)
    if not fits(text):
        raise InvalidRequest(
            f"{what}: {text[:60]!r}… has {len(text.encode()):,} bytes of UTF-8; up to "
            f"{MAX_KEY_BYTES:,} are taken.",
            "Give it a shorter name.",
        )


def check_finite(what: str, number: float | None) -> None:
    """Raise InvalidRequest for NaN and infinities, which JSON and columns take for nothing."""
    if number is not None and not math.isfinite(number):
        raise InvalidRequest(f"{what}: {number} cannot be stored.", "Give a finite number.")


def check_labels(key: str, metadata: Mapping[str, MetaValue]) -> None:
    """Raise InvalidRequest for a document's key or metadata that cannot be kept."""
    check_name("key", key)
    for name, value in metadata.items():
        check_name("metadata field", name)
        if isinstance(value, float):
            check_finite(f"metadata.{name[:100]}", value)


def check_document(write: DocumentWrite) -> None:
    """Raise InvalidRequest for a document that one of the databases could not hold."""
    check_labels(write.key, write.metadata)
    for group in write.groups:
        check_text("groups", group)
    check_finite("created_at", write.created_at)
    check_finite("updated_at", write.updated_at)
    if not 0 <= write.revision <= MAX_INTEGER:
        raise InvalidRequest(f"revision: {write.revision} is not one of 0 to {MAX_INTEGER:,}.")


def check_sources(keys: Iterable[str], mark: str) -> None:
    """Raise InvalidRequest for the key of a file, or of an upload behind `mark`."""
    for key in keys:
        check_name("source", key.removeprefix(mark))
