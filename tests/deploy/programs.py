"""Programs that some tests run for real, and what such a test needs of the network."""

from __future__ import annotations

import os
import shutil
import socket

import pytest


def need(name: str) -> str:
    """The program's path; the test is skipped where it is not installed."""
    # Debian puts servers where only root looks.
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    """A port of the loopback that nobody listens on at this moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
