"""One life of the index process, as its parent sees it: a process and the connections to it.

Each connection carries one question at a time; a thread that asks takes a free one. It knows
neither how the process is started nor what is asked. Trade-off: whatever goes wrong on a connection
ends the whole child, because starting again takes half a second and mending is guesswork.
"""

from __future__ import annotations

import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from longleaf.core.errors import IndexUnavailable
from longleaf.retriever.index import frames
from longleaf.retriever.index.frames import Frame

AGAIN = "Nothing is lost: it is started again by itself. Try again in a few seconds."

_HUNG_SECONDS = 120.0
_STOP_SECONDS = 30.0


class Child:
    """Asked until something is wrong with it, then `lost` and to be ended. Thread-safe."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        lanes: Sequence[socket.socket],
        hello: Mapping[str, Any],
        wake: threading.Event,
    ) -> None:
        self.process = process
        self.applied_seq: int = hello["applied_seq"]
        self.failure: str | None = hello["failure"]
        self.lost = False
        self._control = control
        self._control_lock = threading.Lock()
        self._lanes = lanes
        self._idle: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        for each in lanes:
            self._idle.put(each)
        self._wake = wake
        control.settimeout(_HUNG_SECONDS)

    def ask(self, ask: str, header: Mapping[str, Any], *arrays: Any) -> Frame:
        """One exchange on a connection that is free; waits for one."""
        data = frames.encode(Frame({**header, "ask": ask}, arrays))
        lane = self._idle.get()
        try:
            return self._exchange(lane, data)
        finally:
            self._idle.put(lane)

    def control(self, ask: str) -> Frame:
        """One exchange beside the searches."""
        with self._control_lock:
            return self._exchange(self._control, frames.encode(Frame({"ask": ask})))

    def _exchange(self, connection: socket.socket, data: bytes) -> Frame:
        try:
            connection.sendall(data)
            answer = frames.receive(connection)
        except BaseException as error:
            # A connection out of step cannot be mended; a new child has new ones.
            self.lost = True
            self.process.kill()
            self._wake.set()
            if isinstance(error, OSError | EOFError):
                raise IndexUnavailable("The index process has ended.", AGAIN) from error
            raise
        # Answers may overtake each other here; an older one only says less than is true.
        self.applied_seq = max(self.applied_seq, answer.header["applied_seq"])
        self.failure = answer.header["failure"]
        if "error" in answer.header:
            raise frames.error_from_json(answer.header["error"])
        return answer

    def end(self, *, gently: bool) -> str:
        """End the process, reap it, and say how it ended."""
        healthy, self.lost = not self.lost, True
        if gently and healthy:
            with suppress(OSError, subprocess.TimeoutExpired), self._control_lock:
                self._control.sendall(frames.encode(Frame({"ask": "shutdown"})))
                self.process.wait(_STOP_SECONDS)
        self.process.kill()
        status = self.process.wait()
        for each in (self._control, *self._lanes):
            # Whoever waits for an answer on it must hear that there will be none.
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        return how_ended(status)


def how_ended(status: int) -> str:
    """A process's exit status in words."""
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
