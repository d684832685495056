"""What every process that another one of ours starts does first: die with it.

Nothing but the standard library is loaded: a parser's process imports this before it is confined.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent_pid: int) -> None:
    """Die when the *thread* that started this process does, whatever this process is busy with.

    So a parent starts its children from a thread that lives as long as it needs them. Where the
    kernel has no such signal, a child that outlives its parent notices by its closed pipe.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)
