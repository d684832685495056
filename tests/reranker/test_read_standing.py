"""Readers that stand still are left behind, and what they had read counts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from tests.reranker.test_read import Scripted, run

from longleaf.core.budget import GIVEN_UP, Budget
from longleaf.core.protocols import ReaderQuery
from longleaf.core.types import DocumentLimits, Reading, ReadingInput


class Standing(Scripted):
    """Reads its scores and stands then until it is let go; says what it heard after that."""

    def __init__(self, scores: Sequence[tuple[int, float]]) -> None:
        super().__init__(scores)
        self.let_go, self.ended = threading.Event(), threading.Event()
        self.heard: str | None = None

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        yield from super().read(query, inputs, budget)
        self.let_go.wait()
        self.heard = budget.begin_unit()
        self.ended.set()


@pytest.mark.parametrize(
    ("make_budget", "says"),
    [
        (
            lambda: Budget(deadline_ms=1000.0),
            "deadline reached, nothing came from the reranker for ",
        ),
        (lambda: Budget(stall_seconds=1.0), "nothing came from the reranker for "),
    ],
)
def test_a_reader_that_stands_still_is_left_and_what_it_read_counts(
    make_budget: Callable[[], Budget], says: str
) -> None:
    reader = Standing([(3, 0.9)])
    try:
        result = run([3.0, 2.0, 1.0], reader, make_budget())
        assert (result.order, result.reranked_count) == ((2, 0, 1), 1)
        (missing,) = result.degraded
        assert missing.stage == "rerank"
        assert missing.reason.startswith(f"scripted read 1 of 3 candidates: {says}")
    finally:
        reader.let_go.set()
    assert reader.ended.wait(60) and reader.heard == GIVEN_UP


def test_a_deadline_that_passed_before_reading_began_blames_no_reader() -> None:
    reader = Standing([])
    passed = iter([0.0])  # at first, and a second later whenever it is asked again
    try:
        result = run([2.0, 1.0], reader, Budget(1.0, clock=lambda: next(passed, 1.0)))
        (missing,) = result.degraded
        assert missing.reason == "scripted read 0 of 2 candidates: deadline reached"
    finally:
        reader.let_go.set()


def test_a_reader_that_stands_at_a_whole_document_leaves_the_passages_order() -> None:
    class StandsAtWhole(Standing):
        def read(
            self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
        ) -> Iterator[Reading]:
            if inputs[0].depth == "passage":
                return Scripted.read(self, query, inputs, budget)
            return super().read(query, inputs, budget)

    reader = StandsAtWhole([(1, 0.1), (2, 0.9)])
    reader.document_limits = DocumentLimits(2, None, beside=False)
    reader.whole = {1: 0.5, 2: 0.4}
    try:
        result = run([2.0, 1.0], reader, Budget(stall_seconds=0.2), depth="auto")
    finally:
        reader.let_go.set()
    assert result.reranked_count == result.whole_count == 2  # both came before it stood
    assert result.degraded == ()
