"""What a FAISS index says of its passages, against what the catalog would have it say.

Every byte of its files has a checksum that opening proves; this finds what was written wrong in the
first place, or was changed in memory since. What is compared is what searches read: vectors,
postings, words, fields and labels. Cost: about that of putting all documents again; each batch
looks once through the postings of the segments that it lies in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from longleaf.core.protocols import IndexEntry
from longleaf.retriever.index import faiss_segment, followed
from longleaf.retriever.index.faiss import FaissIndex
from longleaf.retriever.index.faiss_postings import Postings
from longleaf.retriever.index.faiss_segment import Segment
from longleaf.retriever.index.followed import ChangeLog

_PASSAGES_COMPARED = 2048


def differences(index: FaissIndex, entries: Iterable[IndexEntry]) -> Iterator[tuple[int, str]]:
    """(document id, what differs) of every passage that is not stored as it should be."""
    batch: list[IndexEntry] = []
    for entry in entries:
        batch.append(entry)
        if sum(len(one.passages) for one in batch) >= _PASSAGES_COMPARED:
            yield from _compared(index, batch)
            batch = []
    yield from _compared(index, batch)


def why_unusable(index: FaissIndex, change_log: ChangeLog) -> str | None:
    """Why opening this index to follow `change_log` would make it anew; None when it would not."""
    return followed.why_unusable(index._state, index.passage_count(), change_log)


def document_ids(index: FaissIndex, point_ids: Sequence[int]) -> set[int]:
    """Which documents these points say they are of, whatever the catalog knows of them."""
    view = index._view
    found: set[int] = set()
    for number, rows, _ in view.found(point_ids):
        segment = view.lives[number].segment
        found.update(segment.documents.ids[segment.row_documents[rows]].tolist())
    return found


def _compared(index: FaissIndex, entries: Sequence[IndexEntry]) -> Iterator[tuple[int, str]]:
    wanted = faiss_segment.from_entries(entries, index._state.dim)
    view = index._view
    wanted_side = _Side(wanted, range(len(wanted)))
    stored: dict[int, tuple[_Side, int]] = {}
    for number, rows, points in view.found(wanted.point_ids.tolist()):
        side = _Side(view.lives[number].segment, rows)
        stored.update((point, (side, row)) for row, point in zip(rows, points, strict=True))
    places = {int(one): place for place, one in enumerate(wanted.documents.ids.tolist())}
    rows_of = np.argsort(wanted.row_documents, kind="stable")
    starts = np.searchsorted(wanted.row_documents[rows_of], np.arange(len(wanted.documents) + 1))
    for entry in entries:
        place = places[entry.document_id]
        for row in rows_of[starts[place] : starts[place + 1]].tolist():
            have = stored.get(int(wanted.point_ids[row]))
            ours = None if have is None else have[0].of(have[1])
            what = _difference(ours, wanted_side.of(row))
            if what is not None:
                yield entry.document_id, what


def _difference(have: dict[str, object] | None, want: dict[str, object]) -> str | None:
    if have is None:
        return "is not there"
    return next((what for what in want if have[what] != want[what]), None)


class _Side:
    """These rows of one segment as they are to be compared, keyed by what is said of a difference.

    Made once for a batch: it looks through all of the segment's postings.
    """

    def __init__(self, segment: Segment, rows: Sequence[int]) -> None:
        self._segment = segment
        self._bm25 = _by_row(segment.bm25, rows)
        self._words = _by_row(segment.words, rows)

    def of(self, row: int) -> dict[str, object]:
        segment = self._segment
        place = int(segment.row_documents[row])
        documents = segment.documents
        label = documents.labels[documents.labelled[place]]
        fields = json.loads(bytes(documents.field_bytes(place)))
        document = (int(documents.ids[place]), int(documents.revisions[place]))
        return {
            "has another dense vector": segment.dense.codes(np.array([row])).tobytes(),
            "has other BM25 terms": self._bm25[row],
            "has other words or labels": (
                document,
                label,
                fields,
                segment.text(row),
                self._words[row],
            ),
        }


def _by_row(postings: Postings, rows: Sequence[int]) -> dict[int, dict[int, float]]:
    """What each of these rows holds: its keys and their weights."""
    found: dict[int, dict[int, float]] = {row: {} for row in rows}
    at = np.flatnonzero(np.isin(postings.rows, np.array(rows, postings.rows.dtype)))
    keys = postings.keys[np.searchsorted(postings.starts, at, side="right") - 1].tolist()
    weights = [1.0] * len(at) if postings.weights is None else postings.weights[at].tolist()
    for key, row, weight in zip(keys, postings.rows[at].tolist(), weights, strict=True):
        found[row][key] = weight
    return found
