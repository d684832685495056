"""The passage index of a serving process: in a process of its own, asked over socket pairs.

The engine's writes stop every thread of the process they run in (100 points: 65 ms; a flush: up to
0.7 s), so a server that also follows the catalog keeps its shard elsewhere. `IndexProcess` starts
`worker`, asks it, and starts it again when it dies; searches meanwhile raise IndexUnavailable. It
knows no vectors and no SQL: the child follows the catalog by itself, so nothing is lost with it.
Trade-off: 0.1-0.5 ms for each call, and in the child a search still waits for an update or a flush.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.errors import IndexUnavailable, LongleafError
from longleaf.core.protocols import IndexEntry, IndexFilter, LexicalQuery, ScoredPoint
from longleaf.retriever.follow import Progress
from longleaf.retriever.index import frames
from longleaf.retriever.index.child import AGAIN, Child, how_ended
from longleaf.retriever.index.frames import Frame, ids_array

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray

POLL_SECONDS = 0.5
"""How often the child is asked how far it has come, and so how soon an idle one is missed."""

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
    ) -> None:
        self.fingerprint = generation.fingerprint
        self._catalog = catalog
        self._connections = connections
        self._place = {
            "home": str(catalog.folder),
            "folder": str(folder),
            "generation": asdict(generation),
            "flush_documents": flush_documents,
        }
        self._child: Child | None = None
        self._starting: subprocess.Popen[bytes] | None = None
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
    ) -> IndexProcess:
        """Start the child and wait until it can be asked; `connections` searches run at once.

        Raises what `EdgeIndex.open` raises, and IndexUnavailable when the child dies meanwhile.
        """
        opened = cls(catalog, generation, folder, flush_documents, connections)
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
        return _integers(self._living().control("passage_count").arrays[0])[0]

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
        return max(0, head_seq - int(self._living().control("status").header["applied_seq"]))

    def indexed_seq(self) -> int:
        return int(self._living().control("status").header["indexed_seq"])

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
            starting.kill()
        self._thread.join()

    def _living(self) -> Child:
        child = self._child
        if child is None or child.lost:
            raise IndexUnavailable(self._why_gone, "" if self._closing.is_set() else AGAIN)
        return child

    def _ask(self, ask: str, header: Mapping[str, Any], *arrays: Any) -> Frame:
        return self._living().ask(ask, header, *arrays)

    def _supervise(self) -> None:
        retry_seconds = 0.0
        while not self._closing.is_set():
            started = time.monotonic()
            try:
                child = self._start()
            except Exception as error:
                self._why_gone = f"The index process cannot be started: {error}"
                if not self._first.done():
                    self._first.set_exception(error)
                    return
                _log.warning("index.process_not_started", reason=str(error))
            else:
                self._why_gone = "The index process has ended."
                self._child = child
                if not self._first.done():
                    self._first.set_result(None)
                self._watch(child)
                if self._closing.is_set():
                    self._why_gone = "The index process is closed."
                    child.end(gently=True)
                else:
                    ended = child.end(gently=False)
                    self._why_gone = f"The index process has ended ({ended})."
                    _log.warning("index.process_ended", how=ended)
            if time.monotonic() - started > _STEADY_SECONDS:
                retry_seconds = 0.0
            self._rest(retry_seconds)
            retry_seconds = min(max(_FIRST_RETRY_SECONDS, 2 * retry_seconds), _LAST_RETRY_SECONDS)

    def _rest(self, seconds: float) -> None:
        self._wake.clear()
        if not self._closing.is_set():
            self._wake.wait(seconds)

    def _watch(self, child: Child) -> None:
        """Return when the child is gone, hangs, or is to be closed."""
        while not self._closing.is_set():
            with suppress(LongleafError):
                child.control("status")
            if child.lost:
                return
            self._rest(POLL_SECONDS)

    def _start(self) -> Child:
        with ExitStack() as undo:
            pairs = [socket.socketpair() for _ in range(1 + self._connections)]
            ours, theirs = zip(*pairs, strict=True)
            for each in ours:
                undo.callback(each.close)
            try:
                process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                    [
                        sys.executable,
                        "-P",  # a file in the working folder must not stand in for a module
                        "-m",
                        "longleaf.retriever.index.worker",
                        str(os.getpid()),
                        *(str(each.fileno()) for each in theirs),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[each.fileno() for each in theirs],
                    process_group=0,
                )
            finally:
                # The child's ends must be its alone: only then does each side hear the other die.
                for each in theirs:
                    each.close()
            undo.callback(process.wait)
            undo.callback(process.kill)
            self._starting = process
            undo.callback(setattr, self, "_starting", None)
            if self._closing.is_set():
                raise IndexUnavailable("The index process is closed.")
            try:
                ours[0].sendall(frames.encode(Frame(self._place)))
                hello = frames.receive(ours[0]).header
            except (OSError, EOFError):
                how = how_ended(process.wait())
                raise IndexUnavailable(f"The index process ended at its start ({how}).") from None
            if "error" in hello:
                raise frames.error_from_json(hello["error"])
            assert hello["fingerprint"] == self.fingerprint
            self._starting = None
            undo.pop_all()
            return Child(process, ours[0], ours[1:], hello, self._wake)


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
