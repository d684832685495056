"""What a serving process does beside answering: switch to a new generation, and clear up.

A thread looks at the catalog every second. When another generation is live, it loads that one's
query encoder, opens its index in a process of its own, waits until it has followed, asks it once,
and only then puts it in the old one's place, between two searches; those under way finish on the
old. Then it clears up: retired generations, and what deletions leave to be done. A second thread
renews the lease that keeps the vectors which this process answers from, however long anything else
takes. Trade-off: until the switch both indexes and both models are in memory.
"""

from __future__ import annotations

import threading
import time

import structlog

from longleaf.api import indexes, wire
from longleaf.api.search import SearchRequest
from longleaf.core.catalog.generations import RENEW_SECONDS, OpenGeneration
from longleaf.core.errors import GenerationMismatch, IndexUnavailable, LongleafError
from longleaf.core.logs import reason_of

POLL_SECONDS = 1.0
_RETRY_SECONDS = 30.0
_SETTLE_SECONDS = 60.0
_SCRUBS_REST = 20.0
"""Times as long as a scrub took, no other begins: writers waited for it."""

_GRACE_SECONDS = 5.0
"""How long after its last search the old generation is kept for who still reads passages of it."""

_FIRST_QUESTION = SearchRequest("a question to begin with", limit=1)
_log = structlog.get_logger(__name__)


class Stopped(Exception):
    """The server ends: what is being prepared is given up."""


class Upkeep:
    """A thread beside a runtime that serves, from `start` to `close`."""

    def __init__(self, runtime: wire.Runtime) -> None:
        self._runtime = runtime
        self._answers_from = runtime.generation
        self._stop = threading.Event()
        self._settled_at = time.monotonic()
        self._retry_at = 0.0
        self._scrub_at = 0.0
        self._dropped_beside: frozenset[int] | None = None
        self._threads = [
            threading.Thread(target=target, name=f"longleaf-{name}", daemon=True)
            for name, target in (("upkeep", self._run), ("lease", self._keep_lease))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop; what was being prepared is given up."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                self._tick()
            except Stopped:
                return
            except Exception as error:
                # The thread must outlive any single failure (a full disk, a busy catalog).
                _log.warning("upkeep.failed", reason=reason_of(error), exc_info=True)
                self._stop.wait(POLL_SECONDS)

    def _tick(self) -> None:
        runtime = self._runtime
        live = runtime.catalog.generations.live()
        if live is not None and live.generation.id != runtime.generation.id:
            if time.monotonic() >= self._retry_at:
                self._switch(live)
            return
        if runtime.catalog.generations.retire():
            _log.info("generation.retired")
        if not runtime.catalog.generations.empty(self._stop.is_set):
            return
        self._drop_closed()
        self._clear_up()

    def _drop_closed(self) -> None:
        """Once for each set of open generations: asking a server each second would be a burden."""
        runtime = self._runtime
        opened = frozenset(each.generation.id for each in runtime.catalog.generations.opened())
        if opened != self._dropped_beside:
            left = indexes.drop_closed(runtime.settings, runtime.catalog)
            self._dropped_beside = None if left else opened

    def _keep_lease(self) -> None:
        """Say again and again that this process answers from its generation."""
        while not self._stop.wait(RENEW_SECONDS):
            generation = self._answers_from
            try:
                there = self._runtime.catalog.generations.answer_from(
                    self._runtime.process, generation
                )
            except Exception as error:
                _log.warning("generation.lease_failed", reason=reason_of(error))
                continue
            if not there:
                # Paused for minutes, this process was taken for dead; the switch is overdue.
                _log.warning("generation.gone", generation=generation.id)

    # --- the switch ----------------------------------------------------------------------------

    def _switch(self, live: OpenGeneration) -> None:
        runtime = self._runtime
        now, then = runtime.generation.id, live.generation.id
        _log.info("generation.prepares", generation=then)
        try:
            side = self._prepared(live)
        except LongleafError as error:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            runtime.reasons["generation"] = f"{now}; {then} cannot be prepared: {error}"
            _log.warning("generation.not_prepared", generation=then, reason=reason_of(error))
            return
        old = runtime.switch_to(side)
        runtime.reasons["generation"] = f"{then}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        _log.info("generation.switched", generation=then)
        self._leave(old)
        self._answers_from = live.generation
        runtime.catalog.generations.answer_from(runtime.process, live.generation)
        runtime.models.keep(runtime.catalog.generations.opened())

    def _prepared(self, live: OpenGeneration) -> wire.Side:
        """The new generation's index, caught up, and its query encoder, loaded and warm."""
        runtime = self._runtime
        now, then = runtime.generation.id, live.generation.id
        target = runtime.models.of(live)
        # A dictionary of its own: what was chosen for the new one is shown when it answers.
        reasons: dict[str, str] = {}
        side = wire.open_side(
            runtime.settings,
            runtime.catalog,
            target,
            reasons,
            follow=True,
            beside=runtime.side,
        )
        try:
            while (lag := side.followed.follower.lag()) > 0:
                runtime.reasons["generation"] = f"{now}; {then} is being prepared ({lag:,} changes)"
                if side.followed.failure is not None:
                    raise IndexUnavailable(side.followed.failure)
                if runtime.catalog.generations.live() != live:
                    raise GenerationMismatch(f"Generation {then} is not live any more.")
                if self._stop.wait(POLL_SECONDS):
                    raise Stopped
            side.engine.search(_FIRST_QUESTION)
        except BaseException:
            side.close()
            raise
        runtime.reasons.update(reasons)
        return side

    def _leave(self, old: wire.Side) -> None:
        """Close a generation's side once its last search has ended."""
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < _GRACE_SECONDS and not self._stop.is_set():
            if old.under_way:
                quiet_since = time.monotonic()
            self._stop.wait(0.05)
        old.close()

    # --- after deletions -----------------------------------------------------------------------

    def _clear_up(self) -> None:
        """Overwrite and unlink what another process's crash has left, and write the file anew."""
        runtime, now = self._runtime, time.monotonic()
        erasure = runtime.catalog.erasure
        if now - self._settled_at > _SETTLE_SECONDS:
            erasure.settle()
            erasure.forget_drawn()
            runtime.catalog.forget_unused_pages()
            self._settled_at = now
        seconds = indexes.erase_seconds(runtime.settings)
        if seconds is None or now < self._scrub_at:
            return
        since = erasure.unscrubbed_since()
        if since is None or time.time() - since < seconds:
            return
        try:
            took = erasure.scrub()
        except LongleafError as error:
            _log.warning("catalog.not_scrubbed", reason=reason_of(error))
            took = _SETTLE_SECONDS / _SCRUBS_REST
        self._scrub_at = time.monotonic() + _SCRUBS_REST * took
