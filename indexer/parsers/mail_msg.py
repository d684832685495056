"""MSG: Outlook's mail in an OLE file, from bytes to `mail.Mail` (MS-OXMSG).

olefile opens the container; properties are read here from the streams that are named after them.
python-oxmsg was tried: it reads no attached mails and no RTF bodies and raises on text in another
code page. Bodies: plain text and HTML as alternatives, else RTF. Reading more
bytes than twice the file (streams that share their sectors) ends it.
"""

from __future__ import annotations

import io
import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from longleaf.core.errors import Rejected, RejectReason
from longleaf.indexer.parsers.blocks import one_line
from longleaf.indexer.parsers.decode import clean, decode
from longleaf.indexer.parsers.encodings import codec_named
from longleaf.indexer.parsers.mail import MAX_DEPTH, Attachment, Mail
from longleaf.indexer.parsers.mail_body import BodyPart, Choice, Words
from longleaf.indexer.parsers.mail_kind import PROPERTIES
from longleaf.indexer.parsers.mail_rtf import decompress_rtf

if TYPE_CHECKING:
    from olefile import OleFileIO

_STREAM = "__substg1.0_"
_ATTACHED = "__attach_version1.0_#"
_RECIPIENT = "__recip_version1.0_#"
_MAIL_STORAGE = f"{_STREAM}3701000D"
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_UTF16, _BYTES, _BINARY = "001F", "001E", "0102"

_SUBJECT, _BODY, _HTML, _RTF = "0037", "1000", "1013", "1009"
_HEADERS, _MESSAGE_ID, _CLASS = "007D", "1035", "001A"
_SENDER_NAME, _SENDER_SMTP, _SENDER_ADDRESS = "0C1A", "5D01", "0C1F"
_SENT_NAME, _SENT_SMTP, _SENT_ADDRESS = "0042", "5D02", "0065"
_TO, _CC, _BCC = "0E04", "0E03", "0E02"
_SUBMITTED, _DELIVERED, _INTERNET_CODEPAGE, _CODEPAGE = 0x0039, 0x0E06, 0x3FDE, 0x3FFD
_FILE_NAMES = ("3707", "3704", "3001")
_DATA, _MIME, _CONTENT_ID = "3701", "370E", "3712"
_HIDDEN = 0x7FFE
_CODEPAGES = {65001: "utf-8", 20127: "us-ascii", 28591: "iso-8859-1", 932: "shift_jis", 936: "gbk",
              949: "euc-kr", 950: "big5", 20866: "koi8-r", 21866: "koi8-u", 50220: "iso-2022-jp",
              51932: "euc-jp", 54936: "gb18030"}  # fmt: skip
_BROKEN = (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error,
           RecursionError, OverflowError, AssertionError)  # fmt: skip
"""What olefile raises for files that are not what they say."""


def read_msg(data: bytes, name: str) -> Mail:
    """The mail of a file. Raises `Rejected`: MALFORMED, EXPANDS."""
    from olefile import OleFileIO

    try:
        # As a file object: bytes that are too short would be taken for a path and opened.
        ole = OleFileIO(io.BytesIO(data))
    except _BROKEN as failure:
        raise Rejected(
            RejectReason.MALFORMED, f"{name} is no Outlook message: {failure}."
        ) from failure
    with ole:
        storage = _Storage(_Container(ole, name, len(data)), ())
        if PROPERTIES not in storage.names:
            raise Rejected(RejectReason.MALFORMED, f"{name} holds no mail in its OLE file.")
        return _mail(storage, 1)


class _Container:
    """The open file with its directory, and how many more bytes may be read of it."""

    def __init__(self, ole: OleFileIO[Any], name: str, size_bytes: int) -> None:
        self.name = name
        self._ole = ole
        self._bytes_left = 2 * size_bytes + 1_000_000
        self.below: dict[tuple[str, ...], dict[str, bool]] = {}
        try:
            for path in ole.listdir(streams=True, storages=True):
                *above, own = path
                is_stream = ole.get_type(path) == 2  # STGTY_STREAM
                self.below.setdefault(tuple(above), {})[own] = is_stream
        except _BROKEN as failure:
            raise Rejected(
                RejectReason.MALFORMED, f"{name}: its OLE directory is broken: {failure}."
            ) from failure

    def stream(self, path: tuple[str, ...]) -> bytes:
        """A stream's bytes, empty where they cannot be had."""
        try:
            with self._ole.openstream(list(path)) as stream:
                data: bytes = stream.read()
        except _BROKEN:
            return b""
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise Rejected(RejectReason.EXPANDS, f"{self.name}: its streams overlap.")
        return data


