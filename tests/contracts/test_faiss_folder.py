"""What the FAISS index's folder promises: durable when flushed, whole or refused, one owner."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.contracts.indexes import without
from tests.contracts.test_index_folder import ALL, DIM, entry

from longleaf.core.errors import (
    CatalogBroken,
    GenerationMismatch,
    IndexLocked,
    ModelUnavailable,
    NoSpace,
)
from longleaf.core.ids import point_id
from longleaf.core.protocols import IndexPassage, LexicalQuery
from longleaf.retriever.index import faiss_content, faiss_files, faiss_folder
from longleaf.retriever.index.faiss import FaissIndex
from longleaf.retriever.index.faiss_folder import MANIFEST
from longleaf.retriever.index.incoming import REBUILD

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    without("faiss", "faiss-cpu")() is not None, reason="faiss-cpu is not installed"
)


def opened(folder: Path) -> FaissIndex:
    return FaissIndex.open(folder, DIM, "test", devices="cpu")


def answers(index: FaissIndex) -> object:
    """Everything that it holds, by way of searches."""
    dense = index.search_dense(np.ones(DIM, np.float32), ALL, 100)
    return dense, index.search_bm25(LexicalQuery("text", "none"), ALL, 100), index.scroll(ALL, 100)


def test_everything_survives_reopening_and_copying(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    index.put([entry(1, 1), entry(2, 2), entry(3, 3)])
    index.delete([2])
    index.flush(7)
    before = answers(index)
    index.put([entry(9, 9)])
    index.close()
    index.close()
    shutil.copytree(tmp_path / "index", tmp_path / "copy")
    for folder in ("index", "copy"):
        again = opened(tmp_path / folder)
        assert (again.indexed_seq(), again.passage_count(), answers(again)) == (7, 4, before)
        again.put([entry(4, 4)])
        assert again.passage_count() == again.points_count() == 6
        again.close()


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    with pytest.raises(IndexLocked, match="owns the index"):
        opened(tmp_path / "index")
    index.close()
    opened(tmp_path / "index").close()


def test_what_is_not_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    opened(folder).close()
    with pytest.raises(GenerationMismatch, match="longleaf rebuild"):
        FaissIndex.open(folder, DIM, "other embedder", devices="cpu")
    with pytest.raises(GenerationMismatch, match="dim 5"):
        FaissIndex.open(folder, DIM + 1, "test", devices="cpu")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(CatalogBroken, match="longleaf rebuild"):
        opened(foreign)
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]
    with pytest.raises(CatalogBroken):
        opened(foreign / "thesis.txt")
    (tmp_path / "empty").mkdir()
    opened(tmp_path / "empty").close()


def filled(folder: Path) -> object:
    """An index of two segments, one with a document gone; what it answers."""
    index = opened(folder)
    index.put([entry(1, 1), entry(2, 2), entry(3, 3)])
    index.flush(1)
    index.put([entry(4, 4)])
    index.delete([2])
    index.flush(2)
    before = answers(index)
    index.close()
    return before


def test_a_flipped_bit_or_a_cut_file_is_never_read(tmp_path: Path) -> None:
    """At every place of a manifest and of a segment where something begins or ends, and others."""
    before = filled(tmp_path / "index")
    choose = random.Random(3)
    files = [path for path in sorted((tmp_path / "index").iterdir()) if path.stat().st_size]
    assert len(files) == 3
    refused, hints = 0, set()
    for path in files:
        whole = path.read_bytes()
        places = {*range(16), len(whole) - 1, *(choose.randrange(len(whole)) for _ in range(60))}
        for place in sorted(places):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << choose.randrange(8)
            for broken in (bytes(damaged), whole[:place]):
                path.write_bytes(broken)
                try:
                    index = opened(tmp_path / "index")
                except CatalogBroken as error:
                    hints.add(error.hint)
                    refused += 1
                else:  # a bit between two sections means nothing
                    assert broken == bytes(damaged) and answers(index) == before
                    index.close()
        path.write_bytes(whole)
    assert refused > 300
    assert hints == {REBUILD}
    index = opened(tmp_path / "index")
    assert answers(index) == before
    index.close()


def test_a_segment_of_another_index_or_none_is_refused(tmp_path: Path) -> None:
    filled(tmp_path / "index")
    filled(tmp_path / "other")
    ours, others = (
        sorted(path for path in (tmp_path / name).iterdir() if path.name.startswith("segment-"))
        for name in ("index", "other")
    )
    largest = max(ours, key=lambda path: path.stat().st_size)
    kept = largest.read_bytes()
    largest.unlink()
    with pytest.raises(CatalogBroken, match="longleaf rebuild"):
        opened(tmp_path / "index")
    shutil.copy(min(others, key=lambda path: path.stat().st_size), largest)
    with pytest.raises(CatalogBroken, match="another index"):
        opened(tmp_path / "index")
    largest.write_bytes(kept)
    opened(tmp_path / "index").close()


def test_a_kill_at_any_step_of_a_flush_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """Every prefix of the files that a flush writes, each cut at several places, as a kill leaves
    them: the manifest takes its name last."""
    old = filled(tmp_path / "index")
    shutil.copytree(tmp_path / "index", tmp_path / "before")
    index = opened(tmp_path / "index")
    index.put([entry(5, 5), entry(1, 6)])
    index.flush(3)
    new = answers(index)
    index.close()
    there = {path.name for path in (tmp_path / "before").iterdir()}
    written = [path for path in (tmp_path / "index").iterdir() if path.name not in there]
    assert written
    steps = [(path.name, path.read_bytes()) for path in written]
    steps.append((MANIFEST, (tmp_path / "index" / MANIFEST).read_bytes()))
    for number, (name, content) in enumerate(steps):
        for cut in {0, 1, 20, len(content) // 2, len(content) - 1, len(content)}:
            killed = tmp_path / f"killed-{number}-{cut}"
            shutil.copytree(tmp_path / "before", killed)
            for whole, bytes_ in steps[:number]:
                (killed / whole).write_bytes(bytes_)
            (killed / f"{name}.new").write_bytes(content[:cut])
            index = opened(killed)
            assert (index.indexed_seq(), answers(index)) == (2, old)
            assert {path.name for path in killed.iterdir()} == there, "a scrap stayed"
            index.close()
    index = opened(tmp_path / "index")
    assert (index.indexed_seq(), answers(index)) == (3, new)
    index.close()


_WRITER = """
import sys
from pathlib import Path
from tests.contracts.test_faiss_folder import opened, step
index = opened(Path(sys.argv[1]))
seq = index.indexed_seq()
while True:
    seq += 1
    step(index, seq)
    index.flush(seq)
    print(seq, flush=True)
