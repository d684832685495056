"""The two sides of the first stage, asked with one query: search, and exact scores of the union.

It turns a `RetrievalQuery` into what a `PassageIndex` understands, and measures the time of each
side. It knows no documents and no fusion.

Collections of several BM25 languages are searched once per language, and the raw scores make one
list. Formula and constants are the same and only the stemmer differs, so that is nearer to the
truth than z-scores per language, which would lift a language in which nothing matches well.

The sides run one after the other: with the edge shard two threads were slower (30,000 passages,
200 per side: 2.96 ms against 2.63 ms), because one side takes nine tenths of the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from longleaf.core.filters import And, In, Not
from longleaf.core.protocols import IndexFilter, LexicalQuery, PassageIndex, ScoredPoint
from longleaf.retriever.retrieval import RetrievalQuery


class Sides:
    """One query against one index. `timings_ms` sums the time of each side."""

    def __init__(self, query: RetrievalQuery, index: PassageIndex) -> None:
        self._query = query
        self._index = index
        self.timings_ms = {"dense": 0.0, "bm25": 0.0}
        self._all_names = tuple(sorted(query.collections))
        by_language: dict[str, list[str]] = {}
        for name in self._all_names:
            by_language.setdefault(query.collections[name], []).append(name)
        self._lexical = [
            (LexicalQuery(query.text, language), tuple(names))
            for language, names in sorted(by_language.items())
        ]

    def search_dense(self, without: tuple[str, ...], limit: int) -> list[ScoredPoint]:
        """The nearest passages, of documents not in `without` (public ids)."""
        assert self._query.vector is not None
        index_filter = self._filter(self._all_names, without)
        with self._timed("dense"):
            return self._index.search_dense(self._query.vector, index_filter, limit)

    def search_bm25(self, without: tuple[str, ...], limit: int) -> list[ScoredPoint]:
        """The passages with the best words, of documents not in `without` (public ids)."""
        with self._timed("bm25"):
            found = [
                point
                for lexical, names in self._lexical
                for point in self._index.search_bm25(lexical, self._filter(names, without), limit)
            ]
            if len(self._lexical) > 1:
                found.sort(key=lambda point: (-point.score, point.point_id))
            return found[:limit]

    def browse(self, without: tuple[str, ...], limit: int) -> list[ScoredPoint]:
        """Passages that pass the filter, by point id, score 0."""
        point_ids = self._index.scroll(self._filter(self._all_names, without), limit)
        return [ScoredPoint(point_id, 0.0) for point_id in point_ids]

    def score_union(
        self, dense: Sequence[ScoredPoint], bm25: Sequence[ScoredPoint]
    ) -> tuple[dict[int, float], dict[int, float]]:
        """(dense, BM25) exact scores of every passage that either side listed.

        A passage that the index lost in between (its document was just replaced) is in neither.
        Without a query vector the dense scores are empty.
        """
        dense_scores = {point.point_id: point.score for point in dense}
        bm25_scores = {point.point_id: point.score for point in bm25}
        for_dense = sorted(bm25_scores.keys() - dense_scores.keys())
        for_bm25 = sorted(dense_scores.keys() - bm25_scores.keys())
        if self._query.vector is None:
            return {}, bm25_scores
        if for_dense:
            with self._timed("dense"):
                dense_scores |= self._index.score_dense(self._query.vector, for_dense)
        if for_bm25:
            with self._timed("bm25"):
                for lexical, names in self._lexical:
                    bm25_scores |= self._index.score_bm25(lexical, self._filter(names), for_bm25)
        both = dense_scores.keys() & bm25_scores.keys()
        return (
            {point_id: dense_scores[point_id] for point_id in both},
            {point_id: bm25_scores[point_id] for point_id in both},
        )

    def _filter(self, names: tuple[str, ...], without: tuple[str, ...] = ()) -> IndexFilter:
        groups = self._query.scope.groups
        where = self._query.where
        if without:
            others = Not(In("document", without))
            where = others if where is None else And((where, others))
        return IndexFilter(
            collections=names,
            groups=None if groups is None else tuple(sorted(groups)),
            where=where,
            phrases=self._query.phrases,
            excluded=self._query.excluded,
        )

    @contextmanager
    def _timed(self, side: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.timings_ms[side] += (time.perf_counter() - started) * 1000.0
