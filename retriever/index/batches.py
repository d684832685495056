"""Many things a few at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

_T = TypeVar("_T")


def batches(items: Iterable[_T], at_most: int) -> Iterator[list[_T]]:
    """The items in order, in lists of `at_most`; the last one may be shorter, none is empty."""
    iterator = iter(items)
    while batch := list(islice(iterator, at_most)):
        yield batch
