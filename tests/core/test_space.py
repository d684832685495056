"""A full disk is named, and what comes after it works as if nothing had been."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.core.test_catalog import DIM, TOKEN_DIM, write

from longleaf.core.catalog import Catalog
from longleaf.core.catalog.segments import SegmentReader, SegmentWriter
from longleaf.core.catalog.verify import Verifier
from longleaf.core.errors import NoSpace
from longleaf.core.types import Scope


def full(*_: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_named_and_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    catalog = Catalog(tmp_path)
    catalog.create_collection("law")
    generation = catalog.open_generation("c", "e", "tiny", DIM, TOKEN_DIM)
    catalog.commit(generation, [write("before", "It was there before the disk was full.")])
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(NoSpace, match="no room"):
            catalog.commit(generation, [write("lost", "It does not fit any more.")])
        if call == "fsync":
            with pytest.raises(NoSpace):
                catalog.blobs.put(b"an original that does not fit")
    assert not list((tmp_path / "originals").glob("incoming-*"))
    catalog.commit(generation, [write("after", "There is room again, and it goes on.")])
    assert {head.key for head in catalog.documents(Scope.all())} == {"before", "after"}
    assert [check for check in Verifier(catalog, deep=True).checks() if check.wrong] == []
    catalog.close()


def test_sqlite_names_it_too(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    catalog.create_collection("law")
    generation = catalog.open_generation("c", "e", "tiny", DIM, TOKEN_DIM)
    with catalog._database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # of each connection its own
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(NoSpace):
            # One connection is in the pool, and this thread's next transaction takes it.
            _while_only_this_one_is_there(catalog, generation, connection)
    catalog.close()


def _while_only_this_one_is_there(catalog: Catalog, generation: Any, connection: Any) -> None:
    connection.close()
    catalog.commit(generation, [write("lost", "It does not fit any more. " * 5000)])


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, bytes(data[:7])))
    writer = SegmentWriter(tmp_path)
    codes = np.arange(40, dtype=np.int8).reshape(10, TOKEN_DIM)
    refs = [writer.append(codes, 0), writer.append(codes + 1, 2)]
    writer.close()
    found, _, _ = SegmentReader(tmp_path).gather(refs)
    assert np.array_equal(found, np.concatenate([codes, codes + 1]))


def test_what_follows_half_a_write_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.write, []

    def half(file: int, data: Any) -> int:
        calls.append(len(data))
        return real(file, bytes(data[:11])) if len(calls) == 1 else full()

    writer = SegmentWriter(tmp_path)
    codes = np.arange(40, dtype=np.int8).reshape(10, TOKEN_DIM)
    writer.append(codes, 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(NoSpace):
            writer.sync()
    ref = writer.append(codes + 1, 0)
    writer.close()
    assert np.array_equal(SegmentReader(tmp_path).gather([ref])[0], codes + 1)


def test_an_original_whose_name_was_not_durable_becomes_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first put fails after the rename: the second finds it there, and must sync it all."""
    from longleaf.core.catalog import blobs

    catalog = Catalog(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(blobs, "sync_folder", full)
        with pytest.raises(NoSpace):
            catalog.blobs.put(b"an original")
    synced: list[Path] = []
    monkeypatch.setattr(blobs, "sync_folder", synced.append)
    name = catalog.blobs.put(b"an original")
    assert synced == [tmp_path / "originals" / name[:2], tmp_path / "originals"]
    catalog.close()
