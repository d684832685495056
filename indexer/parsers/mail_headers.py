"""A mail's header lines, from what stands in the file to text for people.

Mail programs break the rules (raw bytes, unknown charsets, lines without end), so every value is
read as well as it can be and none raises.
"""

from __future__ import annotations

import email.errors
import email.header
import email.message
import email.utils
import re
from datetime import UTC

from longleaf.core.errors import Rejected
from longleaf.indexer.parsers.blocks import one_line
from longleaf.indexer.parsers.decode import clean, decode
from longleaf.indexer.parsers.encodings import codec_named

HEADER_CHARS = 20_000
"""Of one header that are read: 500 recipients. The rest of a longer one is named in a warning."""

_ENCODED_WORD = re.compile(r"=\?[\w.*-]{1,60}\?[bqBQ]\?[^?\n]{0,2000}\?=")


def raw_header(message: email.message.Message, label: str) -> str:
    """A header as it stands in the file, the first of that name."""
    return next((str(value) for key, value in message.raw_items() if key.lower() == label), "")


def header(message: email.message.Message, label: str, warnings: list[str]) -> str:
    raw = raw_header(message, label)
    if len(raw) > HEADER_CHARS:
        warnings.append(f"its {label.capitalize()} line is {len(raw):,} characters long: cut")
        raw = raw[:HEADER_CHARS]
    return decoded(raw)


def decoded(raw: str) -> str:
    """A header's value for people: encoded words read, folded lines joined."""
    if any("\udc80" <= char <= "\udcff" for char in raw):
        bytes_of_it = raw.encode("utf-8", "surrogateescape")
        raw = decode(bytes_of_it, "header").text
    if "=?" in raw:
        # Encoded words that follow each other may share one character's bytes.
        raw = re.sub(r"(?<=\?=)\s+(?==\?)", " ", raw)
        raw = re.sub(
            rf"{_ENCODED_WORD.pattern}(?: {_ENCODED_WORD.pattern})*",
            lambda match: _words(match.group()),
            raw,
        )
    return one_line(clean(raw).text)


def _words(encoded: str) -> str:
    """Encoded words as text; as they stand where they cannot be read."""
    try:
        parts = email.header.decode_header(encoded)
    except (email.errors.HeaderParseError, ValueError):
        return encoded
    text = ""
    for part, charset in parts:
        if isinstance(part, str):
            text += part
        elif part:
            text += text_in(part, charset)
    return text


def text_in(data: bytes, charset: str | None) -> str:
    """Bytes in a charset that a mail declares, which may be wrong or unknown."""
    try:
        return decode(data, "text", codec_named(charset) if charset else None).text
    except Rejected:
        return data.decode("latin-1")


def iso_date(stated: str) -> str:
    """A Date header as ISO 8601, "" for none that can be read."""
    try:
        found = email.utils.parsedate_to_datetime(stated)
        # "-0000" says that the place is not known; the moment is in UTC.
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
        return ""
