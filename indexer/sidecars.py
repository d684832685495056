"""Sidecars: files beside a document's file that say what it is.

`contract.pdf.json`, or `contract.json`, holds a JSON object of metadata; a `metadata.csv` describes
the files of its folder and below (`sidecar_table`). A row of the table weighs least, the file's own
full name most. A sidecar may set any field and the title, never who may see a document. What is
wrong with one is a warning on the documents of its file and keeps none of them out; rows of files
that are not there have no such document, so they are the table's own `problem`.

Looks at folders through a listing that it keeps, so a file without sidecars costs no look at the
disk: make a new `Sidecars` for each run. Opens only regular files, follows no link, reads a bounded
amount.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from longleaf.core.errors import Rejected
from longleaf.core.filters import BUILT_IN_FIELDS
from longleaf.core.types import MetaValue
from longleaf.indexer import sidecar_table
from longleaf.indexer.parsers.decode import clean, decode
from longleaf.indexer.parsers.sections import shorten
from longleaf.indexer.sidecar_missing import missing_files
from longleaf.indexer.sidecar_table import NO_TABLE, Table, file_key
from longleaf.indexer.sources import SourceFile, printable, read_bytes

MAX_SIDECAR_BYTES = 1_048_576
_MAX_FIELDS = 200
_MAX_VALUE_CHARS = 10_000
MAX_TITLE_CHARS = 500
_MAX_FOLDERS = 256
_SHOWN_NAMES = 5
_SHOWN_CHARS = 100
_MAX_LEVELS = 32
_MAX_INT = 2**63 - 1  # SQLite's largest
_NOT_SETTABLE = frozenset((*BUILT_IN_FIELDS, "groups", "group", "access")) - {"title"}
_IS_DOCUMENT = ("text", "contents")
"""Fields that make a JSON object a document of its own (`parsers.jsonl`)."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What sidecars say of a file. `title` is "" where they say none.

    `fingerprint` changes when any of it may have changed; "" where there is no sidecar.
    """

    metadata: Mapping[str, MetaValue] = field(default_factory=dict)
    title: str = ""
    warnings: tuple[str, ...] = ()
    fingerprint: str = ""


NO_SIDECAR = Sidecar()


@dataclass(slots=True)
class _Folder:
    """A folder's sidecars: JSON files with size and time, and the names that they may describe."""

    json_files: dict[str, tuple[int, int]]
    stems: frozenset[str]  # of the other files, where a JSON file has the same
    names: frozenset[str]  # of the other files, where a JSON file has the name and ".json"
    table: Table = NO_TABLE
    table_is_sidecar: bool = False
    holds_metadata: dict[str, bool] = field(default_factory=dict)  # JSON files looked into


_NO_FOLDER = _Folder({}, frozenset(), frozenset())


_Source: TypeAlias = tuple[str, "Path | sidecar_table.Row", object]
"""A sidecar's name, where it is or what it says, and what changes with it."""


