"""Which files there are to index, and their bytes: a walk that never hangs and hides nothing.

Folders are walked in sorted order. Names that begin with a dot are left out, like folders that a
symbolic link points to (inside the root the walk comes there anyway; outside is not ours).
Whatever else cannot be read (a pipe, a link out of the root, a folder without permission) comes
as an entry whose `problem` says why, so that it ends in a visible outcome. Knows no file formats
and no catalog. Files named on the command line are taken whatever they are called.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from longleaf.core.errors import NotFound, Rejected, RejectReason
from longleaf.core.ids import MAX_KEY_BYTES, fits

_ESCAPED = re.compile(r"\\(?:\\|x([0-9a-f]{2}))")
_READ_BYTES = 1 << 20
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file found by `walk`, or something there that cannot be read, with the `problem`.

    `key` is the absolute path as valid Unicode, the same wherever the command runs; `path` is what
    to open (for a link: its target).
    """

    path: Path
    key: str
    size_bytes: int
    mtime_ns: int
    problem: str = ""


def walk(
    roots: Sequence[Path],
    include: Sequence[str],
    exclude: Sequence[str],
    only: Sequence[Path] = (),
) -> Iterator[SourceFile]:
    """Every file below `roots` (each a folder or a file) once, sorted within each root.

    Globs match the file's name or its path below the root with "/", upper and lower case alike;
    "*" crosses "/", and "**/" also matches nothing. An excluded folder is not entered. Nothing in
    `include` means everything. With `only`, nothing but these paths and what lies below them is
    looked at. Raises `NotFound` for a missing root before anything is yielded.
    """
    found: list[Path] = []
    for root in roots:
        try:
            found.append(root.resolve(strict=True))
        except (OSError, RuntimeError) as failure:
            raise NotFound(
                f"{printable(os.fspath(root))} does not exist.", "Check the path."
            ) from failure
    return _walk_all(found, _Globs(include), _Globs(exclude), _Only(only))


def read_bytes(source: SourceFile, max_bytes: int) -> bytes:
    """The file's bytes. Raises `Rejected`: TOO_LARGE, UNREADABLE.

    Opens only what is a regular file, follows no link put there since the walk, and never waits
    for the other end of a pipe.
    """
    name = source.key
    if source.problem:
        raise Rejected(RejectReason.UNREADABLE, f"{name}: {source.problem}.")
    flags = os.O_RDONLY
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, flag, 0)
    try:
        # Opening a device can have effects, so look first; and again at what was opened.
        _require_regular(os.lstat(source.path), name)
        descriptor = os.open(source.path, flags)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            _require_regular(status, name)
            if status.st_size > max_bytes:
                raise _too_large(name, status.st_size, max_bytes)
            return _read_at_most(file.read, name, max_bytes)
    except OSError as failure:
        reason = failure.strerror or type(failure).__name__
        raise Rejected(RejectReason.UNREADABLE, f"{name} cannot be read: {reason}.") from failure


def _read_at_most(read: Callable[[int], bytes | None], name: str, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    # Sizes lie (a file that grows, /proc), so the limit holds for what is read as well.
    while part := read(min(_READ_BYTES, max_bytes + 1 - size_bytes)):
        parts.append(part)
        size_bytes += len(part)
        if size_bytes > max_bytes:
            raise _too_large(name, size_bytes, max_bytes)
    return b"".join(parts)


def key_of(path: Path) -> str:
    """An absolute path as valid Unicode; `path_of` is its inverse.

    Bytes that are no UTF-8 become "\\xff", a backslash becomes two.
    """
    return "".join(
        "\\\\" if char == "\\" else f"\\x{ord(char) - 0xDC00:02x}" if _is_byte(char) else char
        for char in path.as_posix()
    )


def path_of(key: str) -> Path:
    """The path that `key_of` made `key` from."""
    return Path(
        _ESCAPED.sub(
            lambda match: chr(0xDC00 + int(match.group(1), 16)) if match.group(1) else "\\", key
        )
    )


def printable(path: str) -> str:
    """A path for messages: valid Unicode, whatever bytes it has."""
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in path)


def _is_byte(char: str) -> bool:
    return "\udc80" <= char <= "\udcff"


