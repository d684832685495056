"""What a PassageIndex that lives in a folder promises on top of the common contract."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from longleaf.core.errors import CatalogBroken, GenerationMismatch, IndexLocked
from longleaf.core.ids import point_id
from longleaf.core.protocols import IndexEntry, IndexFilter, IndexPassage
from longleaf.retriever.index.edge import EdgeIndex

DIM = 4
ALL = IndexFilter(("law",))


def entry(document: int, revision: int, passages: int = 2) -> IndexEntry:
    vector = np.eye(DIM, dtype=np.float32)[document % DIM].copy()
    made = (
        IndexPassage(point_id(revision, n), f"text {document}", f"text {document}", vector)
        for n in range(passages)
    )
    return IndexEntry(
        document_id=document, revision_id=revision, public_id=f"p{document}", collection="law",
        key=f"k{document}", title="t", source="s", media_type="text/plain", language="none",
        groups=(), passages=tuple(made), metadata={"year": 2000 + document},
    )  # fmt: skip


def opened(folder: Path) -> EdgeIndex:
    return EdgeIndex.open(folder, DIM, "test")


def test_everything_survives_reopening_and_copying(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    index.put([entry(1, 1)])
    index.flush(7)
    before = index.scroll(ALL, 10)
    index.close()
    shutil.copytree(tmp_path / "index", tmp_path / "copy")
    for folder in ("index", "copy"):
        again = opened(tmp_path / folder)
        assert (again.indexed_seq(), again.passage_count(), again.scroll(ALL, 10)) == (7, 2, before)
        again.put([entry(2, 2)])
        assert again.passage_count() == 4
        again.close()


_WORKER = """
import os, signal, sys
from pathlib import Path
from tests.contracts.test_index_folder import entry, opened
index = opened(Path(sys.argv[1]))
index.put([entry(1, 1), entry(2, 2)])
index.flush(5)
index.put([entry(1, 3, passages=1), entry(3, 4)])
index.delete([2])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_crash_between_put_and_flush_is_mended_by_replaying(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    crashed = subprocess.run(
        [sys.executable, "-c", _WORKER, str(tmp_path / "index")], cwd=root, check=False
    )
    assert crashed.returncode == -signal.SIGKILL
    index = opened(tmp_path / "index")
    assert index.indexed_seq() == 5, "what was never flushed must not count as indexed"
    for _ in range(2):  # the log is read again from 5: puts and deletes in the same order
        index.put([entry(1, 3, passages=1), entry(3, 4)])
        index.delete([2])
    assert index.scroll(ALL, 10) == [point_id(3, 0), point_id(4, 0), point_id(4, 1)]
    index.close()


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    with pytest.raises(IndexLocked, match="owns the index"):
        opened(tmp_path / "index")
    code = "import sys; from pathlib import Path; from tests.contracts.test_index_folder import *\n"
    code += "try: opened(Path(sys.argv[1]))\nexcept IndexLocked: sys.exit(41)"
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "index")],
        cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert other.returncode == 41
    index.close()
    index.close()
    opened(tmp_path / "index").close()


def test_what_is_not_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    opened(folder).close()
    with pytest.raises(GenerationMismatch, match="longleaf rebuild"):
        EdgeIndex.open(folder, DIM, "other embedder")
    with pytest.raises(GenerationMismatch, match="dim 5"):
        EdgeIndex.open(folder, DIM + 1, "test")
    state = json.loads((folder / "longleaf.json").read_text())
    for broken in ["", "{", "[]", json.dumps({**state, "schema": 99}), json.dumps({"schema": 1})]:
        (folder / "longleaf.json").write_text(broken)
        with pytest.raises(CatalogBroken, match="longleaf rebuild"):
            opened(folder)
    (folder / "longleaf.json").write_text(json.dumps(state))
    shutil.rmtree(folder / "segments")
    (folder / "edge_config.json").write_text("nonsense")
    with pytest.raises(CatalogBroken, match="longleaf rebuild"):
        opened(folder)

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(CatalogBroken):
        opened(foreign)
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]
    with pytest.raises(CatalogBroken):
        opened(foreign / "thesis.txt")


def test_an_empty_folder_is_filled_and_no_scraps_stay(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    opened(tmp_path / "index").close()
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_bad_vectors_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    for wrong in (np.nan, np.inf):
        bad = entry(2, 2)
        bad.passages[0].dense[3] = wrong
        with pytest.raises(CatalogBroken, match="not finite"):
            index.put([entry(1, 1), bad])
    short = IndexPassage(point_id(3, 0), "x", "x", np.ones(DIM - 1, np.float32))
    with pytest.raises(GenerationMismatch, match="dim"):
        index.put([IndexEntry(3, 3, "p", "law", "k", "t", "s", "m", "none", (), (short,))])
    with pytest.raises(GenerationMismatch):
        index.search_dense(np.ones(DIM + 1, np.float32), ALL, 3)
    assert index.passage_count() == 0
    index.close()
