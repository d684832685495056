"""Parsers in child processes: `SandboxReader`, what production reads files with.

`open` hands a file to the first free worker and returns; documents come out while it is read. One
thread and one child for each of `workers` (half of the cores, so that the model has the others).
Files are begun in the order they were opened; whoever waits for one that nobody has begun, while
all workers wait for room in files that nobody reads, gets a worker of its own, so no order of
reading can deadlock. Costs: `benchmarks/sandbox.py`.
"""

from __future__ import annotations

import os
import shutil
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from longleaf.core.config import IndexerSettings
from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, OcrStore
from longleaf.indexer.office import find_libreoffice
from longleaf.indexer.parsers import PARSERS
from longleaf.indexer.sandbox.confine import Confinement
from longleaf.indexer.sandbox.helper import Helper, Programs
from longleaf.indexer.sandbox.opened import OpenedInSandbox
from longleaf.indexer.sandbox.process import COMMAND, ChildProcess
from longleaf.indexer.sandbox.worker import Terms, Worker

_REST_SECONDS = 60.0
"""A worker without work lets go of its children, some 30 MB each, after this time."""

_MOST_WORKERS = 8


NO_PROGRAMS = Programs(why_no_ocr="OCR is switched off.")


class SandboxReader:
    """A `core.protocols.FileReader`. Thread-safe."""

    def __init__(
        self,
        settings: IndexerSettings,
        *,
        programs: Programs = NO_PROGRAMS,
        store: OcrStore | None = None,
        private: Sequence[Path] = (),
        command: Sequence[str] = COMMAND,
    ) -> None:
        """`programs` are what parsers may have run, `store` keeps what OCR has read. `private`:
        folders that no child may look into, wherever they lie. `command` starts a child; tests give
        one of their own, with parsers that misbehave.
        """
        self.workers = settings.parse_workers or default_workers()
        self.lacking = frozenset(
            name
            for name, program in (
                ("libreoffice", programs.libreoffice),
                ("tesseract", programs.tesseract),
            )
            if program is None
        )
        self._terms = Terms(
            command=tuple(command),
            seconds=settings.parse_seconds,
            memory_bytes=settings.parse_memory_bytes,
            input_bytes=settings.max_file_bytes,
            text_chars=settings.parse_text_chars,
            documents=settings.parse_documents,
            media_types=frozenset(parser.media_type for parser in PARSERS),
            private=tuple(each.resolve() for each in private),
        )
        self._new_helper = partial(Helper, programs, self._terms.command, private, store)
        self._crew = _Crew(self._terms, self.workers, self._new_helper)
        # The workers know only the crew, so that a reader that nobody closed ends with its owner.
        self._end = weakref.finalize(self, self._crew.close)

    def open(
        self,
        data: bytes,
        name: str,
        on_progress: Callable[[str, int, int], None] = NO_CONTEXT.on_progress,
    ) -> OpenedInSandbox:
        """See `core.protocols.FileReader`; a type that nobody reads is told when it is iterated."""
        file = OpenedInSandbox(data, name, on_progress, self._crew.relieve)
        self._crew.add(file)
        return file

    def confinements(self) -> dict[str, Confinement]:
        """What holds back "parsers", and "programs" where there are any; starts a child of each to
        ask it (`longleaf doctor`).
        """
        child = ChildProcess(self._terms.command, self._terms.place())
        found = {"parsers": child.confinement}
        child.end()
        helper = self._new_helper()
        confinement = helper.confinement()
        if confinement is not None:
            found["programs"] = confinement
        helper.rest()
        return found

    def close(self) -> None:
        """End all children. Files that are still open end as unreadable."""
        self._end()


def find_programs(settings: IndexerSettings) -> Programs:
    """The programs that this machine has and the settings want."""
    tesseract = shutil.which("tesseract") if settings.ocr_languages else None
    why = "Tesseract is not installed." if settings.ocr_languages else "OCR is switched off."
    return Programs(
        libreoffice=find_libreoffice(),
        tesseract=Path(tesseract) if tesseract else None,
        ocr_languages=settings.ocr_languages,
        why_no_ocr="" if tesseract else why,
        convert_seconds=settings.convert_seconds,
        ocr_page_seconds=settings.ocr_page_seconds,
        memory_bytes=settings.program_memory_bytes,
    )


def default_workers() -> int:
    """Half of the cores that this process may use: one of two."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores // 2, _MOST_WORKERS))


class _Crew:
    """The workers and the files that wait for one."""

    def __init__(self, terms: Terms, most_workers: int, new_helper: Callable[[], Helper]) -> None:
        self._terms = terms
        self._new_helper = new_helper
        self._most_workers = most_workers
        self._changed = threading.Condition()
        self._waiting: deque[OpenedInSandbox] = deque()
        self._reading: dict[Worker, OpenedInSandbox] = {}
        self._workers: list[Worker] = []
        self._idle = 0
        self._closing = False

    def add(self, file: OpenedInSandbox) -> None:
        """Have a worker read the file as soon as one is free."""
        with self._changed:
            if self._closing:
                file.end(_closed(file.name))
                return
            self._waiting.append(file)
            if len(self._waiting) > self._idle and len(self._workers) < self._most_workers:
                self._start(once=False)
            self._changed.notify()

    def relieve(self, _file: OpenedInSandbox | None = None) -> None:
        """Start one more worker if a file is waited for and no worker will ever come to it."""
        with self._changed:
            if (
                not self._closing
                and any(file.awaited for file in self._waiting)
                and all(worker.blocked for worker in self._workers)
            ):
                self._start(once=True)

    def close(self) -> None:
        """Give up all files, end all workers and wait for them."""
        with self._changed:
            self._closing = True
            waiting, self._waiting = list(self._waiting), deque()
            reading, workers = list(self._reading.values()), list(self._workers)
            self._changed.notify_all()
        for file in waiting:
            file.end(_closed(file.name))
        for file in reading:
            file.give_up(_closed(file.name))
        for worker in workers:
            if worker is not threading.current_thread():
                worker.join()

    # --- for the workers -----------------------------------------------------------------------

    def _start(self, *, once: bool) -> None:
        helper = self._new_helper()
        worker = Worker(self._terms, self._next, self.relieve, self._left, helper, once=once)
        self._workers.append(worker)
        worker.start()

    def _next(self, worker: Worker) -> OpenedInSandbox | None:
        """The next file for this worker, None when there will be none."""
        with self._changed:
            self._reading.pop(worker, None)
            self._idle += 1
            try:
                while not self._waiting and not self._closing:
                    if not self._changed.wait(_REST_SECONDS):
                        worker.rest()
            finally:
                self._idle -= 1
            if self._closing:
                return None
            file = self._waiting.popleft()
            file.begun = True
            self._reading[worker] = file
        return file

    def _left(self, worker: Worker) -> None:
        with self._changed:
            self._reading.pop(worker, None)
            self._workers.remove(worker)


def _closed(name: str) -> Rejected:
    return Rejected(RejectReason.UNREADABLE, f"{name} was not read to its end: reading was ended.")
