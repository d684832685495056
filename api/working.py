"""The worker: a process that does jobs one after another, so that the API never waits for them.

`work` is its loop, in whichever process it runs; models load with the first job. `WorkerProcess`
is the serving side: it starts a worker beside the server, starts it again when it dies, and ends it
with the server. A worker may be killed at any time: its job's lease runs out and the next one takes
it up. It knows neither HTTP nor how a job is asked for. Trade-off: the models are in memory twice,
once to answer queries and, from the first job on, once to embed documents.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import structlog

from longleaf.api import reading, wire
from longleaf.core import logs
from longleaf.core.catalog.generations import process_name
from longleaf.core.catalog.jobs import JobState
from longleaf.core.config import Settings
from longleaf.core.errors import LongleafError
from longleaf.core.logs import reason_of
from longleaf.core.operation_settings import AuditSettings
from longleaf.core.reranker_settings import RerankerSettings
from longleaf.indexer.work import do_job

if TYPE_CHECKING:
    from longleaf.core.catalog import Catalog
    from longleaf.reranker.qwen3.stored import PassageTokenizer

_log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
_ROOM_SECONDS = 5.0
"""Between two looks whether a full disk has room again."""
_FORGET_SECONDS = 3600.0
_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 30.0
_STEADY_SECONDS = 60.0
_GRACE_SECONDS = 30.0


def owner_name() -> str:
    """A name for this process that no other one has."""
    return process_name()


def work(settings: Settings, stopping: threading.Event, *, until_idle: bool = False) -> int:
    """Do jobs until `stopping` is set (or none is left, with `until_idle`); returns how many.

    A job under way when `stopping` is set goes back to the line after the batch it is in.
    """
    owner = owner_name()
    done = 0
    with ExitStack() as opened:
        catalog = wire.open_catalog(settings)
        opened.callback(catalog.close)
        parts: wire.WriteSide | None = None
        reader_ids = _ReaderIds(settings.reranker, catalog)
        forgetting = _AuditRows(settings.audit, catalog)
        while not stopping.is_set():
            try:
                job = catalog.jobs.claim(owner)
            except LongleafError as error:
                _log.warning("worker.cannot_claim", reason=reason_of(error))
                stopping.wait(5.0)
                continue
            forgetting.look()
            if job is None:
                # A batch at a time, so that a job which comes meanwhile does not wait for all.
                if reader_ids.catch_up():
                    continue
                if until_idle:
                    break
                stopping.wait(POLL_SECONDS)
                continue
            if parts is None:
                try:
                    parts = wire.open_write_side(settings)
                    opened.callback(parts.close)
                except LongleafError as error:
                    catalog.jobs.end(job, owner, JobState.FAILED, {}, str(error))
                    continue
            _log.info("job.begins", job=job.public_id, kind=job.kind)
            state = do_job(
                parts.indexer, job, owner, stopping=stopping, wait_for_room=not until_idle
            )
            if state is JobState.QUEUED:
                stopping.wait(_ROOM_SECONDS)
                continue
            _log.info("job.ended", job=job.public_id, state=str(state))
            done += 1
    return done


class _AuditRows:
    """Takes old rows of the audit log away, as the setting says, once an hour."""

    def __init__(self, settings: AuditSettings, catalog: Catalog) -> None:
        self._seconds = settings.keep_days * 86_400.0
        self._catalog = catalog
        self._again_at = 0.0

    def look(self) -> None:
        """Between two jobs, so that a job takes its whole time off the hour."""
        if not self._seconds or time.monotonic() < self._again_at:
            return
        self._again_at = time.monotonic() + _FORGET_SECONDS
        try:
            gone = self._catalog.audit.forget(self._seconds)
        except LongleafError as error:
            _log.warning("audit.not_forgotten", reason=reason_of(error))
        else:
            if gone:
                _log.info("audit.forgotten", rows=gone)


class _ReaderIds:
    """Token ids for the second stage, made when there is no job."""

    def __init__(self, settings: RerankerSettings, catalog: Catalog) -> None:
        self._settings = settings
        self._catalog = catalog
        self._tokenizer: PassageTokenizer | None = None
        self._is_open = False
        self._again_at = 0.0

    def catch_up(self) -> bool:
        """Make some; returns whether there may be more. Without any it costs one look."""
        if time.monotonic() < self._again_at:
            return False
        try:
            if not self._is_open:
                self._tokenizer = reading.open_passage_tokenizer(self._settings, self._catalog)
                self._is_open = True
            if self._tokenizer is None:
                return False
            made, has_more = self._tokenizer.fill_some()
            if made:
                _log.info("reader_ids.stored", passages=made)
            return has_more
        except LongleafError as error:
            _log.warning("reader_ids.not_stored", reason=reason_of(error))
            self._again_at = time.monotonic() + _STEADY_SECONDS
            return False


class WorkerProcess:
    """A worker beside this process, for as long as this object is open."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self.failure: str | None = None
        # The kernel ends the child with the thread that started it, so that must be this one.
        self._thread = threading.Thread(target=self._supervise, name="longleaf-worker", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is none."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def end_soon(self) -> None:
        """Tell the worker to end after its batch, and do not wait."""
        self._closing.set()
        process = self._process
        if process is not None:
            # Its standard input is its life line: it stops when that closes.
            with suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()

    def close(self) -> None:
        """Let the worker finish its batch and end; what is not done waits in the catalog."""
        self.end_soon()
        self._thread.join()

    def _supervise(self) -> None:
        retry_seconds = 0.0
        while not self._closing.wait(retry_seconds):
            started = time.monotonic()
            try:
                process = self._start()
            except OSError as error:
                self.failure = f"The worker cannot be started: {error}"
                _log.warning("worker.not_started", reason=reason_of(error))
            else:
                self._process, self.failure = process, None
                self._wait(process)
                if self._closing.is_set():
                    return
                self.failure = f"The worker ended with {process.returncode} and is started again."
                _log.warning("worker.ended", code=process.returncode)
            steady = time.monotonic() - started > _STEADY_SECONDS
            retry_seconds = 0.0 if steady else retry_seconds
            retry_seconds = min(max(_FIRST_RETRY_SECONDS, 2 * retry_seconds), _LAST_RETRY_SECONDS)

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-P", "-m", "longleaf.api.cli", "worker", "--child",
             str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            process_group=0,
        )  # fmt: skip
        assert process.stdin is not None
        # Only what somebody set: the rest is as the documents were indexed, for the child too.
        told = self._settings.model_dump_json(exclude_unset=True)
        with suppress(OSError):
            process.stdin.write(told.encode("utf-8") + b"\n")
            process.stdin.flush()
        return process

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Until the worker is gone; when closing, it has a while to finish and is then killed."""
        while process.poll() is None and not self._closing.is_set():
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.25)
        if process.poll() is None:
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()


def run_as_child(parent_pid: int) -> int:
    """What the worker process does: settings from the first line of its input, then jobs."""
    from longleaf.core.children import end_with_parent

    end_with_parent(parent_pid)
    settings = Settings.model_validate(json.loads(sys.stdin.readline()))
    logs.configure(settings.log.form, settings.log.number)
    stopping = threading.Event()

    def watch_parent() -> None:
        with suppress(OSError, ValueError):
            sys.stdin.read()
        stopping.set()

    threading.Thread(target=watch_parent, name="longleaf-parent", daemon=True).start()
    work(settings, stopping)
    return 0