class _Storage:
    """A folder of the OLE file: the message, an attachment, or a message in an attachment."""

    def __init__(self, container: _Container, path: tuple[str, ...]) -> None:
        self._container = container
        self._path = path
        self.names = container.below.get(path, {})
        header_bytes = 8
        if not path or path[-1] == _MAIL_STORAGE:
            header_bytes = 24 if path else 32
        properties = self.stream(PROPERTIES)[header_bytes:]
        self._fixed = {
            struct.unpack_from("<H", properties, at + 2)[0]: properties[at + 8 : at + 16]
            for at in range(0, len(properties) - 15, 16)
        }

    def stream(self, name: str) -> bytes:
        return self._container.stream((*self._path, name)) if self.names.get(name) else b""

    def below(self, name: str) -> _Storage:
        return _Storage(self._container, (*self._path, name))

    def storages(self, prefix: str) -> list[str]:
        return sorted(name for name, is_stream in self.names.items()
                      if not is_stream and name.startswith(prefix))  # fmt: skip

    def number(self, property_id: int) -> int:
        return int(struct.unpack("<I", self._fixed.get(property_id, bytes(8))[:4])[0])

    def moment(self, property_id: int) -> str:
        """A point in time as ISO 8601, "" where it is not stated."""
        ticks = struct.unpack("<Q", self._fixed.get(property_id, bytes(8)))[0]
        try:
            found = _EPOCH + timedelta(microseconds=ticks // 10)
        except OverflowError:
            return ""
        return found.replace(microsecond=0).isoformat() if ticks else ""

    def text(self, property_id: str, codepage: int = 0) -> str:
        """A text property, in UTF-16 or in the message's code page."""
        wide = self.stream(f"{_STREAM}{property_id}{_UTF16}")
        if wide:
            return clean(wide.decode("utf-16-le", "replace")).text.rstrip("\ufffd \n")
        narrow = self.stream(f"{_STREAM}{property_id}{_BYTES}").rstrip(b"\0")
        return _in_codepage(narrow, codepage)

    def binary(self, property_id: str) -> bytes:
        return self.stream(f"{_STREAM}{property_id}{_BINARY}")


def _in_codepage(data: bytes, codepage: int) -> str:
    if not data:
        return ""
    label = _CODEPAGES.get(codepage, f"windows-{codepage}" if 1250 <= codepage <= 1258 else "")
    try:
        return decode(data, "text", codec_named(label) if label else None).text
    except Rejected:
        return ""


# --- the mail ------------------------------------------------------------------------------------


def _mail(storage: _Storage, depth: int) -> Mail:
    body_codepage = storage.number(_INTERNET_CODEPAGE) or storage.number(_CODEPAGE)
    codepage = storage.number(_CODEPAGE) or body_codepage

    def line(property_id: str) -> str:
        return one_line(storage.text(property_id, codepage))

    warnings: list[str] = []
    html = _in_codepage(storage.binary(_HTML), body_codepage) or storage.text(_HTML, body_codepage)
    plain = storage.text(_BODY, body_codepage)
    rtf = b"" if plain.strip() or html else _rtf(storage, warnings)
    attachments, images = _attachments(storage, depth, codepage)
    date = storage.moment(_SUBMITTED) or storage.moment(_DELIVERED)
    headers = {
        "from": _person(line(_SENDER_NAME), line(_SENDER_SMTP), line(_SENDER_ADDRESS))
        or _person(line(_SENT_NAME), line(_SENT_SMTP), line(_SENT_ADDRESS)),
        "to": line(_TO),
        "cc": line(_CC),
        "bcc": line(_BCC),
        "date": date,
        "subject": line(_SUBJECT),
        "message-id": line(_MESSAGE_ID),
    }
    sealed = "smime" in line(_CLASS).lower() and "multipartsigned" not in line(_CLASS).lower()
    return Mail(
        headers={label: value for label, value in headers.items() if value},
        date=date,
        body=_body(plain, html, rtf),
        attachments=tuple(attachments),
        inline_images=images,
        sealed="its content is encrypted (S/MIME)" if sealed else "",
        media_type="application/vnd.ms-outlook",
        warnings=tuple(warnings),
    )


def _body(plain: str, html: str, rtf: bytes) -> tuple[BodyPart, ...]:
    """Outlook keeps one text in several forms, each made of the other."""
    if rtf:
        return (Words(other=rtf, name="body.rtf"),)
    sides = [(each,) for each in (Words(plain=plain), Words(html=html)) if each.plain or each.html]
    return (Choice(tuple(sides)),) if sides else ()


def _person(name: str, smtp: str, address: str) -> str:
    """Name and address as in a From line; an address inside Exchange ("/O=...") says nothing."""
    address = smtp or (address if "@" in address else "")
    return f"{name} <{address}>" if name and address and name != address else name or address


def _rtf(storage: _Storage, warnings: list[str]) -> bytes:
    packed = storage.binary(_RTF)
    if not packed:
        return b""
    try:
        return decompress_rtf(packed)
    except ValueError as failure:
        warnings.append(f"its text cannot be unpacked: {failure}")
        return b""


def _attachments(storage: _Storage, depth: int, codepage: int) -> tuple[list[Attachment], int]:
    found: list[Attachment] = []
    images = 0
    for name in storage.storages(_ATTACHED):
        attached = storage.below(name)
        names = (attached.text(each, codepage) for each in _FILE_NAMES)
        file_name = next((each for each in names if each), "")
        media_type = attached.text(_MIME, codepage).strip().lower()
        if _MAIL_STORAGE in attached.names:
            # Deeper than mails are read, what is inside is not looked at either.
            inner = attached.below(_MAIL_STORAGE)
            mail = _mail(inner, depth + 1) if depth <= MAX_DEPTH else Mail({})
            found.append(Attachment(file_name, "message/rfc822", mail=mail))
            continue
        in_text = attached.text(_CONTENT_ID, codepage) or attached.number(_HIDDEN) & 0xFF
        is_image = media_type.startswith("image/") or file_name.lower().endswith(
            (".png", ".jpg", ".jpeg", ".gif", ".bmp")
        )
        if in_text and is_image:
            images += 1
            continue
        found.append(Attachment(file_name, media_type, attached.binary(_DATA)))
    return found, images
