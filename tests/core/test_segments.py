"""Token-vector segments: writers that race, and what they wrote."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from longleaf.core.catalog.segments import SegmentReader, SegmentWriter

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
