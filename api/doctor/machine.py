"""What the machine and the installation are: versions, disk, programs, the sandbox, the port.

Looks and asks, changes nothing, loads no model. A program is looked for where the parsers look.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import longleaf
from longleaf.api.doctor.report import Finding, fail, ok, warn
from longleaf.api.http import mcp
from longleaf.core.catalog.database import DATABASE
from longleaf.core.config import Settings
from longleaf.core.errors import LongleafError

FAIL_BELOW_BYTES = 256 * 1024 * 1024
WARN_BELOW_BYTES = 2 * 1024 * 1024 * 1024

_PARTS = {
    DATABASE: "catalog",
    f"{DATABASE}-wal": "its log",
    "originals": "originals",
    "token-vectors": "token vectors",
    "page-images": "page images",
    "index": "indexes",
}


def installation(settings: Settings) -> Iterator[Finding]:
    """Versions and hardware."""
    memory = _memory_bytes()
    yield ok(
        "version",
        f"Longleaf {longleaf.__version__}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {platform.system()} {platform.machine()}",
    )
    yield ok(
        "hardware",
        f"{os.cpu_count()} cores"
        + (f", {memory / 2**30:.1f} GiB of memory" if memory else "")
        + (", NVIDIA GPU" if Path("/dev/nvidia0").exists() else ", no NVIDIA GPU"),
    )
    yield ok(
        "MCP",
        f"at {mcp.PATH} of a running server, and as longleaf mcp"
        if mcp.is_installed()
        else f"not installed: {mcp.INSTALL}",
    )


def disk(home: Path) -> Iterator[Finding]:
    """Where the data lie, how large they are, and whether there is room for more."""
    there = home
    while not there.exists():
        there = there.parent
    usage = shutil.disk_usage(there)
    sizes = [
        f"{name} {_in_words(size)}"
        for part, name in _PARTS.items()
        if (size := _size_bytes(home / part))
    ]
    yield ok("data folder", f"{home}: {', '.join(sizes) or 'nothing yet'}")
    if not os.access(there, os.W_OK | os.X_OK):
        yield fail("data folder", f"{there} cannot be written to.", "Give this user the right to.")
    yield room(usage.free, usage.total)


def room(free_bytes: int, total_bytes: int) -> Finding:
    """Whether a disk has room for more."""
    free = f"{_in_words(free_bytes)} free of {_in_words(total_bytes)}"
    if free_bytes < FAIL_BELOW_BYTES:
        return fail("disk", free, "Free some space: nothing more can be indexed.")
    if free_bytes < WARN_BELOW_BYTES:
        return warn("disk", free, "Free some space: a rebuild needs as much as the index has now.")
    return ok("disk", free)


def programs() -> Iterator[Finding]:
    """The programs that some formats need."""
    for name, other, what, package in (
        ("tesseract", "", "scanned pages are read", "tesseract-ocr"),
        ("soffice", "libreoffice", "DOC, RTF and ODT are read", "libreoffice-writer-nogui"),
    ):
        found = shutil.which(name) or (shutil.which(other) if other else None)
        if found:
            yield ok("programs", f"{found}: {what}")
        else:
            yield warn(
                "programs",
                f"{name} is not installed; without it {what.replace(' are ', ' are not ')}.",
                f"Debian: apt-get install {package}. Nothing else needs it.",
            )


def sandbox(settings: Settings) -> Iterator[Finding]:
    """What parsers, and the programs that they may start, are kept from: asked of a child of each
    that has given it up. Limits of time and output are kept by their parent everywhere."""
    from longleaf.indexer.sandbox.pool import SandboxReader, find_programs

    reader = SandboxReader(
        settings.indexer, programs=find_programs(settings.indexer), private=[settings.home]
    )
    try:
        reports = reader.confinements()
    except LongleafError as error:
        yield fail("sandbox", f"No file can be read: {error.message}", error.hint)
        return
    finally:
        reader.close()
    for who, report in reports.items():
        holds = {name: hold["how"] for name, hold in report.to_json().items() if hold["holds"]}
        stands = "; ".join(f"{name}: {how}" for name, how in holds.items()) or "nothing"
        if report.gaps:
            yield warn(
                f"sandbox of {who}",
                f"{who} are not held back from everything. Missing: {'; '.join(report.gaps)}. "
                f"In force: {stands}",
                "Linux 5.13 with Landlock and seccomp gives all of it; in a container, its seccomp "
                "profile may be what forbids it.",
            )
        else:
            yield ok(f"sandbox of {who}", stands)


def port(settings: Settings, server: str | None) -> Iterator[Finding]:
    """Whether a server runs on this data folder, and if not, whether one could."""
    host, number = settings.server.host, settings.server.port
    if server is not None:
        yield ok("server", f"answers at {server}")
        return
    if number == 0:
        yield ok("server", "none runs; a free port is taken at its start")
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            yield warn(
                "server",
                f"none runs on this data folder, and {host}:{number} cannot be listened on "
                f"({error.strerror}).",
                "Choose another: longleaf serve --port 0, or set server.port.",
            )
        else:
            yield ok("server", f"none runs; {host}:{number} is free")


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _size_bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += (Path(folder) / name).stat().st_size
            except FileNotFoundError:  # it is somebody's temporary file
                continue
    return total


def _in_words(size_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size_bytes < 1024 or unit == "GiB":
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    raise AssertionError("unreachable")
