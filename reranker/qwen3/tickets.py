"""What a caller of the engine holds while its documents are read: scores as they come, or an end.

One thread puts, one takes. Scores come a forward pass at a time. A request whose deadline passes
while it still waits behind others is given up at that moment, not when its turn comes; one whose
pass is under way waits for that pass, since its work is done already. It knows no model.
"""

from __future__ import annotations

import math
import queue
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from longleaf.reranker.qwen3.template import TokenIds

DEADLINE = "deadline"
OUT_OF_MEMORY = "out of memory"
"""Why a document has no score."""

_LOOK_SECONDS = 0.05
"""How often the clock is looked at: it may be a virtual one."""


class Priority(IntEnum):
    """Who goes first."""

    INTERACTIVE = 0
    BULK = 1


class Score(NamedTuple):
    """`logit`: logit(yes) - logit(no) of the document at `place` of the request."""

    place: int
    logit: float


Result = tuple[Score, ...] | Exception | None
"""A pass's scores; what went wrong; None: nothing more will come."""


class Ticket:
    """A request under way: iterate over it for scores; `cancel` gives the rest back.

    `unscored` says why a place has no score; it is complete when the iteration ends.
    """

    def __init__(
        self,
        prefix: TokenIds,
        documents: Sequence[TokenIds],
        until: float | None,
        clock: Callable[[], float],
        on_late: Callable[[Ticket], None],
        given_up: Callable[[], bool] | None = None,
    ) -> None:
        """`on_late` is called once, by the taking thread, when `until` has passed on `clock`.

        The iteration ends when `given_up` says so, also while the request waits for its turn.
        """
        self.prefix = prefix
        self.documents = documents
        self.cancelled = False
        self.unscored: dict[int, str] = {}
        self._until = until
        self._clock = clock
        self._on_late = on_late
        self._given_up = given_up
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Score]:
        """Scores as they are made. Raises ModelUnavailable when the engine ends."""
        for scores in self.passes():
            yield from scores

    def passes(self) -> Iterator[tuple[Score, ...]]:
        """The same, all scores of one forward pass at a time."""
        while (result := self._next()) is not None:
            if isinstance(result, Exception):
                raise result
            yield result

    def cancel(self) -> None:
        """Nobody wants the rest; it leaves the queue before the next batch."""
        self.cancelled = True

    def put(self, result: Result) -> None:
        """For the engine."""
        self._results.put(result)

    def _next(self) -> Result:
        while self._until is not None or self._given_up is not None:
            left = math.inf if self._until is None else self._until - self._clock()
            try:
                return self._results.get(timeout=min(max(left, 0.0), _LOOK_SECONDS))
            except queue.Empty:
                if self._given_up is not None and self._given_up():
                    return None
                if left <= 0:
                    self._until = None
                    self._on_late(self)
        return self._results.get()
