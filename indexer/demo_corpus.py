"""The demo corpus: licence and copyright texts that are on every machine already.

Legal documents worth asking ("which licences end my patent grant if I sue?"), taken from the
installed Python distributions and, on Debian, from /usr/share. Each is copied unchanged below a
title line that says whose it is; equal contents come once. Downloads nothing. The folder is ours
alone: a marker file says so, a folder with anything else in it is refused, and whatever does not
belong there any more is removed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from longleaf.core.errors import Conflict
from longleaf.indexer.parsers.decode import looks_binary

MARKER = ".longleaf-demo"
# Small enough that a first try on two cores takes about a minute (10,000 tokens a second).
_MAX_FILE_BYTES = 1 << 19
_MAX_TOTAL_BYTES = 3 << 20
_MIN_FILE_BYTES = 64
_DEBIAN_LICENCES = Path("/usr/share/common-licenses")
_DEBIAN_DOCS = Path("/usr/share/doc")
_LEGAL_NAME = re.compile(r"(?:LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|PATENTS)[^/]*", re.IGNORECASE)
_NAMES_OF_PEOPLE = re.compile(r"(?:AUTHORS|CONTRIBUTORS|MAINTAINERS|THANKS)[^/]*", re.IGNORECASE)
_CODE_SUFFIXES = (".py", ".pyc", ".pyi", ".so", ".js", ".json", ".html", ".c", ".h")
_HEADLINE = re.compile(
    r"^[ \t]*((?:(?:[A-Z0-9(\"][\w.,()\"+-]*|of|the|and|for)[ ]+){0,8}"
    r"(?i:licen[cs]e)(?:[ ,]+(?:[A-Z0-9(v][\w.()-]*))*)[ \t]*$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class DemoCorpus:
    """What lies in the folder: how many files of how many bytes; `left_out` were over the limit."""

    files: int
    bytes: int
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class _Text:
    place: str  # path below the target, "/" between parts, without ".txt"
    title: str
    source: Path


def collect(target: Path) -> DemoCorpus:
    """Bring `target` up to date: the same texts, however often it runs.

    Raises `Conflict` when the folder holds something that this function did not put there.
    """
    marker = target / MARKER
    if target.exists() and not marker.is_file() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(
            f"{target} is not empty and was not made by this command.",
            "Name another folder, or empty this one.",
        )
    target.mkdir(parents=True, exist_ok=True)
    marker.write_text("Made by longleaf; files here are replaced and removed.\n", encoding="utf-8")
    contents, left_out = _contents()
    _remove_stale(target, {PurePosixPath(place) for place in contents})
    for place, data in contents.items():
        path = target / place
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return DemoCorpus(len(contents), sum(map(len, contents.values())), left_out)


def _contents() -> tuple[dict[str, bytes], int]:
    """(place → file content, how many texts were left out for size)."""
    contents: dict[str, bytes] = {}
    seen: set[bytes] = set()
    taken: set[str] = set()  # lower case: two names may not differ in case alone
    total_bytes = left_out = 0
    for text in (*_debian_licences(), *_distributions(), *_debian_copyrights()):
        data = _read(text.source)
        if data is None:
            left_out += 1
            continue
        digest = hashlib.sha256(b" ".join(data.split())).digest()
        if digest in seen or len(data) < _MIN_FILE_BYTES or looks_binary(data):
            continue
        if total_bytes + len(data) > _MAX_TOTAL_BYTES:
            left_out += 1
            continue
        seen.add(digest)
        body = text.title.encode() + _headline(data).encode() + b"\n\n" + data
        place = f"{text.place}.txt"
        number = 2
        while place.lower() in taken:
            place = f"{text.place}-{number}.txt"
            number += 1
        taken.add(place.lower())
        contents[place] = body
        total_bytes += len(body)
    return contents, left_out


def _debian_licences() -> Iterator[_Text]:
    for path in _files_of(_DEBIAN_LICENCES):
        if not path.is_symlink():
            title = f"The licence {path.name} as Debian ships it"
            yield _Text(f"common-licenses/{_safe(path.name)}", title, path)


def _debian_copyrights() -> Iterator[_Text]:
    for folder in _files_of(_DEBIAN_DOCS):
        path = folder / "copyright"
        if not folder.is_symlink() and path.is_file():
            title = f"Copyright of the Debian package {folder.name}"
            yield _Text(f"debian/{_safe(folder.name)}-copyright", title, path)


def _distributions() -> Iterator[_Text]:
    found: dict[str, _Text] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"] or "unknown"
        for file in distribution.files or ():
            parts = PurePosixPath(file.as_posix()).parts
            in_licences = "licenses" in parts[:-1] and parts[0].endswith(".dist-info")
            if ".." in parts or file.suffix.lower() in _CODE_SUFFIXES:
                continue
            if _NAMES_OF_PEOPLE.fullmatch(file.name) is not None:
                continue
            if not in_licences and _LEGAL_NAME.fullmatch(file.name) is None:
                continue
            below = parts[parts.index("licenses") + 1 :] if in_licences else parts[1:] or parts
            shown = "/".join(below)
            place = f"{_safe(name)}/{_safe('__'.join(below).removesuffix('.txt'))}"
            title = f"{shown} of {name} {distribution.version}"
            found.setdefault(place, _Text(place, title, Path(str(file.locate()))))
    yield from (found[place] for place in sorted(found))


def _files_of(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []  # not a Debian machine


def _read(path: Path) -> bytes | None:
    """The file's bytes; None for one that is too large, is no regular file or cannot be read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_FILE_BYTES:
            return None
        return path.read_bytes()
    except OSError:
        return None


def _headline(data: bytes) -> str:
    """ ": " and the licence's own name, when a line near the top is nothing but that."""
    match = _HEADLINE.search(data[:400].decode("utf-8", "replace"))
    return f": {' '.join(match.group(1).split())}" if match else ""


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip(".") or "_"


def _remove_stale(target: Path, wanted: set[PurePosixPath]) -> None:
    """Remove what is not wanted. Links are unlinked, never followed."""
    for folder, folders, files in os.walk(target, topdown=False, followlinks=False):
        here = Path(folder)
        for name in (*files, *folders):
            path = here / name
            relative = PurePosixPath(path.relative_to(target).as_posix())
            if path.is_symlink() or (path.is_file() and relative not in wanted and name != MARKER):
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()
