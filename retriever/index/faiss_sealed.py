"""What finds the nearest passages of some segments quicker than a scan of each of them.

`Sealing` keeps it beside the segments as they come and go: inverted lists where the settings ask
for them, on GPUs where there are any, else nothing. Rows of a segment that is gone are never found,
and one that is not covered is scanned beside it. It knows no documents. Trade-off: lists are made
by `optimize` only, so until then, and for what came in since, search is exact and slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from longleaf.retriever.index.faiss_gpu import OnGpus, lists_on_gpus, on_gpus
from longleaf.retriever.index.faiss_library import Devices, load_faiss
from longleaf.retriever.index.faiss_lists import LEAST_PER_LIST, InvertedLists
from longleaf.retriever.index.folder import damaged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray
    from longleaf.retriever.index.faiss_lists import Found
    from longleaf.retriever.index.faiss_segment import Segment
    from longleaf.retriever.index.faiss_view import Live

_MAX_UNCOVERED_SHARE = 0.1
_GROWTH_TO_TRAIN_ANEW = 2.0

_log = structlog.get_logger(__name__)


class Sealed(Protocol):
    """Inverted lists, or vectors on GPUs."""

    def covers(self, segment: Segment) -> bool: ...

    def search(
        self,
        lives: Sequence[Live],
        masks: Sequence[NDArray[np.bool_]],
        query: FloatArray,
        limit: int,
    ) -> Found:
        """The nearest `limit` or more of what the masks let through. All `lives` were covered a
        moment ago."""
        ...


class Sealing:
    """What is `sealed` now (None: nothing), and the `reason` for what searches."""

    def __init__(self, devices: Devices, dim: int, list_count: int, probes: int) -> None:
        self._devices = devices
        self._list_count, self._probes = list_count, probes
        self._lists: InvertedLists | None = None
        self._exact: OnGpus | None = None
        if devices.gpus and not list_count:
            self._exact = on_gpus(load_faiss(), devices.gpus, dim)
        self.sealed: Sealed | None = self._exact
        self._failure: str | None = None

    @property
    def reason(self) -> str:
        """What searches, why that, and what it does not do."""
        failure = self._failure or (self._exact and self._exact.failure)
        return f"{self._devices.reason}; {failure}" if failure else self._devices.reason

    def open(self, folder: Path, lists: str | None, segments: Sequence[Segment]) -> None:
        """Take up the lists in the file `lists`. Raises CatalogBroken when it is damaged."""
        if lists is not None and self._list_count:
            try:
                self._use(InvertedLists.load(folder / lists, segments, self._probes))
            except (OSError, ValueError, KeyError) as error:
                raise damaged(folder, error) from error
        self.follow(segments)

    def follow(self, segments: Sequence[Segment]) -> None:
        """These are the index's segments now."""
        if self._exact is not None:
            self._exact.take(segments)
            if self._exact.failure:
                _log.warning("index.gpu_full", reason=self._exact.failure)

    def keeps(self, live: Live) -> bool:
        """Whether a segment should stay as it is, because the lists hold its rows."""
        covered = self._lists is not None and self._lists.covers(live.segment)
        return covered and live.row_count * 2 > len(live.segment)

    def make(self, lives: Sequence[Live]) -> bool:
        """Make lists where they are asked for and are not there, or much came in since; drop them
        where too little is left. True when there was anything to do."""
        total = sum(live.row_count for live in lives)
        lists = self._lists
        if not self._list_count:
            return False
        if total < self._list_count * LEAST_PER_LIST:
            _log.info(
                "index.lists_wait",
                reason=f"{total:,} passages are too few for {self._list_count:,} lists "
                f"({LEAST_PER_LIST} a list); search is exact",
            )
            self._lists = self.sealed = self._failure = None
            return lists is not None
        segments = [live.segment for live in lives]
        grown = lists is None or total > lists.trained_rows * _GROWTH_TO_TRAIN_ANEW
        if lists is None or grown or lists.list_count != self._list_count:
            self._use(InvertedLists.trained(segments, self._list_count, self._probes))
            return True
        uncovered = sum(live.row_count for live in lives if not lists.covers(live.segment))
        if uncovered > _MAX_UNCOVERED_SHARE * total:
            self._use(lists.refilled(segments))
            return True
        return False

    def save(self, folder: Path, saved: set[str]) -> str | None:
        """Write the lists if that was not done; returns their file's name. Raises NoSpace."""
        if self._lists is None:
            return None
        if self._lists.name not in saved:
            self._lists.save(folder)
        return self._lists.name

    def _use(self, lists: InvertedLists) -> None:
        self._lists = self.sealed = lists
        self._failure = None
        if self._devices.gpus:
            try:
                self.sealed = lists_on_gpus(load_faiss(), self._devices.gpus, lists)
            except RuntimeError as error:
                self._failure = f"the GPU did not take the lists ({error}); the CPU searches them"
                _log.warning("index.gpu_full", reason=self._failure)
