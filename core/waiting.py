"""Work that may never come back: done in a thread that is left behind when it takes too long.

A thread that stands in a model's kernel, in a disk's read or behind another process's lock cannot
be ended from outside, so whoever needs its result waits for so long and goes on without it. Two
ways: `Patience` does one call, or follows one iteration, in a thread beside the caller's; `stage`
says where a thread is, for whoever waits for all of it (the lanes of the server). Trade-off: two
changes of threads for a call, and a thread for each that is left, of which there are so many at
most: then the next calls fail at once, until one has come back.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

from longleaf.core.errors import StageStalled

T = TypeVar("T")

EMBEDDER, INDEX, CATALOG = "the embedding model", "the index", "the catalog"
"""Parts that a search waits for, as an error names them."""
MOST_LEFT = 8
"""Calls of a kind that may stand at once, left behind by whoever waited for them."""


class Patience:
    """Calls of one kind, each waited for no longer than so long. Thread-safe."""

    def __init__(self, what: str, most_left: int = MOST_LEFT) -> None:
        """`what` is waited for, in words for users: "the embedding model"."""
        self._what = what
        self._most_left = most_left
        self._lock = threading.Lock()
        self._left = 0

    @property
    def left(self) -> int:
        """Calls that nobody waits for any more and that have not come back."""
        return self._left

    def call(self, work: Callable[[], T], seconds: float | None) -> T:
        """What `work` returns or raises; with `seconds` None it is done in this thread. Raises
        StageStalled after `seconds` without either, and at once while too many calls stand already.
        """
        if seconds is None:
            return work()
        (result,) = self.each((work() for _ in range(1)), lambda: seconds)
        return result

    def each(self, items: Iterable[T], wait_seconds: Callable[[], float | None]) -> Iterator[T]:
        """`items`, iterated in another thread, as they come; raises what the iteration raises.

        `wait_seconds` is asked before each wait for the next ones (None: as long as it takes).
        Raises StageStalled when they do not come in that time, after all that have come, and at
        once while too many calls stand already. The iteration is not closed by whoever stops
        reading here: it ends with its next item.
        """
        if self._left >= self._most_left:
            raise StageStalled(
                f"{self._left} calls of {self._what} have not come back.",
                "Longleaf asks again when one has; if none does, start it again.",
            )
        flow = _Flow(self._what, items)
        _THREADS.run(flow)
        try:
            yield from flow.arriving(wait_seconds)
        finally:
            if flow.leave(lambda: self._count(-1)):
                self._count(1)

    def _count(self, more: int) -> None:
        with self._lock:
            self._left += more


class _Flow:
    """Items on their way from the thread that makes them to the one that waits."""

    def __init__(self, what: str, items: Iterable[Any]) -> None:
        self._what = what
        self._items = items
        self._context = copy_context()
        self._arrived: deque[Any] = deque()
        self._bell = threading.Event()
        self._lock = threading.Lock()
        self._is_done = False
        self._is_left = False
        self._error: BaseException | None = None
        self._came_back: Callable[[], None] | None = None

    def run(self) -> None:
        """Make them; in the other thread."""
        try:
            self._context.run(self._make)
        except BaseException as error:
            self._error = error
        self._items = ()  # a model's arrays may hang on it
        with self._lock:
            self._is_done = True
        self._bell.set()
        if self._came_back is not None:
            self._came_back()

    def _make(self) -> None:
        for item in self._items:
            self._arrived.append(item)
            self._bell.set()
            if self._is_left:
                return

    def arriving(self, wait_seconds: Callable[[], float | None]) -> Iterator[Any]:
        waited_from = time.monotonic()
        while True:
            while self._arrived:
                yield self._arrived.popleft()
                waited_from = time.monotonic()
            if self._is_done:
                if self._arrived:
                    continue  # the last came between the two looks
                if self._error is not None:
                    raise self._error
                return
            if not self._bell.wait(wait_seconds()) and not self._arrived and not self._is_done:
                raise StageStalled(
                    f"Nothing came from {self._what} for {time.monotonic() - waited_from:.3g} s.",
                    "If it stays so, start Longleaf again.",
                )
            self._bell.clear()

    def leave(self, came_back: Callable[[], None]) -> bool:
        """Nobody waits any more. True where it has not ended yet; it calls `came_back` then."""
        self._is_left = True
        with self._lock:
            if not self._is_done:
                self._came_back = came_back
            return not self._is_done


class _Threads:
    """Threads that are used again: libraries keep things for each that works with them. Not an
    executor of the standard library, because a program waits for its threads before it ends.
    """

    def __init__(self) -> None:
        self._idle: list[_Thread] = []
        self._lock = threading.Lock()

    def run(self, flow: _Flow) -> None:
        with self._lock:
            thread = self._idle.pop() if self._idle else None
        if thread is None or not thread.is_alive():  # a forked process has none of its parent's
            thread = _Thread(self._rests)
            thread.start()
        thread.give(flow)

    def _rests(self, thread: _Thread) -> None:
        with self._lock:
            self._idle.append(thread)


class _Thread(threading.Thread):
    def __init__(self, rests: Callable[[_Thread], None]) -> None:
        super().__init__(name="longleaf-waiting", daemon=True)
        self._rests = rests
        self._given: SimpleQueue[_Flow] = SimpleQueue()

    def give(self, flow: _Flow) -> None:
        self._given.put(flow)

    def run(self) -> None:
        while True:
            self._given.get().run()
            self._rests(self)


_THREADS = _Threads()


class Whereabouts:
    """Which stage of a request's work its thread is in, told by `stage` and asked from outside."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._now: tuple[str, float] | None = None

    def stands(self) -> tuple[str, float] | None:
        """The stage and for how many seconds it has been in it; None outside of all stages."""
        now = self._now
        return None if now is None else (now[0], self._clock() - now[1])

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """The block is stage `name`; the one around it begins anew behind it."""
        before = self._now
        self._now = (name, self._clock())
        try:
            yield
        finally:
            self._now = None if before is None else (before[0], self._clock())


WHEREABOUTS: ContextVar[Whereabouts | None] = ContextVar("WHEREABOUTS", default=None)
"""The request's under way, if somebody watches it; goes with it into the threads that work for it.
"""


@contextmanager
def stage(name: str) -> Iterator[None]:
    """The block waits for `name` ("the index"), and is to be given up if that takes too long."""
    whereabouts = WHEREABOUTS.get()
    if whereabouts is None:
        yield
        return
    with whereabouts.inside(name):
        yield
