"""How far a long command is, for people: one line that goes when the work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from longleaf.api.cli.output import console

Progress = Callable[[str, int, int], None]


@contextmanager
def showing_progress(*, quiet: bool) -> Iterator[Progress]:
    """Gives a function to call with (what, done, total); with `quiet` it shows nothing."""
    if quiet:
        yield lambda *_: None
        return
    with console(stderr=True).status("Working") as status:
        yield lambda what, done, total: status.update(f"{what}: {done:,} of {total:,}")
