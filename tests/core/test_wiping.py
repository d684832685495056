"""Overwriting records of token vectors in a segment, and nothing beside them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from longleaf.core.catalog.segments import SegmentReader, SegmentRef, SegmentWriter
from longleaf.core.catalog.wiping import erase_between, erase_records, lock_segment
from longleaf.core.errors import CatalogBroken


def records(folder: Path, count: int) -> list[SegmentRef]:
    writer = SegmentWriter(folder)
    numbers = np.random.default_rng(1)
    refs = [
        writer.append(numbers.integers(-100, 100, (50 * (n + 1), 64), np.int8), n)
        for n in range(count)
    ]
    writer.close()
    return refs


def test_erased_records_are_zeros_and_take_no_space(tmp_path: Path) -> None:
    refs = records(tmp_path, 12)
    path = tmp_path / refs[0].segment
    whole, blocks = path.stat().st_size, path.stat().st_blocks
    kept = SegmentReader(tmp_path).gather(refs[::2])[0]
    erase_records(tmp_path, refs[1::2])
    erase_records(tmp_path, [*refs[1::2], SegmentRef("gone.seg", 0), SegmentRef(path.name, 10**9)])
    assert path.stat().st_size == whole, "a reader that has it mapped must find every page"
    assert path.stat().st_blocks < 0.7 * blocks
    reader = SegmentReader(tmp_path)
    assert (reader.gather(refs[::2])[0] == kept).all()
    assert reader.gather(refs[1::2])[0].size == 0
    data = path.read_bytes()
    for ref, after in zip(refs[1::2], [*refs[2::2], SegmentRef("", whole)], strict=True):
        assert data[ref.offset : ref.offset + 4] == b"LLTX"
        assert not data[ref.offset + 4 : after.offset].strip(b"\0")


def test_what_lies_between_records_is_wiped_and_nothing_else(tmp_path: Path) -> None:
    refs = records(tmp_path, 9)
    path = tmp_path / refs[0].segment
    with path.open("ab") as file:
        file.write(b"the torn tail of a crash" * 300)
    used = [refs[n].offset for n in (1, 2, 5, 8)]
    expected = SegmentReader(tmp_path).gather([refs[n] for n in (1, 2, 5, 8)])[0]
    assert erase_between(tmp_path, path.name, used) > 50_000
    assert (SegmentReader(tmp_path).gather([refs[n] for n in (1, 2, 5, 8)])[0] == expected).all()
    assert b"torn tail" not in path.read_bytes()
    assert erase_between(tmp_path, path.name, used) == 0, "nothing is left to wipe"
    with pytest.raises(CatalogBroken, match="no record there"):
        SegmentReader(tmp_path).gather([refs[0]])


def test_nothing_is_wiped_behind_a_record_of_unknown_length(tmp_path: Path) -> None:
    refs = records(tmp_path, 3)
    path = tmp_path / refs[0].segment
    with path.open("r+b") as file:
        file.seek(refs[1].offset)
        file.write(b"????")
    assert erase_between(tmp_path, path.name, [refs[0].offset, refs[1].offset]) == 0
    assert len(SegmentReader(tmp_path).gather([refs[2]])[0]) == 150


def test_a_writers_segment_cannot_be_locked_before_it_has_settled(tmp_path: Path) -> None:
    """What it has appended is referred to by nobody yet, also in a segment that it has left."""
    writer = SegmentWriter(tmp_path, roll_bytes=4000)
    first = writer.append(np.ones((40, 64), np.int8), 0)
    for _ in range(3):
        second = writer.append(np.ones((40, 64), np.int8), 0)
    assert first.segment != second.segment
    assert lock_segment(tmp_path, first.segment) is None
    assert lock_segment(tmp_path, second.segment) is None
    writer.sync()
    writer.settled()
    lock = lock_segment(tmp_path, first.segment)
    assert lock is not None
    os.close(lock)
    assert lock_segment(tmp_path, second.segment) is None, "it goes on with this one"
    writer.close()
    assert lock_segment(tmp_path, "gone.seg") is None
