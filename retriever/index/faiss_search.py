"""Ranking over a view's segments: BM25 summed over postings, dense products from FAISS.

BM25's IDF is log(1 + (N - n + 0.5) / (n + 0.5)) (Robertson and Zaragoza 2009, section 3), counted
for each query over the passages of the collections searched that are alive, so nothing that was
deleted and nothing of other collections leaves a trace. It keeps nothing between queries.
Trade-off: a query looks at every posting of its terms (docs/faiss.md has what that takes).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import compress
from operator import not_
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.protocols import IndexFilter, LexicalQuery, ScoredPoint
from longleaf.retriever.index.faiss_view import View
from longleaf.retriever.index.sparse import encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray


def search_dense(
    view: View, vector: FloatArray, index_filter: IndexFilter, limit: int
) -> list[ScoredPoint]:
    """The nearest passages. `vector`: (dim,) float32, unit length."""
    masks = view.passing(index_filter)
    points: list[NDArray[np.int64]] = []
    scores: list[NDArray[np.floating]] = []
    sealed = view.sealed
    # Asked once: a GPU may take a segment while this search runs.
    covered = [sealed is not None and sealed.covers(live.segment) for live in view.lives]
    pairs = list(zip(view.lives, masks, strict=True))
    if sealed is not None and any(covered):
        lives, passing_rows = zip(*compress(pairs, covered), strict=True)
        for number, rows, found in sealed.search(lives, passing_rows, vector, limit):
            points.append(lives[number].segment.point_ids[rows])
            scores.append(found)
    for live, passing in compress(pairs, map(not_, covered)):
        rows, found = live.segment.dense.search(vector, limit, passing)
        points.append(live.segment.point_ids[rows])
        scores.append(found)
    return _ranked(points, scores, limit)


def score_dense(view: View, vector: FloatArray, point_ids: Sequence[int]) -> dict[int, float]:
    """The cosine of each point that is there."""
    scores: dict[int, float] = {}
    for number, rows, points in view.found(point_ids):
        found = view.lives[number].segment.dense.score(vector, np.array(rows, np.int64))
        scores.update(zip(points, found.tolist(), strict=True))
    return scores


def search_bm25(
    view: View, query: LexicalQuery, index_filter: IndexFilter, limit: int
) -> list[ScoredPoint]:
    """The passages that hold most of the query's words."""
    points, scores = [], []
    masks = view.passing(index_filter)
    for number, found in _bm25(view, query, index_filter, set(range(len(view.lives)))):
        rows = np.flatnonzero((found > 0.0) & masks[number])
        best = found[rows]
        if len(rows) > limit:  # equals of the last one stay: who of them leads is told by id
            least = np.partition(best, len(best) - limit)[len(best) - limit]
            rows, best = rows[best >= least], best[best >= least]
        points.append(view.lives[number].segment.point_ids[rows])
        scores.append(best)
    return _ranked(points, scores, limit)


def score_bm25(
    view: View, query: LexicalQuery, index_filter: IndexFilter, point_ids: Sequence[int]
) -> dict[int, float]:
    """The BM25 score of each point that passes; 0.0 where it holds no term."""
    masks = view.passing(index_filter)
    asked = {number: (rows, points) for number, rows, points in view.found(point_ids)}
    scores = {
        point: 0.0
        for number, (rows, points) in asked.items()
        for row, point in zip(rows, points, strict=True)
        if masks[number][row]
    }
    for number, found in _bm25(view, query, index_filter, set(asked)):
        for row, point in zip(*asked[number], strict=True):
            if point in scores:
                scores[point] = float(found[row])
    return scores


def scroll(view: View, index_filter: IndexFilter, limit: int) -> list[int]:
    """Point ids that pass, ascending."""
    passing = [
        live.segment.point_ids[mask][:limit]
        for live, mask in zip(view.lives, view.passing(index_filter), strict=True)
    ]
    merged: list[int] = np.sort(np.concatenate([np.empty(0, np.int64), *passing])).tolist()
    return merged[:limit]


def _bm25(
    view: View, query: LexicalQuery, index_filter: IndexFilter, numbers: set[int]
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """(number of the segment, score of each of its rows) for those of the segments `numbers` that
    hold a term; one at a time, because it is 8 bytes a row."""
    terms = np.array(encoder(query.language).query(query.text).indices, np.uint64)
    corpora = view.in_collections(index_filter.collections)
    passages = 0
    holding = np.zeros(len(terms), np.int64)
    places = []
    for live, corpus in zip(view.lives, corpora, strict=True):
        passages += len(live.segment) if corpus is None else int(np.count_nonzero(corpus))
        here = live.segment.bm25.places(terms)
        places.append(here)
        for term, place in enumerate(here):
            if corpus is None:
                holding[term] += place.stop - place.start
            elif place.stop > place.start:
                holding[term] += np.count_nonzero(corpus[live.segment.bm25.rows[place]])
    idf = [math.log(1.0 + (passages - n + 0.5) / (n + 0.5)) for n in holding.tolist()]
    for number in sorted(numbers):
        if not any(place.stop > place.start for place in places[number]):
            continue
        postings = view.lives[number].segment.bm25
        assert postings.weights is not None
        scores = np.zeros(len(view.lives[number].segment), np.float64)
        for weight, place in zip(idf, places[number], strict=True):
            if place.stop > place.start:
                scores[postings.rows[place]] += postings.weights[place] * weight
        yield number, scores


def _ranked(
    points: Sequence[NDArray[np.int64]], scores: Sequence[NDArray[np.floating]], limit: int
) -> list[ScoredPoint]:
    if not points:
        return []
    every, found = np.concatenate(points), np.concatenate(scores)
    best = np.lexsort((every, -found))[:limit]
    return [
        ScoredPoint(point, score)
        for point, score in zip(every[best].tolist(), found[best].tolist(), strict=True)
    ]
