"""The FAISS passage index: exact dense search in memory or on GPUs, BM25 beside it, one process.

Passages lie in segments that are made once (`faiss_segment`); a write makes a new `View` of them
and swaps it in, so searches take no lock and see each write whole or not at all. `flush` writes the
new segments and then the manifest. Vectors are 16-bit floats. It knows no catalog and no model.
Trade-off: every dense search looks at every vector (100,000 x 384: docs/faiss.md), for exact
results without tuning; with `lists` it looks into some inverted lists instead, and is not exact.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import structlog

from longleaf.core.catalog.blobs import sync_folder
from longleaf.core.protocols import IndexEntry, IndexFilter, LexicalQuery, ScoredPoint
from longleaf.retriever.index import (
    faiss_folder,
    faiss_search,
    faiss_segment,
    followed,
    incoming,
)
from longleaf.retriever.index.faiss_folder import IndexState
from longleaf.retriever.index.faiss_library import choose, load_faiss
from longleaf.retriever.index.faiss_sealed import Sealing
from longleaf.retriever.index.faiss_tidy import MAX_ROWS, Extent, full_merges, next_merge
from longleaf.retriever.index.faiss_view import Live, View
from longleaf.retriever.index.folder import TakenFolder
from longleaf.retriever.index.followed import ChangeLog

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray

_log = structlog.get_logger(__name__)


class FaissIndex:
    """`core.protocols.PassageIndex` in a local folder. Made by `open`."""

    def __init__(
        self, taken: TakenFolder, state: IndexState, lives: Sequence[Live], sealing: Sealing
    ) -> None:
        self.fingerprint = state.fingerprint
        self._taken = taken
        self._state = state
        self._sealing = sealing
        self._view = View(tuple(lives), sealing.sealed)
        self._saved = {live.segment.name for live in lives} | {state.lists or ""}
        self._writing = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        folder: Path,
        dim: int,
        fingerprint: str,
        change_log: ChangeLog | None = None,
        *,
        devices: str = "auto",
        lists: int = 0,
        probes: int = 64,
    ) -> FaissIndex:
        """The index in `folder`, made when there is none; what crashes left in it is removed.

        One that following `change_log` cannot make right is made anew, empty: it stopped below the
        log's horizon, is ahead of the log or followed another history of it, or was left in the
        middle of its first fill. `devices`, `lists` and `probes` are the settings' (faiss.*).
        Raises ConfigError when FAISS or a device that was asked for is not there,
        GenerationMismatch when the index was made by another `fingerprint` or `dim`, IndexLocked
        when another process (or this one) has it open, CatalogBroken when the folder holds
        something else or a byte of it is not as it was written.
        """
        chosen = choose(load_faiss(), devices)
        faiss_folder.make_if_missing(folder, dim, fingerprint)
        faiss_folder.check_made_by(folder, dim, fingerprint)
        taken = TakenFolder(folder)
        try:
            # Read again: until it was taken, its owner could still move it on.
            state, alive = faiss_folder.read_manifest(folder)
            faiss_folder.remove_others(folder, [*alive, state.lists or ""])
            lives = faiss_folder.load_segments(folder, alive)
            rows = sum(live.row_count for live in lives)
            why = followed.why_unusable(state, rows, change_log)
            if why is not None:
                _log.warning("index.rebuilt", reason=why)
                state, lives = faiss_folder.start_anew(folder, dim, fingerprint), []
            if change_log is not None:  # written with the next seq
                state = replace(state, epoch=change_log.epoch())
            sealing = Sealing(chosen, dim, lists, probes)
            sealing.open(folder, state.lists, [live.segment for live in lives])
            return cls(taken, state, lives, sealing)
        except BaseException:
            taken.close()
            raise

    @property
    def device_reason(self) -> str:
        """What searches dense vectors, and why that."""
        return self._sealing.reason

    @property
    def erase_since(self) -> float | None:
        """Since when bytes of deleted documents may lie in the files; None when none do."""
        return self._state.erase_since

    def indexed_seq(self) -> int:
        return self._state.indexed_seq

    def put(self, entries: Sequence[IndexEntry]) -> None:
        """Replace documents whole; a search sees all of it or nothing. Durable with `flush`."""
        newest = incoming.newest(entries, self._state.dim)
        with self._writing:
            ids = np.array(sorted(newest), np.int64)
            lives = []
            for live, places in self._found(ids):
                replaced = []
                for document_id, place in places:
                    stored = live.segment.documents.revisions[place]
                    if stored > newest[document_id].revision_id:
                        del newest[document_id]
                    else:
                        replaced.append(place)
                lives.append(live.without(replaced) if replaced else live)
                self._note_gone(replaced)
            lives += [
                Live.whole(faiss_segment.from_entries(batch, self._state.dim))
                for batch in _by_rows(newest.values())
            ]
            self._show(lives)
            self._tidy()

    def delete(self, document_ids: Sequence[int]) -> None:
        with self._writing:
            lives = []
            for live, places in self._found(np.unique(np.array(document_ids, np.int64))):
                gone = [place for _, place in places]
                lives.append(live.without(gone) if gone else live)
                self._note_gone(gone)
            self._show(lives)
            self._tidy()

    def flush(self, seq: int) -> None:
        """Raises NoSpace; what was durable before then still is, and no more."""
        with self._writing:
            self._flush(seq)

    def optimize(self) -> bool:
        """Drop what was deleted, from memory and files, make few segments of many, and inverted
        lists where they are asked for; True if there was anything to do. Searches go on."""
        with self._writing:
            lives = list(self._view.lives)
            gone = [not live.is_whole for live in lives]
            merges = full_merges([_extent(live) for live in lives], gone)
            for numbers in merges:
                self._merge([lives[number] for number in numbers])
            made = self._sealing.make(self._view.lives)
            if merges or made:
                self._flush(self._state.indexed_seq)
            return bool(merges) or made

    def search_dense(
        self, vector: FloatArray, index_filter: IndexFilter, limit: int
    ) -> list[ScoredPoint]:
        query = self._query(vector)
        return (
            faiss_search.search_dense(self._view, query, index_filter, limit) if limit > 0 else []
        )

    def search_bm25(
        self, query: LexicalQuery, index_filter: IndexFilter, limit: int
    ) -> list[ScoredPoint]:
        return faiss_search.search_bm25(self._view, query, index_filter, limit) if limit > 0 else []

    def score_dense(self, vector: FloatArray, point_ids: Sequence[int]) -> dict[int, float]:
        return faiss_search.score_dense(self._view, self._query(vector), point_ids)

    def score_bm25(
        self, query: LexicalQuery, index_filter: IndexFilter, point_ids: Sequence[int]
    ) -> dict[int, float]:
        return faiss_search.score_bm25(self._view, query, index_filter, point_ids)

    def scroll(self, index_filter: IndexFilter, limit: int) -> list[int]:
        """Point ids that pass, ascending."""
        return faiss_search.scroll(self._view, index_filter, limit) if limit > 0 else []

    def passage_count(self) -> int:
        return self._view.row_count

    def points_count(self) -> int:
        """The same."""
        return self._view.row_count

    def close(self) -> None:
        """What no `flush` covers is not kept: whoever follows the log puts it again."""
        with self._writing:
            if not self._closed:
                self._closed = True
                self._taken.close()

    def _found(self, ids: NDArray[np.int64]) -> Iterator[tuple[Live, list[tuple[int, int]]]]:
        """Each segment with (document id, place) of those of the documents that are alive in it."""
        for live in self._view.lives:
            places = live.segment.documents.places(ids)
            here = np.flatnonzero(places >= 0)
            here = here[live.alive[places[here]]]
            yield live, list(zip(ids[here].tolist(), places[here].tolist(), strict=True))

    def _note_gone(self, places: Sequence[int]) -> None:
        if places and self._state.erase_since is None:
            self._state = replace(self._state, erase_since=time.time())

    def _show(self, lives: Iterable[Live]) -> None:
        """Searches that begin from now on see these; a segment that has nothing left goes."""
        kept = tuple(live for live in lives if live.alive.any())
        self._view = View(kept, self._sealing.sealed)

    def _tidy(self) -> None:
        while True:
            lives = [live for live in self._view.lives if not self._sealing.keeps(live)]
            numbers = next_merge([_extent(live) for live in lives])
            if not numbers:
                return
            self._merge([lives[number] for number in numbers])

    def _merge(self, lives: Sequence[Live]) -> None:
        parts = [(live.segment, live.alive) for live in lives]
        one = Live.whole(faiss_segment.merged(parts, self._state.dim))
        rest = [live for live in self._view.lives if live not in lives]
        self._show([*rest, one])

    def _flush(self, seq: int) -> None:
        assert not self._closed
        folder = self._taken.folder
        lives = [
            live if live.segment.name in self._saved else faiss_folder.save_segment(folder, live)
            for live in self._view.lives
        ]
        lists = self._sealing.save(folder, self._saved)
        names = {live.segment.name for live in lives} | {lists or ""}
        if not names <= self._saved:
            sync_folder(folder)  # a manifest must never name what a power cut has taken
        is_whole = all(live.is_whole for live in lives)
        since = None if is_whole else self._state.erase_since
        state = replace(self._state, indexed_seq=seq, erase_since=since, lists=lists)
        faiss_folder.write_manifest(folder, state, lives)
        self._state = state
        self._saved = names
        self._sealing.follow([live.segment for live in lives])
        self._show(lives)
        faiss_folder.remove_others(folder, self._saved)

    def _query(self, vector: FloatArray) -> FloatArray:
        return faiss_segment.unit(incoming.query(vector, self._state.dim))


def _extent(live: Live) -> Extent:
    return Extent(len(live.segment), live.row_count)


def _by_rows(entries: Iterable[IndexEntry]) -> Iterator[list[IndexEntry]]:
    """The entries in batches of at most a full segment's passages; a larger one stands alone."""
    batch: list[IndexEntry] = []
    rows = 0
    for entry in entries:
        if batch and rows + len(entry.passages) > MAX_ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(entry)
        rows += len(entry.passages)
    if batch:
        yield batch
