"""The folder of an edge shard when things go wrong: damage, removal, another owner."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.contracts.test_index_folder import ALL, DIM, entry, opened

from longleaf.core.errors import CatalogBroken, IndexLocked, NoSpace
from longleaf.retriever.index import edge, edge_folder
from longleaf.retriever.index import folder as index_folder
from longleaf.retriever.index.folder import TakenFolder


def filled(folder: Path) -> Path:
    """An index of two passages; returns its shard's folder."""
    index = opened(folder)
    index.put([entry(1, 1)])
    index.flush(7)
    index.close()
    return folder / index.state.shard


def test_a_shard_whose_files_are_gone_says_so_and_is_let_go_of(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.rmtree(filled(folder) / "segments")
    for _ in range(2):  # nor may the first attempt keep it locked
        with pytest.raises(CatalogBroken, match="longleaf rebuild"):
            opened(folder)


@pytest.mark.parametrize("damage", ["nothing", "segments", "all but segments"])
def test_a_taken_folder_is_removed_whatever_state_it_is_in(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "index"
    shard = filled(folder)
    if damage == "segments":
        shutil.rmtree(shard / "segments")
    elif damage == "all but segments":
        (folder / "longleaf.json").unlink()
        (shard / "edge_config.json").unlink()
    with TakenFolder(folder) as taken:
        taken.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_taken_folder_is_locked_until_it_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    filled(folder)
    with TakenFolder(folder), pytest.raises(IndexLocked):
        opened(folder)
    index = opened(folder)
    with pytest.raises(IndexLocked):
        TakenFolder(folder)
    assert index.passage_count() == 2
    index.close()


def test_half_a_removal_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = filled(tmp_path / "index")

    def die(folder: Path) -> None:
        shutil.move(folder / shard.name, tmp_path / "removed")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(index_folder.shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            TakenFolder(tmp_path / "index").remove()
    edge_folder.make_if_missing(tmp_path / "index", DIM, "test")
    index = opened(tmp_path / "index")
    assert (index.indexed_seq(), index.passage_count()) == (0, 0)
    index.close()


def test_who_is_refused_leaves_no_trace_in_the_owners_index(tmp_path: Path) -> None:
    """The engine, left to itself, writes to the files before it sees that they are locked."""
    index = opened(tmp_path / "index")
    index.put([entry(1, 1)])
    index.flush(1)
    with pytest.raises(IndexLocked):
        opened(tmp_path / "index")
    index.put([entry(2, 2)])
    index.flush(2)
    index.close()
    index = opened(tmp_path / "index")
    assert (index.indexed_seq(), index.passage_count()) == (2, 4)
    index.close()


def test_on_a_disk_that_is_about_to_be_full_nothing_is_put_and_searches_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's files are memory-mapped: a page without room would end the process."""
    index = opened(tmp_path / "index")
    index.put([entry(1, 1)])
    with monkeypatch.context() as patch:
        patch.setattr(edge, "_ROOM_BYTES", 2**62)
        with pytest.raises(NoSpace):
            index.put([entry(2, 2)])
        with pytest.raises(NoSpace):
            index.delete([1])
        assert len(index.scroll(ALL, 10)) == index.passage_count() > 0
    index.put([entry(2, 2)])
    index.close()
