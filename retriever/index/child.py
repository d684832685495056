"""One life of an index process, as its parent sees it: a process and the connections to it.

Each connection carries one question at a time; a thread that asks takes a free one. It does not
know what is asked, nor when a child is wanted. Trade-off: whatever goes wrong on a connection
ends the whole child, because starting again takes half a second and mending is guesswork.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from longleaf.core.errors import IndexUnavailable
from longleaf.retriever.index import frames
from longleaf.retriever.index.frames import Frame

AGAIN = "It is started again by itself. Try again in a few seconds."

_HUNG_SECONDS = 120.0
_STOP_SECONDS = 30.0


class Retired(Exception):
    """Another child has taken this one's place since it was looked up: ask that one."""


class Starting:
    """A child that was started and has not said yet whether it can be asked."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        lanes: Sequence[socket.socket],
        wake: threading.Event,
    ) -> None:
        self.process = process
        self._control = control
        self._lanes = lanes
        self._wake = wake

    @property
    def has_answered(self) -> bool:
        """Whether `greet` would return, or raise, at once."""
        return bool(select.select([self._control], [], [], 0)[0])

    def greet(self) -> Child:
        """The child, once it can be asked. Raises what kept it from that; it has ended then."""
        try:
            try:
                hello = frames.receive(self._control).header
            except (OSError, EOFError):
                how = how_ended(self.process.wait())
                raise IndexUnavailable(f"The index process ended at its start ({how}).") from None
            if "error" in hello:
                raise frames.error_from_json(hello["error"])
        except BaseException:
            self.end()
            raise
        return Child(self.process, self._control, self._lanes, hello, self._wake)

    def end(self) -> None:
        """Kill it, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        for each in (self._control, *self._lanes):
            each.close()


def start_child(
    place: Mapping[str, Any], connections: int, lock: int, wake: threading.Event
) -> Starting:
    """Start a worker and tell it its place; `connections` questions can be asked at once.

    The kernel ends it with the thread that calls this. It shares the descriptor `lock`. `wake` is
    set when something is wrong with it.
    """
    with ExitStack() as undo:
        pairs = [socket.socketpair() for _ in range(1 + connections)]
        ours, theirs = zip(*pairs, strict=True)
        for each in ours:
            undo.callback(each.close)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [
                    sys.executable,
                    "-P",  # a file in the working folder must not stand in for a module
                    "-m",
                    "longleaf.retriever.index.worker",
                    str(os.getpid()),
                    *(str(each.fileno()) for each in theirs),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[lock, *(each.fileno() for each in theirs)],
                process_group=0,
            )
        finally:
            # The child's ends must be its alone: only then does each side hear the other die.
            for each in theirs:
                each.close()
        undo.callback(process.wait)
        undo.callback(process.kill)
        with suppress(OSError):  # it has ended already, which greeting it will tell
            ours[0].sendall(frames.encode(Frame(place)))
        undo.pop_all()
        return Starting(process, ours[0], ours[1:], wake)


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
        self._retired = False
        self._control = control
        self._control_lock = threading.Lock()
        self._lanes = lanes
        self._idle: queue.SimpleQueue[socket.socket | None] = queue.SimpleQueue()
        for each in lanes:
            self._idle.put(each)
        self._wake = wake
        control.settimeout(_HUNG_SECONDS)

    def ask(self, ask: str, header: Mapping[str, Any], *arrays: Any) -> Frame:
        """One exchange on a connection that is free; waits for one. Raises Retired."""
        data = frames.encode(Frame({**header, "ask": ask}, arrays))
        lane = self._idle.get()
        if lane is None:
            self._idle.put(None)  # for the next who comes too late
            raise Retired
        try:
            return self._exchange(lane, data)
        finally:
            self._idle.put(lane)

    def control(self, ask: str, **header: Any) -> Frame:
        """One exchange beside the searches."""
        with self._control_lock:
            return self._exchange(self._control, frames.encode(Frame({**header, "ask": ask})))

    def retire(self) -> None:
        """Wait for the searches under way; who asks from now on is told to ask another."""
        self._retired = True
        for _ in self._lanes:
            self._idle.get()
        self._idle.put(None)

    def _exchange(self, connection: socket.socket, data: bytes) -> Frame:
        try:
            connection.sendall(data)
            answer = frames.receive(connection)
        except BaseException as error:
            # A connection out of step cannot be mended; a new child has new ones.
            self.lost = True
            self.process.kill()
            self._wake.set()
            if self._retired:
                raise Retired from error
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
