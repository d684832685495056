"""A thread with a child of its own, which reads files one after another and judges each end.

It alone starts and ends its children, because the kernel ends a child with the thread that started
it. What a child says is checked by `wire`; what it does not say in time, or says wrongly, ends the
child and becomes a named rejection of the one file that it was reading. A child lives for many
files and is replaced when it has grown. OCR and LibreOffice run in a second child with other walls
(`helpers`), started when a file first needs one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from longleaf.core.errors import LongleafError, Rejected, RejectReason
from longleaf.core.frames import Frame
from longleaf.core.logs import file_label, traceback_of
from longleaf.core.types import Document, Rejection
from longleaf.indexer.sandbox import wire
from longleaf.indexer.sandbox.helper import Asked, Helper
from longleaf.indexer.sandbox.opened import weight
from longleaf.indexer.sandbox.process import ChildProcess, Clock

if TYPE_CHECKING:
    from longleaf.indexer.sandbox.opened import OpenedInSandbox

_FILES_IN_A_LIFE = 500
_GROWN_BYTES = 256 * 1024 * 1024
_MORE_TIME_SHARE = 1 / 300
"""Part of the time limit that each page or document finished adds: 0.2 s of 60 s, because a PDF of
10,000 pages is slow without being stuck."""

_PHASES = 10
_PLACE = re.compile(
    r"^(?:\S+:\d+ \S+|[\w.]+|which caused|and while that was handled)$", re.MULTILINE
)
"""A line of `traceback_of`; what else a child says of itself may be anything."""
_TOGETHER = 1024 * 1024
_LONGEST_SHARE = 60.0
_BYTES_A_SECOND = 4 * 1024 * 1024
"""A file of 512 MiB has two minutes more, because it takes time to read anything of that size."""

_log = structlog.get_logger(__name__)


class _GivenUp(Exception):
    """Nobody wants the file any more."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What every child of a pool is held to."""

    command: Sequence[str]
    seconds: float
    memory_bytes: int
    input_bytes: int
    text_chars: int
    documents: int
    media_types: frozenset[str]
    private: tuple[Path, ...] = ()

    def place(self) -> dict[str, Any]:
        """What a child that runs parsers is told at its start."""
        return {
            "memory_bytes": self.memory_bytes,
            "input_bytes": self.input_bytes,
            "document_bytes": self.memory_bytes,
            "scratch": None,
            "programs": [],
            "read": [],
            "own_tmp": False,
            "private": [str(each) for each in self.private],
        }