class Sidecars:
    """The sidecars of one run. Tables above a file's folder count as far up as one of `roots`."""

    def __init__(self, roots: Sequence[Path] = ()) -> None:
        self._roots = frozenset(roots)
        self._folders: OrderedDict[Path, _Folder] = OrderedDict()

    def for_file(self, path: Path) -> Sidecar:
        """What the sidecars of the file at `path` say. Never raises for what they hold."""
        sources = self._sources(path)
        notes = self._table_notes(path)
        if not sources and not notes:
            return NO_SIDECAR
        warnings = list(notes)
        metadata: dict[str, MetaValue] = {}
        title = ""
        for name, content, _ in sources:
            if isinstance(content, sidecar_table.Row):
                stated: Mapping[str, object] = content.fields
                warnings += content.warnings
            else:
                stated = _read_json(content, warnings)
            fields, own_title = _settable(stated, printable(name), warnings)
            metadata |= fields
            title = own_title or title
        return Sidecar(metadata, title, tuple(dict.fromkeys(warnings)), _mark(sources, notes))

    def fingerprint(self, path: Path) -> str:
        """`for_file(path).fingerprint`, cheaply: mostly a look into a listing that is there."""
        return _mark(self._sources(path), self._table_notes(path))

    def problem(self, path: Path) -> str:
        """What is wrong with a table as a whole: the files that it names and that are not there."""
        if path.name.lower() != sidecar_table.NAME:
            return ""
        missing = missing_files(path.parent, self._folder(path.parent).table.rows)
        if not missing:
            return ""
        shown = ", ".join(printable(file)[:_SHOWN_CHARS] for file in missing[:_SHOWN_NAMES])
        more = ", …" if len(missing) > _SHOWN_NAMES else ""
        return (
            f"its rows for {len(missing):,} files that are not there were not used: {shown}{more}"
        )

    def is_sidecar(self, path: Path) -> bool:
        """Whether the file at `path` describes other files and is no document of its own."""
        name = path.name
        if name.lower() == sidecar_table.NAME:
            return self._folder(path.parent).table_is_sidecar
        if not name.endswith(".json"):
            return False
        folder = self._folder(path.parent)
        if name not in folder.json_files:
            return False
        below = name[: -len(".json")]
        return below in folder.names or (below in folder.stems and _holds_metadata(folder, path))

    # --- where they are ------------------------------------------------------------------------

    def _sources(self, path: Path) -> list[_Source]:
        """A file's sidecars, the weakest first."""
        found: list[_Source] = []
        below = path.name
        folder_path = path.parent
        for table_folder in self._folders_up(path):
            row = self._folder(table_folder).table.rows.get(file_key(_unicode(below)))
            if row is not None:
                found.insert(0, (sidecar_table.NAME, row, sorted(row.fields.items())))
            below = f"{table_folder.name}/{below}"
        folder = self._folder(folder_path)
        for name in dict.fromkeys((f"{path.stem}.json", f"{path.name}.json")):
            times = folder.json_files.get(name)
            beside = folder_path / name
            if times is None or name == path.name:
                continue
            if name == f"{path.name}.json" or _holds_metadata(folder, beside):
                found.append((name, beside, (name, *times)))
        return found

    def _table_notes(self, path: Path) -> list[str]:
        """What every file that a table may describe should know."""
        tables = [self._folder(folder).table for folder in self._folders_up(path)]
        return [note for table in tables for note in table.warnings]

    def _folders_up(self, path: Path) -> list[Path]:
        """The file's folder, then those above it up to a root; only its own outside all roots."""
        folders = [path.parent]
        if path.parent not in self._roots:
            for folder in list(path.parent.parents)[:_MAX_LEVELS]:
                folders.append(folder)
                if folder in self._roots:
                    return folders
        return folders[:1]

    def _folder(self, path: Path) -> _Folder:
        known = self._folders.get(path)
        if known is None:
            known = self._folders[path] = _list(path)
            if len(self._folders) > _MAX_FOLDERS:
                self._folders.popitem(last=False)
        self._folders.move_to_end(path)
        return known


def _mark(sources: Sequence[_Source], notes: Sequence[str]) -> str:
    marks = [*(mark for *_, mark in sources), *notes]
    return hashlib.sha256(repr(marks).encode("utf-8", "replace")).hexdigest()[:16] if marks else ""


def _list(path: Path) -> _Folder:
    """A folder's sidecars, from one listing; nothing for one that cannot be listed."""
    json_files: dict[str, tuple[int, int]] = {}
    others: list[str] = []
    table, is_sidecar = NO_TABLE, False
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False) if _may_be_one(entry) else None
                if status is not None and entry.name.lower() == sidecar_table.NAME:
                    table, is_sidecar = _read_table(path / entry.name, status)
                    continue
                if status is not None:
                    json_files[entry.name] = (status.st_size, status.st_mtime_ns)
                others.append(entry.name)  # a JSON file, too: a.json.json may describe a.json
    except OSError:
        return _NO_FOLDER
    wanted = frozenset(name[: -len(".json")] for name in json_files)
    stems = {Path(name).stem for name in others if name not in json_files}
    return _Folder(json_files, wanted & stems, wanted.intersection(others), table, is_sidecar)


def _may_be_one(entry: os.DirEntry[str]) -> bool:
    named = entry.name.lower() == sidecar_table.NAME or entry.name.endswith(".json")
    return named and entry.is_file(follow_symlinks=False)


