"""The FAISS index through many small changes: merges of segments, masks, and reopening."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.entries import ALL, DIM, EVERYTHING, entry, some_filter, unit
from tests.contracts.indexes import without
from tests.contracts.oracle_index import OracleIndex

from longleaf.core.filters import Eq, Filter, Range, as_number
from longleaf.core.protocols import IndexFilter, LexicalQuery
from longleaf.retriever.index import faiss_documents, faiss_search, faiss_tidy
from longleaf.retriever.index.faiss import FaissIndex
from longleaf.retriever.index.faiss_tidy import Extent, full_merges, next_merge

needs_faiss = pytest.mark.skipif(
    without("faiss", "faiss-cpu")() is not None, reason="faiss-cpu is not installed"
)

WORDS = ["court", "appeals", "il-6", "12(b)", "patent", "é", "東京都"]


def same_answers(index: FaissIndex, oracle: OracleIndex, choose: random.Random) -> None:
    phrase = " ".join(choose.choices(WORDS, k=choose.randrange(1, 3)))
    filters = [
        ALL,
        IndexFilter(("law",), groups=("a",)),
        IndexFilter(("science", "law"), where=some_filter(choose)),
        IndexFilter(("law",), phrases=(phrase,)),
        IndexFilter(("law", "science"), excluded=(phrase,)),
    ]
    assert index.passage_count() == oracle.passage_count()
    for asked in filters:
        wanted = oracle.scroll(asked, EVERYTHING)
        assert index.scroll(asked, EVERYTHING) == wanted, asked
        query = LexicalQuery(" ".join(choose.sample(WORDS, 2)), "english")
        right = oracle.score_bm25(query, asked, wanted)
        assert index.score_bm25(query, asked, wanted) == pytest.approx(right, rel=1e-5), asked
        vector = unit(np.random.default_rng(choose.randrange(1000)))
        scores = oracle.score_dense(vector, wanted)
        assert index.score_dense(vector, wanted) == pytest.approx(scores, abs=5e-4)
        hits = index.search_dense(vector, asked, 5)
        assert {hit.point_id: hit.score for hit in hits} == index.score_dense(
            vector, [hit.point_id for hit in hits]
        )
        best = sorted(index.score_dense(vector, wanted).items(), key=lambda each: -each[1])[:5]
        assert [hit.score for hit in hits] == [score for _, score in best]


@needs_faiss
@pytest.mark.parametrize("seed", range(4))
def test_any_changes_leave_what_the_oracle_has(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tiers so small that segments merge all the time, of documents in any order."""
    monkeypatch.setattr(faiss_tidy, "_TIERS", (3, 6, 12))
    monkeypatch.setattr(faiss_tidy, "_MOST_IN_TIER", (2, 2, 2))
    monkeypatch.setattr(faiss_tidy, "MAX_ROWS", 30)
    choose = random.Random(seed)
    index, oracle = FaissIndex.open(tmp_path / "i", DIM, "test", devices="cpu"), OracleIndex()
    revision, merged = 100, 0
    for turn in range(60):
        batch = []
        for _ in range(choose.randrange(4)):
            revision += choose.randrange(1, 4)
            batch.append(
                entry(
                    choose.randrange(25),
                    tuple(" ".join(choose.choices(WORDS, k=6)) for _ in range(choose.randrange(5))),
                    revision if choose.random() < 0.9 else revision - 60 + turn % 2,
                    choose.choice(["law", "science"]),
                    tuple(choose.sample(["a", "b"], choose.randrange(2))),
                    {"year": choose.randrange(2000, 2010), "court": choose.choice(["ca9", "x"])},
                )
            )
        seen: set[int] = set()
        batch = [one for one in batch if not (one.revision_id in seen or seen.add(one.revision_id))]
        known = {one.revision_id for one in oracle.entries.values()}
        batch = [one for one in batch if one.revision_id not in known]
        gone = [choose.randrange(25) for _ in range(choose.randrange(3))]
        for each in (index, oracle):
            each.put(batch)
            each.delete(gone)
        merged += len(index._view.lives) < turn
        match choose.randrange(6):
            case 0:
                index.flush(turn)
            case 1:
                index.optimize()
            case 2:
                index.flush(turn)
                index.close()
                index = FaissIndex.open(tmp_path / "i", DIM, "test", devices="cpu")
        same_answers(index, oracle, choose)
    assert merged, "nothing was ever merged"
    index.close()


