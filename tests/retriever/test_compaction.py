"""Making a shard anew: when, only with room for it, without a trace of what was deleted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.contracts.test_index_folder import ALL, entry

from longleaf.core.protocols import IndexEntry, LexicalQuery
from longleaf.retriever.index import compaction, edge_folder
from longleaf.retriever.index.compaction import CompactionFailed, why_due
from longleaf.retriever.index.edge import EdgeIndex
from longleaf.retriever.index.edge_folder import ShardState
from longleaf.retriever.index.folder import LOCK

ROOT = Path(__file__).parents[2]
DIM = 4
FILLED = ShardState("shard-a", "f", DIM, indexed_seq=9)
SECRET = "zyxwvsecret"


@pytest.mark.parametrize(
    ("changes", "points", "erase_seconds", "asked", "reason"),
    [
        ({}, 100, 60.0, 0, None),
        ({"unoptimized_points": 20_000}, 100_000, 60.0, 0, None),
        ({"unoptimized_points": 20_001}, 100_000, 60.0, 0, "20,001 passages came in"),
        ({"unoptimized_points": 20_001, "indexed_seq": 0}, 100_000, 60.0, 0, None),
        ({"deleted_points": 20}, 80, None, 0, None),
        ({"deleted_points": 21}, 79, None, 0, "21 of its passages were deleted"),
        ({"erase_since": 1000.0}, 100, 60.0, 0, "must leave its files"),
        ({"erase_since": 1001.0}, 100, 60.0, 0, None),
        ({"erase_since": 1.0}, 100, None, 0, None),
        ({"asked": 2}, 100, None, 2, None),
        ({"asked": 2}, 100, None, 3, "asked for"),
    ],
)
def test_when_a_shard_is_made_anew(
    changes: dict[str, object],
    points: int,
    erase_seconds: float | None,
    asked: int,
    reason: str | None,
) -> None:
    state = replace(FILLED, **changes)  # type: ignore[arg-type]
    found = why_due(state, points, 1060.0, erase_seconds, asked)
    assert (found is None) if reason is None else (found is not None and reason in found)


def secret_entry(document: int, revision: int) -> IndexEntry:
    """Two passages whose words, key and vector occur nowhere else."""
    vector = np.array([0.6, 0.0, -0.8, 0.0], np.float32)
    made = entry(document, revision)
    passages = [
        replace(passage, text=SECRET, phrase_text=SECRET, dense=vector) for passage in made.passages
    ]
    return replace(made, key=f"key-{SECRET}", title=SECRET, passages=tuple(passages))


def bytes_in(folder: Path, needle: bytes) -> list[str]:
    """The files that hold `needle`; what goes while this looks does not."""
    found = []
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in sorted(names)):
            with suppress(FileNotFoundError):
                if needle in path.read_bytes():
                    found.append(str(path.relative_to(folder)))
    return sorted(found)


def filled(folder: Path, documents: int = 30) -> EdgeIndex:
    index = EdgeIndex.open(folder, DIM, "test")
    index.put([secret_entry(1, 1), *(entry(number, number) for number in range(2, documents))])
    index.flush(5)
    return index


VECTOR_BYTES = np.array([0.6, 0.0, -0.8, 0.0], "<f4").tobytes()


def test_nothing_of_a_deleted_document_is_left(tmp_path: Path) -> None:
    index = filled(tmp_path / "index")
    for needle in (SECRET.encode(), VECTOR_BYTES):
        assert bytes_in(tmp_path, needle), "the test looks for the wrong bytes"
    index.delete([1])
    index.flush(6)
    assert bytes_in(tmp_path, SECRET.encode()), "if this is empty, making anew is not needed"
    before = index.scroll(ALL, 100)
    assert index.state.deleted_points == 2
    assert index.optimize()
    for needle in (SECRET.encode(), VECTOR_BYTES):
        assert bytes_in(tmp_path, needle) == []
    state = index.state
    assert (state.deleted_points, state.unoptimized_points, state.erase_since) == (0, 0, None)
    assert (index.indexed_seq(), index.scroll(ALL, 100)) == (6, before)
    assert not index.optimize(), "there is nothing to do any more"
    # The engine must not take what comes now for something that it has seen already.
    index.put([replace(entry(2, 40), title="changed")])
    index.delete([3])
    index.flush(7)
    index.close()
    again = EdgeIndex.open(tmp_path / "index", DIM, "test")
    assert {point for point in again.scroll(ALL, 100) if point not in before}
    assert len(again.search_bm25(LexicalQuery("text", "none"), ALL, 100)) == len(before) - 2
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [
        "longleaf.json",
        "longleaf.lock",
        again.state.shard,
    ]
    again.close()


_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.contracts.test_index_folder import entry
from tests.retriever.test_compaction import DIM, secret_entry
from longleaf.retriever.index.edge import EdgeIndex
index = EdgeIndex.open(Path(sys.argv[1]), DIM, "test")
index.put([entry(number, number) for number in range(2, 9)])
index.flush(5)
index.put([secret_entry(77, 77)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_put_and_never_flushed_is_not_left_either(tmp_path: Path) -> None:
    """A crash leaves bytes that no point knows of; deleting their document deletes no point."""
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path / "index")], cwd=ROOT, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert bytes_in(tmp_path, SECRET.encode())
    index = EdgeIndex.open(tmp_path / "index", DIM, "test")
    assert index.state.in_use and index.state.erase_since is not None
    index.delete([77])
    index.flush(8)
    assert index.state.deleted_points == 0, "the test wants no deleted point"
    assert index.optimize()
    assert bytes_in(tmp_path, SECRET.encode()) == []
    assert len(index.scroll(ALL, 100)) == 14
    index.close()


def test_a_deletion_is_remembered_over_restarts_until_its_bytes_are_gone(tmp_path: Path) -> None:
    index = filled(tmp_path / "index")
    index.delete([1])
    index.flush(6)
    since = index.state.erase_since
    assert since is not None
    index.close()
    index = EdgeIndex.open(tmp_path / "index", DIM, "test")
    index.put([entry(50, 50)])
    index.flush(7)
    assert (index.state.erase_since, index.state.deleted_points) == (since, 2)
    index.close()


def test_a_replaced_revision_counts_as_deleted(tmp_path: Path) -> None:
    index = filled(tmp_path / "index")
    assert index.state.erase_since is None
    index.put([entry(1, 90)])
    assert (index.state.deleted_points, index.state.unoptimized_points) == (2, 60)
    assert index.state.erase_since is not None
    index.close()


@pytest.mark.parametrize("short_of", ["disk", "memory"])
def test_without_room_it_is_refused_with_the_reason_and_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_of: str
) -> None:
    index = filled(tmp_path / "index")
    index.delete([1])
    if short_of == "disk":
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 90, 10_000_000))
    else:
        monkeypatch.setattr(compaction, "available_memory_bytes", lambda: 10_000_000)
    shard = index.state.shard
    with pytest.raises(CompactionFailed, match=rf"needs .* MB of {short_of}.*10 MB"):
        index.optimize()
    with pytest.raises(CompactionFailed):
        index.copy_aside("shard-copy")
    assert index.state.shard == shard
    assert len(index.scroll(ALL, 100)) == 56
    index.close()
    EdgeIndex.open(tmp_path / "index", DIM, "test").close()


def test_a_child_that_fails_leaves_the_index_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = filled(tmp_path / "index")
    index.delete([1])
    real = compaction.copy_shard

    def damaged(source: Path, target: Path) -> None:
        real(source, target)
        shutil.rmtree(target / "segments")
        (target / "edge_config.json").write_text("nonsense")

    monkeypatch.setattr(compaction, "copy_shard", damaged)
    with pytest.raises(CompactionFailed, match="ended with an error"):
        index.optimize()
    monkeypatch.undo()
    assert len(index.scroll(ALL, 100)) == 56
    assert index.optimize()
    index.close()


def test_a_copy_has_the_same_bytes_and_the_same_holes(tmp_path: Path) -> None:
    index = filled(tmp_path / "index")
    source = tmp_path / "index" / index.state.shard
    hole = source / "hole"
    with hole.open("wb") as file:
        file.write(b"begin")
        file.seek(20_000_000)
        file.write(b"end")
        file.truncate(30_000_000)
    compaction.copy_shard(source, tmp_path / "copy")
    for path in source.rglob("*"):
        other = tmp_path / "copy" / path.relative_to(source)
        assert other.is_dir() if path.is_dir() else other.read_bytes() == path.read_bytes()
    assert (tmp_path / "copy" / "hole").stat().st_blocks <= hole.stat().st_blocks + 16
    sizes = (compaction.allocated_bytes(source), compaction.allocated_bytes(tmp_path / "copy"))
    assert sizes[1] <= sizes[0] * 1.05
    index.close()


def test_what_is_left_of_other_shards_goes_with_the_next_opening(tmp_path: Path) -> None:
    index = filled(tmp_path / "index")
    index.copy_aside("shard-copy")
    index.close()
    (tmp_path / "index" / "stray").write_text("x")
    index = EdgeIndex.open(tmp_path / "index", DIM, "test")
    assert len(list((tmp_path / "index").iterdir())) == 3
    assert len(index.scroll(ALL, 100)) == 58
    index.close()


def test_an_index_of_an_older_longleaf_is_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "index"
    (folder / "segments").mkdir(parents=True)
    (folder / "wal").mkdir()
    (folder / LOCK).touch()
    old = '{"schema": 2, "indexed_seq": 7, "fingerprint": "test", "dim": 4}'
    (folder / edge_folder.SIDECAR).write_text(old)
    index = EdgeIndex.open(folder, DIM, "test")
    assert (index.indexed_seq(), index.passage_count()) == (0, 0)
    assert edge_folder.OLDER in capsys.readouterr().out
    assert not (folder / "wal").exists()
    index.close()
