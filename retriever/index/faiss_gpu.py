"""Dense search on GPUs: they hold full segments, the CPU has the last word.

A GPU computes in 16 bits, so its best are scored again from the segment's own vectors, and are
taken only when all that it left out must score less; then the answer is that of the CPU. FAISS
takes no bitmap on a GPU: more than is wanted is asked for, and where a filter leaves too little of
it, the CPU scans. It knows segments and no points. Trade-off: the vectors lie in both memories, and
FAISS selects one query's best slowly (3.7 of 4.6 ms over 1,000,000 vectors, where 64 queries at
once take 5.4), so queries that wait go together.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import structlog

from longleaf.retriever.index.faiss_lists import Placed, blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray
    from longleaf.retriever.index.faiss_lists import Found, InvertedLists
    from longleaf.retriever.index.faiss_segment import Segment
    from longleaf.retriever.index.faiss_view import Live

    Answers = list[tuple[Placed, FloatArray, NDArray[np.int64]]]
    """Of each GPU: what lies there, and the scores and rows of its nearest, the best first."""

LEAST_ROWS = 8192
"""A segment with fewer is scanned by the CPU: it will soon be merged."""

MOST_ASKED = 2048
"""FAISS's GPU code selects no more."""

MOST_TOGETHER = 64
"""Queries in one call."""

SCORE_ERROR = 2e-3
"""More than a GPU's scores are off: an H100's were by 3.7e-5 at most (20,000 unit vectors of 384,
1,024 and 4,096 dimensions), numpy's with 16-bit products and sums by 1.4e-4."""

_log = structlog.get_logger(__name__)


class GpuIndex(Protocol):
    """What is used of FAISS's indexes on a GPU."""

    ntotal: int

    def add(self, vectors: FloatArray) -> None: ...

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, NDArray[np.int64]]: ...

    def reset(self) -> None: ...


class Device:
    """One GPU with the rows of some segments."""

    def __init__(self, index: GpuIndex) -> None:
        self.index = index
        self.placed = Placed()

    def take(self, segment: Segment, together: Together) -> None:
        """Add a segment's rows, searches going on after each block of them. Raises RuntimeError
        when the GPU has no room for them."""
        before = self.index.ntotal
        name = ""
        try:
            for _, block in blocks(segment):
                with together.turn():
                    self.index.add(block)
            name = segment.name
        finally:  # rows of half a segment are nobody's
            rows = self.index.ntotal - before
            # Rows that a search finds beyond what is placed say nothing of any segment.
            self.placed = Placed([*self.placed.segments, (name, rows)])

    def is_half_gone(self, names: Collection[str]) -> bool:
        """Whether half of what is here belongs to segments that are not among these."""
        gone = sum(rows for name, rows in self.placed.segments if name not in names)
        return gone * 2 > self.index.ntotal

    def reset(self) -> None:
        """Forget all of it; in a turn, so that no search is at it."""
        self.index.reset()
        self.placed = Placed()


@dataclass(slots=True)
class _Question:
    query: FloatArray
    k: int
    answers: Answers | None = None
    error: Exception | None = None


