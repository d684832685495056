"""Does an index hold exactly the passages that the catalog says? By point ids, both sides whole.

A point id names one passage of one revision for ever, so equal sets of ids mean that no passage is
missing, none is left of what was deleted or replaced, and none is there twice. What the index
*says* of a passage is not looked at here: see `content`. Documents may come in meanwhile: a
difference counts when it is still there after the index has followed past the first look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.catalog.points import documents_of_revisions, expected_points
from longleaf.core.ids import split_point_id
from longleaf.core.protocols import IndexFilter, PassageIndex
from longleaf.core.types import Scope
from longleaf.retriever.follow import Following

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ALL = 1 << 62


@dataclass(frozen=True, slots=True)
class Comparison:
    """`passages` the catalog has; how many the index lacks and has too many.

    `document_ids` are the catalog's ids of the documents these are of; `unknown` are extra passages
    of revisions that the catalog knows nothing of any more, `hidden` counts those of collections
    that are gone.
    """

    passages: int
    missing: int
    extra: int
    document_ids: tuple[int, ...]
    unknown: tuple[int, ...] = ()
    hidden: int = 0

    @property
    def equal(self) -> bool:
        return not self.missing and not self.extra


def compare(
    index: PassageIndex, follower: Following, catalog: Catalog, generation: Generation
) -> Comparison:
    """Bring the index up to date and compare. Raises what `catch_up` raises."""
    follower.catch_up()
    first = _difference(index, catalog, generation)
    missing, extra, hidden = first.missing, first.extra, first.hidden
    if len(missing) or len(extra) or hidden:
        follower.catch_up()
        second = _difference(index, catalog, generation)
        missing = np.intersect1d(missing, second.missing)
        extra = np.intersect1d(extra, second.extra)
        hidden = min(hidden, second.hidden)
        first = second
    document_ids = set(first.documents_of(missing))
    revisions = {int(point): split_point_id(int(point))[0] for point in extra}
    with catalog._database.reading() as connection:
        known = documents_of_revisions(connection, sorted(set(revisions.values())))
    document_ids.update(known.values())
    unknown = tuple(point for point, revision in revisions.items() if revision not in known)
    return Comparison(
        len(first.expected),
        len(missing),
        len(extra) + hidden,
        tuple(sorted(document_ids)),
        unknown,
        hidden,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Difference:
    expected: NDArray[np.int64]
    documents: NDArray[np.int64]
    missing: NDArray[np.int64]
    extra: NDArray[np.int64]
    hidden: int

    def documents_of(self, points: NDArray[np.int64]) -> Sequence[int]:
        found: list[int] = self.documents[np.searchsorted(self.expected, points)].tolist()
        return found


def _difference(index: PassageIndex, catalog: Catalog, generation: Generation) -> _Difference:
    # The index is asked last: it has then applied what the snapshot has, or more.
    expected, documents, _ = expected_points(catalog, generation)
    everywhere = IndexFilter(tuple(catalog.collection_languages(Scope.all(), None)))
    stored = np.array(index.scroll(everywhere, _ALL), dtype=np.int64)
    return _Difference(
        expected,
        documents,
        np.setdiff1d(expected, stored, assume_unique=True),
        np.setdiff1d(stored, expected, assume_unique=True),
        max(0, index.passage_count() - len(stored)),
    )