"""


def step(index: FaissIndex, seq: int) -> None:
    """What the writer does between two flushes: any three seqs replace, add and delete."""
    index.put([entry(seq % 50, seq, passages=1 + seq % 4), entry(1000 + seq, 10**6 + seq)])
    index.delete([1000 + seq - 20, (seq * 7) % 50])
    if seq % 25 == 0:
        index.optimize()


def test_a_writer_that_is_killed_again_and_again_loses_nothing_it_flushed(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    expected = opened(tmp_path / "expected")
    choose, done, kills = random.Random(5), 0, 8
    for _ in range(kills):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        told = 0
        for _ in range(choose.randrange(1, 40)):
            told = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        told = int(([str(told), *writer.stdout.read().split()])[-1])
        writer.wait()
        writer.stdout.close()
        index = opened(folder)
        reached = index.indexed_seq()
        assert told <= reached <= told + 1
        for seq in range(done + 1, reached + 1):
            step(expected, seq)
        done = reached
        assert answers(index) == answers(expected)
        index.close()
    assert done > kills
    expected.close()


def test_a_full_disk_leaves_what_was_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = filled(tmp_path / "index")
    index = opened(tmp_path / "index")
    index.put([entry(7, 7)])
    searched = answers(index)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(faiss_files.os, "fsync", full)
    with pytest.raises(NoSpace):
        index.flush(9)
    assert (index.indexed_seq(), answers(index)) == (2, searched)
    shutil.copytree(tmp_path / "index", tmp_path / "copy")
    monkeypatch.undo()
    index.flush(9)
    index.close()
    for folder, seq, wanted in (("copy", 2, before), ("index", 9, searched)):
        again = opened(tmp_path / folder)
        assert (again.indexed_seq(), answers(again)) == (seq, wanted)
        again.close()


def test_a_kill_while_a_failed_flush_is_tried_again_leaves_what_the_manifest_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest had its name when the folder did not reach the disk: its segments count."""
    index = opened(tmp_path / "index")
    index.put([entry(1, 1), entry(2, 2)])
    searched = answers(index)

    def fails(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    def is_cut(descriptor: int) -> None:
        os.ftruncate(descriptor, 100)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(faiss_folder, "sync_folder", fails)
        with pytest.raises(OSError, match="Input/output"):
            index.flush(1)
    with monkeypatch.context() as patched:
        patched.setattr(faiss_files.os, "fsync", is_cut)
        with pytest.raises(NoSpace):
            index.flush(2)
    shutil.copytree(tmp_path / "index", tmp_path / "killed")
    index.flush(2)
    index.close()
    for folder, seq in (("killed", 1), ("index", 2)):
        index = opened(tmp_path / folder)
        assert (index.indexed_seq(), answers(index)) == (seq, searched)
        assert len(list((tmp_path / folder).iterdir())) == 3, "a scrap stayed"
        index.close()


def test_bad_vectors_are_refused_before_anything_is_put(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    for wrong in (np.nan, np.inf):
        bad = entry(2, 2)
        bad.passages[0].dense[3] = wrong
        with pytest.raises(CatalogBroken, match="not finite"):
            index.put([entry(1, 1), bad])
    short = IndexPassage(point_id(3, 0), "x", "x", np.ones(DIM - 1, np.float32))
    with pytest.raises(GenerationMismatch, match="dim"):
        index.put([replace(entry(3, 3), passages=(short,))])
    with pytest.raises(GenerationMismatch, match="longleaf reindex"):
        index.search_dense(np.ones(DIM + 1, np.float32), ALL, 3)
    with pytest.raises(ModelUnavailable, match="embedder failed") as told:
        index.search_dense(np.full(DIM, np.nan, np.float32), ALL, 3)
    assert "rebuild" not in told.value.hint
    assert index.passage_count() == 0
    index.close()


def test_deleted_words_leave_the_files(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    kept = [entry(number, number) for number in range(1, 6)]
    secret = replace(entry(9, 9), key="xylophone.txt", metadata={"code": "zanzibar"})
    index.put([*kept, secret])
    index.flush(1)
    assert index.erase_since is None
    assert _holding(tmp_path / "index", b"zanzibar") == 1
    index.delete([9])
    index.flush(2)
    assert index.erase_since is not None
    index.close()
    index = opened(tmp_path / "index")
    assert index.erase_since is not None, "that a byte may be left must outlive the process"
    assert index.optimize()
    assert not index.optimize()
    assert index.erase_since is None
    assert _holding(tmp_path / "index", b"zanzibar") == 0
    assert (index.indexed_seq(), index.passage_count()) == (2, 10)
    index.close()


def _holding(folder: Path, mark: bytes) -> int:
    return sum(mark in path.read_bytes() for path in folder.iterdir())


def test_what_differs_from_the_catalog_is_told(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    entries = [entry(number, number) for number in range(1, 5)]
    index.put(entries)
    index.flush(1)
    assert list(faiss_content.differences(index, entries)) == []
    turned = entries[1].passages[1]
    other = replace(turned, dense=np.roll(turned.dense, 1))
    words = replace(entries[2].passages[0], text="text of another")
    phrase = replace(entries[2].passages[1], phrase_text="other words")
    wanted = [
        replace(entries[0], metadata={"year": 1}),
        replace(entries[1], passages=(entries[1].passages[0], other)),
        replace(entries[2], passages=(words, phrase)),
        replace(entries[3], groups=("a",)),
        entry(5, 5, passages=1),
    ]
    assert list(faiss_content.differences(index, wanted)) == [
        (1, "has other words or labels"), (1, "has other words or labels"),
        (2, "has another dense vector"),
        (3, "has other BM25 terms"), (3, "has other words or labels"),
        (4, "has other words or labels"), (4, "has other words or labels"),
        (5, "is not there"),
    ]  # fmt: skip
    points = [point_id(1, 0), point_id(3, 1), point_id(77, 0)]
    assert faiss_content.document_ids(index, points) == {1, 3}
    index.close()


def test_a_batch_is_compared_with_one_look_at_a_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look costs as much as the segment is large, so not one for every passage."""
    index = opened(tmp_path / "index")
    entries = [entry(number, number) for number in range(1, 41)]
    index.put(entries[:30])
    index.put(entries[30:])
    made, look = [], faiss_content._Side.__init__

    def counted(side: faiss_content._Side, segment: object, rows: list[int]) -> None:
        made.append(len(rows))
        look(side, segment, rows)

    monkeypatch.setattr(faiss_content._Side, "__init__", counted)
    assert list(faiss_content.differences(index, entries[:5] + entries[35:])) == []
    assert sorted(made) == [10, 10, 20], "of each segment, and of the batch, the rows compared"
    index.close()


def test_every_state_that_following_cannot_mend_is_made_anew(tmp_path: Path) -> None:
    class Log:
        head, horizon, name = 10, 4, "one"

        def head_seq(self) -> int:
            return self.head

        def log_horizon(self) -> int:
            return self.horizon

        def epoch(self) -> str:
            return self.name

    def left_at(seq: int) -> Path:
        folder = tmp_path / f"index-{seq}"
        index = FaissIndex.open(folder, DIM, "test", Log(), devices="cpu")
        index.put([entry(1, 1)])
        index.flush(seq)
        index.close()
        return folder

    moved = Log()
    moved.name = "two"
    for seq, log, passages in [(0, Log(), 0), (3, Log(), 0), (11, Log(), 0), (7, moved, 0),
                               (5, Log(), 2)]:  # fmt: skip
        index = FaissIndex.open(left_at(seq), DIM, "test", log, devices="cpu")
        assert index.passage_count() == passages, seq
        assert index.indexed_seq() == (seq if passages else 0)
        assert faiss_content.why_unusable(index, log) is None
        index.close()
        shutil.rmtree(tmp_path / f"index-{seq}")
    state, alive = faiss_folder.read_manifest(left_at(0))
    assert state.indexed_seq == 0 and len(alive) == 1
