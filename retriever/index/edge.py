"""The embedded passage index: one qdrant-edge shard in a folder, owned by one process.

Dense vectors are scanned as int8 codes (no HNSW) and rescored with the full vectors; BM25 is a
sparse vector with the shard's IDF. Beside the shard lies `longleaf.json` with the last seq and the
fingerprint of what made the vectors, so a copied folder carries both. It knows no catalog and no
model. Trade-off: the scan grows with the shard and the folder takes one process, for exact
recall, no tuning and no server.

Deleted passages leave searches at once and the files when the shard is made anew (`compaction`);
the state counts what speaks for that.

Threads: searches run while a write runs, and writes take turns. Queries release the GIL; updates,
`flush` (its fsyncs: 0.02-0.7 s) and `optimize` hold it for as long as they run, so a server keeps
its shard in another process (`process.IndexProcess`).
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from longleaf.core.catalog.space import require_room
from longleaf.core.ids import split_point_id
from longleaf.core.protocols import IndexEntry, IndexFilter, LexicalQuery, ScoredPoint
from longleaf.retriever.index import (
    compaction,
    edge_filter,
    edge_folder,
    followed,
    incoming,
    payload,
)
from longleaf.retriever.index.batches import batches
from longleaf.retriever.index.edge_folder import ShardState
from longleaf.retriever.index.folder import TakenFolder, damaged
from longleaf.retriever.index.followed import ChangeLog
from longleaf.retriever.index.sparse import encoder
from longleaf.retriever.index.stored import BM25, DENSE

if TYPE_CHECKING:
    import qdrant_edge as qe

    from longleaf.core.types import FloatArray

MAX_RANGE_INDEXES = 32
"""Fields with an index for number or date ranges; ranges over further fields scan: slow, right."""

# An update holds the GIL: 500 points for 228 ms, 100 for 65 ms (busy machine); equal throughput.
_POINTS_PER_UPDATE = 100
_IDS_PER_REQUEST = 10_000
_ROOM_BYTES = 64 * 1024**2
"""More than a batch of puts takes: 2,048 passages and the files that the engine grows by."""
_ALL_COLLECTIONS = 1_000_000

_log = structlog.get_logger(__name__)


class EdgeIndex:
    """`core.protocols.PassageIndex` in a local folder. Made by `open`."""

    def __init__(
        self, taken: TakenFolder, shard: qe.EdgeShard, state: ShardState, home: Path
    ) -> None:
        """`home` is where the state is kept: the index's folder, or the shard's own until it is
        taken over."""
        import qdrant_edge as qe

        self.fingerprint = state.fingerprint
        self._taken = taken
        self._shard = shard
        self._state = state
        self._home = home
        self._writing = threading.Lock()
        self._closed = False
        self._let_go = False
        self._spelling = edge_filter.EdgeSpelling()
        self._indexed_keys = set(shard.info().payload_schema)
        # Names that were ever seen since opening; one too many only costs time.
        facet = qe.FacetRequest(payload.COLLECTION, limit=_ALL_COLLECTIONS, exact=True)
        self._collections = frozenset(str(hit.value) for hit in shard.facet(facet))
        self._max_indexed_keys = len(edge_filter.first_indexes()) + MAX_RANGE_INDEXES
        scan = qe.QuantizationSearchParams(rescore=True, oversampling=2.0)
        self._scan = qe.SearchParams(quantization=scan)
        unquantized = qe.QuantizationSearchParams(ignore=True)
        self._exact = qe.SearchParams(exact=True, quantization=unquantized)

    @classmethod
    def open(
        cls,
        folder: Path,
        dim: int,
        fingerprint: str,
        change_log: ChangeLog | None = None,
        taken: TakenFolder | None = None,
    ) -> EdgeIndex:
        """The index in `folder`, made when there is none; what crashes left in it is removed.

        One of an older Longleaf is removed and made anew, empty; so is one that following
        `change_log` cannot make right: it stopped below the log's horizon and missed deletions, is
        ahead of the log or followed another history of it, or was left in the middle of its first
        fill. `taken` is the folder's lock where the caller has it already.
        Raises GenerationMismatch when it was made by another `fingerprint` or `dim`, IndexLocked
        when another process (or this one) has it open, CatalogBroken when the folder holds
        something else or cannot be read.
        """
        edge_folder.make_if_missing(folder, dim, fingerprint)
        edge_folder.check_made_by(folder, dim, fingerprint)
        taken = taken or TakenFolder(folder)
        try:
            # Read again: until it was taken, its owner could still move it on.
            state = edge_folder.read_state(folder)
            if state is None:
                _log.warning("index.rebuilt", reason=edge_folder.OLDER)
                state = edge_folder.start_anew(taken, dim, fingerprint)
            edge_folder.remove_others(folder, state)
            opened = cls._load(taken, state, folder)
            # The log is asked now that nobody else can move this index on.
            why = followed.why_unusable(state, opened.passage_count(), change_log)
            if why is not None:
                _log.warning("index.rebuilt", reason=why)
                opened._shard.close()
                state = edge_folder.start_anew(taken, dim, fingerprint)
                opened = cls._load(taken, state, folder)
        except BaseException:
            taken.close()
            raise
        if change_log is not None:  # written with the next seq
            opened._state = replace(opened._state, epoch=change_log.epoch())
        if state.in_use:
            edge_folder.write_state(folder, opened._state)
        return opened

    @classmethod
    def open_aside(cls, folder: Path, shard: str, taken: TakenFolder) -> EdgeIndex:
        """A copy that `copy_aside` made and a compactor worked on, to be followed up and searched.

        Its state is kept beside it, and nobody else opens it, before `take_over`.
        """
        home = folder / shard
        state = edge_folder.read_state(home)
        assert state is not None
        return cls._load(taken, state, home, folder)

    @classmethod
    def _load(
        cls, taken: TakenFolder, state: ShardState, home: Path, folder: Path | None = None
    ) -> EdgeIndex:
        folder = folder or home
        shard = edge_folder.load_shard(folder, state)
        if state.in_use and state.erase_since is None:
            state = replace(state, erase_since=time.time())
        try:
            return cls(taken, shard, state, home)
        except Exception as error:  # files are missing; the engine raises nothing finer
            shard.close()
            raise damaged(folder, error) from error

    @property
    def state(self) -> ShardState:
        """Where it stands: what is durable, and what was written since."""
        return self._state

    def indexed_seq(self) -> int:
        return self._state.indexed_seq

    def put(self, entries: Sequence[IndexEntry]) -> None:
        """Replace documents whole. New passages appear before old ones go, never neither.

        Raises NoSpace, with nothing changed, on a disk that is about to be full: the engine writes
        to memory-mapped files, and a page that has no room ends the process (SIGBUS), searches and
        all.
        """
        import qdrant_edge as qe

        require_room(self._taken.folder, _ROOM_BYTES)
        newest = incoming.newest(entries, self._state.dim)
        with self._writing:
            self._note_use()
            self._collections |= {entry.collection for entry in newest.values()}
            gone: set[int] = set()
            for document_id, points in self._points_of(newest).items():
                newest_stored, _ = split_point_id(max(points))
                if newest_stored > newest[document_id].revision_id:
                    del newest[document_id]
                else:
                    gone.update(points)
            for batch in batches(self._points(newest.values()), _POINTS_PER_UPDATE):
                self._index_ranges({key for point in batch for key in point.payload or {}})
                self._shard.update(qe.UpdateOperation.upsert_points(batch))
                gone.difference_update(_integer(point.id) for point in batch)
                self._note_changes(put=len(batch))
            self._delete_points(gone)

    def delete(self, document_ids: Sequence[int]) -> None:
        """Raises NoSpace as `put` does."""
        require_room(self._taken.folder, _ROOM_BYTES)
        with self._writing:
            self._note_use()
            for batch in batches(document_ids, _IDS_PER_REQUEST):
                stored = self._points_of(batch)
                self._delete_points([point for points in stored.values() for point in points])

    def flush(self, seq: int) -> None:
        with self._writing:
            self._flush(seq)

    def optimize(self) -> bool:
        """Make int8 codes for new passages and drop deleted ones; True if there was anything to do.

        Without it all is found, only slower (100,000 passages: 16 against 3 ms for dense), and what
        was deleted stays in the files. Searches go on meanwhile; a child process works on a copy,
        and only loading that stops every thread (100,000 passages: under a second).
        Raises CompactionFailed, with nothing changed, when disk or memory are short.
        """
        with self._writing:
            if not compaction.is_worth_it(self._state):
                return False
            self._flush(self._state.indexed_seq)
            folder, old = self._taken.folder, self._state.shard
            state = _made_anew(self._state, edge_folder.new_shard_name())
            target = folder / state.shard
            compaction.compact_copy(folder / old, target, state.dim, self.passage_count())
            self._shard = edge_folder.load_shard(folder, state)
            edge_folder.write_state(folder, state)
            self._state = state
            # Not closed: a search may be under way in it; with its last one it goes by itself.
            shutil.rmtree(folder / old)
            return True

    def copy_aside(self, shard: str, asked: int = 0) -> None:
        """Copy all there is into the folder `shard` beside this one; writes wait, searches do not.

        The copy carries the seq that it stands at, and the request (`asked`) that it fulfils.
        Raises CompactionFailed when there is no room.
        """
        with self._writing:
            self._flush(self._state.indexed_seq)
            folder = self._taken.folder
            source, target = folder / self._state.shard, folder / shard
            compaction.require_room(source, self.passage_count())
            compaction.copy_shard(source, target)
            state = _made_anew(self._state, shard)
            edge_folder.write_state(target, replace(state, asked=max(asked, state.asked)))

    def let_go(self, gone: bool) -> None:
        """Another index is to `take_over`: this one writes its state no more, closing included."""
        with self._writing:
            self._let_go = gone

    def take_over(self) -> None:
        """From now on the folder's index is this one: what `open_aside` opened takes its place."""
        with self._writing:
            self._shard.flush()
            edge_folder.write_state(self._taken.folder, self._state)
            (self._home / edge_folder.SIDECAR).unlink()
            self._home = self._taken.folder

    def _flush(self, seq: int) -> None:
        assert not self._let_go
        self._shard.flush()
        state = replace(self._state, indexed_seq=seq)
        edge_folder.write_state(self._home, state)
        self._state = state

    def _note_use(self) -> None:
        """Before anything is written: a crash from here on leaves bytes that no flush knows of."""
        if not self._state.in_use:
            self._state = replace(self._state, in_use=True)
            edge_folder.write_state(self._home, self._state)

    def _note_changes(self, put: int = 0, deleted: int = 0) -> None:
        since = self._state.erase_since
        self._state = replace(
            self._state,
            unoptimized_points=self._state.unoptimized_points + put,
            deleted_points=self._state.deleted_points + deleted,
            erase_since=time.time() if deleted and since is None else since,
        )

    def _delete_points(self, points: Iterable[int]) -> None:
        import qdrant_edge as qe

        for batch in batches(points, _IDS_PER_REQUEST):
            self._shard.update(qe.UpdateOperation.delete_points(list(batch)))
            self._note_changes(deleted=len(batch))

    def search_dense(
        self, vector: FloatArray, index_filter: IndexFilter, limit: int
    ) -> list[ScoredPoint]:
        nearest = self._nearest(vector)
        return self._ranked(nearest, self._only(index_filter), limit, self._scan)

    def search_bm25(
        self, query: LexicalQuery, index_filter: IndexFilter, limit: int
    ) -> list[ScoredPoint]:
        return self._ranked(
            _lexical(query), self._only(index_filter), limit, self._idf(index_filter)
        )

    def scroll(self, index_filter: IndexFilter, limit: int) -> list[int]:
        """Point ids that pass, ascending."""
        import qdrant_edge as qe

        if limit <= 0:
            return []
        limit = min(limit, self._shard.info().points_count)
        request = qe.ScrollRequest(
            limit=limit, filter=self._only(index_filter), with_payload=False, with_vector=False
        )
        return sorted(_integer(record.id) for record in self._shard.scroll(request)[0])

    def score_dense(self, vector: FloatArray, point_ids: Sequence[int]) -> dict[int, float]:
        import qdrant_edge as qe

        wanted: set[Any] = set(point_ids)
        only = qe.Filter(must=[qe.HasIdCondition(wanted)])
        found = self._ranked(self._nearest(vector), only, len(wanted), self._exact)
        return {point.point_id: point.score for point in found}

    def score_bm25(
        self, query: LexicalQuery, index_filter: IndexFilter, point_ids: Sequence[int]
    ) -> dict[int, float]:
        import qdrant_edge as qe

        passing = self._only(index_filter, point_ids)
        limit = len(set(point_ids))
        found = self._ranked(_lexical(query), passing, limit, self._idf(index_filter))
        scores = {point.point_id: point.score for point in found}
        if len(scores) < limit:  # those without any of the terms
            request = qe.ScrollRequest(
                limit=limit, filter=passing, with_payload=False, with_vector=False
            )
            for record in self._shard.scroll(request)[0]:
                scores.setdefault(_integer(record.id), 0.0)
        return scores

    def passage_count(self) -> int:
        import qdrant_edge as qe

        return self._shard.count(qe.CountRequest(exact=True))

    def points_count(self) -> int:
        """The same at once; it may be a little off where the engine has yet to tidy."""
        return self._shard.info().points_count

    def close(self) -> None:
        with self._writing:
            if self._closed:
                return
            self._closed = True
            try:
                if self._state.in_use and not self._let_go:
                    # What no seq covers yet is put again, but it is no crash's leftover.
                    self._state = replace(self._state, in_use=False)
                    self._flush(self._state.indexed_seq)
            finally:
                self._shard.close()
                self._taken.close()

    def _ranked(
        self, query: qe.Query, only: qe.Filter, limit: int, params: qe.SearchParams
    ) -> list[ScoredPoint]:
        import qdrant_edge as qe

        # The engine reserves room for the limit, however large.
        limit = min(limit, self._shard.info().points_count)
        if limit <= 0:
            return []
        request = qe.QueryRequest(limit=limit, query=query, filter=only, params=params)
        found = [ScoredPoint(_integer(hit.id), hit.score) for hit in self._shard.query(request)]
        return sorted(found, key=lambda point: (-point.score, point.point_id))

    def _everywhere(self, index_filter: IndexFilter) -> bool:
        return self._collections.issubset(index_filter.collections)

    def _only(self, index_filter: IndexFilter, point_ids: Sequence[int] | None = None) -> qe.Filter:
        anywhere = self._everywhere(index_filter)
        only: qe.Filter = payload.passing(
            self._spelling, index_filter, point_ids, any_collection=anywhere
        )
        return only

    def _idf(self, index_filter: IndexFilter) -> qe.SearchParams:
        """How rare a term is within the collections searched, so that others leave no trace.

        Counting costs about 1 ms per 20,000 passages in them. For the whole shard the engine keeps
        count; there replaced and deleted passages still count until `optimize` drops them.
        """
        import qdrant_edge as qe

        if self._everywhere(index_filter):
            return qe.SearchParams()
        names = payload.in_collections(self._spelling, index_filter.collections)
        corpus = qe.Filter(must=[names])
        return qe.SearchParams(idf=qe.IdfParams(corpus=corpus))

    def _points_of(self, document_ids: Iterable[int]) -> dict[int, list[int]]:
        """The points of each document that has any. Raises CatalogBroken where a point is not of
        the document that it was found by."""
        import qdrant_edge as qe

        stored: dict[int, list[int]] = {}
        for batch in batches(document_ids, _IDS_PER_REQUEST):
            asked = set(batch)
            only = qe.Filter(must=[qe.FieldCondition(payload.DOCUMENT, match=qe.MatchAny(batch))])
            offset = None
            while True:
                records, offset = self._shard.scroll(
                    qe.ScrollRequest(
                        offset=offset, limit=_IDS_PER_REQUEST, filter=only,
                        with_payload=[payload.DOCUMENT], with_vector=False,
                    )
                )  # fmt: skip
                for record in records:
                    document_id = (record.payload or {}).get(payload.DOCUMENT)
                    if document_id not in asked:  # found by the field's index, stored otherwise
                        why = ValueError(f"point {record.id} has lost the document that it is of")
                        raise damaged(self._taken.folder, why)
                    stored.setdefault(document_id, []).append(_integer(record.id))
                if offset is None:
                    break
        return stored

    def _index_ranges(self, keys: Iterable[str]) -> None:
        """Index the numbers and dates of fields seen for the first time, while there is room."""
        import qdrant_edge as qe

        for key in sorted(set(keys) - self._indexed_keys):
            schema = edge_filter.range_index(key)
            if schema is not None and len(self._indexed_keys) < self._max_indexed_keys:
                self._shard.update(qe.UpdateOperation.create_field_index(key, schema))
                self._indexed_keys.add(key)

    def _points(self, entries: Iterable[IndexEntry]) -> Iterator[qe.Point]:
        import qdrant_edge as qe

        for entry in entries:
            shared = payload.payload(entry)
            bm25 = encoder(entry.bm25_language)
            for passage in entry.passages:
                terms = bm25.document(passage.text)
                vector: dict[str, Any] = {
                    DENSE: passage.dense,
                    BM25: qe.SparseVector(terms.indices, terms.weights),
                }
                text = payload.phrase_text(passage.phrase_text)
                yield qe.Point(passage.point_id, vector, {**shared, payload.TEXT: text})

    def _nearest(self, vector: FloatArray) -> qe.Query:
        import qdrant_edge as qe

        array: Any = incoming.query(vector, self._state.dim)  # the stub knows lists only
        return qe.Query.Nearest(array, using=DENSE)


def _made_anew(state: ShardState, shard: str) -> ShardState:
    """The state of a shard that is made of `state`'s: nothing is left to tidy."""
    return replace(
        state,
        shard=shard,
        unoptimized_points=0,
        deleted_points=0,
        erase_since=None,
        in_use=False,
    )


def _lexical(query: LexicalQuery) -> qe.Query:
    import qdrant_edge as qe

    terms = encoder(query.language).query(query.text)
    return qe.Query.Nearest(qe.SparseVector(terms.indices, terms.weights), using=BM25)


def _integer(point_id: object) -> int:
    assert isinstance(point_id, int)
    return point_id
