"""Whether time grows with size as it should: by ratios of processor time, never by a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

FACTOR = 8
"""The larger input is so many times the smaller one: linear work takes 8 times, quadratic 64."""


def assert_linear(
    make: Callable[[int], Any], work: Callable[[Any], object], small_size: int
) -> None:
    """`work(make(n))` takes about n. Each size counts by its quickest run, tried up to five times.

    A busy machine makes single runs slower, never quicker, so only work that is always too slow
    fails. The constant absorbs the timer's noise.
    """
    small_input, large_input = make(small_size), make(FACTOR * small_size)
    work(make(1_000))
    small = large = float("inf")
    for _ in range(5):
        small, large = (
            min(small, _seconds(work, small_input)),
            min(large, _seconds(work, large_input)),
        )
        if large < 3 * FACTOR * small + 0.1:
            return
    raise AssertionError(
        f"{FACTOR} times the input took {large / small:.0f} times as long: {large:.2f} s"
    )


def _seconds(work: Callable[[Any], object], given: Any) -> float:
    begin = time.process_time()
    work(given)
    return time.process_time() - begin
