"""The passage index on a Qdrant server, cluster or cloud: shared by all that search, fed by one.

Reading needs nothing (`qdrant_search`); writing needs a lease (`begin_writing`), whose fence goes
into point 0 with every flush, so that a holder that was paused past its term is refused.

A server acknowledges a write before it has synced it to disk. So `indexed_seq()`, where following
begins after a loss, stays `holdback_seconds` behind what searches see (`applied_seq()`): what a
power cut takes of the last seconds is put again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from longleaf.core.errors import LongleafError
from longleaf.core.ids import split_point_id
from longleaf.core.logs import reason_of
from longleaf.core.protocols import IndexEntry
from longleaf.retriever.index import incoming, payload, qdrant_form, qdrant_schema
from longleaf.retriever.index.batches import batches
from longleaf.retriever.index.followed import ChangeLog, why_unusable
from longleaf.retriever.index.qdrant_filter import range_index
from longleaf.retriever.index.qdrant_schema import Place, QdrantState
from longleaf.retriever.index.qdrant_search import QdrantReader
from longleaf.retriever.index.qdrant_server import Server
from longleaf.retriever.index.sparse import encoder
from longleaf.retriever.index.stored import BM25, DENSE

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

    from longleaf.core.store_settings import QdrantSettings

_IDS_PER_REQUEST = 5_000

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class QdrantIndex(QdrantReader):
    """`core.protocols.PassageIndex` on a server. Made by `open`; one thread at a time writes."""

    def __init__(
        self, place: Place, dim: int, fingerprint: str, epoch: str, settings: QdrantSettings
    ) -> None:
        super().__init__(place, dim, fingerprint, epoch, settings)
        self._fence = 0
        self._target = place.alias
        self._answers_seq = 0
        self._may_write: Callable[[], None] = _nobody_may_write
        self._flushed: deque[tuple[float, int]] = deque()
        self.unsure: set[int] = set()
        """Documents written since a flush last proved that this process is the one that writes."""
        self._streams = ThreadPoolExecutor(settings.streams, "longleaf-qdrant")

    @classmethod
    def open(
        cls, server: Server, alias: str, dim: int, fingerprint: str, epoch: str,
        settings: QdrantSettings,
    ) -> QdrantIndex:  # fmt: skip
        """The index behind `alias`; there may be none yet, until somebody may write.

        `epoch` names the catalog's history. Raises GenerationMismatch when it was made by another
        `fingerprint` or `dim`, ForeignIndex when it is another catalog's or a stranger's,
        CatalogBroken when it has an older form, IndexUnavailable when the server does not answer.
        """
        opened = cls(Place(server, alias), dim, fingerprint, epoch, settings)
        try:
            opened._look()
        except BaseException:
            opened._streams.shutdown()
            raise
        return opened

    # --- writing -------------------------------------------------------------------------------

    def begin_writing(
        self, fence: int, may_write: Callable[[], None], change_log: ChangeLog | None = None
    ) -> None:
        """Be the one that follows the catalog into this index, under a lease's `fence`.

        `may_write` is asked before every write and raises LeaseLost. A collection that is
        missing is made; one that following `change_log` cannot make right is made anew beside the
        one that answers, which goes when the new one is full. Raises LeaseLost when a higher
        fence has been here.
        """
        self._fence, self._may_write = 0, may_write
        self._look()
        may_write()
        self._fence = fence
        try:
            self._take(change_log)
        except BaseException:
            self._fence = 0
            raise
        self._flushed.clear()

    def _take(self, change_log: ChangeLog | None) -> None:
        collection = self._place.behind()
        why = None if collection is None else self.why_unusable(change_log)
        if collection is None or why is not None:
            if collection is not None:
                # So that whoever still believes in the lease is refused at once.
                qdrant_schema.write_state(self._server, collection, self._state, self._fence)
                self._answers_seq = self._state.applied_seq
            self._state = QdrantState(self.fingerprint, self._dim, self._epoch)
            self._place.drop(self._epoch, but=collection or "")
            self._target = self._place.make(self._dim, self._settings, self._epoch)
            qdrant_schema.write_state(self._server, self._target, self._state, self._fence)
            if collection is None:
                self._place.lead_to(self._target)
            else:
                _log.warning("index.rebuilt", reason=why)
        else:
            self._target = collection
            qdrant_schema.write_state(self._server, collection, self._state, self._fence)
            self._place.add_indexes(collection, self._lacks(collection))
            self._adjust(collection)
            self._place.drop(self._epoch, but=collection)
        self._there = True

    def why_unusable(self, change_log: ChangeLog | None) -> str | None:
        """Why whoever begins to write would make it anew; None when nobody would.

        Raises ForeignIndex for one with other vectors.
        """
        if not self._there:
            return "there is none"
        if (collection := self._place.behind()) is not None:
            self._lacks(collection)
        if self._state.make_anew:
            return "somebody asked for it"
        # Once it was full, a position of 0 is only one that is held back.
        passages = 0 if self._state.applied_seq else self.passage_count()
        return why_unusable(self._state, passages, change_log)

    def make_anew_next(self, fence: int) -> None:
        """Have whoever writes next fill another collection, and lead searches there when it is
        full. Raises LeaseLost, and ForeignIndex for one with other vectors."""
        self._look()
        collection = self._place.behind()
        if collection is not None:
            self._lacks(collection)
            state = replace(self._state, make_anew=True)
            qdrant_schema.write_state(self._server, collection, state, fence)
            self._state = state

    def fence_written(self) -> int:
        """The highest that a writer had; after the catalog's database was restored, it may be above
        what its leases give."""
        collection = self._place.behind()
        return 0 if collection is None else qdrant_schema.fence_of(self._server, collection)

    def unmet(self) -> list[str]:
        """Settings that need another collection: `longleaf rebuild` makes it."""
        collection = self._place.behind()
        if collection is None:
            return []
        info = qdrant_schema.described(self._server, collection)
        return qdrant_form.unmet(info, self._settings)

    def _adjust(self, collection: str) -> None:
        info = qdrant_schema.described(self._server, collection)
        more = qdrant_form.changes(info, self._dim, self._settings)
        if more:
            try:
                self._server.call(lambda client: client.update_collection(collection, **more))
            except LongleafError as error:  # it answers as before
                _log.warning("index.settings_not_changed", reason=reason_of(error))
            else:
                _log.info("index.settings_changed", changed=sorted(more))
        for what in qdrant_form.unmet(info, self._settings):
            _log.warning("index.settings_need_rebuild", reason=f"{what}: longleaf rebuild")

    def _lacks(self, collection: str) -> dict[str, Any]:
        return qdrant_schema.check_collection(self._server, collection, self._state)

    def applied_seq(self) -> int:
        """What searches see; while another collection is being filled, what they saw before."""
        if self._fence:
            return max(self._answers_seq, self._state.applied_seq)
        return super().applied_seq()

    def put(self, entries: Sequence[IndexEntry]) -> None:
        """Replace documents whole. New passages appear before old ones go, never neither."""
        newest = incoming.newest(entries, self._dim)
        if not newest:
            return
        self._begin_write(newest)
        gone: set[int] = set()
        for document_id, stored in self._points_of(newest).items():
            newest_stored, _ = split_point_id(max(stored))
            if newest_stored > newest[document_id].revision_id:
                del newest[document_id]
            else:
                gone.update(stored)
        points = [point for entry in newest.values() for point in points_of(entry)]
        self._index_ranges({key for point in points for key in point.payload or {}})
        self._send(batches(points, self._settings.batch_points), self._upsert)
        gone.difference_update(point.id for point in points)
        self._send(batches(sorted(gone), _IDS_PER_REQUEST), self._delete)

    def delete(self, document_ids: Sequence[int]) -> None:
        self._begin_write(document_ids)
        for some in batches(document_ids, _IDS_PER_REQUEST):
            stored = self._points_of(some)
            gone = sorted(point for points in stored.values() for point in points)
            self._send(batches(gone, _IDS_PER_REQUEST), self._delete)

    def flush(self, seq: int) -> None:
        """Searches see `seq` from now on; it becomes `indexed_seq` when it has surely been synced.

        Raises LeaseLost when somebody else writes by now.
        """
        now = time.monotonic()
        newest = self._flushed[-1][1] if self._flushed else self._state.indexed_seq
        if seq > newest:
            self._flushed.append((now, seq))
        durable = self._state.indexed_seq
        while self._flushed and self._flushed[0][0] <= now - self._settings.holdback_seconds:
            durable = self._flushed.popleft()[1]
        state = replace(
            self._state, indexed_seq=durable, applied_seq=max(seq, self._state.applied_seq)
        )
        self._may_write()
        if state != self._state:
            qdrant_schema.write_state(self._server, self._target, state, self._fence)
            self._state = state
        else:
            qdrant_schema.require_fence(self._server, self._target, self._fence)
        self.unsure.clear()
        if seq > 0 and self._place.behind() != self._target:
            self._place.lead_to(self._target)
            self._place.drop(self._epoch, but=self._target)
            self._answers_seq = 0

    def settle_seconds(self) -> float:
        """How long until all that was flushed is durable for certain; 0 when it is."""
        if not self._flushed:
            return 0.0
        newest, _ = self._flushed[-1]
        return max(0.0, newest + self._settings.holdback_seconds - time.monotonic())

    def optimize(self) -> bool:
        """Nothing: a server tidies up by itself."""
        return False

    def stop_writing(self) -> None:
        """Write no more; reading goes on."""
        self._fence, self._may_write, self._target = 0, _nobody_may_write, self._place.alias

    def close(self) -> None:
        self._streams.shutdown()
        self._server.close()

    def _begin_write(self, document_ids: Iterable[int]) -> None:
        self._may_write()
        self.unsure.update(document_ids)

    def _points_of(self, document_ids: Iterable[int]) -> dict[int, list[int]]:
        """The points of each document that has any."""
        from qdrant_client import models

        stored: dict[int, list[int]] = {}
        for batch in batches(document_ids, 1000):
            one = models.FieldCondition(key=payload.DOCUMENT, match=models.MatchAny(any=batch))
            for record in self._scrolled(
                self._target, models.Filter(must=[one]), [payload.DOCUMENT]
            ):
                document_id = (record.payload or {})[payload.DOCUMENT]
                stored.setdefault(document_id, []).append(int(record.id))
        return stored

    def _index_ranges(self, keys: set[str]) -> None:
        new = {key: schema for key in sorted(keys) if (schema := range_index(key)) is not None}
        for key in self._state.range_keys:
            new.pop(key, None)
        room = qdrant_schema.MAX_RANGE_INDEXES - len(self._state.range_keys)
        made = dict(list(new.items())[:room])
        if made:
            self._place.add_indexes(self._target, made)
            # Written at once: whoever reads must know before the first passage has the field.
            self._state = qdrant_schema.with_range_keys(self._state, set(made))
            qdrant_schema.write_state(self._server, self._target, self._state, self._fence)

    def _upsert(self, points: list[models.PointStruct]) -> None:
        def ask(client: QdrantClient) -> None:
            self._may_write()  # before each try
            client.upsert(self._target, points, wait=True)

        self._server.call(ask, again=True)

    def _delete(self, point_ids: list[int]) -> None:
        selected: Any = point_ids

        def ask(client: QdrantClient) -> None:
            self._may_write()
            client.delete(self._target, selected, wait=True)

        self._server.call(ask, again=True)

    def _send(self, parts: Iterable[list[_T]], send: Callable[[list[_T]], None]) -> None:
        """All parts, `streams` at once. What is under way ends before a failure is told."""
        under_way = [self._streams.submit(send, part) for part in parts]
        for each in under_way:
            each.exception()
        for each in under_way:
            each.result()

    def _look(self) -> None:
        if not self._fence:  # whoever writes knows
            super()._look()


def points_of(entry: IndexEntry) -> Iterable[models.PointStruct]:
    """A document's passages as the server stores them."""
    from qdrant_client import models

    shared = payload.payload(entry)
    bm25 = encoder(entry.bm25_language)
    for passage in entry.passages:
        terms = bm25.document(passage.text)
        yield models.PointStruct(
            id=passage.point_id,
            vector={
                DENSE: passage.dense.tolist(),
                BM25: models.SparseVector(indices=terms.indices, values=terms.weights),
            },
            payload={**shared, payload.TEXT: payload.phrase_text(passage.phrase_text)},
        )


def _nobody_may_write() -> None:
    raise AssertionError("writing needs begin_writing first")
