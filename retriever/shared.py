"""An index that several processes search: one of them follows the catalog into it, under a lease.

Every process has a `SharedFollower`. Whoever gets the lease begins to write and follows as any
follower does; the others ask the index now and then how far it has come. The lease's holder renews
it from a thread of its own, and asks before and after every write whether it can still be sure: a
write is begun only when it must end within the term. So no two write at once, unless a process is
paused in between; then the fence refuses its next flush, and it names in the change log the
documents that it has written since the last one, which the new holder applies again.

It knows neither the store nor what searching is. Trade-off: until a dead holder's term has ended
(`LEASE_SECONDS`), the index stands still; searches go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.catalog.leases import Lease, LeaseLost
from longleaf.core.catalog.repair import push_again
from longleaf.core.errors import IndexUnavailable, LongleafError
from longleaf.core.logs import reason_of
from longleaf.core.protocols import PassageIndex
from longleaf.retriever.follow import SEEN_EVERY_SECONDS, Follower, Progress, Stopped
from longleaf.retriever.index.followed import ChangeLog

LEASE_SECONDS = 45.0
"""The term of the lease: more than a request may take (`qdrant.timeout_seconds`) and a renewal."""

_POLL_SECONDS = 0.25
_RETRY_SECONDS = 5.0
_STILL_SECONDS = 120.0
"""How long `catch_up` waits for another process that makes no progress."""

_log = structlog.get_logger(__name__)


class SharedIndex(PassageIndex, Protocol):
    """A `PassageIndex` that one process at a time writes to.

    `begin_writing(fence, may_write, change_log)` makes this process the writer; `may_write` is
    asked before each write and raises LeaseLost. `unsure` are documents written since a flush
    last proved that it is the one. `settle_seconds` is how long until `flush` has made
    durable what it was given. `applied_seq` is what searches see.
    """

    unsure: set[int]

    def begin_writing(
        self, fence: int, may_write: Callable[[], None], change_log: ChangeLog | None = None
    ) -> None: ...

    def stop_writing(self) -> None: ...

    def applied_seq(self) -> int: ...

    def settle_seconds(self) -> float: ...


class SharedFollower:
    """`follow.Following` for one process and one index; `start` has it follow by itself.

    `request_seconds` is the longest that one write may be under way.
    """

    def __init__(
        self,
        catalog: Catalog,
        index: SharedIndex,
        generation: Generation,
        name: str,
        holder: str,
        flush_documents: int = 2000,
        request_seconds: float = 30.0,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        assert request_seconds < lease_seconds, "a write would outlive its lease"
        self.failure: str | None = None
        self.name = name
        self._catalog = catalog
        self._index = index
        self._generation = generation
        self._holder = holder
        self._flush_documents = flush_documents
        self._request_seconds = request_seconds
        self._lease_seconds = lease_seconds
        self._lease: Lease | None = None
        self._sure_until = 0.0
        self._follower: Follower | None = None
        self._shown_at = 0.0
        self._following = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name="longleaf-follower", daemon=True),
            threading.Thread(target=self._keep, name="longleaf-lease", daemon=True),
        ]

    # --- how far it is -------------------------------------------------------------------------

    @property
    def follows(self) -> bool:
        """Whether this process is the one that writes."""
        return self._lease is not None

    @property
    def applied_seq(self) -> int:
        """The seq up to which searches see the catalog, or a little less."""
        return self._index.applied_seq()

    def lag(self) -> int:
        """How many changes the index is behind."""
        return max(0, self._catalog.head_seq() - self.applied_seq)

    def catch_up(self, progress: Progress | None = None) -> int:
        """Apply all that there is now, or wait until whoever follows has; returns how many.

        Raises IndexUnavailable when that one stands still, CatalogBroken when the index cannot be
        brought to the catalog's state.
        """
        with self._following:
            if self._take():
                return self._follow(progress)
        target, begun = self._catalog.head_seq(), self.applied_seq
        seen, moved_at = begun, time.monotonic()
        while (applied := self.applied_seq) < target:
            if applied > seen:
                seen, moved_at = applied, time.monotonic()
            elif time.monotonic() - moved_at > _STILL_SECONDS:
                holder = self._catalog.leases.holder(self.name)
                raise IndexUnavailable(
                    f"The index stands still, {target - applied:,} changes behind; the process "
                    f"that follows is {holder}.",
                    "Look at its log, or end it: another takes over within a minute.",
                )
            if progress:
                progress(applied - begun, target - begun)
            if self._stop.wait(_POLL_SECONDS):
                raise Stopped
            with self._following:
                if self._take():
                    return self._follow(progress)
        return max(0, target - begun)

    # --- following by itself -------------------------------------------------------------------

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self, *, wait: bool = False) -> None:
        """Finish the batch under way, give the lease back and close the index.

        With `wait`, or after a first fill, only when what was written is durable for certain (by
        default ten seconds): else the next process to follow would do it again.
        """
        self._stop.set()
        follower = self._follower
        if follower is not None:
            follower.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        try:
            if follower is not None and (wait or not self._index.indexed_seq()):
                self._settle(follower)
        except Exception as error:  # the next one to follow does it again
            _log.warning("index.not_settled", reason=reason_of(error))
        finally:
            self._let_go()
            self._index.close()

    def _settle(self, follower: Follower) -> None:
        while (seconds := self._index.settle_seconds()) > 0:
            time.sleep(min(seconds + 0.01, self._lease_seconds / 3))
            if not self._renewed():
                return
        self._flush_again(follower)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._following:
                    if self._take():
                        self._follow(None)
                self.failure = None
            except Stopped:
                return
            except LeaseLost as lost:
                _log.warning("index.lease_lost", reason=reason_of(lost))
            except Exception as error:
                # The thread must outlive any single failure (the server is away, a full disk).
                self.failure = reason_of(error)
                _log.warning("index.follow_failed", index=self.name, reason=self.failure)
                self._let_go()
                self._stop.wait(_RETRY_SECONDS)
            self._stop.wait(_POLL_SECONDS)

    def _follow(self, progress: Progress | None) -> int:
        follower = self._follower
        assert follower is not None
        try:
            applied = follower.catch_up(progress) if follower.lag() else 0
            self._flush_again(follower)
            if time.monotonic() - self._shown_at > SEEN_EVERY_SECONDS:
                # One that is never seen would lose its hold on the log.
                follower.show_life()
                self._shown_at = time.monotonic()
            return applied
        except LeaseLost:
            self._give_up()
            raise

    def _flush_again(self, follower: Follower) -> None:
        """What was flushed may have become durable since."""
        if self._index.indexed_seq() < follower.applied_seq and not self._index.settle_seconds():
            self._index.flush(follower.applied_seq)
            follower.show_life()

    # --- the lease -----------------------------------------------------------------------------

    def _take(self) -> bool:
        """Whether this process writes, from now on or still."""
        if self._lease is not None:
            if time.monotonic() < self._sure_until or self._renewed():
                return True
            self._give_up()
        # Looked at before it is asked for: asking takes the catalog's write lock.
        if self._catalog.leases.holder(self.name) not in (None, self._holder):
            return False
        asked = time.monotonic()
        lease = self._catalog.leases.take(self.name, self._holder, self._lease_seconds)
        if lease is None:
            return False
        self._lease, self._sure_until = lease, asked + self._lease_seconds
        try:
            self._index.begin_writing(lease.fence, self._may_write, self._catalog)
            if self._index.unsure:
                push_again(self._catalog, self._index.unsure)
                self._index.unsure.clear()
            self._follower = Follower(
                self._catalog, self._index, self._generation, self.name, self._flush_documents
            )
            self._shown_at = -SEEN_EVERY_SECONDS
        except BaseException:
            self._let_go()
            raise
        _log.info("index.follows", index=self.name, fence=lease.fence)
        return True

    def _may_write(self) -> None:
        if time.monotonic() + self._request_seconds >= self._sure_until and not self._renewed():
            raise LeaseLost("The term of the lease is over.")

    def _renewed(self) -> bool:
        lease = self._lease
        asked = time.monotonic()
        if lease is None or not self._catalog.leases.renew(lease):
            return False
        self._sure_until = asked + self._lease_seconds
        return True

    def _keep(self) -> None:
        while not self._stop.wait(self._lease_seconds / 4):
            if self._lease is not None:
                try:
                    self._renewed()
                except Exception as error:  # asked again before the next write
                    _log.warning("index.lease_not_renewed", reason=reason_of(error))

    def _give_up(self) -> None:
        """Somebody else follows: what was not seen to end is for that one to do again."""
        self._lease, self._follower = None, None
        self._index.stop_writing()
        if self._index.unsure:
            push_again(self._catalog, self._index.unsure)
            self._index.unsure.clear()

    def _let_go(self) -> None:
        lease, self._lease, self._follower = self._lease, None, None
        self._index.stop_writing()
        if lease is not None:
            with suppress(LongleafError):  # its term ends by itself
                self._catalog.leases.give_back(lease)
