"""Overwriting token vectors in place: records that were deleted, and what lies between records.

Zeros are written and made durable first, then the blocks are given back where the file system can
punch holes. What a file system that writes elsewhere (btrfs, ZFS), a snapshot or an SSD keeps of
the old blocks is beyond this process. It knows no database: whose records may go, others say.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from longleaf.core.catalog.segments import ERASED, HEADER, MAGIC, OLD_MAGIC, SegmentRef

_WIPE_BYTES = 8 * 1024 * 1024
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01


def erase_records(folder: Path, refs: Iterable[SegmentRef]) -> None:
    """Overwrite records, durably; one that is gone, or whose segment is, is fine.

    Killed anywhere, it does the rest when it is called again with the same records.
    """
    by_segment: dict[str, list[int]] = {}
    for ref in refs:
        by_segment.setdefault(ref.segment, []).append(ref.offset)
    for name, offsets in by_segment.items():
        try:
            descriptor = os.open(folder / name, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            _erase_in(descriptor, sorted(offsets))
        finally:
            os.close(descriptor)


def _erase_in(descriptor: int, offsets: Sequence[int]) -> None:
    spans: list[tuple[int, int]] = []
    for offset in offsets:
        header = os.pread(descriptor, HEADER.size, offset)
        if len(header) < HEADER.size:
            continue
        magic, tokens, dim, *_ = HEADER.unpack(header)
        if magic not in (MAGIC, OLD_MAGIC, ERASED):
            continue
        # The mark first: who reads the record meanwhile is told that it is gone. It keeps the size
        # for as long as there may be something to overwrite.
        os.pwrite(descriptor, HEADER.pack(ERASED, tokens, dim, 0, 0), offset)
        spans.append((offset + HEADER.size, tokens * dim))
    for begin, length in spans:
        _overwrite(descriptor, begin, length)
    os.fdatasync(descriptor)
    for begin, length in spans:
        _punch(descriptor, begin, length)
        os.pwrite(descriptor, HEADER.pack(ERASED, 0, 0, 0, 0), begin - HEADER.size)
    os.fdatasync(descriptor)


def erase_between(folder: Path, name: str, offsets: Iterable[int]) -> int:
    """Overwrite all of a segment but the records at `offsets`; returns how many bytes that were.

    Only for whoever has the segment's lock (a writer that takes it, or `locked`): others may have
    appended what nothing refers to yet.
    """
    wiped = 0
    descriptor = os.open(folder / name, os.O_RDWR)
    try:
        end = os.fstat(descriptor).st_size
        gaps: list[tuple[int, int]] = []
        place = 0
        for offset in sorted(offsets):
            header = os.pread(descriptor, HEADER.size, offset)
            magic, tokens, dim, *_ = HEADER.unpack(header.ljust(HEADER.size, b"\0"))
            known = magic in (MAGIC, OLD_MAGIC, ERASED)
            if offset > place:
                gaps.append((place, offset))
            # Of a damaged record nobody knows the length: what follows it is left alone.
            after = offset + HEADER.size + tokens * dim if known else end
            place = max(place, after)
        if place < end:
            gaps.append((place, end))
        data = [span for gap in gaps for span in _written(descriptor, *gap)]
        for begin, after in data:
            _overwrite(descriptor, begin, after - begin)
            wiped += after - begin
        if data:
            os.fdatasync(descriptor)
            for begin, after in data:
                _punch(descriptor, begin, after - begin)
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    return wiped


def lock_segment(folder: Path, name: str) -> int | None:
    """A descriptor that holds the segment's lock; None while a writer has it."""
    try:
        # Open for writing: over NFS nobody else may lock.
        descriptor = os.open(folder / name, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _written(descriptor: int, begin: int, end: int) -> list[tuple[int, int]]:
    """The parts of a span that hold anything but zeros (to the block)."""
    spans: list[tuple[int, int]] = []
    place = begin
    while place < end:
        try:
            place = os.lseek(descriptor, place, os.SEEK_DATA)
        except OSError:  # nothing but a hole up to the end
            break
        after = min(end, os.lseek(descriptor, place, os.SEEK_HOLE))
        while place < after:
            piece = os.pread(descriptor, min(_WIPE_BYTES, after - place), place)
            if piece.strip(b"\0"):
                spans.append((place, place + len(piece)))
            place += len(piece)
    return spans


def _overwrite(descriptor: int, begin: int, length: int) -> None:
    for place in range(begin, begin + length, _WIPE_BYTES):
        os.pwrite(descriptor, bytes(min(_WIPE_BYTES, begin + length - place)), place)


def _punch(descriptor: int, begin: int, length: int) -> None:
    """Give the blocks back where the file system can; they read as zeros before and after."""
    fallocate = getattr(ctypes.CDLL(None), "fallocate", None)
    if fallocate is not None and length:
        fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        fallocate(descriptor, _PUNCH_HOLE_KEEP_SIZE, begin, length)
