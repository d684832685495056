"""What a request may spend, with a clock that passes when told to."""

from __future__ import annotations

import pytest
from tests.reranker.tiny import TickingClock

from longleaf.core.budget import GIVEN_UP, Budget


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


def test_a_unit_is_not_begun_that_ends_farther_from_the_deadline_than_now() -> None:
    clock = TickingClock()
    budget = Budget(deadline_ms=50.0, clock=clock)
    for at in (0.0, 24.0):
        clock.now_ms = at
        assert budget.begin_unit() is None
    # 48 ms: another 24 would end at 72, 22 behind; now is 2 before.
    clock.now_ms = 48.0
    assert budget.begin_unit() == "deadline"
    assert budget.spent() == "deadline", "who asks later hears why"


def test_a_unit_that_ends_as_near_as_now_is_begun() -> None:
    clock = TickingClock()
    budget = Budget(deadline_ms=25.0, clock=clock)
    for at in (0.0, 10.0, 20.0):
        clock.now_ms = at
        assert budget.begin_unit() is None
    clock.now_ms = 30.0
    assert budget.begin_unit() == "deadline"


def test_a_long_unit_is_remembered_for_a_while() -> None:
    clock = TickingClock()
    budget = Budget(deadline_ms=100.0, clock=clock)
    for at in (0.0, 60.0, 61.0, 62.0):  # one of 60 ms, then short ones
        clock.now_ms = at
        assert budget.begin_unit() is None
    clock.now_ms = 79.0  # 60 * 0.9 ** 3 = 43.7: half of it is more than what is left
    assert budget.begin_unit() == "deadline"
    assert Budget(clock=clock).begin_unit() is None, "without a deadline there is time"


def test_a_reader_is_waited_for_a_little_longer_than_the_deadline() -> None:
    clock = TickingClock()
    assert Budget(clock=clock).wait_seconds() is None
    assert Budget(stall_seconds=30.0, clock=clock).wait_seconds() == 30.0
    long = Budget(deadline_ms=2000.0, stall_seconds=30.0, clock=clock)
    short = Budget(deadline_ms=50.0, stall_seconds=0.01, clock=clock)
    assert long.wait_seconds() == pytest.approx(2.2)
    assert short.wait_seconds() == 0.01
    assert Budget(deadline_ms=50.0, clock=clock).wait_seconds() == pytest.approx(0.15)
    clock.now_ms = 2100.0
    assert long.wait_seconds() == pytest.approx(0.1)
    clock.now_ms = 9000.0
    assert long.wait_seconds() == 0.0


def test_a_reader_that_is_left_hears_that_nobody_waits_and_keeps_the_reason() -> None:
    budget = Budget()
    budget.leave("nothing came from it")
    assert budget.nobody_waits() and budget.begin_unit() == GIVEN_UP
    assert budget.stopped_because == "nothing came from it"
    assert Budget(given_up=lambda: True).nobody_waits() and not Budget().nobody_waits()


def test_asking_does_not_count_as_work() -> None:
    clock = TickingClock()
    budget = Budget(deadline_ms=100.0, clock=clock)
    clock.now_ms = 90.0  # the first unit began late: nothing is known of units
    assert budget.begin_unit() is None and budget.spent() is None
