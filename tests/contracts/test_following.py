"""What every index that keeps what it was given promises to whoever follows the log with it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.contracts.indexes import KEEPING, Implementation, name_of
from tests.contracts.oracle_index import OracleIndex
from tests.retriever.test_follow import DIM, generation, put

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.errors import GenerationMismatch
from longleaf.core.protocols import IndexFilter, LexicalQuery, PassageIndex
from longleaf.core.types import Scope
from longleaf.retriever.follow import Follower

__all__ = ["generation"]

ROOT = Path(__file__).parents[2]
LAW = IndexFilter(("law",))


@pytest.fixture(params=KEEPING, ids=name_of)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    found: Implementation = request.param
    found.require()
    return found


def change(catalog: Catalog, generation: Generation, choose: random.Random) -> None:
    """Twenty documents put, replaced or deleted."""
    for number in range(20):
        heads = catalog.documents(Scope.all(), limit=100)
        if number % 5 == 4 and heads:
            catalog.delete_document(choose.choice(heads).public_id, Scope.all())
        else:
            words = " ".join(choose.choices(["court", "patent", "liability", "act"], k=9))
            put(catalog, generation, str(choose.randrange(12)), f"{words} {choose.random()}")


def same_as_the_catalog(
    index: PassageIndex, catalog: Catalog, generation: Generation, tolerance: float
) -> None:
    """The index answers as one that was filled from today's catalog, by the oracle."""
    oracle = OracleIndex()
    Follower(catalog, oracle, generation, "oracle").catch_up()
    catalog.forget_follower("oracle")
    assert index.passage_count() == oracle.passage_count()
    assert index.scroll(LAW, 10_000) == oracle.scroll(LAW, 10_000)
    query = np.random.default_rng(1).normal(size=DIM).astype(np.float32)
    query /= np.linalg.norm(query)
    wanted = {hit.point_id: hit.score for hit in oracle.search_dense(query, LAW, 1000)}
    found = {hit.point_id: hit.score for hit in index.search_dense(query, LAW, 1000)}
    assert found == pytest.approx(wanted, abs=tolerance)
    lexical = LexicalQuery("patent liability", "english")
    assert {hit.point_id for hit in index.search_bm25(lexical, LAW, 1000)} == {
        hit.point_id for hit in oracle.search_bm25(lexical, LAW, 1000)
    }


_KILLED = """
import sys
from pathlib import Path
from tests.contracts.test_following import follow_and_be_killed
follow_and_be_killed(*sys.argv[1:3], int(sys.argv[3]), sys.argv[4])
"""


def follow_and_be_killed(name: str, home: str, calls: int, moment: str) -> None:
    """Follow until the `calls`th write to the index and be killed right before or after it."""
    implementation = next(one for one in KEEPING if one.name == name)
    catalog = Catalog(Path(home) / "data")
    generation = catalog.live_generation()
    assert generation is not None
    index = implementation.open(Path(home) / "index", DIM, generation.fingerprint, catalog)
    follower = Follower(catalog, index, generation, "f", flush_documents=3)
    left = calls

    def counted(real):  # type: ignore[no-untyped-def]
        def call(argument: Sequence[object] | int) -> None:
            nonlocal left
            left -= 1
            if left == 0 and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            real(argument)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        return call

    for what in ("put", "delete", "flush"):
        setattr(index, what, counted(getattr(index, what)))
    follower.catch_up()


@pytest.mark.parametrize(("calls", "moment"), [(1, "after"), (2, "before"), (3, "after")])
def test_a_follower_that_is_killed_between_put_and_flush_is_mended_by_following(
    implementation: Implementation,
    catalog: Catalog,
    generation: Generation,
    tmp_path: Path,
    calls: int,
    moment: str,
) -> None:
    choose = random.Random(calls)
    change(catalog, generation, choose)
    for turn in range(2):  # killed in its first fill, and while it follows the log
        killed = subprocess.run(
            [sys.executable, "-c", _KILLED, implementation.name, str(tmp_path), str(calls), moment],
            cwd=ROOT,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, "it was not killed: nothing is proven"
        change(catalog, generation, choose)
        index = implementation.open(tmp_path / "index", DIM, generation.fingerprint, catalog)
        assert (index.indexed_seq() > 0) == (turn > 0)
        assert index.indexed_seq() <= catalog.head_seq()
        Follower(catalog, index, generation, "f", flush_documents=3).catch_up()
        assert index.indexed_seq() == catalog.head_seq()
        same_as_the_catalog(index, catalog, generation, implementation.dense_tolerance)
        change(catalog, generation, choose)
        index.close()


def test_a_stale_follower_is_made_anew(
    implementation: Implementation, catalog: Catalog, generation: Generation, tmp_path: Path
) -> None:
    """It was away while the log behind it was cut, so it cannot know what was deleted."""
    choose = random.Random(9)
    change(catalog, generation, choose)
    index = implementation.open(tmp_path / "index", DIM, generation.fingerprint, catalog)
    Follower(catalog, index, generation, "late").catch_up()
    index.close()
    catalog.forget_follower("late")
    change(catalog, generation, choose)
    catalog.record_follower("other", catalog.head_seq())
    assert catalog.log_horizon() == catalog.head_seq()
    index = implementation.open(tmp_path / "index", DIM, generation.fingerprint, catalog)
    assert index.indexed_seq() == 0
    assert (index.passage_count() > 0) == implementation.answers_meanwhile
    Follower(catalog, index, generation, "late").catch_up()
    same_as_the_catalog(index, catalog, generation, implementation.dense_tolerance)
    index.close()


def test_another_generation_is_refused_and_nothing_is_lost(
    implementation: Implementation, catalog: Catalog, generation: Generation, tmp_path: Path
) -> None:
    change(catalog, generation, random.Random(1))
    index = implementation.open(tmp_path / "index", DIM, generation.fingerprint, catalog)
    Follower(catalog, index, generation, "f").catch_up()
    index.close()
    with pytest.raises(GenerationMismatch, match="longleaf rebuild"):
        implementation.open(tmp_path / "index", DIM, "another embedder", catalog)
    with pytest.raises(GenerationMismatch, match="longleaf rebuild"):
        implementation.open(tmp_path / "index", DIM + 1, generation.fingerprint, catalog)
    index = implementation.open(tmp_path / "index", DIM, generation.fingerprint, catalog)
    assert (index.fingerprint, index.indexed_seq()) == (generation.fingerprint, catalog.head_seq())
    same_as_the_catalog(index, catalog, generation, implementation.dense_tolerance)
    index.close()


def test_what_was_flushed_is_there_again_and_the_rest_is_put_again(
    implementation: Implementation, catalog: Catalog, generation: Generation, tmp_path: Path
) -> None:
    choose = random.Random(3)
    for _ in range(3):
        change(catalog, generation, choose)
        index = implementation.open(tmp_path / "index", DIM, generation.fingerprint, catalog)
        Follower(catalog, index, generation, "f", flush_documents=4).catch_up()
        reached, points = index.indexed_seq(), index.scroll(LAW, 10_000)
        index.optimize()
        index.close()
        index = implementation.open(tmp_path / "index", DIM, generation.fingerprint, catalog)
        assert (index.indexed_seq(), index.scroll(LAW, 10_000)) == (reached, points)
        same_as_the_catalog(index, catalog, generation, implementation.dense_tolerance)
        index.close()
