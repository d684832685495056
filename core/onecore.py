"""Threads whose model library computes on one core each.

A product that takes a millisecond gains nothing from a second core and loses everything when that
core is busy: with another job on 2 cores, encoding one query took 275 ms on torch's two threads,
which wait for each other, and 9 ms on one. So short work runs here, and long work (embedding
passages) keeps all cores. The library's own functions are passed in: this module knows none.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def one_core_threads(
    name: str,
    get_thread_count: Callable[[], int],
    set_thread_count: Callable[[int], None],
    workers: int | None = None,
) -> ThreadPoolExecutor:
    """An executor of `workers` threads (default: one for each core), set to one core each.

    All of them are started here: torch sets the calling thread's count and the one that threads to
    come begin with, so the caller's is put back once and stays. A thread of somebody else's that
    begins in between keeps one core for good, so this is called while a process opens its parts,
    once for each `name`.
    """
    count = workers or os.cpu_count() or 1
    before = get_thread_count()
    started = threading.Barrier(count)

    def begin() -> None:
        set_thread_count(1)
        # torch takes up the count in a thread at its first use there; after that it stays.
        get_thread_count()
        started.wait()

    executor = ThreadPoolExecutor(count, thread_name_prefix=name)
    for each in [executor.submit(begin) for _ in range(count)]:
        each.result()
    set_thread_count(before)
    return executor
