"""EML: a mail as it is sent, from bytes to `mail.Mail`.

The standard library takes the MIME tree apart under its older policy (compat32), and header values
are decoded in `mail_headers`: under `email.policy.default` a Content-Type of 60 kB takes 106 s to
read, and 3,000 recipients take 5 s. Bodies: texts in the order they stand, only the sides of an
alternative as a choice. What has a file name or is sent as an attachment is one; signatures say
nothing and are left out.
"""

from __future__ import annotations

import base64
import email
import email.errors
import email.header
import email.message
import email.utils
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from longleaf.core.errors import Rejected, RejectReason
from longleaf.indexer.parsers.decode import decode
from longleaf.indexer.parsers.encodings import codec_named
from longleaf.indexer.parsers.mail import Attachment, Mail
from longleaf.indexer.parsers.mail_body import BodyPart, Choice, Words
from longleaf.indexer.parsers.mail_headers import (
    HEADER_CHARS,
    decoded,
    header,
    iso_date,
    raw_header,
    text_in,
)
from longleaf.indexer.parsers.mail_kind import HEADER_LINE

_MAX_CHOICES = 20
"""Alternatives inside each other; what is deeper is read like texts that follow each other."""

_TEXT_HEADERS = ("from", "to", "cc", "bcc", "subject", "date", "message-id")
_SIGNATURES = ("application/pgp-signature", "application/pkcs7-signature",
               "application/x-pkcs7-signature")  # fmt: skip


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
    """What has been found beside the texts while walking a mail's parts."""

    attachments: list[Attachment] = field(default_factory=list)
    inline_images: int = 0
    sealed: str = ""
    warnings: list[str] = field(default_factory=list)


def _mail(message: email.message.Message, name: str) -> Mail:
    found = _Parts()
    headers = {
        label: value for label in _TEXT_HEADERS if (value := header(message, label, found.warnings))
    }
    body = _walk(message, found, name)
    return Mail(
        headers=headers,
        date=iso_date(headers.get("date", "")),
        body=tuple(body),
        attachments=tuple(found.attachments),
        inline_images=found.inline_images,
        sealed=found.sealed,
        warnings=tuple(dict.fromkeys(found.warnings)),
    )


def _walk(
    message: email.message.Message, found: _Parts, name: str, choices: int = 0
) -> list[BodyPart]:
    """The texts of every part in order; attachments and what cannot be read go to `found`."""
    texts: list[BodyPart] = []
    waiting = [message]
    while waiting:
        part = waiting.pop()
        kind = _kind(part)
        payload = part.get_payload()
        if kind == "message/delivery-status" and isinstance(payload, list):
            texts.append(Words(plain="\n".join(_delivery_lines(payload))))
        elif kind == "message/rfc822" or (kind.startswith("message/") and _holds_mail(payload)):
            inner = payload[0] if isinstance(payload, list) else None
            if isinstance(inner, email.message.Message):
                mail = _mail(_unpacked(part, inner), name)
                found.attachments.append(Attachment(_part_name(part), "message/rfc822", mail=mail))
        elif kind == "multipart/encrypted":
            found.sealed = "its content is encrypted (PGP or S/MIME)"
        elif isinstance(payload, list):
            inside = [each for each in payload if isinstance(each, email.message.Message)]
            if kind == "multipart/alternative" and choices < _MAX_CHOICES:
                texts += _alternatives(inside, found, name, choices + 1)
            else:
                waiting += inside[:1] if kind == "multipart/signed" else reversed(inside)
        else:
            texts += _take(part, kind, found)
    return texts


def _alternatives(
    parts: list[email.message.Message], found: _Parts, name: str, choices: int
) -> list[BodyPart]:
    """A choice of the sides that can be read; others (a calendar entry) only where none can."""
    readable = [part for part in parts if _is_side(part)]
    others = [part for part in parts if not _is_side(part)]
    walked = (_walk(part, found, name, choices) for part in readable)
    sides = tuple(tuple(side) for side in walked if side)
    if not sides:
        return [text for part in others for text in _walk(part, found, name, choices)]
    found.warnings += (f"another form of its text was not read: {_kind(each)}" for each in others)
    return [Choice(sides)]