class Together:
    """One call for the queries of all threads that wait for the GPUs.

    `search` takes (queries (n, dim), k) and gives scores and rows as (n, k) arrays.
    """

    def __init__(self, search: Callable[[FloatArray, int], Answers]) -> None:
        self._search = search
        self._lock, self._next = threading.Lock(), threading.Lock()
        self._waiting: deque[_Question] = deque()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Alone with the GPUs. Who has had a turn waits for who came meanwhile: a plain lock goes
        to whoever asks next, and an upload asks at once."""
        with self._next:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def ask(self, query: FloatArray, k: int) -> Answers:
        """The k nearest of each GPU. Raises RuntimeError when a GPU has no room to compute."""
        mine = _Question(query, k)
        self._waiting.append(mine)
        with self.turn():
            while mine.answers is None and mine.error is None:
                # Only whose turn it is takes from the queue, and mine is in it.
                count = min(len(self._waiting), MOST_TOGETHER)
                self._answer([self._waiting.popleft() for _ in range(count)])
        if mine.error is not None:
            raise mine.error
        assert mine.answers is not None
        return mine.answers

    def _answer(self, together: Sequence[_Question]) -> None:
        most = max(one.k for one in together)
        try:
            found = self._search(np.stack([one.query for one in together]), most)
        except Exception as error:
            for one in together:
                one.error = error
            return
        for place, one in enumerate(together):
            one.answers = [
                (placed, scores[place, : one.k], rows[place, : one.k])
                for placed, scores, rows in found
            ]


class OnGpus:
    """`Sealed` for exact search. `failure` says why some segments are not on a GPU."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = devices
        self._together = Together(self._everywhere)
        self._covered: frozenset[str] = frozenset()
        self.failure: str | None = None

    def take(self, segments: Sequence[Segment]) -> None:
        """Hold those that are large enough, while there is room, and forget those not named.

        Called by one thread at a time. Searches go on: what is to be made anew is the CPU's from
        before its GPU is emptied until it is there again, segment by segment.
        """
        named = {segment.name: segment for segment in segments}
        for device in self._devices:
            if device.is_half_gone(named):
                self._covered -= device.placed.names
                with self._together.turn():
                    device.reset()
        here = self._placed()
        failure = None
        try:
            for segment in segments:
                if segment.name not in here and len(segment) >= LEAST_ROWS:
                    least = min(self._devices, key=lambda device: device.index.ntotal)
                    least.take(segment, self._together)
                    self._covered |= {segment.name}
        except RuntimeError as error:
            failure = f"a GPU did not take all vectors ({error}); the CPU scans the rest"
        self.failure = failure
        self._covered = self._placed() & named.keys()

    def _placed(self) -> frozenset[str]:
        return frozenset().union(*(device.placed.names for device in self._devices))

    def covers(self, segment: Segment) -> bool:
        """Whether a GPU holds it."""
        return segment.name in self._covered

    def search(
        self,
        lives: Sequence[Live],
        masks: Sequence[NDArray[np.bool_]],
        query: FloatArray,
        limit: int,
    ) -> Found:
        """The same as a scan of each of these segments, for the nearest `limit` of them all."""
        numbers = {live.segment.name: number for number, live in enumerate(lives)}
        rows = sum(len(lives[number].segment) for number in numbers.values())
        passing = sum(int(np.count_nonzero(masks[number])) for number in numbers.values())
        # So many hold twice as many as wanted that pass, if these lie anywhere.
        asked = 2 * limit * rows // passing + 1 if passing else MOST_ASKED + 1
        # Where few pass, the CPU has only those to look at.
        while asked <= MOST_ASKED:
            nearest = self._nearest(lives, masks, numbers, query, asked)
            if nearest is None:
                break
            found, sure = nearest
            scores = np.sort(np.concatenate([np.empty(0), *(each for _, _, each in found)]))
            enough = min(limit, passing)
            if len(scores) >= enough and (not enough or scores[-enough] > sure):
                return found
            asked *= 4
        return [
            (number, *lives[number].segment.dense.search(query, limit, masks[number]))
            for number in numbers.values()
        ]

    def _nearest(
        self,
        lives: Sequence[Live],
        masks: Sequence[NDArray[np.bool_]],
        numbers: dict[str, int],
        query: FloatArray,
        asked: int,
    ) -> tuple[Found, float] | None:
        """(what the GPUs find nearest and the masks let through, scored by the CPU; the score that
        nothing else reaches). None: the GPUs have dropped one of the segments meanwhile, or have
        no room to compute."""
        results: Found = []
        sure = -np.inf
        try:
            answers = self._together.ask(query, asked)
        except RuntimeError as error:
            _log.warning("index.gpu_failed", reason=f"{error}; the CPU scans")
            return None
        if not numbers.keys() <= set().union(*(placed.names for placed, _, _ in answers)):
            return None
        for placed, scores, found in answers:
            if (found >= 0).all():  # it may have more
                sure = max(sure, float(scores[-1]) + SCORE_ERROR)
            for name, rows in placed.split(found[found >= 0]):
                if (number := numbers.get(name)) is not None:
                    here = rows[masks[number][rows]]
                    results.append((number, here, lives[number].segment.dense.score(query, here)))
        return results, sure

    def _everywhere(self, queries: FloatArray, k: int) -> Answers:
        return [
            (device.placed, *device.index.search(queries, k))
            for device in self._devices
            if device.index.ntotal
        ]


class ListsOnGpus:
    """`Sealed` for inverted lists: GPUs look into them, the CPU where a filter leaves little."""

    def __init__(self, lists: InvertedLists, index: Any) -> None:
        self._lists = lists
        self._together = Together(lambda queries, k: [(lists.placed, *index.search(queries, k))])

    def covers(self, segment: Segment) -> bool:
        """Whether the segment's rows are in the lists."""
        return self._lists.covers(segment)

    def search(
        self,
        lives: Sequence[Live],
        masks: Sequence[NDArray[np.bool_]],
        query: FloatArray,
        limit: int,
    ) -> Found:
        """As `InvertedLists.search` does."""
        try:
            _, _, found = self._together.ask(query, min(4 * limit, MOST_ASKED))[0]
        except RuntimeError as error:
            _log.warning("index.gpu_failed", reason=f"{error}; the CPU searches the lists")
            return self._lists.search(lives, masks, query, limit)
        results: Found = []
        count = 0
        for number, rows in self._lists.split(lives, found[found >= 0]):
            here = rows[masks[number][rows]]
            results.append((number, here, lives[number].segment.dense.score(query, here)))
            count += len(here)
        return results if count >= limit else self._lists.search(lives, masks, query, limit)


def on_gpus(faiss: Any, gpus: Sequence[int], dim: int) -> OnGpus:
    """Empty exact indexes of 16-bit floats on these GPUs."""
    devices = []
    for gpu in gpus:
        config = faiss.GpuIndexFlatConfig()
        config.device = gpu
        config.useFloat16 = True
        resources = faiss.StandardGpuResources()
        index = faiss.GpuIndexFlat(resources, dim, faiss.METRIC_INNER_PRODUCT, config)
        devices.append(Device(index))
    return OnGpus(devices)


def lists_on_gpus(faiss: Any, gpus: Sequence[int], lists: InvertedLists) -> ListsOnGpus:
    """A copy of the lists on these GPUs, each with a part of them. Raises RuntimeError without
    room."""
    options = faiss.GpuMultipleClonerOptions()
    options.useFloat16 = True
    options.shard = True
    resources = [faiss.StandardGpuResources() for _ in gpus]
    index = faiss.index_cpu_to_gpu_multiple_py(resources, lists.index, options, list(gpus))
    return ListsOnGpus(lists, index)
