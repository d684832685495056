"""Pages of PDFs drawn in a process of its own: `PageDrawer`, one page at a time.

One thread owns the child (the kernel ends a child with the thread that started it) and does what
it is handed in turn. A page that takes too long, too much memory or the process itself ends as a
named error; the next one gets a new process. The child keeps the last file open and is let go of
after a minute without work. It knows no document and keeps no picture.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import structlog

from longleaf.core.errors import NotDrawn
from longleaf.core.frames import Bounds, Frame, error_from_json
from longleaf.core.logs import traceback_of
from longleaf.indexer.sandbox.process import COMMAND, ChildProcess, Clock

_REST_SECONDS = 60.0
_SECONDS = 15.0
"""For one page; a file's size adds to it."""
_BYTES_A_SECOND = 8 * 1024 * 1024
_PAGES_IN_A_LIFE = 2_000
_GROWN_BYTES = 512 * 1024 * 1024
_PICTURE = Bounds(64 * 1024, 160 * 1024 * 1024)
_PNG = b"\x89PNG\r\n\x1a\n"
_ELSEWHERE = "Read its text instead, or open the original file."

_log = structlog.get_logger(__name__)


class PageDrawer:
    """Draws pages. Thread-safe; callers wait for each other."""

    def __init__(
        self,
        memory_bytes: int,
        input_bytes: int,
        private: Sequence[Path] = (),
        seconds: float = _SECONDS,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """`memory_bytes` beside the file, which has at most `input_bytes`. `private`: folders that
        the child may not look into. `command` starts it; tests give one of their own."""
        self._artist = _Artist(
            command,
            {
                "memory_bytes": memory_bytes,
                "input_bytes": input_bytes,
                "document_bytes": memory_bytes,
                "scratch": None,
                "programs": [],
                "read": [],
                "own_tmp": False,
                "private": [str(each.resolve()) for each in private],
                "draws": True,
            },
            seconds,
        )
        self._lock = threading.Lock()
        # The thread knows only the artist, so that a drawer that nobody closed ends with its owner.
        self._end = weakref.finalize(self, self._artist.close)

    def draw(self, name: str, read: Callable[[], bytes], page: int, scale: float) -> bytes:
        """Page `page` (from 1) of the file as a PNG, `scale` pixels a point or fewer.

        `name` tells files apart; `read` gives its bytes, and is asked only where it is not open.
        Raises NotDrawn, and what `read` raises.
        """
        with self._lock:
            wanted: Future[bytes] = Future()
            self._artist.take((name, read, page, scale, wanted))
            return wanted.result()

    def close(self) -> None:
        """End the process."""
        self._end()


_Wanted = tuple[str, Callable[[], bytes], int, float, "Future[bytes]"]


class _Artist:
    """The thread and its child."""

    def __init__(self, command: Sequence[str], place: dict[str, Any], seconds: float) -> None:
        self._command = command
        self._place = place
        self._seconds = seconds
        self._queue: queue.SimpleQueue[_Wanted | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._child: ChildProcess | None = None
        self._open = ""

    def take(self, wanted: _Wanted) -> None:
        """Called by one at a time."""
        if self._closed:
            raise NotDrawn("The server is about to stop.", "Try again later.")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="longleaf-pages", daemon=True)
            self._thread.start()
        self._queue.put(wanted)

    def close(self) -> None:
        """End thread and child, and wait for them."""
        self._closed = True
        thread = self._thread
        if thread is not None:
            child = self._child
            if child is not None:
                child.kill()
            self._queue.put(None)
            thread.join()

    def _run(self) -> None:
        while True:
            try:
                wanted = self._queue.get(timeout=_REST_SECONDS)
            except queue.Empty:
                self._end_child()
                continue
            if wanted is None:
                self._end_child()
                return
            name, read, page, scale, future = wanted
            try:
                future.set_result(self._draw(name, read, page, scale))
            except BaseException as error:
                future.set_exception(error)

    def _draw(self, name: str, read: Callable[[], bytes], page: int, scale: float) -> bytes:
        data = b""
        child = self._child
        if child is not None and not child.is_quiet():
            self._end_child()
            child = None
        if child is None or self._open != name:
            data = read()
            self._open = ""
        if child is None:
            child = self._child = ChildProcess(self._command, self._place)
        seconds = self._seconds + len(data) / _BYTES_A_SECOND
        child.begin(Clock(seconds, seconds))
        asked = {
            "bytes": len(data),
            "memory_bytes": self._place["memory_bytes"],
            "page": page,
            "scale": scale,
            "seconds": seconds,
        }
        try:
            child.send(Frame(asked), data)
            told = child.receive(_PICTURE)
            picture = self._picture(told, page)
        except TimeoutError:
            self._end_child()
            raise NotDrawn(f"Page {page} was given up after {seconds:.0f} s.", _ELSEWHERE) from None
        except (OSError, EOFError):
            self._end_child()
            failure = child.failure(f"Page {page}", self._place["memory_bytes"])
            _log.warning("pages.child_ended", page=page, how=str(failure.reason), trace=child.trace)
            raise NotDrawn(f"Page {page} crashes or floods what draws it.", _ELSEWHERE) from None
        except (ValueError, ArithmeticError, LookupError, TypeError) as nonsense:
            self._end_child()
            _log.warning("pages.nonsense", page=page, trace=traceback_of(nonsense))
            raise NotDrawn(f"Page {page} makes no picture.", _ELSEWHERE) from None
        except NotDrawn:
            if told.header.get("ended"):
                self._end_child()
            elif told.header.get("open"):
                self._open = name
            raise
        self._open = name
        if child.files_read >= _PAGES_IN_A_LIFE or child.resident_bytes >= _GROWN_BYTES:
            self._end_child()
        return picture

    def _picture(self, told: Frame, page: int) -> bytes:
        """Raises NotDrawn for what the child says went wrong, ValueError for nonsense."""
        if "error" in told.header:
            value = told.header["error"]
            if not isinstance(value, dict):
                raise ValueError("an error of no known form")
            error = error_from_json({name: str(each)[:2000] for name, each in value.items()})
            if not isinstance(error, NotDrawn):
                raise ValueError(f"an error {value!r:.80}")
            raise error
        if told.header.get("page") != page or len(told.arrays) != 1:
            raise ValueError("no picture of the page")
        picture: bytes = told.arrays[0].tobytes()
        if not picture.startswith(_PNG):
            raise ValueError("no picture")
        return picture

    def _end_child(self) -> None:
        child, self._child, self._open = self._child, None, ""
        if child is not None:
            child.end()