def _is_side(part: email.message.Message) -> bool:
    kind = _kind(part)
    is_known = kind in ("text/plain", "text/html") or kind.startswith(
        ("multipart/", "message/", "image/")
    )
    return is_known or _is_attachment(part)


def _delivery_lines(blocks: Sequence[object]) -> Iterator[str]:
    """What became of a mail, as its delivery report says (RFC 3464: blocks of header lines)."""
    for block in blocks:
        if isinstance(block, email.message.Message):
            for label, value in block.raw_items():
                yield f"{label}: {decoded(str(value)[:HEADER_CHARS])}"


def _unpacked(part: email.message.Message, inner: email.message.Message) -> email.message.Message:
    """An attached mail that its sender encoded like a file, against the rules."""
    content = inner.get_payload()
    if "base64" not in raw_header(part, "content-transfer-encoding").lower() or not isinstance(
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
        part.get_content_type()
        if len(raw_header(part, "content-type")) < HEADER_CHARS
        else "text/plain"
    )


def _is_attachment(part: email.message.Message) -> bool:
    return _disposition(part).startswith("attachment") or bool(_part_name(part))


def _disposition(part: email.message.Message) -> str:
    return raw_header(part, "content-disposition")[:40].strip().lower()


def _take(part: email.message.Message, kind: str, found: _Parts) -> list[BodyPart]:
    """A part without parts: a text, which is returned, a picture in it, or an attachment."""
    if kind in _SIGNATURES:
        return []
    if kind in ("application/pkcs7-mime", "application/x-pkcs7-mime"):
        sealed = "signed-data" not in raw_header(part, "content-type")
        found.sealed = f"its content is {'encrypted' if sealed else 'inside a signature'} (S/MIME)"
    content = part.get_payload(decode=True)
    data = content if isinstance(content, bytes) else b""
    if kind.startswith("text/") and not _is_attachment(part):
        return _take_text(part, kind, data, found)
    if kind.startswith("image/") and (
        not _disposition(part).startswith("attachment") or raw_header(part, "content-id")
    ):
        found.inline_images += 1
        return []
    if kind.startswith("text/") and data:
        # Its charset stands in the mail only, so the file alone would be read wrongly.
        data = text_in(data, _charset(part)).encode("utf-8-sig")
    found.attachments.append(Attachment(_part_name(part), kind, data))
    return []


def _take_text(
    part: email.message.Message, kind: str, data: bytes, found: _Parts
) -> list[BodyPart]:
    if not data or data.isspace():
        return []
    if kind == "text/calendar":
        found.warnings.append("a calendar entry in its text was not read")
        return []
    charset = _charset(part)
    try:
        read = decode(data, "its text", codec_named(charset) if charset else None)
    except Rejected as failure:
        found.warnings.append(str(failure))
        return []
    found.warnings += read.warnings
    is_html = kind == "text/html"
    return [Words(html=read.text) if is_html else Words(plain=_unflowed(part, read.text))]


def _unflowed(part: email.message.Message, text: str) -> str:
    """Lines that a mail program broke for sending joined again (RFC 3676)."""
    if "flowed" not in raw_header(part, "content-type")[:HEADER_CHARS].lower():
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
    if len(raw_header(part, "content-type")) >= HEADER_CHARS:
        return None
    try:
        return part.get_content_charset()
    except (ValueError, TypeError, AttributeError):
        return None


def _part_name(part: email.message.Message) -> str:
    """The file name that a part states, in any of the ways that mail programs do."""
    if (
        max(len(raw_header(part, each)) for each in ("content-type", "content-disposition"))
        > HEADER_CHARS
    ):
        return ""
    try:
        stated = part.get_filename()
    except (ValueError, TypeError, IndexError, AttributeError):
        return ""
    return decoded(stated) if stated else ""