class Worker(threading.Thread):
    """Reads the files that `next_file` gives until it gives None, or the first when `once`."""

    def __init__(
        self,
        terms: Terms,
        next_file: Callable[[Worker], OpenedInSandbox | None],
        on_block: Callable[[], None],
        on_end: Callable[[Worker], None],
        helper: Helper,
        *,
        once: bool = False,
    ) -> None:
        super().__init__(name="longleaf-parsers", daemon=True)
        self.blocked = False
        self._terms = terms
        self._next_file = next_file
        self._on_block = on_block
        self._on_end = on_end
        self._helper = helper
        self._once = once
        self._child: ChildProcess | None = None

    def run(self) -> None:
        try:
            while (file := self._next_file(self)) is not None:
                file.end(self._outcome(file))
                if self._once:
                    break
        finally:
            self.rest()
            self._on_end(self)

    def rest(self) -> None:
        """End the children; new ones start when they are needed."""
        self._end_child()
        self._helper.rest()

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def _kill(self) -> None:
        child = self._child
        if child is not None:
            child.kill()
        self._helper.kill()

    def _outcome(self, file: OpenedInSandbox) -> LongleafError | None:
        try:
            error = self._read(file)
        except Rejected as rejected:
            error = rejected
        except Exception as bug:
            _log.error("sandbox.failed", file=file_label(file.name), trace=traceback_of(bug))
            self._end_child()
            error = Rejected(RejectReason.INTERNAL, repr(bug))
        return error

    def _read(self, file: OpenedInSandbox, *, again: bool = False) -> LongleafError | None:
        """How the file ended: None when it was read to its end, or given up."""
        child = self._ready_child()
        self._helper.begin()
        if not file.begin(self._kill):
            return None
        terms = self._terms
        allowed_bytes = terms.memory_bytes + len(file.data)
        seconds = terms.seconds + len(file.data) / _BYTES_A_SECOND
        child.begin(Clock(seconds, seconds * _LONGEST_SHARE))
        reading = _Reading(child, file, terms, self._helper, self._put)
        try:
            self._hand_over(child, file)
            error = reading.run()
        except _GivenUp:
            self._end_child()
            return None
        except Rejected as too_much:
            self._end_child()
            return too_much
        except TimeoutError:
            seconds = child.clock.spent()
            self._end_child()
            return Rejected(
                RejectReason.TOO_SLOW,
                f"{file.name} was given up after {seconds:.0f} s of reading it.",
                "indexer.parse_seconds allows more.",
            )
        except (OSError, EOFError):
            self._child = None
            child.end()
            if file.is_closed:
                return None
            if not reading.has_type and not again:
                # It was dying before its parser saw the file.
                return self._read(file, again=True)
            failure = child.failure(file.name, allowed_bytes)
            _log.warning(
                "sandbox.child_ended",
                file=file_label(file.name),
                how=str(failure.reason),
                trace=child.trace,
            )
            return failure
        except (ValueError, ArithmeticError, LookupError, TypeError) as nonsense:
            self._end_child()
            _log.warning(
                "sandbox.nonsense", file=file_label(file.name), trace=traceback_of(nonsense)
            )
            return Rejected(
                RejectReason.CRASHED,
                f"{file.name} makes its parser say what is no document ({str(nonsense)[:200]}).",
                "Other files are not affected.",
            )
        self._look_after(child, error)
        return error

    def _put(self, file: OpenedInSandbox, items: Sequence[Document | Rejection]) -> None:
        if file.is_full:
            self.blocked = True
            self._on_block()
        try:
            if not file.put(items):
                raise _GivenUp
        finally:
            self.blocked = False

    def _ready_child(self) -> ChildProcess:
        child = self._child
        if child is not None and not child.is_quiet():
            # Gone, or speaking unasked, between two files: the next one shall not suffer from it.
            self._end_child()
            child = None
        if child is None:
            child = self._child = ChildProcess(self._terms.command, self._terms.place())
        return child

    def _hand_over(self, child: ChildProcess, file: OpenedInSandbox) -> None:
        terms, programs = self._terms, self._helper.programs
        asked = {
            "name": file.name,
            "bytes": len(file.data),
            "memory_bytes": terms.memory_bytes,
            "cpu_seconds": child.clock.left() * _LONGEST_SHARE,
            "ocr": programs.tesseract is not None,
            "why_no_ocr": programs.why_no_ocr,
            "convert": programs.libreoffice is not None,
        }
        child.send(Frame(asked), file.data)

    def _look_after(self, child: ChildProcess, error: LongleafError | None) -> None:
        """Replace a child that has done enough, or whose memory cannot be trusted any more."""
        out_of_memory = isinstance(error, Rejected) and error.reason is RejectReason.TOO_MUCH_MEMORY
        if (
            out_of_memory
            or child.files_read >= _FILES_IN_A_LIFE
            or child.resident_bytes >= _GROWN_BYTES
        ):
            self._end_child()


