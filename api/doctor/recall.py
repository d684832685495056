"""Recall of the index's dense search against an exact one over the catalog's stored vectors.

The index scans int8 codes and rescores; how much that loses is measured here on the user's own
passages, not promised. Queries are sentences of random stored passages, and what the user gives.
The exact side compares every query with every stored vector in blocks, so memory stays flat:
queries x 200 candidates and one block of 8,192 vectors. FAISS does it where it is installed, else
numpy; both in 32 bits, with equal results. A passage with the same score as the 100th counts as
found, because which of equals comes last means nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.catalog.points import expected_points, vector_blocks
from longleaf.core.errors import ConfigError
from longleaf.core.ids import split_point_id
from longleaf.core.protocols import Embedder, IndexFilter, PassageIndex
from longleaf.core.types import Scope
from longleaf.retriever.index.faiss_library import load_faiss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray

DEPTH = 100
_TIE = 1e-5
_MIN_QUERY_CHARS = 20
_MAX_QUERY_WORDS = 30
_SENTENCE_END = re.compile(r"(?<=[.;:?!])\s+|\n+")

Progress = Callable[[str, int, int], None]
Nearest = Callable[["FloatArray", "FloatArray", int], "tuple[FloatArray, NDArray[np.int64]]"]
"""(queries (n, dim), block (m, dim), count at most m) -> (scores, rows), each (n, count)."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall@`depth` over `queries` queries and `passages` passages; the worst query's words, and
    which library searched exactly."""

    queries: int
    passages: int
    depth: int
    mean: float
    lowest: float
    worst_query: str
    exact_by: str

    @property
    def fact(self) -> str:
        """What was found, in one line."""
        return (
            f"recall@{self.depth} {self.mean:.4f} (worst {self.lowest:.2f}) over "
            f"{self.queries:,} queries and {self.passages:,} passages, against an exact search "
            f"by {self.exact_by}"
        )


def measure(
    index: PassageIndex,
    embedder: Embedder,
    catalog: Catalog,
    generation: Generation,
    queries: Sequence[str],
    progress: Progress = lambda *_: None,
) -> Recall:
    """How much of the exact top 100 the index finds, as a mean over `queries`."""
    vectors = np.stack([embedder.embed_query(each).dense for each in queries])
    nearest, exact_by = exact_search()
    points, scores, passages = exact_top(catalog, generation, vectors, progress, nearest)
    everywhere = IndexFilter(tuple(catalog.collection_languages(Scope.all(), None)))
    found = np.zeros(len(queries))
    for number, vector in enumerate(vectors):
        progress("Searches", number, len(queries))
        depth = min(DEPTH, passages)
        least = scores[number, depth - 1] - _TIE
        good = set(points[number][scores[number] >= least].tolist())
        hits = index.search_dense(vector, everywhere, DEPTH)
        found[number] = min(depth, sum(hit.point_id in good for hit in hits)) / depth
    worst = int(found.argmin())
    return Recall(
        len(queries),
        passages,
        min(DEPTH, passages),
        float(found.mean()),
        float(found[worst]),
        queries[worst],
        exact_by,
    )


def exact_search() -> tuple[Nearest, str]:
    """FAISS's where it can be loaded, else numpy's, and which it is."""
    try:
        faiss: Any = load_faiss()
    except ConfigError:
        return nearest_by_numpy, "numpy"

    def nearest(
        queries: FloatArray, block: FloatArray, count: int
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        scores, rows = faiss.knn(queries, block, count, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, rows

    return nearest, f"FAISS {faiss.__version__}"


def nearest_by_numpy(
    queries: FloatArray, block: FloatArray, count: int
) -> tuple[FloatArray, NDArray[np.int64]]:
    """The obvious way: every product, and the largest of them in no order."""
    scores = queries @ block.T
    rows = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    return np.take_along_axis(scores, rows, axis=1), rows


def exact_top(
    catalog: Catalog,
    generation: Generation,
    vectors: FloatArray,
    progress: Progress,
    nearest: Nearest = nearest_by_numpy,
) -> tuple[NDArray[np.int64], FloatArray, int]:
    """(point ids (n_queries, 2 * DEPTH), their scores descending, how many passages there are).

    Where there are fewer passages, the rest is point -1 with score -inf.
    """
    keep = 2 * DEPTH
    points = np.full((len(vectors), keep), -1, dtype=np.int64)
    scores = np.full((len(vectors), keep), -np.inf, dtype=np.float32)
    total = catalog.count(Scope.all()).passages
    passages = 0
    with catalog._database.reading() as connection:
        for block_points, block in vector_blocks(connection, generation):
            progress("Exact search", passages, total)
            passages += len(block)
            found, rows = nearest(vectors, block, min(keep, len(block)))
            scores = np.hstack([scores, found])
            points = np.hstack([points, block_points[rows]])
            best = np.argpartition(-scores, keep - 1, axis=1)[:, :keep]
            points = np.take_along_axis(points, best, axis=1)
            scores = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return (
        np.take_along_axis(points, order, axis=1),
        np.take_along_axis(scores, order, axis=1),
        passages,
    )


def passage_queries(
    catalog: Catalog, generation: Generation, wanted: int, seed: int = 1
) -> list[str]:
    """Sentences of randomly drawn stored passages: words that a searcher of this corpus may use."""
    rng = np.random.default_rng(seed)
    points, _, _ = expected_points(catalog, generation)
    found: list[str] = []
    for point in rng.permutation(points)[: 20 * wanted].tolist():
        if len(found) == wanted:
            break
        revision_id, _ = split_point_id(point)
        heads = catalog.candidate_heads([revision_id], Scope.all())
        passages, _ = catalog.hydrate(heads, [point], generation)
        sentences = [
            " ".join(each.split()[:_MAX_QUERY_WORDS])
            for passage in passages.values()
            for each in _SENTENCE_END.split(passage.text)
            if len(each) >= _MIN_QUERY_CHARS
        ]
        if sentences:
            found.append(sentences[int(rng.integers(len(sentences)))])
    return found
