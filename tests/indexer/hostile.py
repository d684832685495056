"""The sandbox's child with parsers that misbehave on purpose: started by tests as a script.

A file's name says what its parser does; where that is an attempt to get out, the document's text
says what came of it.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext, Parser
from longleaf.core.types import Document, Rejection
from longleaf.indexer.sandbox import child

Found = Iterator[Document | Rejection]
PRCTL_DUMPABLE = 3


def document(text: str) -> Document:
    return Document(text, "a title")


# --- ends that no parser should come to --------------------------------------------------------


def segfault() -> None:
    ctypes.string_at(0)


def loop() -> None:
    while True:
        pass


def allocate() -> None:
    held = []
    while True:
        held.append(bytearray(16 * 1024 * 1024))


def allocate_shared() -> None:
    held = []
    while True:
        held.append(mmap.mmap(-1, 16 * 1024 * 1024))


def recurse() -> None:
    recurse()


def internal() -> None:
    raise KeyError("a bug of the parser")


def refuse() -> None:
    raise Rejected(RejectReason.ENCRYPTED, "it is locked \ud800", "unlock it")


def no_text() -> None:
    raise NoTextFound("a picture", "run OCR")


ENDS: dict[str, Callable[[], object]] = {
    "segfault": segfault,
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "leave": lambda: sys.exit(0),
    "killed": lambda: signal.raise_signal(signal.SIGKILL),
    "loop": loop,
    "sleep": lambda: time.sleep(1e6),
    "allocate": allocate,
    "allocate-shared": allocate_shared,
    "recurse": recurse,
    "internal": internal,
    "refuse": refuse,
    "no-text": no_text,
}


# --- ways out ----------------------------------------------------------------------------------


def call(number: int, *arguments: object) -> str:
    """A system call; the tests know that of x86_64 only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "done"


def attempt(what: str, path: str) -> object:
    parent = os.getppid()
    match what:
        case "inet":
            return socket.socket(socket.AF_INET)
        case "inet6":
            return socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        case "unix":
            return socket.socket(socket.AF_UNIX)
        case "netlink":
            return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
        case "socketpair":
            return socket.socketpair()
        case "fork":
            return os.fork()
        case "exec":
            return os.execv("/bin/true", ["true"])
        case "spawn":
            return os.posix_spawn("/bin/true", ["true"], {})
        case "kill parent":
            return os.kill(parent, 0)
        case "signal parent's thread":
            return call(234, parent, parent, 0)
        case "limit parent":
            return resource.prlimit(parent, resource.RLIMIT_NOFILE, (10, 10))
        case "trace parent":
            return call(101, 16, parent, 0, 0)
        case "read parent's memory":
            return call(310, parent, None, 0, None, 0, 0)
        case "io_uring":
            return call(425, 1, ctypes.create_string_buffer(200))
        case "bpf":
            return call(321, 0, ctypes.create_string_buffer(200), 128)
        case "keyring":
            return call(250, 0, -3, 1)
        case "namespace":
            return call(272, 0x10000000)
        case "mount":
            return call(165, b"none", b"/tmp", b"tmpfs", 0, None)
        case "newer than the table":
            return call(463, 0, b"/", 0, None)
        case "set user":
            return os.setuid(os.getuid())
        case "type into the terminal":
            return call(16, 0, 0x5412, ctypes.create_string_buffer(b"x"))
        case "shared memory":
            return call(29, 0, 4096, 0o1600)
        case "read":
            return Path(path).read_bytes()
        case "list":
            return list(Path(path).iterdir())
        case "write":
            return Path(path).write_text("x")
        case "make":
            return Path(path).mkdir()
        case "remove":
            return Path(path).unlink()
        case "change mode":
            return Path(path).chmod(0o777)
        case "change times":
            return os.utime(path)
        case "raise limit":
            return resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        case "environment":
            return sorted(os.environ)
        case "capabilities":
            status = ctypes.create_string_buffer(24)
            header = struct.pack("=II", 0x20080522, 0)
            call(125, header, status)
            return status.raw.strip(b"\0").hex() or "none"
        case "dumpable":
            return ctypes.CDLL(None).prctl(PRCTL_DUMPABLE, 0, 0, 0, 0)
        case "interfaces":
            return sorted(name for _, name in socket.if_nameindex())
    raise AssertionError(what)


# --- lies --------------------------------------------------------------------------------------


def connection() -> socket.socket:
    """The parent's, found as code that took over a parser would find it."""
    for number in range(3, 100):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return socket.socket(fileno=os.dup(number))
        except OSError:
            continue
    raise AssertionError("no socket")


def lie(data: bytes) -> None:
    connection().sendall(data)
    time.sleep(1e6)


def drip() -> None:
    with connection() as parent:
        parent.sendall(struct.pack("<II", 1_000_000, 0))
        while True:
            parent.sendall(b" ")
            time.sleep(0.02)


def flood_bytes() -> None:
    with connection() as parent:
        while True:
            parent.sendall(b"\xff" * 65_536)


# --- parsers -----------------------------------------------------------------------------------


class Hostile:
    """Does what the name of its file says."""

    media_type = "text/plain"
    suffixes: tuple[str, ...] = ()

    def parse(self, data: bytes, name: str, context: ParseContext = NO_CONTEXT) -> Found:
        if name in ENDS:
            ENDS[name]()
        elif name.startswith("late "):
            yield document("the first one")
            ENDS[name.removeprefix("late ")]()
        elif name == "good":
            yield document(data.decode())
        elif name == "try":
            what, path = json.loads(data)
            try:
                result = attempt(what, path)
            except OSError as error:
                yield document(f"{type(error).__name__} {error.errno}")
            except ValueError as error:
                yield document(f"ValueError {error}")
            else:
                yield document(f"done: {result!r}")
        elif name == "lie":
            lie(data)
        elif name == "drip":
            drip()
        elif name == "flood bytes":
            flood_bytes()
        elif name == "endless":
            number = 0
            while True:
                number += 1
                yield document(f"document {number} " * 50)
        elif name == "progress":
            for number in range(101):
                context.on_progress("parse", number, 100)
            yield document("read")
        elif name == "measured":
            yield from self._measured(*json.loads(data))
        else:
            raise AssertionError(name)

    def _measured(self, documents: int, chars: int) -> Found:
        for number in range(documents):
            yield document(f"{number} ".ljust(chars, "x"))


class Page:
    """A parser that says it reads HTML although nobody asked for it to be another's."""

    media_type = "text/invented"
    suffixes: tuple[str, ...] = ()

    def parse(self, _data: bytes, _name: str, _context: ParseContext = NO_CONTEXT) -> Found:
        yield document("read")


def choose(name: str, _data: bytes) -> Parser:
    return Page() if name == "invented" else Hostile()


if __name__ == "__main__":
    try:
        status = child.main(sys.argv[1:], choose)
    except (OSError, EOFError):
        status = 1
    os._exit(status)
