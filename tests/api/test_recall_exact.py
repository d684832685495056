"""The exact side of `longleaf doctor --recall`: FAISS and numpy find the same."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from tests.contracts.indexes import without
from tests.retriever.test_follow import DIM, generation, put

from longleaf.api.doctor import recall
from longleaf.core.catalog import Catalog, Generation
from longleaf.core.catalog.points import vector_blocks

__all__ = ["generation"]


@pytest.mark.skipif(without("faiss", "faiss-cpu")() is not None, reason="faiss-cpu is not there")
@pytest.mark.parametrize("documents", [1, 260])
def test_faiss_finds_what_numpy_finds(
    catalog: Catalog, generation: Generation, documents: int
) -> None:
    for number in range(documents):
        put(catalog, generation, str(number), "w" * (20 + number))
    queries = np.random.default_rng(1).normal(size=(9, DIM)).astype(np.float32)
    nearest, by = recall.exact_search()
    assert by.startswith("FAISS")
    points, scores, passages = recall.exact_top(
        catalog, generation, queries, lambda *_: None, nearest
    )
    same_points, same_scores, _ = recall.exact_top(catalog, generation, queries, lambda *_: None)
    assert passages == 2 * documents
    np.testing.assert_allclose(scores, same_scores, atol=1e-6)
    assert points.shape == (9, 2 * recall.DEPTH)
    for query, row, other, row_scores in zip(queries, points, same_points, scores, strict=True):
        there = row_scores > -np.inf
        assert set(row[there]) == set(other[there]), "random vectors have no ties"
        assert (row[~there] == -1).all()
        with catalog._database.reading() as connection:
            every = {
                point: float(vector @ query)
                for ids, block in vector_blocks(connection, generation)
                for point, vector in zip(ids.tolist(), block, strict=True)
            }
        best = sorted(every.values(), reverse=True)[: len(row_scores[there])]
        np.testing.assert_allclose(row_scores[there], best, atol=1e-5)


def test_without_faiss_numpy_does_it_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert recall.exact_search() == (recall.nearest_by_numpy, "numpy")