def _read_table(path: Path, status: os.stat_result) -> tuple[Table, bool]:
    """A folder's table and whether it is one that describes files."""
    try:
        data = read_bytes(_source(path, status), sidecar_table.MAX_BYTES)
    except Rejected as failure:
        return Table({}, (f"{sidecar_table.NAME} was not used: {failure.message}",)), False
    if not sidecar_table.describes_files(data):
        return NO_TABLE, False
    return sidecar_table.read_table(data), True


def _source(path: Path, status: os.stat_result) -> SourceFile:
    problem = "" if stat.S_ISREG(status.st_mode) else "is no regular file"
    return SourceFile(path, printable(path.name), status.st_size, status.st_mtime_ns, problem)


# --- what they say -------------------------------------------------------------------------------


def _holds_metadata(folder: _Folder, path: Path) -> bool:
    known = folder.holds_metadata.get(path.name)
    if known is None:
        known = folder.holds_metadata[path.name] = _is_metadata(path)
    return known


def _is_metadata(path: Path) -> bool:
    """Whether a JSON file that may be a sidecar is none of its own kind: documents, or JSON lines.

    One that cannot be read as JSON at all is taken for a sidecar, so that somebody is warned.
    """
    try:
        data = read_bytes(_source(path, path.lstat()), MAX_SIDECAR_BYTES)
        value = json.loads(decode(data, path.name).text)
    except (Rejected, OSError):
        return False
    except (ValueError, RecursionError):
        first = data.lstrip()[:MAX_SIDECAR_BYTES].partition(b"\n")[0]
        try:
            return not isinstance(json.loads(first), dict)
        except (ValueError, RecursionError):
            return True
    return isinstance(value, dict) and not any(isinstance(value.get(f), str) for f in _IS_DOCUMENT)


def _read_json(path: Path, warnings: list[str]) -> Mapping[str, object]:
    """The object in a JSON file; nothing, with a warning, where there is none."""
    name = printable(path.name)
    try:
        data = read_bytes(_source(path, path.lstat()), MAX_SIDECAR_BYTES)
        value = json.loads(decode(data, name).text)
    except (Rejected, OSError) as failure:
        warnings.append(f"{name} was not used: {getattr(failure, 'message', None) or failure}")
        return {}
    except RecursionError:
        warnings.append(f"{name} was not used: it is nested too deep")
        return {}
    except ValueError as failure:
        warnings.append(f"{name} was not used: not valid JSON: {failure}")
        return {}
    if not isinstance(value, dict):
        warnings.append(f"{name} was not used: a JSON {type(value).__name__}, not an object")
        return {}
    return value


def _settable(
    stated: Mapping[str, object], name: str, warnings: list[str]
) -> tuple[dict[str, MetaValue], str]:
    """(fields, title) out of what a sidecar states; what is left out is named in a warning."""
    fields: dict[str, MetaValue] = {}
    title = ""
    left_out: list[str] = []
    forbidden: list[str] = []
    for raw, value in stated.items():
        label = clean(str(raw)).text.strip()[:_MAX_VALUE_CHARS]
        if label.lower() in _NOT_SETTABLE:
            forbidden.append(label)
        elif label.lower() == "title":
            title = shorten(clean(value).text, MAX_TITLE_CHARS) if isinstance(value, str) else ""
        elif (stored := _storable(value)) is None or not label or len(fields) >= _MAX_FIELDS:
            if value is not None:
                left_out.append(label[:40])
        else:
            fields[label] = stored
    if forbidden:
        warnings.append(f"{name}: a sidecar cannot set {', '.join(sorted(forbidden))}")
    if left_out:
        shown = ", ".join(left_out[:5]) + (" …" if len(left_out) > 5 else "")
        warnings.append(f"{name}: left out, because nested, too long or too many: {shown}")
    return fields, title


def _storable(value: object) -> MetaValue | None:
    if isinstance(value, str):
        return clean(value).text if len(value) <= _MAX_VALUE_CHARS else None
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -_MAX_INT <= value <= _MAX_INT else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list) and len(value) <= _MAX_VALUE_CHARS:
        parts = [_storable(part) for part in value if part is not None]
        if any(part is None or isinstance(part, tuple) for part in parts):
            return None
        words = (str(part).lower() if isinstance(part, bool) else str(part) for part in parts)
        return tuple(words)
    return None


def _unicode(name: str) -> str:
    return clean(name).text
