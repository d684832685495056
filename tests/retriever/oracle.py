"""Stage 1 as a slow, obvious oracle, on an index that computes everything by brute force.

The oracle scores every passage, then walks and groups; the index and the catalog are the smallest
that keep the promises of `PassageIndex` and `DocumentLookup`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from longleaf.core.filters import matches
from longleaf.core.ids import is_aside, point_id, split_point_id
from longleaf.core.protocols import IndexFilter, LexicalQuery, ScoredPoint
from longleaf.core.types import Scope
from longleaf.retriever.retrieve import Retrieval, RetrievalQuery, RetrievalSettings
from longleaf.retriever.words import words


@dataclass(frozen=True)
class Doc:
    document_id: int
    revision_id: int
    passages: tuple[tuple[tuple[int, ...], str], ...]  # (vector, text) of each
    collection: str = "main"
    groups: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    asides: frozenset[int] = frozenset()  # ordinals

    @property
    def text(self) -> str:
        return " ".join(text for _, text in self.passages)

    @property
    def public_id(self) -> str:
        return f"public-{self.document_id}"


def holds(phrase: str, text: str) -> bool:
    return f" {' '.join(words(phrase))} " in f" {' '.join(words(text))} "


class BruteIndex:
    """A PassageIndex that scores every passage for every question. `lies`: it ignores filters."""

    fingerprint = "brute"

    def __init__(self, docs: Sequence[Doc], lies: bool = False) -> None:
        self.lies = lies
        self.largest_limit = 0
        self.returned = Counter[str]()
        self.passages = {
            point_id(doc.revision_id, ordinal, ordinal in doc.asides): (doc, vector, text)
            for doc in docs
            for ordinal, (vector, text) in enumerate(doc.passages)
        }

    def _passing(self, index_filter: IndexFilter) -> list[int]:
        return [
            i
            for i, (doc, _, text) in self.passages.items()
            if self._passes(doc, text, index_filter)
        ]

    def _passes(self, doc: Doc, text: str, wanted: IndexFilter) -> bool:
        if self.lies:
            return True
        fields = {"document": doc.public_id, "collection": doc.collection, **doc.metadata}
        return (
            doc.collection in wanted.collections
            and (wanted.groups is None or not doc.groups or bool({*doc.groups} & {*wanted.groups}))
            and (wanted.where is None or matches(wanted.where, fields))
            and (not wanted.phrases or any(holds(phrase, text) for phrase in wanted.phrases))
            and not any(holds(phrase, text) for phrase in wanted.excluded)
        )

    def _dense(self, vector: np.ndarray, point: int) -> float:
        return float(
            sum(a * b for a, b in zip(vector.tolist(), self.passages[point][1], strict=True))
        )

    def _bm25(self, query: LexicalQuery, point: int) -> float:
        terms = Counter(words(self.passages[point][2]))
        # A "language" here weighs words by their first letter, so that two languages differ.
        return sum(
            terms[word] * (1.0 if word[0] in query.language else 0.5) for word in words(query.text)
        )

    def _top(self, scores: Mapping[int, float], limit: int) -> list[ScoredPoint]:
        self.largest_limit = max(self.largest_limit, limit)
        ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        return [ScoredPoint(point, score) for point, score in ranked[:limit]]

    def search_dense(self, vector, index_filter, limit) -> list[ScoredPoint]:
        scores = {i: self._dense(vector, i) for i in self._passing(index_filter)}
        found = self._top(scores, limit)
        self.returned["dense"] += len(found)
        return found

    def search_bm25(self, query, index_filter, limit) -> list[ScoredPoint]:
        scores = {i: self._bm25(query, i) for i in self._passing(index_filter)}
        return self._top({i: score for i, score in scores.items() if score > 0}, limit)

    def score_dense(self, vector, point_ids) -> dict[int, float]:
        return {i: self._dense(vector, i) for i in point_ids if i in self.passages}

    def score_bm25(self, query, index_filter, point_ids) -> dict[int, float]:
        passing = set(self._passing(index_filter))
        return {i: self._bm25(query, i) for i in point_ids if i in passing}

    def scroll(self, index_filter, limit) -> list[int]:
        return sorted(self._passing(index_filter))[:limit]

    def indexed_seq(self) -> int:
        return 0

    def put(self, entries) -> None: ...

    def delete(self, document_ids) -> None: ...

    def flush(self, seq) -> None: ...

    def passage_count(self) -> int:
        return len(self.passages)

    def optimize(self) -> bool:
        return False

    def close(self) -> None: ...


class Catalog:
    """A DocumentLookup over the documents that exist now."""

    def __init__(self, docs: Sequence[Doc]) -> None:
        self.docs = {doc.revision_id: doc for doc in docs}
        self.texts_read = 0

    def visible(self, revision_ids: Sequence[int], scope: Scope) -> dict[int, int]:
        return {
            i: self.docs[i].document_id
            for i in revision_ids
            if i in self.docs and scope.allows(self.docs[i].collection, self.docs[i].groups)
        }

    def texts(self, revision_ids: Sequence[int]) -> dict[int, str]:
        self.texts_read += len(revision_ids)
        return {i: self.docs[i].text for i in revision_ids if i in self.docs}

    def public_ids(self, document_ids: Sequence[int]) -> dict[int, str]:
        return {i: f"public-{i}" for i in document_ids}


# --- the oracle ----------------------------------------------------------------------------------


def _z(values: Mapping[int, float]) -> dict[int, float]:
    spread = float(np.std(list(values.values())))
    mean = float(np.mean(list(values.values())))
    return {i: (value - mean) / spread if spread > 1e-12 else 0.0 for i, value in values.items()}


def oracle(
    query: RetrievalQuery, docs: Sequence[Doc], options: RetrievalSettings
) -> list[tuple[int, list[tuple[int, float]]]]:
    """[(document id, [(point id, fused score)])]: score everything, then walk and group."""
    index = BruteIndex(docs)
    everything = IndexFilter(
        tuple(query.collections),
        query.scope.groups and tuple(query.scope.groups),
        query.where,
        query.phrases,
        query.excluded,
    )
    allowed = [
        i
        for i in index._passing(everything)
        if all(holds(p, index.passages[i][0].text) for p in query.phrases)
        and not any(holds(p, index.passages[i][0].text) for p in query.excluded)
    ]
    bm25 = {
        i: index._bm25(
            LexicalQuery(query.text, query.collections[index.passages[i][0].collection]), i
        )
        for i in allowed
    }
    dense = {i: index._dense(query.vector, i) for i in allowed}
    union: set[int] = set()
    for scores in (dense, {i: score for i, score in bm25.items() if score > 0}):
        kept: dict[int, list[int]] = {}
        for i in sorted(scores, key=lambda i: (-scores[i], i)):
            group = kept.setdefault(split_point_id(i)[0], [])
            if len(group) < options.passages_per_document:
                group.append(i)
            if len(kept) == options.candidates:
                break
        union.update(i for group in kept.values() for i in group)
    if not union:
        return []
    z_dense, z_bm25 = _z({i: dense[i] for i in union}), _z({i: bm25[i] for i in union})
    # Rounded: numpy's sums and exact sums differ in the last digits, which must not break ties.
    lower = {i: options.aside_penalty if is_aside(i) else 0.0 for i in union}
    fused = {i: round(z_dense[i] + z_bm25[i] - lower[i], 9) for i in union}
    groups: dict[int, list[tuple[int, float]]] = {}
    for i in sorted(fused, key=lambda i: (-fused[i], i)):
        group = groups.setdefault(index.passages[i][0].document_id, [])
        if len(group) < options.passages_per_document:
            group.append((i, fused[i]))
    return list(groups.items())[: options.candidates]


def plain(found: Retrieval) -> list[tuple[int, list[tuple[int, float]]]]:
    return [
        (c.document_id, [(p.point_id, p.fused_score) for p in c.passages]) for c in found.candidates
    ]


def same(one, other) -> bool:
    """Same documents and passages; where scores are equal to 1e-6 their order is not compared."""
    if sorted(d for d, _ in one) != sorted(d for d, _ in other):
        cut = other[-1][1][0][1]  # a tie at the cut may fall either way
        above = [{d for d, ps in side if ps[0][1] > cut + 1e-6} for side in (one, other)]
        return len(one) == len(other) and above[0] == above[1]
    for (_, ps), (_, qs) in zip(one, other, strict=True):
        if len(ps) != len(qs) or not np.allclose([s for _, s in ps], [s for _, s in qs], atol=1e-6):
            return False
    by_document = dict(other)
    return all(
        {p for p, s in ps if s > ps[-1][1] + 1e-6}
        == {q for q, s in by_document[d] if s > ps[-1][1] + 1e-6}
        for d, ps in one
    )
