"""Token-vector segments: writers that race, and what they wrote."""

from __future__ import annotations

import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from longleaf.core.catalog.segments import (
    SegmentReader,
    SegmentRef,
    SegmentWriter,
    read_record,
)
from longleaf.core.errors import CatalogBroken

TOKEN_DIM = 4


def test_writers_that_race_for_a_new_segment_each_get_one(tmp_path: Path) -> None:
    codes = np.ones((3, TOKEN_DIM), np.int8)
    for turn in range(30):
        folder = tmp_path / str(turn)
        folder.mkdir()
        ready = threading.Barrier(6)
        refs = []

        def write_one(folder: Path = folder, ready: threading.Barrier = ready) -> None:
            writer = SegmentWriter(folder)
            ready.wait()
            refs.append((writer, writer.append(codes, 0)))  # noqa: B023
            writer.sync()

        threads = [threading.Thread(target=write_one) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({ref.segment for _, ref in refs}) == 6
        assert SegmentReader(folder).gather([ref for _, ref in refs])[0].shape == (18, TOKEN_DIM)
        for writer, _ in refs:
            writer.close()


def test_every_byte_of_a_record_is_covered_by_its_checksum(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(np.arange(12, dtype=np.int8).reshape(3, TOKEN_DIM), 1)
    ref = writer.append(np.arange(20, dtype=np.int8).reshape(5, TOKEN_DIM), 2)
    writer.close()
    path = tmp_path / ref.segment
    whole = path.read_bytes()
    for position in range(ref.offset, len(whole)):
        for bit in (1, 128):
            damaged = bytearray(whole)
            damaged[position] ^= bit
            path.write_bytes(damaged)
            with pytest.raises(CatalogBroken):
                SegmentReader(tmp_path).gather([ref])
            with path.open("rb") as file:
                assert read_record(file.fileno(), ref.offset) is None
                assert read_record(file.fileno(), 0) == whole[: ref.offset]


def test_records_of_the_first_form_are_read(tmp_path: Path) -> None:
    codes = np.arange(12, dtype=np.int8).reshape(3, TOKEN_DIM)
    body = codes.tobytes()
    header = struct.pack("<4sIHHI", b"LLTV", 3, TOKEN_DIM, 1, zlib.crc32(body))
    (tmp_path / "old.seg").write_bytes(header + body)
    found, _, prefixes = SegmentReader(tmp_path).gather([SegmentRef("old.seg", 0)])
    assert (found.tolist(), prefixes.tolist()) == (codes.tolist(), [1])
