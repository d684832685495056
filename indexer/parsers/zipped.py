"""ZIP packages (DOCX, EPUB, ODT) opened as hostile input: bounded, in memory, never unpacked.

Entries are read by name and as a stream; nothing is written to disk, so a name can lead nowhere,
and archives inside an archive are never opened. What the central directory declares is checked
before anything is expanded, and expanding stops at the declared size, so a lie costs no memory:
an entry that holds less or more than it says fails its checksum. Only "stored" and "deflate" are
read, as both formats demand (LZMA may ask for gigabytes before its first byte).

The limits refuse no honest document that we know of: of the shared test data one expands from 63 KB
to 4.4 MB (70 times), 20,000 rows of a generated table from 0.5 to 22 MB (41 times).
"""

from __future__ import annotations

import enum
import io
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from typing import IO
from urllib.parse import unquote

from longleaf.core.errors import Rejected, RejectReason

MAX_ENTRIES = 20_000
MAX_ENTRY_BYTES = 128 * 1024 * 1024
"""Of one entry that is read; pictures and other parts that nobody reads may be larger."""
MAX_READ_BYTES = 256 * 1024 * 1024
"""Of all entries that are read, expanded."""
MAX_PACKAGE_BYTES = 1024 * 1024 * 1024
"""Of all entries together, read or not, as declared."""
MAX_RATIO = 200
"""Expanded to packed bytes of the whole package, from `RATIO_FROM_BYTES` on."""
RATIO_FROM_BYTES = 4 * 1024 * 1024

_ENTRY_MARK = b"PK\x01\x02"
_LOCAL_HEADER_BYTES = 30
_PIECE_BYTES = 64 * 1024
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED_FLAG = 0x1
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, OverflowError, NotImplementedError, IndexError, RuntimeError),
)
"""What `zipfile` raises for damaged archives; it documents the first only."""


