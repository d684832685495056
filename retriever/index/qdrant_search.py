"""Asking the passage index on a Qdrant server: what every process that searches does.

The same vectors, terms and payload as the embedded shard (`payload`, `sparse`), so moving from one
to the other changes no score: dense vectors as int8 codes, the best looked at again with the full
ones; BM25 as a sparse vector with the IDF of the collections searched; the union scored exactly by
id. Thread-safe, without a lease and without a lock. It writes nothing: see `qdrant`.

Trade-off against the embedded shard: a request over the network for each step, and recall is the
graph's (`hnsw_ef`), unless `hnsw_m` is 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from longleaf.core.errors import IndexUnavailable
from longleaf.core.protocols import IndexFilter, LexicalQuery, ScoredPoint
from longleaf.retriever.index import incoming, payload, qdrant_schema
from longleaf.retriever.index.batches import batches
from longleaf.retriever.index.qdrant_filter import QdrantSpelling
from longleaf.retriever.index.qdrant_schema import STATE_POINT, Place, QdrantState
from longleaf.retriever.index.sparse import encoder
from longleaf.retriever.index.stored import BM25, DENSE

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

    from longleaf.core.store_settings import QdrantSettings
    from longleaf.core.types import FloatArray

_IDS_PER_REQUEST = 5_000
_STATE_SECONDS = 1.0
"""How old what is known of point 0 may be before a reader asks again."""

_T = TypeVar("_T")


class QdrantReader:
    """The searching half of `core.protocols.PassageIndex`, over what `place` names."""

    def __init__(
        self, place: Place, dim: int, fingerprint: str, epoch: str, settings: QdrantSettings
    ) -> None:
        self.fingerprint = fingerprint
        self._place = place
        self._server = place.server
        self._dim = dim
        self._epoch = epoch
        self._settings = settings
        self._spelling = QdrantSpelling(self._is_indexed)
        self._state = QdrantState(fingerprint, dim, epoch)
        self._state_read_at = 0.0
        self._there = False

    # --- how it stands -------------------------------------------------------------------------

    def indexed_seq(self) -> int:
        """Where following begins after a loss: durable for certain."""
        return self._state.indexed_seq

    def applied_seq(self) -> int:
        """What searches see, asked of the server at most once a second; 0 while there is none."""
        if time.monotonic() - self._state_read_at > _STATE_SECONDS:
            self._look()
        return self._state.applied_seq

    def passage_count(self) -> int:
        from qdrant_client import models

        passages = models.Filter(must_not=[self._spelling.ids([STATE_POINT])])
        return self._read(
            lambda client: client.count(self._place.alias, passages, exact=True).count
        )

    def _look(self) -> None:
        """Read point 0 again. Raises what `open` raises."""
        self._state_read_at = time.monotonic()
        collection = self._place.behind()
        self._there = collection is not None
        if collection is None:
            return
        state = qdrant_schema.read_state(self._server, collection, self._epoch)
        qdrant_schema.check_made_by(state, collection, self._dim, self.fingerprint)
        self._state = state

    def _is_indexed(self, key: str) -> bool:
        """Whether a range over `key` can be asked. Raises IndexUnavailable beyond the most keys."""
        if key not in self._state.range_keys:
            if time.monotonic() - self._state_read_at > _STATE_SECONDS:
                self._look()
            if key not in self._state.range_keys:
                if len(self._state.range_keys) < qdrant_schema.MAX_RANGE_INDEXES:
                    return False
                raise IndexUnavailable(
                    f"Documents have more than {qdrant_schema.MAX_RANGE_INDEXES} fields with "
                    "numbers or dates; this one cannot be compared on a Qdrant server.",
                    "Ask for its values instead of a range, or use fewer fields.",
                )
        return True

    # --- searching -----------------------------------------------------------------------------

    def search_dense(
        self, vector: FloatArray, index_filter: IndexFilter, limit: int
    ) -> list[ScoredPoint]:
        from qdrant_client import models

        params = models.SearchParams(
            hnsw_ef=self._settings.hnsw_ef,
            # `exact` would leave the codes aside and read every full vector from the disk; without
            # links in the graph, the server scans the codes by itself.
            exact=not self._settings.hnsw_m and self._settings.quantization == "none",
            quantization=self._rescored(),
        )
        query = incoming.query(vector, self._dim).tolist()
        return self._ranked(query, DENSE, self._only(index_filter), limit, params)

    def search_bm25(
        self, query: LexicalQuery, index_filter: IndexFilter, limit: int
    ) -> list[ScoredPoint]:
        only = self._only(index_filter)
        return self._ranked(_lexical(query), BM25, only, limit, self._idf(index_filter))

    def scroll(self, index_filter: IndexFilter, limit: int) -> list[int]:
        if limit <= 0 or not self._there_by_now():
            return []
        found: list[int] = []
        for record in self._scrolled(self._place.alias, self._only(index_filter), False):
            found.append(int(record.id))
            if len(found) >= limit:
                break
        return sorted(found)

    def score_dense(self, vector: FloatArray, point_ids: Sequence[int]) -> dict[int, float]:
        from qdrant_client import models

        params = models.SearchParams(
            exact=True, quantization=models.QuantizationSearchParams(ignore=True)
        )
        query = incoming.query(vector, self._dim).tolist()
        scores: dict[int, float] = {}
        for some in batches(sorted(set(point_ids)), _IDS_PER_REQUEST):
            only = models.Filter(must=[self._spelling.ids(some)])
            found = self._ranked(query, DENSE, only, len(some), params)
            scores.update((point.point_id, point.score) for point in found)
        return scores

    def score_bm25(
        self, query: LexicalQuery, index_filter: IndexFilter, point_ids: Sequence[int]
    ) -> dict[int, float]:
        scores: dict[int, float] = {}
        for some in batches(sorted(set(point_ids)), _IDS_PER_REQUEST):
            only = self._only(index_filter, some)
            idf = self._idf(index_filter)
            found = self._ranked(_lexical(query), BM25, only, len(some), idf)
            scores.update((point.point_id, point.score) for point in found)
            if len(found) < len(some) and self._there:  # those without any of the terms
                for record in self._scrolled(self._place.alias, only, False):
                    scores.setdefault(int(record.id), 0.0)
        return scores

    def _ranked(
        self, query: Any, using: str, only: models.Filter, limit: int, params: models.SearchParams
    ) -> list[ScoredPoint]:
        if limit <= 0 or not self._there_by_now():
            return []
        limit = min(limit, qdrant_schema.MAX_LIMIT)
        if not isinstance(query, list) and not query.indices:
            return []
        found = self._read(
            lambda client: client.query_points(
                self._place.alias,
                query=query,
                using=using,
                query_filter=only,
                search_params=params,
                limit=limit,
                with_payload=False,
                consistency=self._consistency(),
            )
        )
        ranked = [ScoredPoint(int(hit.id), hit.score) for hit in found.points]
        return sorted(ranked, key=lambda point: (-point.score, point.point_id))

    def _scrolled(
        self, collection: str, only: models.Filter, with_payload: bool | list[str]
    ) -> Iterable[Any]:
        offset: Any = None
        while True:
            records, offset = self._read(
                lambda client, offset=offset: client.scroll(  # type: ignore[misc]
                    collection,
                    only,
                    limit=_IDS_PER_REQUEST,
                    offset=offset,
                    with_payload=with_payload,
                    consistency=self._consistency(),
                )
            )
            yield from records
            if offset is None:
                return

    def records(
        self, point_ids: Sequence[int], with_payload: bool | list[str], *, vectors: bool = False
    ) -> list[models.Record]:
        """What is stored of these points; those that are not there are left out."""
        asked: Any = list(point_ids)
        return self._read(
            lambda client: client.retrieve(
                self._place.alias, asked, with_payload=with_payload, with_vectors=vectors
            )
        )

    def _read(self, ask: Callable[[QdrantClient], _T]) -> _T:
        try:
            return self._server.call(ask, again=True)
        except KeyError:
            raise IndexUnavailable(
                f"{self._place.alias} is not there on {self._server.url}.",
                "A process that follows the catalog makes it: longleaf serve.",
            ) from None

    def _there_by_now(self) -> bool:
        if not self._there:
            self._look()
        return self._there

    def _only(
        self, index_filter: IndexFilter, point_ids: Sequence[int] | None = None
    ) -> models.Filter:
        only: models.Filter = payload.passing(self._spelling, index_filter, point_ids)
        return only

    def _idf(self, index_filter: IndexFilter) -> models.SearchParams:
        """How rare a term is within the collections searched, so that others leave no trace."""
        from qdrant_client import models

        names = payload.in_collections(self._spelling, index_filter.collections)
        corpus = models.IdfCorpusParams(corpus=models.Filter(must=[names]))
        return models.SearchParams(idf=corpus)

    def _rescored(self) -> models.QuantizationSearchParams:
        from qdrant_client import models

        return models.QuantizationSearchParams(rescore=True, oversampling=2.0)

    def _consistency(self) -> Any:
        from qdrant_client import models

        asked = self._settings.read_consistency
        return None if asked == "one" else models.ReadConsistencyType(asked)


def _lexical(query: LexicalQuery) -> models.SparseVector:
    from qdrant_client import models

    terms = encoder(query.language).query(query.text)
    return models.SparseVector(indices=terms.indices, values=terms.weights)
