"""What a search sees: some segments and which of their documents are alive, never changed.

A write makes a new `View` and puts it in the place of the old one, so a search that has begun sees
all of a write or nothing of it, without a lock. The masks of the last filters are kept with the
view, because a search asks four times with one filter. It knows no files and no scores. Trade-off:
a deletion copies the mask of each segment that it touches (a byte a document).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.protocols import IndexFilter
from longleaf.retriever.index.faiss_segment import Segment
from longleaf.retriever.words import words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.retriever.index.faiss_sealed import Sealed

    Mask = NDArray[np.bool_]

_FILTERS_KEPT = 16


@dataclass(frozen=True, eq=False)
class Live:
    """A segment and, by document, whether it is `alive`: not deleted, not replaced."""

    segment: Segment
    alive: Mask

    @classmethod
    def whole(cls, segment: Segment) -> Live:
        """All of its documents."""
        return cls(segment, np.ones(len(segment.documents), np.bool_))

    @cached_property
    def rows(self) -> Mask:
        """The passages of documents that are alive."""
        rows: Mask = self.alive[self.segment.row_documents]
        return rows

    @cached_property
    def row_count(self) -> int:
        """How many passages are alive."""
        return int(np.count_nonzero(self.rows))

    @cached_property
    def is_whole(self) -> bool:
        """Whether nothing of it is gone."""
        return bool(self.alive.all())

    def without(self, places: Sequence[int]) -> Live:
        """The same without these documents."""
        alive = self.alive.copy()
        alive[list(places)] = False
        return Live(self.segment, alive)

    def passing(self, index_filter: IndexFilter) -> Mask:
        """The passages that a search with this filter may return."""
        documents = self.alive & self.segment.documents.in_scope(index_filter)
        rows: Mask = documents[self.segment.row_documents]
        phrases = [phrase for phrase in index_filter.phrases if words(phrase)]
        if phrases and rows.any():
            holding = np.zeros(len(rows), np.bool_)
            for phrase in phrases:
                holding |= self.segment.holding_phrase(phrase)
            rows &= holding
        for phrase in index_filter.excluded:
            if words(phrase) and rows.any():
                rows &= ~self.segment.holding_phrase(phrase)
        return rows


@dataclass(frozen=True, eq=False)
class View:
    """The segments, and what finds the nearest in some of them quicker than a scan (`sealed`)."""

    lives: tuple[Live, ...] = ()
    sealed: Sealed | None = None
    _masks: dict[str, list[Mask]] = field(default_factory=dict)
    _corpora: dict[tuple[str, ...], list[Mask | None]] = field(default_factory=dict)

    @cached_property
    def row_count(self) -> int:
        """How many passages are alive."""
        return sum(live.row_count for live in self.lives)

    def passing(self, index_filter: IndexFilter) -> list[Mask]:
        """For each segment the passages that a search with this filter may return."""
        # Not by equality: a filter for 1 and one for True are equal to Python.
        key = repr(index_filter)
        masks = self._masks.get(key)
        if masks is None:
            masks = [live.passing(index_filter) for live in self.lives]
            _keep(self._masks, key, masks)
        return masks

    def in_collections(self, collections: tuple[str, ...]) -> list[Mask | None]:
        """For each segment the passages of these collections; None: all that it has."""
        masks = self._corpora.get(collections)
        if masks is None:
            masks = [_corpus(live, collections) for live in self.lives]
            _keep(self._corpora, collections, masks)
        return masks

    def found(self, point_ids: Sequence[int]) -> Iterator[tuple[int, list[int], list[int]]]:
        """(number of the segment, rows, point ids) of those that are alive, segment by segment."""
        asked = np.array(sorted(set(point_ids)), np.int64)
        for number, live in enumerate(self.lives):
            rows = live.segment.rows_of(asked)
            here = np.flatnonzero(rows >= 0)
            here = here[live.rows[rows[here]]]
            if len(here):
                yield number, rows[here].tolist(), asked[here].tolist()


def _corpus(live: Live, collections: tuple[str, ...]) -> Mask | None:
    documents = live.alive & live.segment.documents.in_collections(collections)
    return None if documents.all() else documents[live.segment.row_documents]


def _keep(kept: dict, key: object, value: object) -> None:  # type: ignore[type-arg]
    if len(kept) >= _FILTERS_KEPT:
        kept.clear()
    kept[key] = value
