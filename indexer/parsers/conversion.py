"""Office files that are no DOCX: what they are by their first bytes, and their way into one.

Conversion itself is the context's (LibreOffice, in a process with walls). Here is only decided
whether to ask for it: a file with a password is refused before, because a converter would fail on
it without saying why. Knows of the old container no more than the marks of what locks it.
"""

from __future__ import annotations

from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.protocols import ParseContext
from longleaf.indexer.office import INSTALL_HINT
from longleaf.indexer.parsers.zipped import Package

OLE_MARK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
RTF_MARK = b"{\\rtf"
ZIP_MARK = b"PK\x03\x04"

_SECTOR_BYTES = 512
_WORD_STREAM = b"\xec\xa5"  # FibBase.wIdent, [MS-DOC] 2.5.2
_ENCRYPTED_BIT = 0x01  # of the byte at 11: fEncrypted
_LOCKED_STREAMS = tuple(name.encode("utf-16-le") for name in ("EncryptedPackage", "DRMContent"))
_WORD_STREAM_NAME = "WordDocument".encode("utf-16-le")
_ODF_MANIFEST = "META-INF/manifest.xml"
_MAX_MANIFEST_BYTES = 4 * 1024 * 1024
_MARK_BYTES = 512
_WORD_2003 = b"http://schemas.microsoft.com/office/word/2003/wordml"


def true_suffix(data: bytes, suffix: str) -> str:
    """The suffix of what the bytes are, where their mark tells; else `suffix`."""
    head = data[:_MARK_BYTES].lstrip()
    if data.startswith(OLE_MARK):
        return suffix if suffix in (".dot", ".wps") else ".doc"
    if head.startswith(RTF_MARK):
        return ".rtf"
    return ".xml" if _WORD_2003 in data[:_MARK_BYTES] else suffix


def is_old_word(data: bytes) -> bool:
    """Whether an old Office container holds a Word document, or one that is locked."""
    names = (_WORD_STREAM_NAME, *_LOCKED_STREAMS)
    return data.startswith(OLE_MARK) and any(name in data for name in names)


def as_docx(data: bytes, name: str, suffix: str, context: ParseContext) -> bytes:
    """`data` in the format that `suffix` stands for, as a DOCX package.

    Raises `Rejected`: ENCRYPTED, EXPANDS, MALFORMED, NEEDS_PROGRAM, and what the converter raises.
    """
    _refuse_locked(data, name)
    if context.convert is None:
        raise Rejected(
            RejectReason.NEEDS_PROGRAM,
            f"{name}: {suffix} files are read with LibreOffice, which is not here.",
            INSTALL_HINT,
        )
    context.on_progress("convert", 0, 1)
    try:
        converted = context.convert(data, suffix)
    except Rejected as failure:
        raise Rejected(failure.reason, f"{name}: {failure.message}", failure.hint) from failure
    context.on_progress("convert", 1, 1)
    return converted


def _refuse_locked(data: bytes, name: str) -> None:
    locked = False
    if data.startswith(OLE_MARK):
        locked = any(stream in data for stream in _LOCKED_STREAMS) or _is_encrypted_word(data)
    elif data.startswith(ZIP_MARK):
        locked = _is_encrypted_odf(Package(data, name))
    if locked:
        raise Rejected(
            RejectReason.ENCRYPTED,
            f"{name} is protected by a password.",
            "Save a copy without the password and index that.",
        )


def _is_encrypted_word(data: bytes) -> bool:
    at = data.find(_WORD_STREAM, _SECTOR_BYTES)
    while at >= 0:
        if at % _SECTOR_BYTES == 0:
            return data[at + 11 : at + 12] != b"" and bool(data[at + 11] & _ENCRYPTED_BIT)
        at = data.find(_WORD_STREAM, at + 1)
    return False


def _is_encrypted_odf(package: Package) -> bool:
    manifest = package.find(_ODF_MANIFEST)
    if manifest is None:
        return False
    with package.open(manifest) as stream:
        return b"encryption-data" in stream.read(_MAX_MANIFEST_BYTES)
