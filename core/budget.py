"""What one request may spend on reading: milliseconds and tokens.

The clock is a parameter, so a deadline is tested exactly with a virtual one. A budget is asked,
never enforced from outside: a reranker asks before each unit of work and stops by itself. A unit
is not begun that would end farther behind the deadline than now is before it: of 500 searches with
units of 24 ms, half ended 22 ms after a deadline of 50 ms when only what had passed was looked at.
A reranker that stands still asks nothing: for that, whoever waits for it asks `wait_seconds`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_FADING = 0.9
"""What a unit still counts when the next one was shorter."""
GIVEN_UP = "nobody waits for it any more"
_GRACE, _LEAST_GRACE_MS = 0.1, 100.0
"""Behind a deadline a unit under way is waited for so long: a tenth of it, 100 ms at least."""


def _never() -> bool:
    return False


@dataclass(slots=True)
class Budget:
    """`deadline_ms` counts from creation; None for either limit means no limit.

    `given_up` is asked as often as the limits: whether whoever asked has left.
    `stopped_because`: a reader's own reason to end early, in words for the user.
    `stall_seconds`: how long a reader is waited for from which nothing comes (None: for ever).
    """

    deadline_ms: float | None = None
    max_tokens: int | None = None
    clock: Callable[[], float] = time.perf_counter
    given_up: Callable[[], bool] = _never
    stall_seconds: float | None = None
    tokens_used: int = 0
    stopped_because: str | None = None
    _started: float = field(init=False)
    _began_ms: float | None = field(init=False, default=None)
    _unit_ms: float = field(init=False, default=0.0)
    _is_late: bool = field(init=False, default=False)
    _is_left: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    def elapsed_ms(self) -> float:
        """Milliseconds since the request began reading."""
        return (self.clock() - self._started) * 1000.0

    def left_ms(self) -> float | None:
        """Milliseconds until the deadline (below 0 after it); None without one."""
        return None if self.deadline_ms is None else self.deadline_ms - self.elapsed_ms()

    def wait_seconds(self) -> float | None:
        """How long from now on the next reading may be waited for; None: as long as it takes."""
        waits = [] if self.stall_seconds is None else [self.stall_seconds]
        if self.deadline_ms is not None:
            last_ms = self.deadline_ms + max(_GRACE * self.deadline_ms, _LEAST_GRACE_MS)
            waits.append(max(0.0, (last_ms - self.elapsed_ms()) / 1000.0))
        return min(waits, default=None)

    def nobody_waits(self) -> bool:
        """Whether whoever asked has left, or waits for this reader no longer."""
        return self._is_left or self.given_up()

    def leave(self, reason: str) -> None:
        """Nobody waits for the reader any more: it is to end with its unit, if that ends."""
        self.stop(reason)
        self._is_left = True

    def stop(self, reason: str) -> None:
        """A reader says why it reads no further although nothing is spent yet."""
        self.stopped_because = reason

    def use(self, tokens: int) -> None:
        """Count `tokens` as read."""
        self.tokens_used += tokens

    def spent(self) -> str | None:
        """Why to end: "deadline", "token budget" or GIVEN_UP; None while there is more."""
        return self._why_to_end(self.elapsed_ms())

    def begin_unit(self) -> str | None:
        """Why not to begin another unit of work, as `spent`; None: it begins now.

        Units are taken to be as long as the longest of the last ones, fading by a tenth each.
        """
        now_ms = self.elapsed_ms()
        if self._began_ms is not None:
            self._unit_ms = max(now_ms - self._began_ms, _FADING * self._unit_ms)
        self._began_ms = now_ms
        if self.deadline_ms is not None and now_ms + self._unit_ms / 2 > self.deadline_ms:
            self._is_late = True  # and stays so: who asks later wants the reason
        return self._why_to_end(now_ms)

    def _why_to_end(self, now_ms: float) -> str | None:
        if self.nobody_waits():
            return GIVEN_UP
        if self._is_late or (self.deadline_ms is not None and now_ms >= self.deadline_ms):
            return "deadline"
        if self.max_tokens is not None and self.tokens_used >= self.max_tokens:
            return "token budget"
        return None
