"""Work that does not come back is left behind, counted, and named; work that does is unchanged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import pytest

from longleaf.core.errors import StageStalled
from longleaf.core.waiting import WHEREABOUTS, Patience, Whereabouts, stage

LONG = 60.0
SEEN: ContextVar[str] = ContextVar("SEEN", default="nothing")


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def take(coming: Iterator[int], seen: list[int]) -> None:
    """All of them, also those before an error."""
    for item in coming:
        seen.append(item)  # noqa: PERF402


def until(what: Callable[[], object]) -> None:
    while not what():
        time.sleep(0.002)


def test_a_call_gives_what_the_work_gives_or_raises() -> None:
    patience = Patience("the model")
    assert patience.call(lambda: 7, LONG) == 7
    with pytest.raises(KeyError, match="lost"):
        patience.call(lambda: {}["lost"], LONG)
    assert patience.left == 0


def test_without_a_limit_it_is_done_in_this_thread() -> None:
    assert Patience("the model").call(threading.get_ident, None) == threading.get_ident()


def test_calls_that_end_are_never_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    patience, counted = Patience("the model"), list[int]()
    monkeypatch.setattr(patience, "_count", counted.append)
    assert patience.call(lambda: 7, LONG) == 7
    assert counted == [], "many that end at once would keep others out"


def test_items_come_in_order_and_an_error_behind_them() -> None:
    def items() -> Iterator[int]:
        yield from range(1000)
        raise ValueError("the end")

    for wait in (LONG, None):
        seen: list[int] = []
        with pytest.raises(ValueError, match="the end"):
            take(Patience("the model").each(items(), lambda wait=wait: wait), seen)
        assert seen == [*range(1000)]


def test_the_work_sees_the_context_and_leaves_it_as_it_was() -> None:
    def work() -> str:
        seen = SEEN.get()
        SEEN.set("another")
        return seen

    token = SEEN.set("the caller's")
    try:
        assert Patience("the model").call(work, LONG) == "the caller's"
        assert SEEN.get() == "the caller's"
    finally:
        SEEN.reset(token)


def test_a_thread_is_used_again() -> None:
    patience = Patience("the model")
    names = set()
    for _ in range(5):
        names.add(patience.call(lambda: threading.current_thread().ident, LONG))
        time.sleep(0.01)
    assert len(names) < 5 and threading.current_thread().ident not in names


def test_work_that_stands_is_left_and_what_had_come_is_given(let_go: threading.Event) -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        let_go.wait()
        yield 3

    patience = Patience("the model")
    seen: list[int] = []
    with pytest.raises(StageStalled, match=r"Nothing came from the model for 0\.\d+ s\."):
        take(patience.each(items(), lambda: 0.2), seen)
    assert (seen, patience.left) == ([1, 2], 1)
    let_go.set()
    until(lambda: patience.left == 0)
    assert patience.call(lambda: "again", LONG) == "again"


def test_no_more_than_so_many_are_left_behind(let_go: threading.Event) -> None:
    patience = Patience("the model", most_left=2)
    began = []

    def work() -> None:
        began.append(1)
        let_go.wait()

    for _ in range(2):
        with pytest.raises(StageStalled, match="Nothing came"):
            patience.call(work, 0.02)
    with pytest.raises(StageStalled, match="2 calls of the model have not come back"):
        patience.call(work, LONG)
    assert len(began) == 2
    let_go.set()
    until(lambda: patience.left == 0)
    patience.call(work, LONG)
    assert len(began) == 3


def test_who_stops_iterating_ends_the_work_at_its_next_item() -> None:
    made: list[int] = []
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            for number in range(10**9):
                made.append(number)
                yield number
                time.sleep(0.001)
        finally:
            closed.set()

    patience = Patience("the model")
    coming = patience.each(items(), lambda: LONG)
    assert next(coming) == 0
    del coming
    assert closed.wait(LONG)
    until(lambda: patience.left == 0)


def test_the_time_is_asked_anew_for_each_wait(let_go: threading.Event) -> None:
    waits = iter([LONG, LONG, LONG, 0.0])

    def items() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.01)
            yield number
        let_go.wait()

    seen: list[int] = []
    with pytest.raises(StageStalled):
        take(Patience("the model").each(items(), lambda: next(waits, 0.0)), seen)
    assert 1 <= len(seen) <= 3


def test_a_stage_is_told_for_as_long_as_it_lasts() -> None:
    now = [10.0]
    whereabouts = Whereabouts(lambda: now[0])
    token = WHEREABOUTS.set(whereabouts)
    try:
        assert whereabouts.stands() is None
        with stage("the index"):
            now[0] = 13.0
            assert whereabouts.stands() == ("the index", 3.0)
            with stage("the catalog"):
                now[0] = 14.0
                assert whereabouts.stands() == ("the catalog", 1.0)
            assert whereabouts.stands() == ("the index", 0.0)
        with pytest.raises(ValueError, match="broken"), stage("the index"):
            raise ValueError("broken")
        assert whereabouts.stands() is None
    finally:
        WHEREABOUTS.reset(token)


def test_without_anybody_who_watches_a_stage_is_nothing() -> None:
    with stage("the index"):
        assert WHEREABOUTS.get() is None
