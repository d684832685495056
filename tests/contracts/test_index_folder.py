"""What a PassageIndex that lives in a folder promises on top of the common contract."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from longleaf.core.errors import CatalogBroken, GenerationMismatch, IndexLocked
from longleaf.core.ids import point_id
from longleaf.core.protocols import IndexEntry, IndexFilter, IndexPassage, LexicalQuery
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
        key=f"k{document}", title="t", source="s", media_type="text/plain", bm25_language="none",
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


def test_a_reopened_index_still_keeps_collections_apart(tmp_path: Path) -> None:
    """Searching all there is leaves the collection filter out; what "all" is must survive."""
    index = opened(tmp_path / "index")
    index.put([entry(1, 1), replace(entry(2, 2), collection="secret")])
    index.flush(1)
    index.close()
    index = opened(tmp_path / "index")
    query = np.ones(DIM, np.float32)
    law = {point_id(1, 0), point_id(1, 1)}
    assert {p.point_id for p in index.search_dense(query, ALL, 10)} == law
    assert set(index.score_bm25(LexicalQuery("text", "none"), ALL, index.scroll(ALL, 10))) == law
    assert len(index.scroll(IndexFilter(("law", "secret")), 10)) == 4
    assert index.scroll(IndexFilter(()), 10) == []
    index.put([replace(entry(3, 3), collection="later")])
    assert len(index.scroll(IndexFilter(("law", "secret")), 10)) == 4
    index.close()


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
    for broken in [
        "", "{", "[]", json.dumps({**state, "schema": 99}), json.dumps({"schema": 1}),
        json.dumps({**state, "shard": "../elsewhere"}), json.dumps({**state, "more": 1}),
    ]:  # fmt: skip
        (folder / "longleaf.json").write_text(broken)
        with pytest.raises(CatalogBroken, match="longleaf rebuild"):
            opened(folder)
    (folder / "longleaf.json").write_text(json.dumps(state))
    shutil.rmtree(folder / state["shard"] / "segments")
    (folder / state["shard"] / "edge_config.json").write_text("nonsense")
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


@pytest.mark.slow
def test_int8_codes_with_rescoring_find_what_brute_force_finds(tmp_path: Path) -> None:
    """Below about 10 MB of vectors the engine makes no codes, so this takes a larger index."""
    dim, count = 384, 20_000
    numbers = np.random.default_rng(1)
    centres = numbers.normal(size=(500, dim))
    vectors = centres[numbers.integers(0, 500, count)] + 0.8 * numbers.normal(size=(count, dim))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    index = EdgeIndex.open(tmp_path / "index", dim, "test")
    for start in range(0, count, 1000):
        made = (
            IndexPassage(point_id(1 + start, n), "", "", vectors[start + n]) for n in range(1000)
        )
        index.put([replace(entry(1 + start, 1 + start), passages=tuple(made))])
    assert index.optimize()
    points = [point_id(1 + start, n) for start in range(0, count, 1000) for n in range(1000)]
    found = exact = 0
    for query in vectors[:: count // 50]:
        scores = vectors @ query
        best = {points[place] for place in np.argsort(-scores)[:100]}
        ranked = index.search_dense(query, ALL, 100)
        found += len(best & {point.point_id for point in ranked})
        for point in ranked:
            expected = scores[points.index(point.point_id)]
            exact += abs(point.score - expected) < 1e-5
        given = index.score_dense(query, points[:50])
        assert [given[point] for point in points[:50]] == pytest.approx(scores[:50], abs=1e-5)
    assert found / 5000 >= 0.999
    assert exact == 5000
    index.close()
