"""A data folder from a backup: all of it checked, then true with one rename.

Everything is copied and checked beside the data first. Originals and segments come under names that
clash with nothing and the catalog comes last, so a crash before its rename leaves the old data as
they were, with orphans that `longleaf doctor --repair` removes. Indexes are removed: the catalog
begins an epoch of its own, and they are made from it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from longleaf.api import reindexing
from longleaf.api.backup import LAST, FileEntry, Manifest, Progress, read_manifest
from longleaf.api.running import find_server
from longleaf.core.catalog import Catalog, hold, orphans, schema, snapshot
from longleaf.core.catalog.blobs import sync_folder
from longleaf.core.catalog.database import DATABASE
from longleaf.core.catalog.snapshot import ORIGINALS, SEGMENTS, blob_path
from longleaf.core.catalog.verify import verify_file
from longleaf.core.config import CONFIG_FILE_NAME
from longleaf.core.errors import CatalogBroken, Conflict, NoSpace
from longleaf.core.types import Scope

_PARTS = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", ORIGINALS, SEGMENTS, "index")
_HARMLESS = {CONFIG_FILE_NAME, "server.json", "lost+found", hold.LOCK, reindexing.LOCK, LAST}


@dataclass(frozen=True, slots=True)
class Restored:
    """What a data folder holds after a restore."""

    home: Path
    documents: int
    passages: int
    seconds: float


def restore(
    backup: Path, home: Path, *, replace: bool = False, progress: Progress = lambda *_: None
) -> Restored:
    """Make `home` a data folder with what `backup` holds, every byte of it checked.

    Raises Conflict when there is something in `home` and `replace` is not set, or while anybody
    uses it; CatalogBroken when the backup is not what its manifest says.
    """
    started = time.monotonic()
    manifest = read_manifest(backup)
    _require_room(home, manifest)
    _require_empty(home, replace)
    home.mkdir(parents=True, exist_ok=True)
    staged = home / f".restoring-{secrets.token_hex(4)}"
    staged.mkdir(mode=0o700)
    try:
        _stage(backup, staged, manifest, progress)
        with ExitStack() as taken:
            _take(home, taken)
            _bring_in(staged, home)
            shutil.rmtree(home / "index", ignore_errors=True)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    catalog = Catalog(home)
    try:
        # What the old catalog referred to and the new one does not; nobody else writes here now.
        orphans.remove(catalog, orphans.find(catalog, now=time.time() + 2 * orphans.OLD_SECONDS))
        counts = catalog.count(Scope.all())
    finally:
        catalog.close()
    return Restored(home, counts.documents, counts.passages, time.monotonic() - started)


def _require_room(home: Path, manifest: Manifest) -> None:
    there = home
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < manifest.bytes:
        raise NoSpace(
            f"The backup has {manifest.bytes:,} bytes, and {there} has {free:,} free.",
            "Free some space, or restore to another disk.",
        )


def _require_empty(home: Path, replace: bool) -> None:
    if not home.exists():
        return
    if not home.is_dir():
        raise Conflict(f"{home} is no folder.", "Choose another with --home.")
    names = {each.name for each in home.iterdir()} - _HARMLESS
    foreign = {name for name in names if name not in _PARTS and not name.startswith(".")}
    if foreign and not (home / DATABASE).exists():
        raise Conflict(
            f"{home} holds other files ({min(foreign)}).", "Choose an empty folder with --home."
        )
    if names and not replace:
        raise Conflict(
            f"{home} is not empty.", "Choose an empty folder, or give up what is there: --replace"
        )


def _stage(backup: Path, staged: Path, manifest: Manifest, progress: Progress) -> None:
    """Copy and check everything; segments get names that nothing else has."""
    (staged / ORIGINALS).mkdir()
    (staged / SEGMENTS).mkdir()
    progress("Catalog", 0, 1)
    _checked_copy(backup / DATABASE, staged / DATABASE, manifest.catalog)
    if manifest.settings is not None:
        _checked_copy(backup / CONFIG_FILE_NAME, staged / CONFIG_FILE_NAME, manifest.settings)
    _require_ours(staged / DATABASE)
    for number, (name, size) in enumerate(manifest.originals.items()):
        progress("Originals", number, len(manifest.originals))
        target = blob_path(staged, name)
        target.parent.mkdir(exist_ok=True)
        _checked_copy(blob_path(backup, name), target, FileEntry(bytes=size, sha256=name))
    renamed = {}
    for number, (name, entry) in enumerate(manifest.segments.items()):
        progress("Token vectors", number, len(manifest.segments))
        renamed[name] = f"{secrets.token_hex(8)}.seg"
        _checked_copy(backup / SEGMENTS / name, staged / SEGMENTS / renamed[name], entry)
    with contextlib.closing(sqlite3.connect(staged / DATABASE, isolation_level=None)) as file:
        file.execute("PRAGMA trusted_schema=OFF")
        file.execute("BEGIN IMMEDIATE")
        for name, new in renamed.items():
            file.execute("UPDATE segments SET name = ? WHERE name = ?", (new, name))
        missing = set(snapshot.referenced_originals(file)) - set(manifest.originals)
        unknown = {segment for segment, _ in snapshot.referenced_records(file)}
        unknown -= set(renamed.values())
        if len(missing) + len(unknown) > len(manifest.problems):
            raise CatalogBroken("The backup lacks files that its catalog names.", _USE_ANOTHER)
        file.execute("COMMIT")
    snapshot.seal(staged / DATABASE, secrets.token_hex(8))
    os.sync()


_USE_ANOTHER = "Use another backup."


def _checked_copy(source: Path, target: Path, entry: FileEntry) -> None:
    try:
        digest = snapshot.copy_file(source, target)
    except OSError as error:
        raise CatalogBroken(f"{source} cannot be read: {error.strerror}.", _USE_ANOTHER) from error
    if (target.stat().st_size, digest) != (entry.bytes, entry.sha256):
        raise CatalogBroken(f"{source} is not what the manifest says.", _USE_ANOTHER)


def _require_ours(database: Path) -> None:
    """Refuse a file that brings views or triggers along, or that SQLite finds damaged."""
    known = set(schema.metadata.tables) | {"sqlite_sequence"}
    with contextlib.closing(snapshot.read_only(database)) as file:
        try:
            rows = file.execute("SELECT type, tbl_name FROM sqlite_master").fetchall()
        except sqlite3.DatabaseError as error:
            raise CatalogBroken(f"The backup's catalog: {error}.", _USE_ANOTHER) from error
    strange = [row for row in rows if row[0] not in ("table", "index") or row[1] not in known]
    if strange:
        raise CatalogBroken(
            f"The backup's catalog has a {strange[0][0]} on {strange[0][1]} that is not ours.",
            _USE_ANOTHER,
        )
    check = verify_file(database, deep=False)
    if check.wrong:
        raise CatalogBroken(f"The backup's catalog: {check.problems[0].detail}.", _USE_ANOTHER)


def _take(home: Path, taken: ExitStack) -> None:
    """Keep all others from the data folder. Raises Conflict while anybody uses it."""
    from longleaf.retriever.index.folder import TakenFolder

    if find_server(home) is not None:
        raise Conflict(f"A server runs on {home}.", "Stop it and try again.")
    for folder in sorted((home / "index").glob("*generation-*")):
        taken.enter_context(TakenFolder(folder))
    if not (home / DATABASE).exists():
        return
    try:
        with contextlib.closing(
            sqlite3.connect(home / DATABASE, isolation_level=None, timeout=1.0)
        ) as file:
            # Goes only when nobody else has the file open; its log is then no more.
            file.execute("PRAGMA journal_mode=DELETE").fetchone()
    except sqlite3.OperationalError as error:
        raise Conflict(
            f"Another process has the catalog in {home} open ({error}).", "End it and try again."
        ) from None
    except sqlite3.DatabaseError:
        pass  # what is to be replaced may be damaged


def _bring_in(staged: Path, home: Path) -> None:
    """Move everything to its place; the catalog comes last and makes it true."""
    for source in [*(staged / ORIGINALS).glob("??/*"), *(staged / SEGMENTS).iterdir()]:
        target = home / source.relative_to(staged)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    if not (home / CONFIG_FILE_NAME).exists() and (staged / CONFIG_FILE_NAME).exists():
        (staged / CONFIG_FILE_NAME).replace(home / CONFIG_FILE_NAME)
    for folder in _folders(home):
        sync_folder(folder)
    for suffix in ("-wal", "-shm", "-journal"):
        (home / f"{DATABASE}{suffix}").unlink(missing_ok=True)
    (staged / DATABASE).replace(home / DATABASE)
    sync_folder(home)


def _folders(home: Path) -> Iterator[Path]:
    for part in (ORIGINALS, SEGMENTS):
        if (home / part).is_dir():
            yield from (each for each in (home / part).iterdir() if each.is_dir())
            yield home / part
    yield home