class Entry:
    """The expanded bytes of one entry, as a stream."""

    def __init__(
        self, stream: IO[bytes], reading: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._stream = stream
        self._reading = reading

    def read(self, size_bytes: int = -1) -> bytes:
        """At most `size_bytes` more, all for -1, b"" at the end. Raises `Rejected` (MALFORMED)."""
        left = size_bytes if size_bytes >= 0 else MAX_ENTRY_BYTES
        pieces: list[bytes] = []
        with self._reading():
            # `zipfile` expands all that it is asked for before it looks at the declared size.
            while left > 0 and (piece := self._stream.read(min(left, _PIECE_BYTES))):
                pieces.append(piece)
                left -= len(piece)
        return b"".join(pieces)

    def __enter__(self) -> Entry:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


class Package:
    """An opened ZIP. Entry names are relative, with "/" between folders, as the format's own."""

    def __init__(self, data: bytes, name: str) -> None:
        """Raises `Rejected`: MALFORMED, EXPANDS."""
        self.name = name
        # Before `zipfile` makes an object for each: every entry that it accepts has this mark.
        if data.count(_ENTRY_MARK) > MAX_ENTRIES:
            raise self._expands(f"holds more than {MAX_ENTRIES:,} entries")
        with self._reading():
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        infos = self._zip.infolist()
        self._refuse_bombs(infos, len(data))
        self._entries = self._addressed(infos)
        self._by_folded_name = {name.lower(): name for name in reversed(self._entries)}
        self._readable_bytes = MAX_READ_BYTES

    def _refuse_bombs(self, infos: list[zipfile.ZipInfo], packed_bytes: int) -> None:
        in_order = sorted(infos, key=lambda info: info.header_offset)
        for one, following in pairwise(in_order):
            end = one.header_offset + _LOCAL_HEADER_BYTES + one.compress_size
            if end > following.header_offset:
                raise self._expands("has entries that share the same bytes")
        total_bytes = sum(info.file_size for info in infos)
        bomb_like = total_bytes > RATIO_FROM_BYTES and total_bytes > MAX_RATIO * packed_bytes
        if total_bytes > MAX_PACKAGE_BYTES or bomb_like:
            raise self._expands(f"expands from {packed_bytes:,} to {total_bytes:,} bytes")

    def _addressed(self, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        entries: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            address = _address(info.filename)
            if address is None:
                continue
            other = entries.setdefault(address, info)
            if (other.CRC, other.file_size) != (info.CRC, info.file_size):
                # Two readers would take different ones: what one checks, the other shows.
                raise self._malformed(f"holds two different entries called {address}")
        return entries

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all files inside, in the order of the central directory."""
        return tuple(self._entries)

    def find(self, name: str) -> str | None:
        """`name` as it is written inside: exactly, else in other capitals; None without one."""
        return name if name in self._entries else self._by_folded_name.get(name.lower())

    def open(self, name: str) -> Entry:
        """The entry `name` (as `find` gives it), to be read once.

        Raises `Rejected`, now or while it is read: EXPANDS, ENCRYPTED, MALFORMED.
        """
        info = self._entries[name]
        if info.flag_bits & _ENCRYPTED_FLAG:
            raise Rejected(
                RejectReason.ENCRYPTED,
                f"{self.name}: {name} in it is protected by a password.",
                "Save a copy without the password and index that.",
            )
        if info.compress_type not in _METHODS:
            raise self._malformed(f"packs {name} by method {info.compress_type}")
        if info.file_size > min(MAX_ENTRY_BYTES, self._readable_bytes):
            raise self._expands(f"holds {name} of {info.file_size:,} bytes")
        self._readable_bytes -= info.file_size
        with self._reading():
            return Entry(self._zip.open(info), self._reading)

    def read(self, name: str) -> bytes:
        """All of the entry `name`. Raises as `open`."""
        with self.open(name) as stream:
            return stream.read()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except _BROKEN as failure:
            raise self._malformed(f"is a damaged archive ({failure})") from failure

    def _expands(self, how: str) -> Rejected:
        return Rejected(
            RejectReason.EXPANDS,
            f"{self.name} {how}: more than a document needs.",
            "If it is no trap, save its text in parts.",
        )

    def _malformed(self, how: str) -> Rejected:
        return Rejected(
            RejectReason.MALFORMED,
            f"{self.name} {how}.",
            "Open it in its program and save it again.",
        )


def resolve(base: str, target: str) -> str | None:
    """The entry that `target`, a relative reference inside the entry `base`, points to.

    None where it leads out of the package. Query and fragment must be off already.
    """
    folder = "" if target.startswith("/") else posixpath.dirname(base)
    joined = posixpath.normpath(posixpath.join(folder, unquote(target).lstrip("/")))
    return None if joined in ("", ".") or joined.startswith(("../", "/")) else joined


def _address(written: str) -> str | None:
    """An entry's name as we know it; None for folders and for names that lead elsewhere."""
    parts = written.replace("\\", "/").removeprefix("/").split("/")
    return None if any(part in ("", ".", "..") for part in parts) else "/".join(parts)


class Kind(enum.StrEnum):
    """What a ZIP is, by what is in it."""

    WORD = "a Word document"
    EPUB = "an EPUB book"
    WRITER = "an OpenDocument text"
    WORKBOOK = "an Excel workbook"
    SLIDES = "a PowerPoint presentation"
    OTHER = "a ZIP archive"


_ODF = "application/vnd.oasis.opendocument."
_MIME_TYPE_BYTES = 100


def kind_of(data: bytes, name: str) -> Kind:
    """What the ZIP `data` is. Raises `Rejected` as `Package`."""
    package = Package(data, name)
    names = package.names
    if package.find("mimetype") is not None:
        with package.open("mimetype") as stream:
            stated = stream.read(_MIME_TYPE_BYTES).decode("latin-1").strip()
        if stated.startswith(f"{_ODF}text"):
            return Kind.WRITER
        if stated == "application/epub+zip":
            return Kind.EPUB
    if "[Content_Types].xml" in names:
        for folder, kind in (("word/", Kind.WORD), ("xl/", Kind.WORKBOOK), ("ppt/", Kind.SLIDES)):
            if any(each.startswith(folder) for each in names):
                return kind
    return Kind.EPUB if "META-INF/container.xml" in names else Kind.OTHER
