"""A consistent copy of a catalog and of all that it refers to, while others go on writing.

SQLite copies its file page by page within one read transaction, so the copy is the catalog at one
moment and nobody waits. The bulk beside it comes after: originals are never changed, and of the
segments only the records that the copy refers to are taken, each checked on the way. What has been
erased between the copy and its bulk is missing then, so another copy is made while erasing waits
(`hold`); of originals it has only the difference to do. What is erased is in no copy made after
that: of segments, unnamed bytes become holes. It knows no manifest and no target folder's life
(`api/backup.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from longleaf.core.catalog.database import DATABASE
from longleaf.core.catalog.hold import nothing_erased
from longleaf.core.catalog.migrations import SEALED
from longleaf.core.catalog.segments import read_record

ORIGINALS = "originals"
SEGMENTS = "token-vectors"

_PAGES_AT_ONCE = 2048  # 8 MiB: how long the source's cache is kept busy at a time
_CHUNK_BYTES = 1024 * 1024

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Copied:
    """What a copy holds: bytes of each original and segment, and what was damaged at its source."""

    originals: dict[str, int] = field(default_factory=dict)
    segments: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    rounds: int = 0


def copy(
    home: Path,
    target: Path,
    *,
    linked_from: Path | None = None,
    progress: Progress = lambda *_: None,
) -> Copied:
    """Copy the catalog in `home` and its bulk into `target`, an empty folder.

    Originals that `linked_from` (an earlier copy on the same file system) has are linked from it.
    """
    (target / ORIGINALS).mkdir()
    (target / SEGMENTS).mkdir()
    done = Copied()
    _copy_round(home, target, linked_from, done, progress)
    if done.problems:
        # What is still missing when nothing can be erased meanwhile is damaged.
        with nothing_erased(home):
            _copy_round(home, target, linked_from, done, progress)
    return done


def _copy_round(
    home: Path, target: Path, linked_from: Path | None, done: Copied, progress: Progress
) -> None:
    done.rounds += 1
    done.problems = []
    copy_database(home / DATABASE, target / DATABASE, progress)
    with contextlib.closing(read_only(target / DATABASE)) as copied:
        _copy_originals(copied, home, target, linked_from, done, progress)
        _copy_segments(copied, home, target, done, progress)


def copy_database(source: Path, target: Path, progress: Progress = lambda *_: None) -> None:
    """Copy a SQLite file at one moment, whoever writes to it; `target` is replaced."""
    target.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(source, isolation_level=None, timeout=60.0)) as live,
        contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copied,
    ):
        # A read transaction of our own: without it, a write would begin the copy anew each time.
        live.execute("BEGIN")
        live.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        live.backup(
            copied,
            pages=_PAGES_AT_ONCE,
            progress=lambda _status, left, total: progress("Catalog", total - left, total),
        )
        live.execute("ROLLBACK")
        # One plain file, without a log beside it.
        copied.execute("PRAGMA journal_mode=DELETE")


def seal(path: Path, name: str) -> None:
    """Mark a copy, so that whoever opens it goes on in an epoch of its own; it has no indexes."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        file.execute("DELETE FROM followers")
        file.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (SEALED, name))
        file.execute("COMMIT")


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write and believes nothing that the file's schema says to run."""
    file = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=60.0)
    file.execute("PRAGMA trusted_schema=OFF")
    return file


def referenced_originals(copied: sqlite3.Connection) -> list[str]:
    """Originals that documents have, and uploads that a job still has to read."""
    rows = copied.execute(
        "SELECT original FROM revisions WHERE original IS NOT NULL UNION "
        "SELECT json_extract(spec, '$.original') FROM jobs"
        " WHERE kind = 'upload' AND state IN ('queued', 'running')"
    )
    return sorted(row[0] for row in rows if row[0])


def referenced_records(copied: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """(segment, offset) of every record of token vectors, in the order of the files."""
    yield from copied.execute(
        "SELECT DISTINCT s.name, v.segment_offset FROM vectors v JOIN segments s"
        " ON s.id = v.segment_id ORDER BY s.name, v.segment_offset"
    )


def blob_path(folder: Path, name: str) -> Path:
    return folder / ORIGINALS / name[:2] / name[2:]


def _copy_originals(
    copied: sqlite3.Connection,
    home: Path,
    target: Path,
    linked_from: Path | None,
    done: Copied,
    progress: Progress,
) -> None:
    wanted = referenced_originals(copied)
    for name in set(done.originals) - set(wanted):
        blob_path(target, name).unlink(missing_ok=True)
        del done.originals[name]
    for number, name in enumerate(wanted):
        progress("Originals", number, len(wanted))
        if name in done.originals:
            continue
        there = blob_path(target, name)
        there.parent.mkdir(exist_ok=True)
        if linked_from is not None and _link(blob_path(linked_from, name), there):
            done.originals[name] = there.stat().st_size
            continue
        try:
            found = copy_file(blob_path(home, name), there)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                raise
            done.problems.append(f"original {name} is not in the data folder")
            continue
        done.originals[name] = there.stat().st_size
        if found != name:
            done.problems.append(f"original {name} is not what its name says")
            del done.originals[name]


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        return False
    return True


def copy_file(source: Path, target: Path) -> str:
    """Copy a plain file, not following links; returns the SHA-256 of what was copied."""
    hashed = hashlib.sha256()
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(source, flags), "rb") as reading, target.open("wb") as writing:
        while chunk := reading.read(_CHUNK_BYTES):
            hashed.update(chunk)
            writing.write(chunk)
    return hashed.hexdigest()


def _copy_segments(
    copied: sqlite3.Connection, home: Path, target: Path, done: Copied, progress: Progress
) -> None:
    """Copy the records that `copied` names, each to where it was in its segment."""
    shutil.rmtree(target / SEGMENTS)
    (target / SEGMENTS).mkdir()
    done.segments.clear()
    counted = copied.execute("SELECT COUNT(*) FROM vectors WHERE segment_id IS NOT NULL")
    total = counted.fetchone()[0]
    with contextlib.ExitStack() as files:
        name, source, writing = "", None, None
        for number, (segment, offset) in enumerate(referenced_records(copied)):
            if number % 1000 == 0:
                progress("Token vectors", number, total)
            if segment != name:
                files.close()
                name, source = segment, None
                with contextlib.suppress(FileNotFoundError):
                    source = files.enter_context((home / SEGMENTS / name).open("rb"))
                writing = files.enter_context((target / SEGMENTS / name).open("wb"))
            record = None if source is None else read_record(source.fileno(), offset)
            if record is None:
                done.problems.append(f"token vectors in {segment} at {offset} are damaged")
                continue
            assert writing is not None
            writing.seek(offset)
            writing.write(record)
    for file in sorted((target / SEGMENTS).iterdir()):
        done.segments[file.name] = file.stat().st_size
