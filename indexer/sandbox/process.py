"""One child process as its parent sees it: started, given time, spoken to, ended, and judged.

It knows how a process dies (its own crash, the kernel's limits, our clock) and puts it into words;
what is said between the two it does not know. A child that did anything unexpected is ended, never
mended: a new one takes a quarter of a second.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.frames import USUAL, Bounds, Frame, Incoming, pieces
from longleaf.indexer.sandbox.confine import Confinement

COMMAND = (sys.executable, "-P", "-m", "longleaf.indexer.sandbox.child")
"""-P: a file in the working folder must not stand in for a module."""

_START_SECONDS = 120.0
_LAST_WORDS_SECONDS = 2.0
_TRACE_BYTES = 16_384
_TRACE_LINE = re.compile(r'Fatal Python error: [\w ]{1,80}|  File "[^"\n]{1,300}", line \d+ in \S+')
_LOOK_SECONDS = 0.05
_MUCH = 0.5
"""A process that crashed, having held this share of what it may hold, has run out of memory."""


class Clock:
    """Time that a child may be at work; it stands still while the child waits for us."""

    def __init__(self, seconds: float, most_seconds: float) -> None:
        self._started = time.monotonic()
        self._seconds = seconds
        self._most_seconds = most_seconds
        self._paused_seconds = 0.0

    def spent(self) -> float:
        return time.monotonic() - self._started - self._paused_seconds

    def left(self) -> float:
        return self._seconds - self.spent()

    def add(self, seconds: float) -> None:
        """More time, because something was finished."""
        self._seconds = min(self._seconds + seconds, self._most_seconds)

    @contextmanager
    def standing(self) -> Iterator[None]:
        before = time.monotonic()
        try:
            yield
        finally:
            self._paused_seconds += time.monotonic() - before


class ChildProcess:
    """A running child. Used by one thread, which must outlive it; `kill` may come from any."""

    def __init__(self, command: Sequence[str], place: Mapping[str, Any]) -> None:
        """Raises Rejected(INTERNAL) when it does not come up."""
        self.files_read = 0
        self.peak_bytes = self.resident_bytes = 0
        self._looked_at = 0.0
        self.last_line = self.trace = ""
        self._status: int | None = None
        self._lock = threading.Lock()
        self.clock = Clock(_START_SECONDS, _START_SECONDS)
        ours, theirs = socket.socketpair()
        self._connection = ours
        self._crashes = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        scratch = place["scratch"]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [*command, str(os.getpid()), str(theirs.fileno()), json.dumps(place)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._crashes,
                pass_fds=[theirs.fileno()],
                process_group=0,
                cwd="/",
                env=_environment(scratch),
            )
        except BaseException:
            ours.close()
            self._crashes.close()
            raise
        finally:
            # The child's end must be its alone: only then does each side hear the other die.
            theirs.close()
        self._incoming = Incoming(ours, self._seconds_left)
        try:
            self.hello = self.receive(USUAL).header
        except (OSError, EOFError, ValueError) as error:
            self.end()
            raise Rejected(
                RejectReason.INTERNAL,
                f"The parsers' process cannot be started ({self._how()}). {self.last_line}",
                "This is a problem of the installation, not of the file.",
            ) from error
        self.confinement = Confinement.from_json(self.hello["confinement"])

    @property
    def pid(self) -> int:
        return self._process.pid

    # --- speaking ------------------------------------------------------------------------------

    def send(self, frame: Frame, *more: bytes, bounds: Bounds = USUAL) -> None:
        """Raises OSError when the child is gone, TimeoutError when its time is."""
        for part in (*pieces(frame, bounds), *more):
            self._connection.settimeout(max(self.clock.left(), 0.001))
            self._connection.sendall(part)

    def receive(self, bounds: Bounds) -> Frame:
        """Raises EOFError or OSError (gone), TimeoutError (no time left), ValueError (nonsense)."""
        return self._incoming.frame(bounds)

    @property
    def has_more(self) -> bool:
        """Whether it has said more than was listened to so far."""
        return self._incoming.has_more

    def _seconds_left(self) -> float:
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self.look()
        return min(self.clock.left(), _LOOK_SECONDS)

    def look(self) -> None:
        """Notice its memory while it lives: what the kernel says of it afterwards counts ours,
        from before it became another program.
        """
        with suppress(OSError, ValueError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    self.resident_bytes = int(line.split()[1]) * 1024
                    self.peak_bytes = max(self.peak_bytes, self.resident_bytes)
                    return

    def is_gone(self) -> bool:
        """Whether it has ended although nobody asked it to."""
        return self._peek() == b""

    def is_quiet(self) -> bool:
        """Whether it is there and has said nothing that it was not asked."""
        return self._peek() is None and not self._incoming.has_more

    def _peek(self) -> bytes | None:
        try:
            self._connection.settimeout(0)
            return self._connection.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b""

    def begin(self, clock: Clock) -> None:
        """Give it time for one more file, and look anew at the memory that it takes for that."""
        self.clock = clock
        self.peak_bytes = 0
        self.files_read += 1

    # --- ending --------------------------------------------------------------------------------

    def kill(self) -> None:
        """End it and all that it started, unless it has been waited for: then its number may be
        another process's.
        """
        with self._lock, suppress(ProcessLookupError, PermissionError):
            if self._status is None:
                os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill it unless it has ended already, wait for it, and let go of everything.

        How one that died by itself did so is kept for `failure`.
        """
        if self._status is not None:
            return
        if self.is_gone():
            # It is about to end by itself, and its own reason is worth more than ours.
            deadline = time.monotonic() + _LAST_WORDS_SECONDS
            while not self._has_ended() and time.monotonic() < deadline:
                time.sleep(0.002)
        # Before its number is free for another process: what it started dies with it.
        self.kill()
        with self._lock:
            self._status = self._process.wait()
        self._connection.close()
        self.last_line, self.trace = self._read_crashes()

    def _has_ended(self) -> bool:
        if sys.platform == "darwin":
            return False
        look = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, look) is not None

    def failure(self, name: str, allowed_bytes: int) -> Rejected:
        """Why a child that ended by itself did so, after `end`."""
        status = self._status
        signal_number = -status if status is not None and status < 0 else 0
        if signal_number == signal.SIGXCPU:
            return Rejected(RejectReason.TOO_SLOW, f"{name} keeps its parser busy without end.")
        if self.peak_bytes >= _MUCH * allowed_bytes:
            return Rejected(
                RejectReason.TOO_MUCH_MEMORY,
                f"{name} needs too much memory: its parser held {self.peak_bytes >> 20:,} MiB "
                f"and ended ({self._how()}).",
                "indexer.parse_memory_bytes allows more.",
            )
        return Rejected(
            RejectReason.CRASHED,
            f"{name} crashes its parser ({self._how()}).",
            "Other files are not affected.",
        )

    def _how(self) -> str:
        status = self._status
        if status is None or status >= 0:
            return f"exit status {status}"
        try:
            return signal.Signals(-status).name
        except ValueError:
            return f"signal {-status}"

    def _read_crashes(self) -> tuple[str, str]:
        """(the last line of what it wrote, where Python crashed): never what a library wrote."""
        with self._crashes as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TRACE_BYTES))
            text = file.read(_TRACE_BYTES).decode("ascii", "replace")
        lines = text.strip().splitlines()
        return (lines[-1][:500] if lines else ""), "\n".join(_TRACE_LINE.findall(text)[:20])


def _environment(scratch: str | None) -> dict[str, str]:
    """Nothing of our own environment, where keys and passwords may stand."""
    away = {Path("/"), Path.cwd()}
    with suppress(RuntimeError):
        away.add(Path.home())
    found = [each for each in sys.path if Path(each).is_absolute() and Path(each) not in away]
    places = {} if scratch is None else {"HOME": scratch, "TMPDIR": scratch}
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(found),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_THREAD_LIMIT": "1",
        **places,
    }
