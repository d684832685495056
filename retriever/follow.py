"""An index follows the catalog's change log.

The follower reads the log behind the index's own `indexed_seq`, applies the *current* state of each
document named there, flushes, and only then lets the index record the seq. Applying is idempotent,
so a crash anywhere is mended by following again. A new index is filled from all documents first;
one below the log's horizon has missed deletions, one ahead of the log follows another catalog, and
both must be made anew. This module knows neither
which index it feeds nor who searches it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import structlog

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.errors import CatalogBroken
from longleaf.core.logs import reason_of
from longleaf.core.protocols import IndexEntry, PassageIndex

_PUT_PASSAGES = 2048
"""Passages handed to the index at once: large enough to be quick, small enough to stay lean."""

SEEN_EVERY_SECONDS = 3600.0
"""How often a follower that has nothing to do tells the catalog that it is there."""

_log = structlog.get_logger(__name__)

Progress = Callable[[int, int], None]
"""Called with (documents done, documents to do)."""


class Following(Protocol):
    """How far an index has come, in whichever process its follower runs."""

    @property
    def applied_seq(self) -> int: ...

    def lag(self) -> int: ...

    def catch_up(self, progress: Progress | None = None) -> int: ...


class Stopped(Exception):
    """The follower was told to stop; what it had not flushed, the next one applies again."""


class Follower:
    """Keeps one index up to date; one thread at a time may follow."""

    def __init__(
        self,
        catalog: Catalog,
        index: PassageIndex,
        generation: Generation,
        name: str,
        flush_documents: int = 2000,
    ) -> None:
        self.catalog = catalog
        self.index = index
        self.generation = generation
        self.name = name
        self._flush_documents = flush_documents
        self._applied_seq = index.indexed_seq()
        self._fill_seq = 0
        self._following = threading.Lock()
        self._stopping = threading.Event()
        self._yielding = threading.Event()

    @property
    def applied_seq(self) -> int:
        """The seq up to which searches see the catalog (durable a flush later)."""
        return self._applied_seq

    def lag(self) -> int:
        """How many changes the index is behind; negative when the catalog is older than it."""
        return self.catalog.head_seq() - self._applied_seq

    def catch_up(self, progress: Progress | None = None) -> int:
        """Apply everything there is and flush; returns how many documents were applied.

        Raises Stopped after `stop`, and CatalogBroken when the log cannot bring the index to the
        catalog's state.
        """
        with self._following:
            applied = 0
            if self.lag() < 0:
                raise CatalogBroken(
                    f"The index {self.name} is ahead of the catalog, as after restoring a backup "
                    "of the catalog alone: it would answer with what the catalog does not hold.",
                    "Make it anew: longleaf rebuild",
                )
            if self._applied_seq == 0:
                applied += self._fill(progress)
            elif self._applied_seq < self.catalog.log_horizon():
                raise CatalogBroken(
                    f"The index {self.name} was away for so long that changes it has not seen "
                    "are no longer in the log.",
                    "Make it anew: longleaf rebuild",
                )
            while not self._yielding.is_set() and (
                changes := self.catalog.changes_since(self._applied_seq, self._flush_documents)
            ):
                # A document's last op is enough: its current state is what gets applied.
                document_ids = sorted({change.document_id for change in changes})
                self._apply(document_ids)
                self._flush(changes[-1].seq)
                applied += len(document_ids)
                if progress:
                    progress(applied, applied + self.lag())
            return applied

    def stop(self) -> None:
        """End `catch_up`, in whatever thread it runs, after the batch under way; for good."""
        self._stopping.set()

    def give_way(self, give: bool) -> None:
        """Have `catch_up` return after the batch under way, and at once if called again."""
        self._yielding.set() if give else self._yielding.clear()

    def show_life(self) -> None:
        """Tell the catalog that this follower still needs the log behind its seq.

        That is where it would go on after a loss, which may be behind what searches see.
        """
        self.catalog.record_follower(self.name, self.index.indexed_seq() or self._fill_seq)

    def _fill(self, progress: Progress | None) -> int:
        # Registered before anything is read, so that no other follower truncates the log that
        # this one needs next.
        self.catalog.record_follower(self.name, self._fill_seq or self.catalog.head_seq())
        document_ids, seq = self.catalog.all_document_ids()
        # Begun again after a failure: what the first attempt put and was deleted since is no
        # longer among all documents, but it is in the log from where that attempt began.
        self._fill_seq = seq = min(seq, self._fill_seq or seq)
        for begin in range(0, len(document_ids), self._flush_documents):
            self._apply(document_ids[begin : begin + self._flush_documents])
            # The seq stays where it is until all are in: a crash here starts the fill anew.
            self.index.flush(self.index.indexed_seq())
            if progress:
                done = min(begin + self._flush_documents, len(document_ids))
                progress(done, len(document_ids))
        if seq > self._applied_seq:
            self._flush(seq)
        return len(document_ids)

    def _apply(self, document_ids: Sequence[int]) -> None:
        found: set[int] = set()
        for batch in _by_passages(self.catalog.index_entries(document_ids, self.generation)):
            if self._stopping.is_set():
                raise Stopped
            found.update(entry.document_id for entry in batch)
            self.index.put(batch)
        gone = [document_id for document_id in document_ids if document_id not in found]
        if gone:
            self.index.delete(gone)

    def _flush(self, seq: int) -> None:
        self.index.flush(seq)
        self._applied_seq = seq
        self.show_life()


class FollowerThread:
    """Follows in the background until stopped; a failure is logged, shown and tried again.

    `when_level` is called, in its thread, after each look that finds the index up to date.
    """

    def __init__(
        self,
        follower: Follower,
        interval_seconds: float = 0.25,
        retry_seconds: float = 5.0,
        when_level: Callable[[], None] = lambda: None,
    ) -> None:
        self.follower = follower
        self.failure: str | None = None
        self._when_level = when_level
        self._interval_seconds = interval_seconds
        self._retry_seconds = retry_seconds
        self._stop = threading.Event()
        self._paused = False
        self._at_work = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="longleaf-follower", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def pause(self) -> None:
        """Follow no more after the batch under way, until `resume`."""
        self._paused = True
        self.follower.give_way(True)

    def resume(self) -> None:
        """Go on where `pause` stopped."""
        self.follower.give_way(False)
        self._paused = False

    @property
    def at_rest(self) -> bool:
        """Whether it is paused and its last batch is done."""
        if not self._paused or not self._at_work.acquire(blocking=False):
            return False
        self._at_work.release()
        return True

    def stop(self) -> None:
        """Finish the batch under way and end."""
        self._stop.set()
        self.follower.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        seen_at = 0.0
        while not self._stop.is_set():
            try:
                with self._at_work:
                    if not self._paused and self.follower.lag() != 0:
                        self.follower.catch_up()
                self._when_level()
                if time.monotonic() - seen_at > SEEN_EVERY_SECONDS:
                    self.follower.show_life()
                    seen_at = time.monotonic()
                self.failure = None
            except Stopped:
                return
            except Exception as error:
                # The thread must outlive any single failure (a full disk, a busy catalog).
                self.failure = reason_of(error)
                _log.exception("index.follow_failed", index=self.follower.name)
                self._stop.wait(self._retry_seconds)
            self._stop.wait(self._interval_seconds)


def _by_passages(entries: Iterator[IndexEntry]) -> Iterator[list[IndexEntry]]:
    batch: list[IndexEntry] = []
    passages = 0
    for entry in entries:
        batch.append(entry)
        passages += len(entry.passages)
        if passages >= _PUT_PASSAGES:
            yield batch
            batch, passages = [], 0
    if batch:
        yield batch
