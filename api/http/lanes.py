"""A lane: so many calls at once in threads, and a bounded line of those that wait for one.

The line is bounded three ways, because each alone lets an overload through: by requests, by the
tokens that they want read (ten requests may be a thousand searches' work), and by how long the last
one would wait, so that whoever is taken is answered while somebody still wants the answer. What is
beyond is refused at once with a time to come back. A client that leaves gives up its place at once
while it waits, and its thread is told while it works. It knows nothing of what it runs.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from anyio import CancelScope, CapacityLimiter, create_task_group, to_thread
from fastapi import HTTPException, Request

from longleaf.api.http.errors import CLIENT_LEFT
from longleaf.core.errors import Overloaded

T = TypeVar("T")
GivenUp = Callable[[], bool]

_LOOK_SECONDS = 0.25
"""Between two looks whether a client has left."""
_FRESH = 0.2
"""What the newest call counts in the mean of how long calls take."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may wait in a lane, beyond which one more is refused."""

    requests: int
    tokens: int
    seconds: float


class Lane:
    """`at_once` calls in threads, others in line. Used from the event loop alone."""

    def __init__(
        self,
        what: str,
        at_once: int,
        bounds: Bounds,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`what` waits here, in the plural and for users: "searches"."""
        self.what = what
        self.at_once = at_once
        self.bounds = bounds
        self.waiting_tokens = 0
        self.refused = 0
        self._mean_seconds = 0.0
        self._clock = clock
        self._free = CapacityLimiter(at_once)
        self._threads = CapacityLimiter(at_once)

    @property
    def running(self) -> int:
        """Calls under way."""
        return self._free.borrowed_tokens

    @property
    def waiting(self) -> int:
        """Calls in line."""
        return self._free.statistics().tasks_waiting

    async def run(self, request: Request, call: Callable[[GivenUp], T], tokens: int = 0) -> T:
        """Run `call` in a thread when it is its turn.

        `call` gets what says whether the client has left, and may then end as it likes. `tokens`:
        about what it wants read. Raises Overloaded where the line is full, HTTPException for a
        client that leaves while it waits, and what `call` raises.
        """
        self._admit(tokens)
        has_left = threading.Event()
        failure: Exception | None = None
        async with create_task_group() as watching:
            in_line = CancelScope()
            watching.start_soon(_watch, request, has_left, in_line)
            try:
                answer = await self._in_turn(call, tokens, has_left, in_line)
            except Exception as error:  # as itself, and not in the group's ExceptionGroup
                failure = error
            watching.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return answer

    async def _in_turn(
        self,
        call: Callable[[GivenUp], T],
        tokens: int,
        has_left: threading.Event,
        in_line: CancelScope,
    ) -> T:
        turn = object()
        has_turn = False
        self.waiting_tokens += tokens
        try:
            with in_line:
                await self._free.acquire_on_behalf_of(turn)
                has_turn = True
        finally:
            self.waiting_tokens -= tokens
        if not has_turn:
            raise HTTPException(CLIENT_LEFT, "The client has left.")
        began = self._clock()
        try:
            if has_left.is_set():
                raise HTTPException(CLIENT_LEFT, "The client has left.")
            return await to_thread.run_sync(lambda: call(has_left.is_set), limiter=self._threads)
        finally:
            self._free.release_on_behalf_of(turn)
            if not has_left.is_set():  # whoever left was not read to the end
                self._note(self._clock() - began)

    def _note(self, seconds: float) -> None:
        mean = self._mean_seconds
        self._mean_seconds = mean + _FRESH * (seconds - mean) if mean else seconds

    def wait_seconds(self) -> float:
        """How long one more would wait, by what the last calls took; 0.0 while nobody waits."""
        if self.running < self.at_once:
            return 0.0
        return (self.waiting + 1) * self._mean_seconds / self.at_once

    def _admit(self, tokens: int) -> None:
        """Raises Overloaded for one too many."""
        waiting, bounds = self.waiting, self.bounds
        expected_seconds = self.wait_seconds()
        why = ""
        if self.running >= self.at_once and waiting >= bounds.requests:
            why = f"{waiting} {self.what} wait already."
        elif waiting and self.waiting_tokens + tokens > bounds.tokens:
            why = f"{self.waiting_tokens:,} tokens wait to be read already."
        elif waiting >= self.at_once and expected_seconds > bounds.seconds:
            why = f"{waiting} {self.what} wait already, about {expected_seconds:.0f} s."
        if why:
            self.refused += 1
            raise Overloaded(
                why, "Try again later.", retry_after_seconds=max(1.0, expected_seconds)
            )


async def _watch(request: Request, has_left: threading.Event, in_line: CancelScope) -> None:
    """Sets `has_left` and takes the caller out of the line once the client has left, or when the
    request is cancelled: the thread cannot be, but it looks."""
    try:
        while not await request.is_disconnected():
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        has_left.set()
        in_line.cancel()
