"""Token vectors in append-only, checksummed, memory-mapped files.

100,000 passages have 1-2 GB of token vectors: poison for database rows. Each writing process
appends to segments of its own (an advisory lock says which are taken; on a folder that several
machines share, its file system must carry such locks between them), fsyncs, and only then
lets the catalog refer to (segment, offset). A crash leaves an unreferenced tail: records are
found by offset, never by walking, and whoever takes the segment up next wipes what lies between
them. Readers map the files; a record's checksum is verified the first time this process reads it.

What is erased is overwritten in place (`wiping`), so that a reader that has the file mapped meets
zeros and never a missing page: no segment ever gets shorter.

Record: magic `LLT2`, n_tokens uint32, dim uint16, prefix_tokens uint16, crc32 uint32 of all that
comes before and after it (little-endian), then n_tokens x dim int8 codes. Older records begin with
`LLTV`, and their CRC is of the codes alone; erased ones with `LLTX`.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.catalog.blobs import sync_folder
from longleaf.core.catalog.space import naming_a_full_disk
from longleaf.core.errors import CatalogBroken

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.core.types import Int8Array

HEADER = struct.Struct("<4sIHHI")
MAGIC, OLD_MAGIC, ERASED = b"LLT2", b"LLTV", b"LLTX"
_CHECKSUM_AT = HEADER.size - 4
_WRITE_BYTES = 1024 * 1024
ROLL_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """Where a passage's token vectors lie."""

    segment: str
    offset: int


def read_record(descriptor: int, offset: int) -> bytes | None:
    """The bytes of the record there; None when there is none whose checksum is right."""
    header = os.pread(descriptor, HEADER.size, offset)
    if len(header) < HEADER.size:
        return None
    magic, tokens, dim, _, _ = HEADER.unpack(header)
    if magic not in (MAGIC, OLD_MAGIC):
        return None
    # A damaged length may ask for gigabytes; no more than there is can be read.
    left = os.fstat(descriptor).st_size - offset - HEADER.size
    if tokens * dim > left:
        return None
    body = os.pread(descriptor, tokens * dim, offset + HEADER.size)
    return header + body if _is_whole(header, body) else None


def _header(tokens: int, dim: int, prefix_tokens: int, body: bytes) -> bytes:
    named = HEADER.pack(MAGIC, tokens, dim, prefix_tokens, 0)[:_CHECKSUM_AT]
    return named + struct.pack("<I", zlib.crc32(body, zlib.crc32(named)))


def _is_whole(header: bytes, body: bytes | memoryview) -> bool:
    magic, *_, checksum = HEADER.unpack(header)
    begun = zlib.crc32(header[:_CHECKSUM_AT]) if magic == MAGIC else 0
    return zlib.crc32(body, begun) == int(checksum)


