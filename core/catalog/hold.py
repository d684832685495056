"""Erasing waits while a backup takes what it has listed.

What is deleted stays noted (`erasure`) and is overwritten by the next settling after the hold: at
the next deletion, at the next start, by a server within minutes. The hold is a file lock, which
the kernel lets go of when its process dies.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longleaf.core.errors import Conflict

LOCK = "erase.lock"


@contextmanager
def nothing_erased(home: Path) -> Iterator[None]:
    """Let nothing be erased in the data folder `home`; waits for an erasing that is under way."""
    lock = _open(home)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def erasing(home: Path) -> Iterator[bool]:
    """Whether the body may erase now; it never waits."""
    lock = _open(home)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(lock)


@contextmanager
def must_erase(home: Path) -> Iterator[None]:
    """For a body that is there to erase. Raises Conflict while a backup holds that off."""
    with erasing(home) as may:
        if not may:
            raise Conflict(
                "A backup is under way, and nothing is erased until it is done.",
                "Try again when it is done.",
            )
        yield


def _open(home: Path) -> int:
    return os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
