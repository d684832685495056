"""The passage index of a serving process: in a process of its own, asked over socket pairs.

The engine's writes stop every thread of the process they run in (100 points: 65 ms; a flush: up to
0.7 s), so a server that also follows the catalog keeps its shard elsewhere. `IndexProcess` starts
`worker`, asks it, and starts it again when it dies; searches meanwhile raise IndexUnavailable. It
knows no vectors and no SQL: the child follows the catalog by itself, so nothing is lost with it.
When the child's shard is to be made anew, a second child takes over from the first (`handover`).
Trade-off: 0.1-0.5 ms for each call, and in the child a search still waits for an update or a flush.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

from longleaf.core import logs
from longleaf.core.catalog import Catalog, Generation
from longleaf.core.errors import IndexUnavailable, LongleafError
from longleaf.core.logs import reason_of
from longleaf.core.protocols import IndexEntry, IndexFilter, LexicalQuery, ScoredPoint
from longleaf.retriever.follow import Progress
from longleaf.retriever.index import edge_folder, frames
from longleaf.retriever.index.child import AGAIN, Child, Retired, Starting, start_child
from longleaf.retriever.index.folder import TakenFolder
from longleaf.retriever.index.frames import Frame, ids_array
from longleaf.retriever.index.handover import Handover

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray

POLL_SECONDS = 0.5
"""How often the child is asked how far it has come, and so how soon an idle one is missed."""

_HANDOVER_POLL_SECONDS = 0.1
_REST_AFTER_HANDOVER = 5.0
"""Times as long as it took, no other begins by itself: under a load of writes each is a longer one
than the one before."""

_HANDOVER_RETRY_SECONDS = 300.0
_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 30.0
_STEADY_SECONDS = 60.0

_log = structlog.get_logger(__name__)


class IndexProcess:
    """`core.protocols.PassageIndex` for searching, and the follower of that index. See `open`."""

    def __init__(
        self,
        catalog: Catalog,
        generation: Generation,
        folder: Path,
        flush_documents: int,
        connections: int,
        erase_seconds: float | None,
        taken: TakenFolder,
    ) -> None:
        self.fingerprint = generation.fingerprint
        self._catalog = catalog
        self._folder = folder
        self._dim = generation.dim
        self._connections = connections
        # The folder's lock is this process's, so that it never changes hands between children.
        self._taken = taken
        self._place = {
            "log": logs.told(),
            "home": str(catalog.folder),
            # A password may be in it: it goes over the socket, never through argv or a log.
            "catalog": catalog.settings.model_dump(),
            "folder": str(folder),
            "generation": asdict(generation),
            "flush_documents": flush_documents,
            "erase_seconds": erase_seconds,
            "lock": taken.fileno(),
        }
        self._child: Child | None = None
        self._starting: Starting | None = None
        self._handover: Handover | None = None
        self._rested_at = 0.0
        self._retry_at = 0.0
        self._why_gone = "The index process is not there yet."
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._first: Future[None] = Future()
        # The kernel ends the child with the thread that started it, so that must be this one.
        self._thread = threading.Thread(target=self._supervise, name="longleaf-index", daemon=True)

    @classmethod
    def open(
        cls,
        catalog: Catalog,
        generation: Generation,
        folder: Path,
        flush_documents: int = 2000,
        connections: int = 4,
        erase_seconds: float | None = None,
    ) -> IndexProcess:
        """Start the child and wait until it can be asked; `connections` searches run at once.

        `erase_seconds`: how long what was deleted may stay in the index's files (None: until the
        shard is made anew for other reasons). Raises what `EdgeIndex.open` raises, and
        IndexUnavailable when the child dies meanwhile.
        """
        edge_folder.make_if_missing(folder, generation.dim, generation.fingerprint)
        edge_folder.check_made_by(folder, generation.dim, generation.fingerprint)
        opened = cls(
            catalog,
            generation,
            folder,
            flush_documents,
            connections,
            erase_seconds,
            TakenFolder(folder),
        )
        opened._thread.start()
        try:
            opened._first.result()
        except BaseException:
            opened.close()
            raise
        return opened

    # --- searching -----------------------------------------------------------------------------

    def search_dense(
        self, vector: FloatArray, index_filter: IndexFilter, limit: int
    ) -> list[ScoredPoint]:
        asked = {"filter": frames.index_filter_to_json(index_filter), "limit": limit}
        return _ranked(self._ask("search_dense", asked, vector.astype("<f4")))

    def search_bm25(
        self, query: LexicalQuery, index_filter: IndexFilter, limit: int
    ) -> list[ScoredPoint]:
        asked = {"filter": frames.index_filter_to_json(index_filter), "limit": limit}
        return _ranked(self._ask("search_bm25", asked | asdict(query)))

    def score_dense(self, vector: FloatArray, point_ids: Sequence[int]) -> dict[int, float]:
        return _scored(self._ask("score_dense", {}, vector.astype("<f4"), ids_array(point_ids)))

    def score_bm25(
        self, query: LexicalQuery, index_filter: IndexFilter, point_ids: Sequence[int]
    ) -> dict[int, float]:
        asked = {"filter": frames.index_filter_to_json(index_filter)} | asdict(query)
        return _scored(self._ask("score_bm25", asked, ids_array(point_ids)))

    def scroll(self, index_filter: IndexFilter, limit: int) -> list[int]:
        asked = {"filter": frames.index_filter_to_json(index_filter), "limit": limit}
        return _integers(self._ask("scroll", asked).arrays[0])

    def passage_count(self) -> int:
        """Asked beside the searches, so that it answers when all of them are busy."""
        return _integers(self._control("passage_count").arrays[0])[0]

    # --- following -----------------------------------------------------------------------------

    @property
    def applied_seq(self) -> int:
        """The seq up to which searches see the catalog, or a little less: never more."""
        return self._child.applied_seq if self._child else 0

    @property
    def failure(self) -> str | None:
        """Why the index does not follow the catalog at the moment; None when it does."""
        child = self._child
        return self._why_gone if child is None or child.lost else child.failure

    def lag(self) -> int:
        """How many changes the index is behind."""
        head_seq = self._catalog.head_seq()
        return max(0, head_seq - int(self._control("status").header["applied_seq"]))

    def indexed_seq(self) -> int:
        return int(self._control("status").header["indexed_seq"])

    def catch_up(self, progress: Progress | None = None) -> int:
        """Wait until the child has applied all that there is now; returns how many changes.

        Raises IndexUnavailable when the child cannot.
        """
        behind = lag = self.lag()
        target = self._catalog.head_seq()
        while self.applied_seq < target:
            if self.failure is not None:
                raise IndexUnavailable(f"The index cannot follow the catalog: {self.failure}")
            time.sleep(0.02)
            lag = self.lag()
            if progress:
                progress(max(0, behind - lag), behind)
        return behind

    def put(self, entries: Sequence[IndexEntry]) -> NoReturn:
        _follows_by_itself()

    def delete(self, document_ids: Sequence[int]) -> NoReturn:
        _follows_by_itself()

    def flush(self, seq: int) -> NoReturn:
        _follows_by_itself()

    def optimize(self) -> NoReturn:
        _follows_by_itself()

    # --- the child's life ----------------------------------------------------------------------

    @property
    def child_pid(self) -> int | None:
        """The child's process id; None while there is none."""
        child = self._child
        return None if child is None or child.lost else child.process.pid

    def close(self) -> None:
        """Let the child finish its batch and end; after 30 s it is killed, which loses nothing."""
        self._closing.set()
        self._wake.set()
        starting = self._starting
        if starting is not None:
            starting.process.kill()
        self._thread.join()
        self._taken.close()

    def _living(self) -> Child:
        child = self._child
        if child is None or child.lost:
            raise IndexUnavailable(self._why_gone, "" if self._closing.is_set() else AGAIN)
        return child

    def _ask(self, ask: str, header: Mapping[str, Any], *arrays: Any) -> Frame:
        while True:
            try:
                return self._living().ask(ask, header, *arrays)
            except Retired:
                continue  # another is there already

    def _control(self, ask: str) -> Frame:
        while True:
            try:
                return self._living().control(ask)
            except Retired:
                continue

    def _supervise(self) -> None:
        retry_seconds = 0.0
        while not self._closing.is_set():
            started = time.monotonic()
            try:
                self._starting = self._start()
                child = self._starting.greet()
            except Exception as error:
                self._why_gone = f"The index process cannot be started: {error}"
                if not self._first.done():
                    self._first.set_exception(error)
                    return
                _log.warning("index.process_not_started", reason=reason_of(error))
            else:
                self._why_gone = "The index process has ended."
                self._child = child
                if not self._first.done():
                    self._first.set_result(None)
                child = self._watch(child)
                if self._closing.is_set():
                    self._why_gone = "The index process is closed."
                    child.end(gently=True)
                else:
                    ended = child.end(gently=False)
                    self._why_gone = f"The index process has ended ({ended})."
                    _log.warning("index.process_ended", how=ended)
            finally:
                self._starting = None
            if time.monotonic() - started > _STEADY_SECONDS:
                retry_seconds = 0.0
            self._rest(retry_seconds)
            retry_seconds = min(max(_FIRST_RETRY_SECONDS, 2 * retry_seconds), _LAST_RETRY_SECONDS)

    def _rest(self, seconds: float) -> None:
        self._wake.clear()
        if not self._closing.is_set():
            self._wake.wait(seconds)

    def _watch(self, child: Child) -> Child:
        """Return the child that was asked last: when it is gone, hangs, or is to be closed."""
        while not self._closing.is_set():
            try:
                child = self._tend(child, child.control("status").header)
            except LongleafError as error:
                self._give_up_handover(str(error))
            if child.lost:
                break
            self._rest(POLL_SECONDS if self._handover is None else _HANDOVER_POLL_SECONDS)
        self._give_up_handover("The index process has ended.")
        return child

    def _tend(self, child: Child, status: Mapping[str, Any]) -> Child:
        """Begin a handover when one is due, or go on with it; returns the child to be asked now."""
        handover = self._handover
        if handover is None:
            now = time.monotonic()
            early = now < self._retry_at or (now < self._rested_at and not status["asked"])
            if status["due"] is not None and not early:
                self._handover = Handover(
                    self._catalog, self._folder, self._dim, self._start, child, status["due"]
                )
            return child
        new = handover.step(status)
        if new is None:
            return child
        self._child, self._handover = new, None
        handover.finish()
        took = time.monotonic() - handover.started
        self._rested_at = time.monotonic() + _REST_AFTER_HANDOVER * took
        return new

    def _give_up_handover(self, reason: str) -> None:
        handover, self._handover = self._handover, None
        if handover is not None:
            _log.warning("index.compaction_failed", reason=reason, stage=handover.stage)
            handover.abandon()
            self._retry_at = time.monotonic() + _HANDOVER_RETRY_SECONDS
            with suppress(Exception):
                self._catalog.note_compaction_failure(reason)

    def _start(self, shard: str | None = None) -> Starting:
        if self._closing.is_set():
            raise IndexUnavailable("The index process is closed.")
        place = {**self._place, "shard": shard}
        return start_child(place, self._connections, self._taken.fileno(), self._wake)


def _follows_by_itself() -> NoReturn:
    raise AssertionError("the index process follows the catalog by itself; write to the catalog")


def _integers(array: Any) -> list[int]:
    found: list[int] = array.tolist()
    return found


def _ranked(answer: Frame) -> list[ScoredPoint]:
    ids, scores = answer.arrays
    return [ScoredPoint(*pair) for pair in zip(ids.tolist(), scores.tolist(), strict=True)]


def _scored(answer: Frame) -> dict[int, float]:
    ids, scores = answer.arrays
    return dict(zip(ids.tolist(), scores.tolist(), strict=True))
