"""A lane: so many calls at once in threads, and a bounded line of those that wait for one.

The line is bounded three ways, because each alone lets an overload through: by requests, by the
tokens that they want read (ten requests may be a thousand searches' work), and by how long the last
one would wait, so that whoever is taken is answered while somebody still wants the answer. What is
beyond is refused at once with a time to come back. A client that leaves gives up its place at once
while it waits, and its thread is told while it works. A thread that stands in one stage of its work
for too long is left behind, and while as many are as may run at once, nobody else is let in. It
knows nothing of what it runs, but for the names of stages that `core.waiting.stage` tells.
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
from longleaf.core.errors import Overloaded, StageStalled
from longleaf.core.waiting import WHEREABOUTS, Whereabouts

T = TypeVar("T")
GivenUp = Callable[[], bool]

_LOOK_SECONDS = 0.25
"""Between two looks whether a client has left, and a thread stands; less for a short limit."""
_AGAIN = "Ask again; if it stays so, look at `longleaf doctor` and start Longleaf again."
_FRESH = 0.2
"""What the newest call counts in the mean of how long calls take."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may wait in a lane, beyond which one more is refused."""

    requests: int
    tokens: int
    seconds: float
    stage_seconds: float | None = None
    """How long a thread may stand in one stage."""


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
        self.left = 0
        """Threads that stand in a stage, and that nobody waits for any more."""
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
        about what it wants read. Raises Overloaded where the line is full, StageStalled where a
        stage does not come back, HTTPException for a client that leaves while it waits, and what
        `call` raises.
        """
        self.admit(tokens)
        work = _Work(self.bounds.stage_seconds, self._leave)
        failure: Exception | None = None
        async with create_task_group() as watching:
            watching.start_soon(_watch, request, work)
            try:
                answer = await self._in_turn(call, tokens, work)
            except Exception as error:  # as itself, and not in the group's ExceptionGroup
                failure = error
            watching.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return answer

    async def _in_turn(self, call: Callable[[GivenUp], T], tokens: int, work: _Work) -> T:
        turn = object()
        has_turn = False
        self.waiting_tokens += tokens
        try:
            with work.in_line:
                await self._free.acquire_on_behalf_of(turn)
                has_turn = True
        finally:
            self.waiting_tokens -= tokens
        if not has_turn:
            raise HTTPException(CLIENT_LEFT, "The client has left.")
        began = self._clock()
        try:
            if work.has_left.is_set():
                raise HTTPException(CLIENT_LEFT, "The client has left.")
            stalled = self._stalled()
            if stalled is not None:
                raise stalled
            return await self._waited_for(call, work)
        finally:
            self._free.release_on_behalf_of(turn)
            if not (work.has_left.is_set() or work.is_left):  # those were not read to the end
                self._note(self._clock() - began)

    async def _waited_for(self, call: Callable[[GivenUp], T], work: _Work) -> T:
        """Run `call` in a thread; raises StageStalled once the thread is left behind."""
        loop = asyncio.get_running_loop()

        def came_back() -> None:
            self.left -= 1

        def run() -> T:
            WHEREABOUTS.set(work.whereabouts)  # of this call's own copy of the context
            try:
                return call(work.has_left.is_set)
            finally:
                with work.lock:
                    work.is_done = True
                    if work.is_left:
                        loop.call_soon_threadsafe(came_back)

        with work.waited_for:
            return await to_thread.run_sync(run, limiter=self._threads, abandon_on_cancel=True)
        raise StageStalled(work.why, _AGAIN)

    def _leave(self) -> None:
        self.left += 1

    def _stalled(self) -> StageStalled | None:
        """While all threads that there may be stand somewhere."""
        if self.left < self.at_once:
            return None
        return StageStalled(
            f"{self.left} {self.what} stand in a part that does not come back.", _AGAIN
        )

    def _note(self, seconds: float) -> None:
        mean = self._mean_seconds
        self._mean_seconds = mean + _FRESH * (seconds - mean) if mean else seconds

    def wait_seconds(self) -> float:
        """How long one more would wait, by what the last calls took; 0.0 while nobody waits."""
        if self.running < self.at_once:
            return 0.0
        return (self.waiting + 1) * self._mean_seconds / self.at_once

    def admit(self, tokens: int = 0) -> None:
        """Raises Overloaded for one too many, StageStalled while all stand."""
        refusal = self.refusal(tokens)
        if refusal is not None:
            self.refused += isinstance(refusal, Overloaded)
            raise refusal

    def refusal(self, tokens: int = 0) -> Overloaded | StageStalled | None:
        """What `admit` would raise."""
        stalled = self._stalled()
        if stalled is not None:
            return stalled
        waiting, bounds = self.waiting, self.bounds
        expected_seconds = self.wait_seconds()
        if self.running >= self.at_once and waiting >= bounds.requests:
            why = f"{waiting} {self.what} wait already."
        elif waiting and self.waiting_tokens + tokens > bounds.tokens:
            why = f"{self.waiting_tokens:,} tokens wait to be read already."
        elif waiting >= self.at_once and expected_seconds > bounds.seconds:
            why = f"{waiting} {self.what} wait already, about {expected_seconds:.0f} s."
        else:
            return None
        retry_after_seconds = max(1.0, expected_seconds)
        return Overloaded(why, "Try again later.", retry_after_seconds=retry_after_seconds)


class _Work:
    """One call: whether its client is there, where its thread is, whether that is waited for."""

    def __init__(self, stage_seconds: float | None, leave: Callable[[], None]) -> None:
        """`leave` is told that it is not; used from the event loop, but for what is locked."""
        self.has_left = threading.Event()
        self.in_line = CancelScope()
        self.whereabouts = Whereabouts()
        # From outside it cannot be cancelled: the thread would go on, and its place be another's.
        self.waited_for = CancelScope(shield=True)
        self.lock = threading.Lock()
        self.is_done = self.is_left = False
        self.why = ""
        self.look_seconds = min(_LOOK_SECONDS, (stage_seconds or 1e9) / 20)
        self._stage_seconds = stage_seconds
        self._leave = leave

    def client_left(self) -> None:
        """Tell the thread, and leave the line."""
        self.has_left.set()
        self.in_line.cancel()

    def look(self) -> None:
        """Leave the thread behind if it stands."""
        stands = self.whereabouts.stands()
        if self._stage_seconds is None or stands is None or stands[1] < self._stage_seconds:
            return
        with self.lock:
            if self.is_done or self.is_left:
                return
            self.is_left = True
        self._leave()
        self.why = f"Nothing came from {stands[0]} for {stands[1]:.3g} s."
        self.waited_for.cancel()


async def _watch(request: Request, work: _Work) -> None:
    """Tells `work` once the client has left, or when the request is cancelled: the thread cannot
    be, but it looks. Leaves a thread behind that stands."""
    try:
        while True:
            if not work.has_left.is_set() and await request.is_disconnected():
                work.client_left()
            work.look()
            await asyncio.sleep(work.look_seconds)
    finally:
        work.client_left()
