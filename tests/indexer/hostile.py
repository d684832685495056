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
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from longleaf.core import frames
from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext, Parser
from longleaf.core.types import Document, Rejection
from longleaf.indexer.sandbox import child, programs
from longleaf.indexer.sandbox.confine import Confinement

Found = Iterator[Document | Rejection]
PRCTL_DUMPABLE = 3
HOSTILE_PROGRAM = "hostile.bin"
"""The name of LibreOffice by which a child of programs knows that it is a hostile one."""


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
        case "connect":
            found = socket.socket(socket.AF_UNIX)
            return found.connect(path)
        case "datagram":
            return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        case "listen":
            found = socket.socket(socket.AF_UNIX)
            found.bind(path)
            return found.listen()
        case "run":
            return subprocess.run([path], check=False, timeout=60).returncode
        case "socketpair":
            return socket.socketpair()
        case "fork":
            return os.fork()
        case "exec":
            return os.execv("/bin/true", ["true"])
        case "spawn":
            return os.posix_spawn("/bin/true", ["true"], {})
        case "kill":
            return os.kill(int(path), 0)
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
        elif name == "convert":
            suffix, given = json.loads(data)
            assert context.convert is not None
            yield document(context.convert(given.encode(), suffix).decode())
        elif name == "pages":
            yield self._read(data, context)
        elif name == "ask for what there is not":
            with connection() as parent:
                parent.sendall(frames.encode(frames.Frame({"say": "convert", "suffix": ".exe"})))
                time.sleep(1e6)
        elif name == "measured":
            yield from self._measured(*json.loads(data))
        else:
            raise AssertionError(name)

    def _read(self, data: bytes, context: ParseContext) -> Document:
        """OCR of two pages with one picture; how often it was made stands in the warnings."""
        made: list[int] = []

        def render(number: int) -> bytes:
            made.append(number)
            return data

        if context.ocr is None:
            raise NoTextFound(context.why_no_ocr)
        words = [
            word.text
            for number in (1, 2)
            for word in context.ocr.read_page(number, lambda: render(number))  # noqa: B023
        ]
        notes = (f"made {made}", f"by {context.ocr.engine}")
        return Document(" ".join(words) or "nothing", "title", warnings=notes)

    def _measured(self, documents: int, chars: int) -> Found:
        for number in range(documents):
            yield document(f"{number} ".ljust(chars, "x"))


class Scan(Hostile):
    """Reads pages that are numbered through the whole file."""

    media_type = "application/pdf"


class Page:
    """A parser that says it reads HTML although nobody asked for it to be another's."""

    media_type = "text/invented"
    suffixes: tuple[str, ...] = ()

    def parse(self, _data: bytes, _name: str, _context: ParseContext = NO_CONTEXT) -> Found:
        yield document("read")


def choose(name: str, _data: bytes) -> Parser:
    if name.startswith("scan "):
        return Renamed(Scan(), name.removeprefix("scan "))
    return Page() if name == "invented" else Hostile()


class Renamed:
    """Has `parser` do what another name says."""

    suffixes: tuple[str, ...] = ()

    def __init__(self, parser: Hostile, name: str) -> None:
        self.media_type = parser.media_type
        self._parser, self._name = parser, name

    def parse(self, data: bytes, _name: str, context: ParseContext = NO_CONTEXT) -> Found:
        return self._parser.parse(data, self._name, context)


# --- the child that runs programs --------------------------------------------------------------

ENDS_BY_SUFFIX = {".doc": "segfault", ".rtf": "sleep", ".odt": "exit"}


def serve_hostile_programs(
    parent: socket.socket, confinement: Confinement, place: dict[str, object]
) -> None:
    """Answers a conversion with what came of an attempt, or ends as its suffix says."""
    hello = {"say": "hello", "confinement": confinement.to_json()}
    parent.sendall(frames.encode(frames.Frame(hello)))
    incoming = frames.Incoming(parent)
    while True:
        asked = incoming.frame()
        header, made = {}, b""
        match asked.header:
            case {"ask": "engine"}:
                header = {"engine": "hostile \ud800 " + "x" * 10_000}
            case {"ask": "page"}:
                header = {"words": [["word", 1e9, 0, 0, 0, 0, 0, 0]]}
            case {"suffix": ".sxw"}:
                parent.sendall(b"\xff" * 100)
            case {"suffix": suffix} if suffix in ENDS_BY_SUFFIX:
                ENDS[ENDS_BY_SUFFIX[suffix]]()
            case {"suffix": ".wpd"}:
                hide()
                made = b"hidden"
            case _:
                what, path = json.loads(asked.arrays[0].tobytes())
                try:
                    made = f"done: {attempt(what, path.format(**place))!r}".encode()
                except (OSError, ValueError) as error:
                    made = f"{type(error).__name__} {getattr(error, 'errno', error)}".encode()
        parent.sendall(frames.encode(frames.Frame(header, (np.frombuffer(made, "|u1"),))))


def hide() -> None:
    """Leave a process behind that does all it can to stay."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(1)
        os._exit(0)
    os.wait()


if __name__ == "__main__":
    if json.loads(sys.argv[3]).get("libreoffice", "").endswith(HOSTILE_PROGRAM):
        programs.serve_programs = serve_hostile_programs  # type: ignore[assignment]
    try:
        status = child.main(sys.argv[1:], choose)
    except (OSError, EOFError):
        status = 1
    os._exit(status)