@given(st.lists(st.tuples(st.integers(0, 40_000), st.floats(0, 1)), max_size=60))
@settings(deadline=None)
def test_tidying_ends_and_leaves_few_segments(segments: list[tuple[int, float]]) -> None:
    extents = [Extent(rows, round(rows * share)) for rows, share in segments]
    alive = sum(extent.alive_rows for extent in extents)
    copied = 0
    for _ in range(1000):
        numbers = next_merge(extents)
        if not numbers:
            break
        total = sum(extents[number].alive_rows for number in numbers)
        assert len(numbers) == 1 or total <= faiss_tidy.MAX_ROWS
        copied += total
        kept = [extent for place, extent in enumerate(extents) if place not in numbers]
        extents = [*kept, Extent(total, total)]
    else:
        pytest.fail("it never ends")
    assert sum(extent.alive_rows for extent in extents) == alive
    small = [extent for extent in extents if extent.alive_rows < 8192]
    assert len(small) <= 8 + 8 + 16
    assert copied <= 5 * alive
    for numbers in full_merges(extents, [extent.rows > extent.alive_rows for extent in extents]):
        assert sum(extents[number].alive_rows for number in numbers) <= max(
            faiss_tidy.MAX_ROWS, max(extents[number].alive_rows for number in numbers)
        )


@needs_faiss
def test_columns_of_a_filter_are_few_and_the_last_ones_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks chooses the fields, and a column takes memory for every document."""
    index = FaissIndex.open(tmp_path / "i", DIM, "test", devices="cpu")
    fields = {f"field{number}": f"value {number}" for number in range(40)}
    index.put([entry(number, ("word",), metadata={**fields, "year": number}) for number in (1, 2)])
    documents = index._view.lives[0].segment.documents
    made, column_of = [], faiss_documents._column_of

    def counted(fields: object, ends: object, field: str, read: object) -> object:
        made.append((field, read))
        return column_of(fields, ends, field, read)

    monkeypatch.setattr(faiss_documents, "_column_of", counted)

    def found(where: Filter) -> int:
        return int(documents.in_scope(IndexFilter(("law",), where=where)).sum())

    assert found(Range("year", gte=2)) == 1
    assert made == [("year", as_number)], "a range with numbers needs no texts and no dates"
    for number in range(40):
        assert found(Eq(f"field{number}", f"value {number}")) == 2
        assert found(Range("year", lt=2)) == 1
    assert documents._column.cache_info().currsize <= 8
    assert made.count(("year", as_number)) == 1, "what is asked for again and again stays"
    assert found(Range("year", gte="2")) == 0
    assert found(Range("year")) == 2
    index.close()


@needs_faiss
def test_bm25_holds_the_scores_of_one_segment_and_skips_those_without_a_term(
    tmp_path: Path,
) -> None:
    index = FaissIndex.open(tmp_path / "i", DIM, "test", devices="cpu")
    for number, text in enumerate(("court", "patent", "court appeals"), start=1):
        index.put([entry(number, (text,))])
    query, wanted = LexicalQuery("court", "none"), index.scroll(ALL, EVERYTHING)
    every = faiss_search._bm25(index._view, query, ALL, {0, 1, 2})
    assert iter(every) is every
    assert [number for number, _ in every] == [0, 2]
    scores = index.score_bm25(query, ALL, wanted)
    assert [scores[point] > 0 for point in wanted] == [True, False, True]
    assert scores[wanted[1]] == 0.0
    assert [hit.point_id for hit in index.search_bm25(query, ALL, 9)] == [wanted[0], wanted[2]]
    index.close()
