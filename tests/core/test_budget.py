"""What a request may spend, with a clock that passes when told to."""

from __future__ import annotations

from tests.reranker.tiny import TickingClock

from longleaf.core.budget import Budget


def test_time_that_is_left_goes_below_nothing() -> None:
    clock = TickingClock()
    budget = Budget(deadline_ms=200.0, clock=clock)
    assert budget.left_ms() == 200.0 and budget.spent() is None
    clock.now_ms = 250.0
    assert budget.left_ms() == -50.0 and budget.spent() == "deadline"
    assert Budget(clock=clock).left_ms() is None


def test_a_readers_own_reason_is_kept_and_spends_nothing() -> None:
    budget = Budget(max_tokens=10)
    budget.stop("no room")
    assert budget.stopped_because == "no room" and budget.spent() is None
    budget.use(10)
    assert budget.spent() == "token budget"
