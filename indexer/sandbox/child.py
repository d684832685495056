"""A parser's process: gives up what it does not need, then reads one file after another.

Started by `process.ChildProcess` as `python -P -m longleaf.indexer.sandbox.child PARENT_PID FD
PLACE`: PLACE says in JSON what it may do and whether it runs parsers, draws pages or runs, for
parsers, LibreOffice and Tesseract. It reads no setting and no environment, and lives no longer than
its parent. Nothing but the standard library is loaded before it is confined.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from longleaf.core.children import end_with_parent
from longleaf.indexer.sandbox.confine import Walls, confine, go_first
from longleaf.indexer.sandbox.memory import Memory

if TYPE_CHECKING:
    from longleaf.core.protocols import Parser


def main(arguments: Sequence[str], choose: Callable[[str, bytes], Parser] | None = None) -> int:
    """Serve until the parent is gone or asks no more. `choose` picks parsers in tests."""
    # Ctrl-C and a service's stop reach the whole group; what to do about them the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent_pid = int(arguments[0])
    end_with_parent(parent_pid)
    connection = socket.socket(fileno=int(arguments[1]))
    place = json.loads(arguments[2])
    scratch = place["scratch"]
    walls = Walls(
        memory_bytes=place["memory_bytes"],
        input_bytes=place["input_bytes"],
        scratch=None if scratch is None else Path(scratch),
        programs=tuple(map(Path, place["programs"])),
        read=tuple(map(Path, place["read"])),
        private=tuple(map(Path, place["private"])),
        own_tmp=place["own_tmp"],
    )
    memory = Memory()
    confinement, kept = confine(walls, memory)
    end_with_parent(parent_pid)  # once more: a change of rights may have undone it
    if walls.programs:
        go_first(connection)
        from longleaf.indexer.sandbox.programs import serve_programs

        _keep_stderr_for_crashes()
        tempfile.tempdir = str(kept)
        serve_programs(connection, confinement, place | {"scratch": str(kept)})
    elif place.get("draws"):
        from longleaf.indexer.sandbox.drawing import serve_drawing

        _keep_stderr_for_crashes()
        serve_drawing(connection, confinement, memory)
    else:
        from longleaf.indexer.sandbox.reading import Reading

        reading = Reading(connection, memory, place["document_bytes"], choose)
        _keep_stderr_for_crashes()
        reading.serve(confinement)
    return 0


def _keep_stderr_for_crashes() -> None:
    """Libraries write parts of documents to stderr; only where Python crashed is worth keeping."""
    crashes = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    faulthandler.enable(crashes)


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except (OSError, EOFError):
        status = 1  # the parent is gone
    os._exit(status)
