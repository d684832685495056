"""What every process of ours logs, and in which form: JSON for programs, lines for people.

Our own events and those of libraries (`logging`) leave by the same way, to standard error, an event
a line in JSON. No text of a document, no query, no name of a file and no key is in any: of an
exception only its kind and its place in the code are written, because its words may quote what it
failed on (`KeyError`, and SQLAlchemy's errors, which hold a statement's values). What that costs:
an operator sees the line of code and not the value; a file is named by `file_label`.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Literal

from longleaf.core.errors import LongleafError

Form = Literal["console", "json"]
Event = MutableMapping[str, Any]

_FRAMES = 60
_LOUD = ("httpx", "httpcore", "urllib3", "botocore", "s3fs", "asyncio", "watchfiles")
"""Libraries whose lines below a warning hold addresses with what was asked."""

_told: tuple[Form, int] = ("console", logging.WARNING)


def configure(form: Form = "console", level: int = logging.WARNING) -> None:
    """Send this process's log, from `level` on, to standard error. May be called again."""
    import structlog

    global _told
    _told = (form, level)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_words,
    ]
    show: Any = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    if form == "console":
        show = structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, show],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, show],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        )
    )
    root = logging.getLogger()
    for old in [each for each in root.handlers if getattr(each, "is_longleafs", False)]:
        root.removeHandler(old)
    handler.is_longleafs = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(level)
    for name in _LOUD:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def told() -> dict[str, Any]:
    """What `configure` was told here: this process tells those that it starts."""
    form, level = _told
    return {"form": form, "level": level}


def without_words(_logger: Any, _method: str, event: Event) -> Event:
    """A structlog processor: an exception becomes its kinds and places, without its words."""
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()[1]
    elif isinstance(found, tuple):
        found = found[1]
    if isinstance(found, BaseException):
        event["exception"] = traceback_of(found)
    return event


def traceback_of(error: BaseException) -> str:
    """The places in the code where `error` and its causes were raised, the last one at the end."""
    return "".join(_lines(error, set()))


def _lines(error: BaseException, seen: set[int]) -> list[str]:
    seen.add(id(error))
    lines = []
    before, how = error.__cause__, "which caused\n"
    if before is None and not error.__suppress_context__:
        before, how = error.__context__, "and while that was handled\n"
    if before is not None and id(before) not in seen:
        lines += [*_lines(before, seen), how]
    places = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    lines += [f"{each.filename}:{each.lineno} {each.name}\n" for each in places]
    for each in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        lines += [f"of a group: {line}" for line in _lines(each, seen)]
    return [*lines, f"{type(error).__module__}.{type(error).__qualname__}\n"]


def reason_of(error: BaseException) -> str:
    """Why something failed, in a sentence that may be logged: ours, the system's, or its kind.

    Our own errors are sentences about machines and settings where this is used. Not for a
    `Rejected`, whose sentence names its file.
    """
    if isinstance(error, LongleafError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return type(error).__name__


def file_label(name: str) -> str:
    """Stands for a file in the log, whose name may say what nobody else should know.

    The first 12 digits of the name's SHA-256: `printf %s NAME | sha256sum`.
    """
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
