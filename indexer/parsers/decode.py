"""Bytes to text that every later stage can store: no lone surrogates, no NULs, "\\n" line ends.

Knows byte order marks, UTF-8, UTF-16 without a mark (told by its NULs) and ISO-2022-JP; all else is
`encodings`' guess, and a warning names it. Knows no file format: what one declares its parser finds
(`charset_in_markup` for HTML and XML) and hands in.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from longleaf.core.errors import Rejected, RejectReason
from longleaf.indexer.parsers import encodings

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    # UTF-32 first: its little-endian mark begins with UTF-16's.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_CONTROL_BYTES = bytes(b for b in range(32) if b not in b"\t\n\v\f\r\x1b")
_SNIFF_BYTES = 65_536
_BINARY_SHARE = 0.05  # of control bytes; prose has none, compressed data about 0.1
_PRESCAN_BYTES = 4_096
_XML_ENCODING = re.compile(
    rb"\s*<\?xml\b[^>]{0,200}?\bencoding\s*=\s*[\"']([\w.:-]{2,40})[\"']", re.I
)
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.I)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text ready to be a document's, and what the user should know about how it was read."""

    text: str
    warnings: tuple[str, ...] = ()


def refuse_empty(data: bytes, name: str) -> None:
    """Raise `Rejected(EMPTY)` for a file of zero bytes."""
    if not data:
        raise Rejected(RejectReason.EMPTY, f"{name} is empty (0 bytes).")


def clean(text: str, what: str = "text") -> Decoded:
    """`text` with NULs and lone surrogates as U+FFFD, a warning counting them, and "\\n" only."""
    text, replaced = _UNSTORABLE.subn("\ufffd", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not replaced:
        return Decoded(text)
    return Decoded(text, (f"{what}: {replaced} unreadable characters replaced by U+FFFD",))


def looks_binary(data: bytes) -> bool:
    """Whether the first 64 KiB are no text in any encoding known here."""
    head = data[:_SNIFF_BYTES]
    if any(head.startswith(bom) for bom, _ in _BOMS) or _utf16_without_bom(head):
        return False
    return len(head) - len(head.translate(None, _CONTROL_BYTES)) > _BINARY_SHARE * len(head)


def charset_in_markup(data: bytes) -> str | None:
    """The codec that HTML or XML declares: in a `meta` element, else in the XML declaration."""
    head = data[:_PRESCAN_BYTES]
    for declaration in (_META_CHARSET.search(head), _XML_ENCODING.match(head)):
        if declaration is not None:
            codec = encodings.codec_named(declaration.group(1).decode("ascii", "replace"))
            if codec is not None:
                return codec
    return None


def decode(data: bytes, name: str, declared: str | None = None) -> Decoded:
    """The text of `data`: by its byte order mark, else `declared`, else by what it looks like.

    `declared` is a codec that `encodings.codec_named` gave for what the format itself states; one
    of Unicode's is only believed where the bytes agree. Raises `Rejected`: EMPTY for no bytes,
    MALFORMED for binary data.
    """
    refuse_empty(data, name)
    if looks_binary(data):
        raise Rejected(
            RejectReason.MALFORMED,
            f"{name} holds binary data, not text.",
            "If it is a document of another type, give it the right suffix.",
        )
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return _decode_as(data[len(bom) :], encoding)
    if declared is not None and not declared.startswith("utf"):
        return _decode_as(data, declared)
    if (encoding_seen := _utf16_without_bom(data[:_SNIFF_BYTES])) is not None:
        read = _decode_as(data, encoding_seen)
        note = f"no byte order mark: read as {encoding_seen.upper()}"
        return Decoded(read.text, (note, *read.warnings))
    return _decode_unmarked(data)


def _decode_as(data: bytes, encoding: str) -> Decoded:
    text = data.decode(encoding, "replace")
    # A U+FFFD may stand in the source itself; only what decoding adds is worth a warning.
    bad = len(text) - len(data.decode(encoding, "ignore")) if "\ufffd" in text else 0
    note = (f"{bad} byte sequences are not valid {encoding.upper()}",) if bad > 0 else ()
    cleaned = clean(text)
    return Decoded(cleaned.text, note + cleaned.warnings)


def _decode_unmarked(data: bytes) -> Decoded:
    if encodings.is_iso2022_jp(data):
        return _decode_guessed(data, "iso2022_jp_ext")
    try:
        return clean(data.decode("utf-8"))
    except UnicodeDecodeError:
        lenient = data.decode("utf-8", "replace")
    bad = lenient.count("\ufffd")
    multibyte = sum(not char.isascii() for char in lenient) - bad
    # Text in any other encoding almost never forms valid UTF-8 sequences; damaged UTF-8 has many.
    if multibyte >= 4 * bad:
        return _decode_as(data, "utf-8")
    return _decode_guessed(data, encodings.guess(data))


def _decode_guessed(data: bytes, encoding: str) -> Decoded:
    if encoding == "cp1252":
        try:
            data.decode(encoding)
        except UnicodeDecodeError:
            encoding = "latin-1"  # has all 256 values, so no byte is lost
    read = _decode_as(data, encoding)
    shown = "Latin-1" if encoding == "latin-1" else encodings.shown(encoding)
    return Decoded(read.text, (f"not UTF-8: read as {shown}", *read.warnings))


def _utf16_without_bom(head: bytes) -> str | None:
    """Western text in UTF-16 has a NUL in nearly every second byte, and none in the others."""
    half = len(head) // 2
    if half < 8:
        return None
    even, odd = head[: 2 * half : 2].count(0), head[1 : 2 * half : 2].count(0)
    if odd > 0.7 * half and even < 0.02 * half:
        return "utf-16-le"
    if even > 0.7 * half and odd < 0.02 * half:
        return "utf-16-be"
    return None
