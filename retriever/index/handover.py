"""One shard makes way for another, made anew, while searches go on: in steps that never wait.

The serving child copies its shard; a compactor works on the copy; a second child opens it, follows
the log from where the copy stood, and takes the folder over once it has seen as much as the first.
The sidecar names the shard, so it changes hands in one atomic write: killed before, the folder
holds the old index, after it the new one, and what is over is removed at the next start. Whatever
goes wrong ends the handover and nothing else. It knows neither searches nor the engine.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from longleaf.core.catalog import Catalog
from longleaf.core.errors import LongleafError
from longleaf.retriever.index import compaction
from longleaf.retriever.index.child import Child, Starting
from longleaf.retriever.index.edge_folder import new_shard_name

NEAR_CHANGES = 200
"""So far behind, the second child is let catch up while the first one waits."""

_BESIDE_SEARCHES = 19
"""Niceness of the compactor: searches come first."""

_FOLLOWING_SECONDS = 120.0
"""After so long the first child waits in any case: writes may come as quickly as they are read."""

_CATCHING_UP_SECONDS = 60.0

_log = structlog.get_logger(__name__)


class Handover:
    """Begun by making it; `step` until it gives the child that is to be asked from now on."""

    def __init__(
        self,
        catalog: Catalog,
        folder: Path,
        dim: int,
        start: Callable[[str], Starting],
        old: Child,
        reason: str,
    ) -> None:
        self.shard = new_shard_name()
        self.started = time.monotonic()
        self._catalog = catalog
        self._folder = folder
        self._dim = dim
        self._start = start
        self._old = old
        self._old_shard = ""
        self._compactor: subprocess.Popen[bytes] | None = None
        self._starting: Starting | None = None
        self._new: Child | None = None
        self._since = 0.0
        self._undecided = False
        self._step: Callable[[Mapping[str, Any]], Child | None] = self._copying
        _log.info("index.compaction_begins", reason=reason)
        old.control("copy", shard=self.shard)

    @property
    def stage(self) -> str:
        """What it is doing: copying, tidying, opening, following or catching_up."""
        return self._step.__name__.lstrip("_")

    def step(self, status: Mapping[str, Any]) -> Child | None:
        """Do what can be done by now; `status` is the old child's. Raises what went wrong."""
        self._old_shard = status["shard"]
        return self._step(status)

    def abandon(self) -> None:
        """Give it up, wherever it is; the old child serves on, or starts again if need be."""
        if self._compactor is not None:
            self._compactor.kill()
            self._compactor.communicate()
        if self._starting is not None:
            self._starting.end()
        if self._new is not None:
            self._new.end(gently=False)
        if self._undecided:
            # Which shard the folder names now, whoever starts next will read.
            self._old.process.kill()
            return
        with suppress(LongleafError):
            self._old.control("resume")
        self._remove(self.shard)

    def finish(self) -> None:
        """The new child is being asked: end the old one after its last answer, drop its shard."""
        self._old.retire()
        self._old.end(gently=True)
        self._remove(self._old_shard)
        seconds = round(time.monotonic() - self.started, 1)
        _log.info("index.compaction_done", seconds=seconds)

    def _remove(self, shard: str) -> None:
        shutil.rmtree(self._folder / shard, ignore_errors=True)
        with suppress(Exception):  # it is forgotten at the next start at the latest
            self._catalog.forget_follower(self._catalog.follower_name(self._folder / shard))

    # --- the steps -----------------------------------------------------------------------------

    def _copying(self, status: Mapping[str, Any]) -> Child | None:
        copied = status["copied"]
        if copied is None or copied["shard"] != self.shard:
            return None
        if copied["failure"] is not None:
            raise compaction.CompactionFailed(copied["failure"])
        self._compactor = compaction.start_compactor(
            self._folder / self.shard, self._dim, niceness=_BESIDE_SEARCHES
        )
        self._step = self._tidying
        return None

    def _tidying(self, _status: Mapping[str, Any]) -> Child | None:
        assert self._compactor is not None
        if self._compactor.poll() is None:
            return None
        compactor, self._compactor = self._compactor, None
        compaction.finish_compactor(compactor)
        self._starting = self._start(self.shard)
        self._step = self._opening
        return None

    def _opening(self, _status: Mapping[str, Any]) -> Child | None:
        assert self._starting is not None
        if not self._starting.has_answered:
            return None
        starting, self._starting = self._starting, None
        self._new = starting.greet()
        self._since = time.monotonic()
        self._step = self._following
        return None

    def _following(self, _status: Mapping[str, Any]) -> Child | None:
        behind = self._behind()
        if behind <= NEAR_CHANGES or time.monotonic() - self._since > _FOLLOWING_SECONDS:
            # What was seen in one answer must be seen in the next: the old one may not run ahead.
            self._old.control("pause")
            self._since = time.monotonic()
            self._step = self._catching_up
        return None

    def _catching_up(self, status: Mapping[str, Any]) -> Child | None:
        assert self._new is not None
        behind = self._behind()
        if status["at_rest"] and behind <= 0:
            # One writes the folder's state at a time; from here on it is not this one.
            self._old.control("let_go")
            self._undecided = True
            self._new.control("take_over")
            new, self._new = self._new, None
            return new
        if time.monotonic() - self._since > _CATCHING_UP_SECONDS:
            self._old.control("resume")
            self._since = time.monotonic()
            self._step = self._following
        return None

    def _behind(self) -> int:
        """How many changes the new child has yet to see of those that the old one has seen."""
        assert self._new is not None
        status = self._new.control("status").header
        if status["failure"] is not None:
            raise compaction.CompactionFailed(status["failure"])
        return self._old.applied_seq - int(status["applied_seq"])
