"""EML: a mail as it is sent, from bytes to `mail.Mail`.

The standard library takes the MIME tree apart under its older policy (compat32), and header values
are decoded here: under `email.policy.default` a Content-Type of 60 kB takes 106 s to read, and
3,000 recipients take 5 s. Bodies: plain text and HTML in the order they stand, alternatives side by
side. What has a file name or is sent as an attachment is one; signatures say nothing and are left
out.
"""

from __future__ import annotations

import base64
import email
import email.errors
import email.header
import email.message
import email.utils
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC

from longleaf.core.errors import Rejected, RejectReason
from longleaf.indexer.parsers.blocks import one_line
from longleaf.indexer.parsers.decode import clean, decode
from longleaf.indexer.parsers.encodings import codec_named
from longleaf.indexer.parsers.mail import Attachment, Mail
from longleaf.indexer.parsers.mail_kind import HEADER_LINE

_HEADER_CHARS = 20_000
"""Of one header that are read: 500 recipients. The rest of a longer one is named in a warning."""

_TEXT_HEADERS = ("from", "to", "cc", "bcc", "subject", "date", "message-id")
_SIGNATURES = ("application/pgp-signature", "application/pkcs7-signature",
               "application/x-pkcs7-signature")  # fmt: skip
_ENCODED_WORD = re.compile(r"=\?[\w.*-]{1,60}\?[bqBQ]\?[^?\n]{0,2000}\?=")


def read_eml(data: bytes, name: str) -> Mail:
    """The mail of a file. Raises `Rejected(MALFORMED)` for what is no mail."""
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    if data.startswith((b"From ", b">From ")):
        data = data.partition(b"\n")[2]  # a line that mail boxes put in front
    if HEADER_LINE.match(data) is None:
        raise Rejected(RejectReason.MALFORMED, f"{name} does not begin with a mail's header lines.")
    try:
        return _mail(email.message_from_bytes(data), name)
    except RecursionError as failure:
        raise Rejected(
            RejectReason.MALFORMED, f"{name} nests its parts too deep for a mail."
        ) from failure


@dataclass(slots=True)
class _Parts:
    """What has been found while walking a mail's parts."""

    plain: list[str] = field(default_factory=list)
    html: list[str] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    inline_images: int = 0
    sealed: str = ""
    warnings: list[str] = field(default_factory=list)


def _mail(message: email.message.Message, name: str) -> Mail:
    found = _Parts()
    headers = {
        label: value
        for label in _TEXT_HEADERS
        if (value := _header(message, label, found.warnings))
    }
    _walk(message, found, name)
    return Mail(
        headers=headers,
        date=_iso(headers.get("date", "")),
        plain="\n\n".join(found.plain),
        html="\n".join(found.html),
        attachments=tuple(found.attachments),
        inline_images=found.inline_images,
        sealed=found.sealed,
        warnings=tuple(dict.fromkeys(found.warnings)),
    )


# --- headers -------------------------------------------------------------------------------------


def _raw(message: email.message.Message, label: str) -> str:
    """A header as it stands in the file, the first of that name."""
    return next((str(value) for key, value in message.raw_items() if key.lower() == label), "")


def _header(message: email.message.Message, label: str, warnings: list[str]) -> str:
    raw = _raw(message, label)
    if len(raw) > _HEADER_CHARS:
        warnings.append(f"its {label.capitalize()} line is {len(raw):,} characters long: cut")
        raw = raw[:_HEADER_CHARS]
    return _decoded(raw)


def _decoded(raw: str) -> str:
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
            text += _text(part, charset)
    return text


def _text(data: bytes, charset: str | None) -> str:
    """Bytes in a charset that a mail declares, which may be wrong or unknown."""
    try:
        return decode(data, "text", codec_named(charset) if charset else None).text
    except Rejected:
        return data.decode("latin-1")


def _iso(stated: str) -> str:
    """A Date header as ISO 8601, "" for none that can be read."""
    try:
        found = email.utils.parsedate_to_datetime(stated)
        # "-0000" says that the place is not known; the moment is in UTC.
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
        return ""


# --- parts ---------------------------------------------------------------------------------------


