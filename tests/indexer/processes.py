"""Child processes of the tests' own process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_others: set[str] = set()


def look_who_is_there() -> None:
    """Count those that live now as other tests': their fixtures keep parsers and indexes open."""
    _others.update(pid for pid, _ in _all())


def children() -> list[str]:
    """Our child processes, dead ones that nobody waited for included."""
    return [told for pid, told in _all() if pid not in _others]


def _all() -> Iterator[tuple[str, str]]:
    for process in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = process.read_text().rsplit(") ", 1)
            command = process.with_name("cmdline").read_bytes()
        except OSError:
            continue
        # Another test's index starts its process anew by itself.
        if int(rest.split()[1]) == os.getpid() and b"longleaf.retriever.index" not in command:
            yield process.parent.name, f"{name}) {rest[0]}"
