"""The embedded passage index: one qdrant-edge shard in a folder, owned by one process.

Dense vectors are scanned as int8 codes (no HNSW) and rescored with the full vectors; BM25 is a
sparse vector with the shard's IDF. Beside the shard lies `longleaf.json` with the last seq and the
fingerprint of what made the vectors, so a copied folder carries both. It knows no catalog and no
model. Trade-off: the scan grows with the shard and the folder takes one process, for exact
recall, no tuning and no server.

Threads: searches run while a write runs, and writes take turns. Queries release the GIL; updates,
`flush` (its fsyncs: 0.02-0.7 s) and `optimize` hold it for as long as they run, so a server keeps
its shard in another process (`process.IndexProcess`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import structlog

from longleaf.core.errors import CatalogBroken, GenerationMismatch
from longleaf.core.ids import split_point_id
from longleaf.core.protocols import IndexEntry, IndexFilter, LexicalQuery, ScoredPoint
from longleaf.retriever.index import edge_filter as ef
from longleaf.retriever.index import edge_folder
from longleaf.retriever.index.edge_folder import BM25, DENSE, ChangeLog
from longleaf.retriever.index.sparse import encoder

if TYPE_CHECKING:
    import qdrant_edge as qe

    from longleaf.core.types import FloatArray

MAX_RANGE_INDEXES = 32
"""Fields with an index for number or date ranges; ranges over further fields scan: slow, right."""

# An update holds the GIL: 500 points for 228 ms, 100 for 65 ms (busy machine); equal throughput.
_POINTS_PER_UPDATE = 100
_IDS_PER_REQUEST = 10_000
_ALL_COLLECTIONS = 1_000_000
_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class EdgeIndex:
    """`core.protocols.PassageIndex` in a local folder. Made by `open`."""

    def __init__(
        self, taken: edge_folder.TakenFolder, shard: qe.EdgeShard, state: dict[str, Any]
    ) -> None:
        import qdrant_edge as qe

        self.fingerprint: str = state["fingerprint"]
        self._taken = taken
        self._shard = shard
        self._state = state
        self._writing = threading.Lock()
        self._indexed_keys = set(shard.info().payload_schema)
        # Names that were ever seen since opening; one too many only costs time.
        facet = qe.FacetRequest(ef.COLLECTION, limit=_ALL_COLLECTIONS, exact=True)
        self._collections = frozenset(str(hit.value) for hit in shard.facet(facet))
        self._max_indexed_keys = len(ef.first_indexes()) + MAX_RANGE_INDEXES
        scan = qe.QuantizationSearchParams(rescore=True, oversampling=2.0)
        self._scan = qe.SearchParams(quantization=scan)
        unquantized = qe.QuantizationSearchParams(ignore=True)
        self._exact = qe.SearchParams(exact=True, quantization=unquantized)

    @classmethod
    def open(
        cls, folder: Path, dim: int, fingerprint: str, change_log: ChangeLog | None = None
    ) -> EdgeIndex:
        """The index in `folder`, made when there is none.

        One that following `change_log` cannot make right is removed and made anew, empty: it
        stopped below the log's horizon and missed deletions, is ahead of the log or followed
        another history of it, or was left in the middle of its first fill.
        Raises GenerationMismatch when it was made by another `fingerprint` or `dim`, IndexLocked
        when another process (or this one) has it open, CatalogBroken when the folder holds
        something else or cannot be read.
        """
        opened = cls._load(folder, dim, fingerprint)
        try:
            # The log is asked now that nobody else can move this index on.
            why = edge_folder.why_unusable(opened._state, opened.passage_count(), change_log)
        except BaseException:
            opened.close()
            raise
        if why is not None:
            _log.warning("index.rebuilt", reason=why)
            opened._shard.close()
            opened._taken.remove()
            opened = cls._load(folder, dim, fingerprint)
        if change_log is not None:  # written with the next seq
            opened._state["epoch"] = change_log.epoch()
        return opened

    @classmethod
    def _load(cls, folder: Path, dim: int, fingerprint: str) -> EdgeIndex:
        taken, shard, state = edge_folder.open_shard(folder, dim, fingerprint)
        try:
            return cls(taken, shard, state)
        except Exception as error:  # files are missing; the engine raises nothing finer
            shard.close()
            taken.close()
            raise edge_folder.damaged(folder, error) from error

    def indexed_seq(self) -> int:
        return int(self._state["indexed_seq"])

    def put(self, entries: Sequence[IndexEntry]) -> None:
        """Replace documents whole. New passages appear before old ones go, never neither."""
        import qdrant_edge as qe

        newest: dict[int, IndexEntry] = {}
        for entry in entries:
            for passage in entry.passages:
                self._checked(passage.dense, f"Document {entry.key!r}")
            seen = newest.get(entry.document_id)
            if seen is None or entry.revision_id >= seen.revision_id:
                newest[entry.document_id] = entry
        with self._writing:
            self._collections |= {entry.collection for entry in newest.values()}
            gone: set[int] = set()
            for document_id, points in self._points_of(newest).items():
                newest_stored, _ = split_point_id(max(points))
                if newest_stored > newest[document_id].revision_id:
                    del newest[document_id]
                else:
                    gone.update(points)
            for batch in _batches(self._points(newest.values()), _POINTS_PER_UPDATE):
                self._index_ranges({key for point in batch for key in point.payload or {}})
                self._shard.update(qe.UpdateOperation.upsert_points(batch))
                gone.difference_update(_integer(point.id) for point in batch)
            for stale in _batches(gone, _IDS_PER_REQUEST):
                self._shard.update(qe.UpdateOperation.delete_points(list(stale)))

    def delete(self, document_ids: Sequence[int]) -> None:
        import qdrant_edge as qe

        with self._writing:
            for batch in _batches(document_ids, _IDS_PER_REQUEST):
                gone = qe.Filter(must=[qe.FieldCondition(ef.DOCUMENT, match=qe.MatchAny(batch))])
                self._shard.update(qe.UpdateOperation.delete_points_by_filter(gone))

    def flush(self, seq: int) -> None:
        with self._writing:
            self._shard.flush()
            state = {**self._state, "indexed_seq": seq}
            edge_folder.write_state(self._taken.folder, state)
            self._state = state

    def optimize(self) -> bool:
        """Make int8 codes for new passages and drop deleted ones; True if there was anything to do.

        Without it all is found, only slower (100,000 passages: 16 against 3 ms for dense). It takes
        58 s and 2.2 GB for 100,000 new passages and holds the GIL throughout, so never call it in
        a process that answers requests: `longleaf rebuild` and bulk indexing do before they close.
        """
        with self._writing:
            return self._shard.optimize()

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

    def close(self) -> None:
        with self._writing:
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
        return ef.edge_filter(index_filter, point_ids, any_collection=anywhere)

    def _idf(self, index_filter: IndexFilter) -> qe.SearchParams:
        """How rare a term is within the collections searched, so that others leave no trace.

        Counting costs about 1 ms per 20,000 passages in them. For the whole shard the engine keeps
        count; there replaced and deleted passages still count until `optimize` drops them.
        """
        import qdrant_edge as qe

        if self._everywhere(index_filter):
            return qe.SearchParams()
        corpus = ef.collection_filter(index_filter.collections)
        return qe.SearchParams(idf=qe.IdfParams(corpus=corpus))

    def _points_of(self, document_ids: Iterable[int]) -> dict[int, list[int]]:
        """The points that are there of each document; documents without any are left out."""
        import qdrant_edge as qe

        stored: dict[int, list[int]] = {}
        for batch in _batches(document_ids, _IDS_PER_REQUEST):
            only = qe.Filter(must=[qe.FieldCondition(ef.DOCUMENT, match=qe.MatchAny(batch))])
            offset = None
            while True:
                records, offset = self._shard.scroll(
                    qe.ScrollRequest(
                        offset=offset, limit=_IDS_PER_REQUEST, filter=only,
                        with_payload=[ef.DOCUMENT], with_vector=False,
                    )
                )  # fmt: skip
                for record in records:
                    assert record.payload is not None
                    points = stored.setdefault(record.payload[ef.DOCUMENT], [])
                    points.append(_integer(record.id))
                if offset is None:
                    break
        return stored

    def _index_ranges(self, keys: Iterable[str]) -> None:
        """Index the numbers and dates of fields seen for the first time, while there is room."""
        import qdrant_edge as qe

        for key in sorted(set(keys) - self._indexed_keys):
            schema = ef.range_index(key)
            if schema is not None and len(self._indexed_keys) < self._max_indexed_keys:
                self._shard.update(qe.UpdateOperation.create_field_index(key, schema))
                self._indexed_keys.add(key)

    def _points(self, entries: Iterable[IndexEntry]) -> Iterator[qe.Point]:
        import qdrant_edge as qe

        for entry in entries:
            shared = ef.payload(entry)
            bm25 = encoder(entry.language)
            for passage in entry.passages:
                terms = bm25.document(passage.text)
                vector: dict[str, Any] = {
                    DENSE: passage.dense,
                    BM25: qe.SparseVector(terms.indices, terms.weights),
                }
                text = ef.phrase_text(passage.phrase_text)
                yield qe.Point(passage.point_id, vector, {**shared, ef.TEXT: text})

    def _nearest(self, vector: FloatArray) -> qe.Query:
        import qdrant_edge as qe

        array: Any = self._checked(vector, "The query")  # the stub knows lists only
        return qe.Query.Nearest(array, using=DENSE)

    def _checked(self, vector: FloatArray, what: str) -> FloatArray:
        """The engine takes NaN without a word and never finds such a point again."""
        if vector.shape != (self._state["dim"],):
            raise GenerationMismatch(
                f"{what} has a vector of shape {vector.shape}; the index holds dim "
                f"{self._state['dim']}.",
                edge_folder.REBUILD,
            )
        if not np.isfinite(vector).all():
            raise CatalogBroken(
                f"{what} has a vector that is not finite.", "Index the document again."
            )
        return vector


def _lexical(query: LexicalQuery) -> qe.Query:
    import qdrant_edge as qe

    terms = encoder(query.language).query(query.text)
    return qe.Query.Nearest(qe.SparseVector(terms.indices, terms.weights), using=BM25)


def _integer(point_id: object) -> int:
    assert isinstance(point_id, int)
    return point_id


def _batches(items: Iterable[_T], at_most: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, at_most)):
        yield batch