def _walk(message: email.message.Message, found: _Parts, name: str) -> None:
    """Every part in order; of alternatives plain text and HTML are both kept, others are not."""
    waiting: list[tuple[email.message.Message, bool]] = [(message, False)]
    while waiting:
        part, is_alternative = waiting.pop()
        kind = _kind(part)
        payload = part.get_payload()
        if kind == "message/rfc822" or (kind.startswith("message/") and _holds_mail(payload)):
            inner = payload[0] if isinstance(payload, list) else None
            if isinstance(inner, email.message.Message):
                mail = _mail(_unpacked(part, inner), name)
                found.attachments.append(Attachment(_part_name(part), "message/rfc822", mail=mail))
        elif kind == "multipart/encrypted":
            found.sealed = "its content is encrypted (PGP or S/MIME)"
        elif isinstance(payload, list):
            inside = [each for each in payload if isinstance(each, email.message.Message)]
            if kind == "multipart/signed":
                inside = inside[:1]
            alternative = kind == "multipart/alternative"
            waiting += [(each, alternative) for each in reversed(inside)]
        else:
            _take(part, kind, found, is_alternative=is_alternative)


def _unpacked(part: email.message.Message, inner: email.message.Message) -> email.message.Message:
    """An attached mail that its sender encoded like a file, against the rules."""
    content = inner.get_payload()
    if "base64" not in _raw(part, "content-transfer-encoding").lower() or not isinstance(
        content, str
    ):
        return inner
    try:
        data = base64.b64decode(content)
    except ValueError:
        return inner
    return email.message_from_bytes(data) if HEADER_LINE.match(data) else inner


def _holds_mail(payload: object) -> bool:
    return isinstance(payload, list) and len(payload) == 1


def _kind(part: email.message.Message) -> str:
    """The media type; plain text where the header is too long to be one."""
    return (
        part.get_content_type() if len(_raw(part, "content-type")) < _HEADER_CHARS else "text/plain"
    )


def _take(part: email.message.Message, kind: str, found: _Parts, *, is_alternative: bool) -> None:
    """A part without parts: body text, a picture in it, or an attachment."""
    disposition = _raw(part, "content-disposition")[:40].strip().lower()
    part_name = _part_name(part)
    is_attachment = disposition.startswith("attachment") or bool(part_name)
    if kind in _SIGNATURES:
        return
    if kind in ("application/pkcs7-mime", "application/x-pkcs7-mime"):
        sealed = "signed-data" not in _raw(part, "content-type")
        found.sealed = f"its content is {'encrypted' if sealed else 'inside a signature'} (S/MIME)"
    content = part.get_payload(decode=True)
    data = content if isinstance(content, bytes) else b""
    if kind.startswith("text/") and not is_attachment:
        _take_text(part, kind, data, found)
    elif kind.startswith("image/") and (
        not disposition.startswith("attachment") or _raw(part, "content-id")
    ):
        found.inline_images += 1
    elif not is_alternative or is_attachment:
        if kind.startswith("text/") and data:
            # Its charset stands in the mail only, so the file alone would be read wrongly.
            data = _text(data, _charset(part)).encode("utf-8-sig")
        found.attachments.append(Attachment(part_name, kind, data))


def _take_text(part: email.message.Message, kind: str, data: bytes, found: _Parts) -> None:
    if not data or data.isspace():
        return
    charset = _charset(part)
    try:
        read = decode(data, "its text", codec_named(charset) if charset else None)
    except Rejected as failure:
        found.warnings.append(str(failure))
        return
    found.warnings += read.warnings
    if kind == "text/html":
        found.html.append(read.text)
    elif kind != "text/calendar":
        found.plain.append(_unflowed(part, read.text))


def _unflowed(part: email.message.Message, text: str) -> str:
    """Lines that a mail program broke for sending joined again (RFC 3676)."""
    if "flowed" not in _raw(part, "content-type")[:_HEADER_CHARS].lower():
        return text
    return "\n".join(_paragraphs(text.split("\n")))


def _paragraphs(lines: list[str]) -> Iterator[str]:
    running: list[str] = []
    for line in lines:
        is_signature = line == "-- "
        line = line[1:] if line.startswith(" ") else line  # stuffed so as not to look like a quote
        running.append(line)
        if not line.endswith(" ") or is_signature or line.startswith(">"):
            yield "".join(running)
            running = []
    if running:
        yield "".join(running)


def _charset(part: email.message.Message) -> str | None:
    if len(_raw(part, "content-type")) >= _HEADER_CHARS:
        return None
    try:
        return part.get_content_charset()
    except (ValueError, TypeError, AttributeError):
        return None


def _part_name(part: email.message.Message) -> str:
    """The file name that a part states, in any of the ways that mail programs do."""
    if (
        max(len(_raw(part, each)) for each in ("content-type", "content-disposition"))
        > _HEADER_CHARS
    ):
        return ""
    try:
        stated = part.get_filename()
    except (ValueError, TypeError, IndexError, AttributeError):
        return ""
    return _decoded(stated) if stated else ""
