"""The slow, obvious PassageIndex: dictionaries, numpy and `core.filters.matches`.

What it answers is what the contract means; every real index is compared with it. BM25 is counted
anew for each query, with the IDF of the collections searched.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.filters import matches
from longleaf.core.protocols import (
    IndexEntry,
    IndexFilter,
    IndexPassage,
    LexicalQuery,
    ScoredPoint,
)
from longleaf.core.types import Scope
from longleaf.retriever.filters import entry_fields
from longleaf.retriever.index.sparse import encoder
from longleaf.retriever.words import words

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray


@dataclass
class OracleIndex:
    fingerprint: str = "oracle"
    entries: dict[int, IndexEntry] = field(default_factory=dict)
    seq: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def indexed_seq(self) -> int:
        return self.seq

    def put(self, entries: Sequence[IndexEntry]) -> None:
        with self.lock:
            for entry in entries:
                there = self.entries.get(entry.document_id)
                if there is None or entry.revision_id >= there.revision_id:
                    self.entries[entry.document_id] = entry

    def delete(self, document_ids: Sequence[int]) -> None:
        with self.lock:
            for document_id in document_ids:
                self.entries.pop(document_id, None)

    def flush(self, seq: int) -> None:
        self.seq = seq

    def search_dense(
        self, vector: FloatArray, index_filter: IndexFilter, limit: int
    ) -> list[ScoredPoint]:
        passing = [passage for _, passage in self._passing(index_filter)]
        return _top({p.point_id: _cosine(vector, p.dense) for p in passing}, limit)

    def search_bm25(
        self, query: LexicalQuery, index_filter: IndexFilter, limit: int
    ) -> list[ScoredPoint]:
        with self.lock:
            passing = [passage.point_id for _, passage in self._passing(index_filter)]
            scores = self.score_bm25(query, index_filter, passing)
        return _top({point: score for point, score in scores.items() if score > 0.0}, limit)

    def score_dense(self, vector: FloatArray, point_ids: Sequence[int]) -> dict[int, float]:
        return {
            passage.point_id: _cosine(vector, passage.dense)
            for _, passage in self._all()
            if passage.point_id in point_ids
        }

    def score_bm25(
        self, query: LexicalQuery, index_filter: IndexFilter, point_ids: Sequence[int]
    ) -> dict[int, float]:
        everything = self._all()
        corpus = {
            passage.point_id: _terms(entry, passage)
            for entry, passage in everything
            if entry.collection in index_filter.collections
        }
        with_term = Counter(term for terms in corpus.values() for term in terms)
        idf = {
            term: math.log(1.0 + (len(corpus) - count + 0.5) / (count + 0.5))
            for term, count in with_term.items()
        }
        wanted = set(point_ids)
        asked = encoder(query.language).query(query.text).indices
        return {
            passage.point_id: sum(
                corpus[passage.point_id].get(term, 0.0) * idf.get(term, 0.0) for term in asked
            )
            for entry, passage in everything
            if passage.point_id in wanted and passes(entry, passage, index_filter)
        }

    def scroll(self, index_filter: IndexFilter, limit: int) -> list[int]:
        passing = sorted(passage.point_id for _, passage in self._passing(index_filter))
        return passing[: max(limit, 0)]

    def passage_count(self) -> int:
        return len(self._all())

    def optimize(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def _all(self) -> list[tuple[IndexEntry, IndexPassage]]:
        with self.lock:
            return [(entry, p) for entry in self.entries.values() for p in entry.passages]

    def _passing(self, index_filter: IndexFilter) -> list[tuple[IndexEntry, IndexPassage]]:
        return [(entry, p) for entry, p in self._all() if passes(entry, p, index_filter)]


def passes(entry: IndexEntry, passage: IndexPassage, index_filter: IndexFilter) -> bool:
    """Whether a passage may be returned."""
    groups = None if index_filter.groups is None else frozenset(index_filter.groups)
    scope = Scope(frozenset(index_filter.collections), groups)
    phrases = [phrase for phrase in index_filter.phrases if words(phrase)]
    excluded = [phrase for phrase in index_filter.excluded if words(phrase)]
    return (
        scope.allows(entry.collection, entry.groups)
        and (index_filter.where is None or matches(index_filter.where, entry_fields(entry)))
        and (not phrases or any(_holds(passage.phrase_text, phrase) for phrase in phrases))
        and not any(_holds(passage.phrase_text, phrase) for phrase in excluded)
    )


def _holds(text: str, phrase: str) -> bool:
    return f" {' '.join(words(phrase))} " in f" {' '.join(words(text))} "


def _terms(entry: IndexEntry, passage: IndexPassage) -> dict[int, float]:
    terms = encoder(entry.bm25_language).document(passage.text)
    return dict(zip(terms.indices, terms.weights, strict=True))


def _cosine(left: FloatArray, right: FloatArray) -> float:
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))


def _top(scores: dict[int, float], limit: int) -> list[ScoredPoint]:
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [ScoredPoint(point, score) for point, score in ranked[: max(limit, 0)]]