def _require_regular(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Rejected(RejectReason.UNREADABLE, f"{name} is {_kind(status)}, not a file.")


def _too_large(name: str, size_bytes: int, max_bytes: int) -> Rejected:
    return Rejected(
        RejectReason.TOO_LARGE,
        f"{name} has {size_bytes:,} bytes or more; the limit is {max_bytes:,}.",
        "Split it, or raise the limit.",
    )


def _kind(status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return "a symbolic link"
    return next((name for test, name in _KINDS if test(status.st_mode)), "a special file")


class _Globs:
    """Patterns compiled once; a path matches when one of them matches its name or all of it."""

    def __init__(self, patterns: Sequence[str]) -> None:
        alternatives = []
        for pattern in patterns:
            pattern = pattern.strip().removeprefix("./").rstrip("/")
            alternatives.append(fnmatch.translate(pattern))
            if pattern.startswith("**/"):
                alternatives.append(fnmatch.translate(pattern.removeprefix("**/")))
        self._pattern = re.compile("|".join(alternatives), re.IGNORECASE) if alternatives else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def match(self, relative: str) -> bool:
        if self._pattern is None:
            return False
        name = relative.rpartition("/")[2]
        return bool(self._pattern.match(relative) or self._pattern.match(name))


class _Only:
    """Paths that a walk keeps to: the way to them, they themselves, and what lies below."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = frozenset(paths)
        self._above = frozenset(parent for path in paths for parent in path.parents)

    def allows(self, path: Path) -> bool:
        return (
            not self._paths
            or path in self._paths
            or path in self._above
            or not self._paths.isdisjoint(path.parents)
        )


def _walk_all(
    roots: Sequence[Path], included: _Globs, excluded: _Globs, only: _Only
) -> Iterator[SourceFile]:
    seen: set[str] = set()
    for root in roots:
        named = None if root.is_dir() else _entry(root, root)
        for source in [named] if named else _walk_folder(root, included, excluded, only):
            if source.key not in seen:
                seen.add(source.key)
                yield source


def _walk_folder(
    root: Path, included: _Globs, excluded: _Globs, only: _Only
) -> Iterator[SourceFile]:
    """Depth first without recursion; a folder's entries in the order of their names' bytes."""
    waiting = [root]
    while waiting:
        path = waiting.pop()
        try:
            is_folder = path == root or (path.is_dir() and not path.is_symlink())
            below = sorted(path.iterdir(), key=os.fsencode, reverse=True) if is_folder else []
        except OSError as failure:
            yield _problem(path, failure.strerror or type(failure).__name__)
            continue
        if is_folder:
            waiting += [
                entry
                for entry in below
                if not entry.name.startswith(".")
                and only.allows(entry)
                and not excluded.match(entry.relative_to(root).as_posix())
            ]
        elif not included or included.match(path.relative_to(root).as_posix()):
            source = _entry(path, root)
            if source is not None:
                yield source


def _entry(path: Path, root: Path) -> SourceFile | None:
    """What `path`, no folder, is; None for a link to a folder, which the walk leaves alone."""
    try:
        status = path.lstat()
        target = path
        if stat.S_ISLNK(status.st_mode):
            target = path.resolve(strict=True)
            status = target.lstat()
            if stat.S_ISDIR(status.st_mode):
                return None
            if not target.is_relative_to(root):
                return _problem(path, "a symbolic link that leads out of the folder")
    except (OSError, RuntimeError) as failure:
        reason = getattr(failure, "strerror", None) or "a symbolic link that goes in circles"
        return _problem(path, reason)
    key = key_of(path)
    if not fits(key):
        size_bytes = len(key.encode())
        return _problem(path, f"a path of {size_bytes:,} bytes; up to {MAX_KEY_BYTES:,} are taken")
    problem = "" if stat.S_ISREG(status.st_mode) else f"is {_kind(status)}, not a file"
    return SourceFile(target, key, status.st_size, status.st_mtime_ns, problem)


def _problem(path: Path, problem: str) -> SourceFile:
    key = key_of(path)
    if not fits(key):  # no row could hold it: its beginning, and what tells it from others
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        key = f"{key.encode()[: MAX_KEY_BYTES - 20].decode(errors='ignore')}…{digest}"
    return SourceFile(path, key, 0, 0, problem)
