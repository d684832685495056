"""What all commands print with: JSON for programs, rich text for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from longleaf.core.errors import LongleafError


def print_json(value: Any) -> None:
    """One JSON value on one line, flushed, so that a reader sees it at once."""
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def console(*, stderr: bool = False) -> Console:
    """A console that wraps words, not file names."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=not sys.stdout.isatty(), highlight=False)


@contextmanager
def shown_progress(as_json: bool) -> Iterator[Callable[[str, int, int], None]]:
    """What takes (what is being done, how much is done, how much there is) and shows it as bars.

    Nothing with --json; where the output is no terminal, a line for each tenth.
    """
    if as_json:
        yield lambda _what, _done, _total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console(),
    )
    tasks: dict[str, TaskID] = {}
    tenths: dict[str, int] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what)
        bars.update(tasks[what], completed=done, total=total)
        tenth = 10 * done // max(1, total)
        if not bars.console.is_terminal and tenth > tenths.get(what, 0):
            tenths[what] = tenth
            bars.console.print(f"{what}: {done:,} of {total:,}")

    with bars:
        yield show


def print_error(error: LongleafError, *, as_json: bool) -> None:
    """A named error: JSON on standard output when asked for, always a sentence on stderr, which is
    an event of the log where that is for programs (`log.form json`)."""
    from longleaf.core import logs

    told = {"code": error.code, "message": error.message, "hint": error.hint}
    if as_json:
        print_json({"error": told})
    if logs.told()["form"] == "json":
        import structlog

        structlog.get_logger(__name__).error("command.failed", **told)
        return
    print(f"Error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"       {error.hint}", file=sys.stderr)


def quiet_logs() -> None:
    """Send logs to stderr, warnings and worse only, as lines for people."""
    from longleaf.core.logs import configure

    configure()
