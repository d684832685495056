"""Reading elsewhere, a request at a time: within a budget, and nothing that was read is lost.

What every reranker behind an address shares. It knows neither what is sent nor who answers: `ask`
does that. And the checks of what comes back: numbers that are numbers, results that are somebody's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from longleaf.core.errors import LongleafError

if TYPE_CHECKING:
    from longleaf.core.budget import Budget
    from longleaf.core.types import Reading

Batch = TypeVar("Batch")


class EndOfReading(Exception):
    """Whoever is asked reads no further, without an error: `reason` in words for the user."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_in_requests(
    batches: Iterable[Batch], ask: Callable[[Batch], Iterable[Reading]], budget: Budget
) -> Iterator[Reading]:
    """Readings of one batch after the other; the budget is asked before each, and counts them.

    An error after the first reading ends it, and the budget says why; one before that is raised.
    So does `EndOfReading`, whenever it comes.
    """
    has_read = False
    for batch in batches:
        if budget.begin_unit() is not None:
            return
        try:
            for reading in ask(batch):
                has_read = True
                budget.use(reading.tokens_read)
                yield reading
        except EndOfReading as end:
            budget.stop(end.reason)
            return
        except LongleafError as error:
            if not has_read:
                raise
            budget.stop(str(error))
            return


def by_place(results: Any, count: int) -> dict[int, Any]:
    """Results by the place of their document. Raises ValueError for one twice or of nobody, and
    TypeError or KeyError for what is no list of results."""
    found: dict[int, Any] = {}
    for each in results:
        place = exactly(int, each["index"])
        if not 0 <= place < count or place in found:
            raise ValueError("a result of nobody, or twice")
        found[place] = each
    return found


def exactly(kind: type[Any], value: Any) -> Any:
    """The value, if it is of this type; raises TypeError."""
    if type(value) is not kind:
        raise TypeError(f"not {kind.__name__}")
    return value


def number(value: Any) -> float:
    """A finite number; raises ValueError."""
    # Compared first: an integer of JSON may be larger than any float.
    if type(value) not in (int, float) or not abs(value) < 1e300:
        raise ValueError("not a finite number")
    return float(value)


def whole_number(value: Any) -> int:
    """A number of something; raises TypeError or ValueError."""
    found: int = exactly(int, value)
    if found < 0:
        raise ValueError("below zero")
    return found
