"""A forked process under strace: stopped until the tracer is there, then traced to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Traced:
    """What strace wrote, what the process said on its pipe, and how it ended."""

    trace: str
    said: str
    ended: str


def traced(work: Callable[[int], None], arguments: Sequence[str], trace: Path) -> Traced:
    """Run `work(descriptor)` in a fork under strace; what it writes to the descriptor is `said`."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _child(work, writing)
    os.close(writing)
    os.waitpid(process, os.WUNTRACED)
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", *arguments, "-o", str(trace), "-p", str(process)],
        stderr=subprocess.DEVNULL,
    )
    while f"TracerPid:\t{tracer.pid}" not in Path(f"/proc/{process}/status").read_text():
        time.sleep(0.002)
    os.kill(process, signal.SIGCONT)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(process, 0)
    tracer.wait()
    seen = trace.read_text(errors="replace")
    trace.unlink()
    ended = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "exit"
    return Traced(seen, said, ended)


def _child(work: Callable[[int], None], writing: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        work(writing)
    finally:
        os._exit(0)