class SegmentWriter:
    """Appends records to a segment that this writer alone holds; not thread-safe.

    A segment stays taken until what was appended to it is referred to, or never will be (`settled`
    says so). `on_take` is called with the name of a segment that is taken up again.
    """

    def __init__(
        self,
        folder: Path,
        roll_bytes: int = ROLL_BYTES,
        on_take: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self.folder = folder
        self._roll_bytes = roll_bytes
        self._on_take = on_take
        self._held: list[int] = []
        self._descriptor: int | None = None
        self._name = ""
        self._end = 0
        self._pending = bytearray()

    def append(self, codes: Int8Array, prefix_tokens: int) -> SegmentRef:
        """Add one passage's codes, (n_tokens, dim) int8; durable after `sync`."""
        if self._descriptor is None or self._end + len(self._pending) > self._roll_bytes:
            self._roll()
        body = np.ascontiguousarray(codes, dtype=np.int8).tobytes()
        tokens, dim = codes.shape
        offset = self._end + len(self._pending)
        self._pending += _header(tokens, dim, prefix_tokens, body) + body
        if len(self._pending) > 8 * 1024 * 1024:
            with naming_a_full_disk(self.folder):
                self._write()
        return SegmentRef(self._name, offset)

    def sync(self) -> None:
        """Make everything appended so far durable. Raises NoSpace."""
        with naming_a_full_disk(self.folder):
            self._write()
            if self._descriptor is not None:
                os.fsync(self._descriptor)

    def settled(self) -> None:
        """All that was appended is referred to by now, or never will be."""
        held, self._held = self._held, []
        for descriptor in held:
            os.close(descriptor)

    def close(self) -> None:
        self._put_aside()
        self.settled()

    def _put_aside(self) -> None:
        if self._descriptor is not None:
            self.sync()
            self._held.append(self._descriptor)
            self._descriptor = None

    def _write(self) -> None:
        if self._descriptor is None or not self._pending:
            return
        try:
            while self._pending:
                written = os.write(self._descriptor, self._pending[:_WRITE_BYTES])
                self._end += written
                del self._pending[:written]
        except BaseException:
            # Nobody will refer to the rest: whoever wanted it is told that it failed.
            self._pending.clear()
            raise

    def _roll(self) -> None:
        self._put_aside()
        for path in sorted(self.folder.glob("*.seg")):
            if path.stat().st_size < self._roll_bytes // 2 and self._take(path):
                return
        # Another writer may take up a new file between its making and our lock: make another.
        while not self._take(self.folder / f"{secrets.token_hex(8)}.seg", create=True):
            pass
        sync_folder(self.folder)

    def _take(self, path: Path, create: bool = False) -> bool:
        flags = os.O_WRONLY | os.O_APPEND | (os.O_CREAT | os.O_EXCL if create else 0)
        try:
            descriptor = os.open(path, flags, 0o644)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have removed it between its opening and our lock.
            ours = os.path.samestat(os.fstat(descriptor), path.stat())
        except OSError:
            ours = False
        if not ours:
            os.close(descriptor)
            return False
        if not create:
            self._on_take(path.name)
        self._descriptor, self._name = descriptor, path.name
        self._end = os.fstat(descriptor).st_size
        return True


class SegmentReader:
    """Maps segments and gathers records; thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: dict[str, NDArray[np.uint8]] = {}
        self._verified: set[tuple[str, int]] = set()
        self._lock = threading.Lock()

    def gather(
        self, refs: Sequence[SegmentRef | None]
    ) -> tuple[Int8Array, NDArray[np.int64], NDArray[np.int64]]:
        """Codes of many records in one array: see `core.protocols.TokenVectorReader`."""
        parts: list[NDArray[np.uint8]] = []
        starts = np.zeros(len(refs) + 1, dtype=np.int64)
        prefixes = np.zeros(len(refs), dtype=np.int64)
        dim = 0
        for number, ref in enumerate(refs):
            tokens = 0
            if ref is not None:
                body, tokens, record_dim, prefixes[number] = self._record(ref)
                if tokens:
                    if dim and record_dim != dim:
                        raise self._broken(ref, f"has dimension {record_dim}, others {dim}")
                    dim = record_dim
                    parts.append(body)
            starts[number + 1] = starts[number] + tokens
        flat = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint8)
        return flat.view(np.int8).reshape(-1, dim or 1), starts, prefixes

    def _record(self, ref: SegmentRef) -> tuple[NDArray[np.uint8], int, int, int]:
        mapped = self._map(ref, ref.offset + HEADER.size)
        header = mapped[ref.offset : ref.offset + HEADER.size].tobytes()
        magic, tokens, dim, prefix_tokens, _ = HEADER.unpack(header)
        if magic == ERASED:
            # Deleted since somebody looked up where it is: as if it had no token vectors.
            return mapped[:0], 0, 0, 0
        if magic not in (MAGIC, OLD_MAGIC):
            raise self._broken(ref, "has no record there")
        begin = ref.offset + HEADER.size
        end = begin + tokens * dim
        mapped = self._map(ref, end)
        body = mapped[begin:end]
        if (ref.segment, ref.offset) not in self._verified:
            if not _is_whole(header, body.data):
                if mapped[ref.offset : ref.offset + len(ERASED)].tobytes() == ERASED:
                    return mapped[:0], 0, 0, 0
                raise self._broken(ref, "fails its checksum")
            self._verified.add((ref.segment, ref.offset))
        return body, tokens, dim, prefix_tokens

    def _map(self, ref: SegmentRef, end: int) -> NDArray[np.uint8]:
        mapped = self._maps.get(ref.segment)
        if mapped is None or len(mapped) < end:
            with self._lock:
                try:
                    # Opened, and not only asked for its size: over a network file system that is
                    # what shows what another machine has made durable.
                    file = (self.folder / ref.segment).open("rb")
                except FileNotFoundError:
                    raise self._broken(ref, "is not there") from None
                with file:
                    if os.fstat(file.fileno()).st_size < end:
                        raise self._broken(ref, "ends before the record does")
                    # np.asarray keeps the mapping and drops the slow subclass.
                    mapped = np.asarray(np.memmap(file, dtype=np.uint8, mode="r"))
                mapped = mapped.view(np.ndarray)
                self._maps[ref.segment] = mapped
        return mapped

    def _broken(self, ref: SegmentRef, what: str) -> CatalogBroken:
        return CatalogBroken(
            f"Token vectors: segment {ref.segment} at {ref.offset} {what}.",
            "Restore the data folder from a backup, or index the documents again.",
        )
