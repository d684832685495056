"""How much memory this process may take: set for the process once, and anew for each file.

Limits are on addresses, because that is what a process can be refused: an allocation beyond them
fails, Python raises MemoryError, and a library in C gets nothing or ends the process. They count
from what the process holds when a file begins, so that its libraries do not eat into it. Knows only
Linux's accounting; elsewhere the limits are set to the amount itself, and may hold nothing.
"""

from __future__ import annotations

import mmap
import os
import resource
from contextlib import suppress

_LIBRARIES_BYTES = 256 * 1024 * 1024
"""Addresses for code that is loaded while a file is read; only mapped, hardly ever touched."""


class Memory:
    """Opened before a process gives up reading /proc."""

    def __init__(self) -> None:
        try:
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._statm = -1

    def held_bytes(self) -> tuple[int, int]:
        """(addresses in all, those of private memory), 0 where that cannot be known."""
        if self._statm < 0:
            return 0, 0
        pages = os.pread(self._statm, 200, 0).split()
        return int(pages[0]) * mmap.PAGESIZE, int(pages[5]) * mmap.PAGESIZE

    def end_at(self, more_bytes: int) -> bool:
        """Never let this process, nor what it starts, have `more_bytes` more than it has now."""
        addresses, private = self.held_bytes()
        held = _set(resource.RLIMIT_AS, addresses + more_bytes + _LIBRARIES_BYTES, hard=True)
        return _set(resource.RLIMIT_DATA, private + more_bytes, hard=True) and held

    def allow(self, more_bytes: int) -> None:
        """Let it have `more_bytes` more than it has now, until the next call."""
        addresses, private = self.held_bytes()
        _set(resource.RLIMIT_AS, addresses + more_bytes + _LIBRARIES_BYTES)
        _set(resource.RLIMIT_DATA, private + more_bytes)

    def allow_all(self) -> None:
        """Let it have all that `end_at` set: enough to say that memory has run out."""
        for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            with suppress(OSError, ValueError):
                resource.setrlimit(which, (resource.getrlimit(which)[1],) * 2)


def _set(which: int, limit: int, *, hard: bool = False) -> bool:
    _, most = resource.getrlimit(which)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    with suppress(OSError, ValueError):
        resource.setrlimit(which, (limit, limit if hard else most))
        return True
    return False