class _Reading:
    """What a child says of one file."""

    def __init__(
        self,
        child: ChildProcess,
        file: OpenedInSandbox,
        terms: Terms,
        helper: Helper,
        put: Callable[[OpenedInSandbox, Sequence[Document | Rejection]], None],
    ) -> None:
        self.has_type = False
        self._child = child
        self._file = file
        self._terms = terms
        self._helper = helper
        self._put = put
        self._asked = Asked(file.data, "")
        self._bounds = wire.bounds(terms.memory_bytes)
        self._done: dict[str, int] = {}
        self._documents = 0
        self._chars = 0
        self._ready: list[Document | Rejection] = []
        self._ready_weight = 0

    def run(self) -> LongleafError | None:
        """The error that ends the file, None at its end. Raises what `ChildProcess.receive` does,
        ValueError for what no child of ours would say, and _GivenUp.
        """
        try:
            return self._listen()
        except _GivenUp:
            raise
        except Exception:
            # What came before stays good, whatever happened then.
            self._hand_on()
            raise

    def _listen(self) -> LongleafError | None:
        while True:
            if not self._child.has_more:
                self._hand_on()
            frame = self._child.receive(self._bounds)
            header = frame.header
            say = header.get("say")
            if say == "type" and not self.has_type:
                self.has_type = True
                self._choose(header)
            elif say == "document" and self.has_type:
                self._take(wire.document_from(frame))
            elif say == "rejection" and self.has_type:
                self._take(wire.rejection_from(header))
            elif say == "progress" and self.has_type:
                self._progress(header)
            elif say in ("convert", "page", "picture") and self.has_type:
                with self._child.clock.standing():
                    answer = self._helper.answer(frame, self._asked)
                self._child.send(answer, bounds=self._bounds)
            elif say == "end" and self.has_type:
                self._hand_on()
                return None
            elif say == "error":
                self._hand_on()
                return self._error(header)
            else:
                raise ValueError(f"it says {say!r:.50}")

    def _choose(self, header: Mapping[str, Any]) -> None:
        media_type = self._known_type(header.get("media_type"))
        self._file.choose(media_type)
        self._asked = Asked(self._file.data, media_type)

    def _known_type(self, media_type: object) -> str:
        if not isinstance(media_type, str) or media_type not in self._terms.media_types:
            raise ValueError(f"a media type {media_type!r:.50}")
        return media_type

    def _take(self, item: Document | Rejection) -> None:
        if isinstance(item, Document) and item.media_type:
            self._known_type(item.media_type)
        self._documents += 1
        self._chars += len(item.text) if isinstance(item, Document) else 0
        terms, name = self._terms, self._file.name
        if self._chars > terms.text_chars:
            raise _TooMuch(
                f"{name} holds more than {terms.text_chars:,} characters of text.",
                "indexer.parse_text_chars allows more.",
            )
        if self._documents > terms.documents:
            raise _TooMuch(
                f"{name} holds more than {terms.documents:,} documents.",
                "indexer.parse_documents allows more.",
            )
        self._add_time(1)
        self._ready.append(item)
        self._ready_weight += weight(item)
        # Together what came together: waking the reader costs more than a small document.
        if self._ready_weight >= _TOGETHER:
            self._hand_on()

    def _hand_on(self) -> None:
        if self._ready:
            with self._child.clock.standing():
                self._put(self._file, self._ready)
            self._ready, self._ready_weight = [], 0

    def _progress(self, header: Mapping[str, Any]) -> None:
        phase, done, total = wire.progress_from(header)
        self._file.tell((phase, done, total))
        before = self._done.get(phase, 0)
        if done > before and (phase in self._done or len(self._done) < _PHASES):
            self._add_time(done - before)
            self._done[phase] = done

    def _add_time(self, units: int) -> None:
        self._child.clock.add(units * self._terms.seconds * _MORE_TIME_SHARE)

    def _error(self, header: Mapping[str, Any]) -> LongleafError:
        error = wire.error_from(header)
        if isinstance(error, Rejected) and error.reason is RejectReason.INTERNAL:
            trace = "\n".join(_PLACE.findall(str(header.get("trace", ""))[:10_000]))
            _log.error("parser.failed", file=file_label(self._file.name), trace=trace)
        return error


class _TooMuch(Rejected):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(RejectReason.EXPANDS, message, hint)
