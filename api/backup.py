"""Backups of a data folder, and data folders from backups.

A backup is a folder: the catalog as one SQLite file, the originals and token vectors it refers to,
the settings file, and `manifest.json` with the size and SHA-256 of each, written last: without it
the folder is no backup. Indexes are left out, because they are made from the catalog. It is made
beside its name and renamed, so a half one is never taken for a whole one.

A restore copies and checks everything beside the data first; one rename of the catalog makes it
true. Originals and segments come under names that clash with nothing, so a crash before the rename
leaves the old data as they were, with orphans that `longleaf doctor --repair` removes.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

import longleaf
from longleaf.api.running import find_server
from longleaf.core.catalog import Catalog, orphans, schema, snapshot
from longleaf.core.catalog.blobs import sync_folder
from longleaf.core.catalog.snapshot import DATABASE, ORIGINALS, SEGMENTS, blob_path
from longleaf.core.catalog.verify import verify_file
from longleaf.core.config import CONFIG_FILE_NAME
from longleaf.core.errors import CatalogBroken, Conflict, InvalidRequest, NoSpace, NotFound
from longleaf.core.types import Scope

MANIFEST = "manifest.json"

_MOST_MANIFEST_BYTES = 1024 * 1024 * 1024
_PARTS = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", ORIGINALS, SEGMENTS, "index")
_HARMLESS = {CONFIG_FILE_NAME, "server.json", "lost+found"}

Progress = Callable[[str, int, int], None]
_Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Segment = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}\.seg$")]
_Size = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileEntry(_Part):
    """A file's size and SHA-256."""

    bytes: _Size
    sha256: _Hash


class Manifest(_Part):
    """What a backup holds. `originals` maps hash to size; `problems` were there before it."""

    format: Literal["longleaf-backup"]
    version: Literal[1]
    longleaf: str
    schema_version: int
    created_at: float
    epoch: str
    head_seq: int
    documents: _Size
    passages: _Size
    catalog: FileEntry
    settings: FileEntry | None
    segments: dict[_Segment, FileEntry]
    originals: dict[_Hash, _Size]
    problems: list[str]

    @property
    def bytes(self) -> int:
        files = [self.catalog, *self.segments.values()]
        return sum(each.bytes for each in files) + sum(self.originals.values())


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What was saved, where, in how long, and how often erasures made it begin again."""

    folder: Path
    manifest: Manifest
    seconds: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What a data folder holds after a restore."""

    home: Path
    documents: int
    passages: int
    seconds: float


# --- backup ------------------------------------------------------------------------------------


def back_up(
    home: Path, target: Path, *, link_from: Path | None = None, progress: Progress = lambda *_: None
) -> BackedUp:
    """Save the data folder `home` in the new folder `target`, while it is in use.

    Originals that the earlier backup `link_from` has are hard links to it. Raises NotFound when
    there is no catalog, Conflict when `target` has something in it.
    """
    started = time.monotonic()
    if not (home / DATABASE).is_file():
        raise NotFound(f"There is no catalog in {home}.", "LONGLEAF_HOME or --home says where.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{target} is there and not empty.", "Name a new folder.")
    if link_from is not None:
        _read_manifest(link_from)
    target.parent.mkdir(parents=True, exist_ok=True)
    making = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    making.mkdir(mode=0o700)
    try:
        copied = snapshot.copy(home, making, linked_from=link_from, progress=progress)
        about = _about(making / DATABASE)
        snapshot.seal(making / DATABASE, secrets.token_hex(8))
        settings = None
        with contextlib.suppress(FileNotFoundError):
            snapshot.copy_file(home / CONFIG_FILE_NAME, making / CONFIG_FILE_NAME)
            settings = _entry(making / CONFIG_FILE_NAME)
        manifest = Manifest(
            format="longleaf-backup",
            version=1,
            longleaf=longleaf.__version__,
            created_at=time.time(),
            catalog=_entry(making / DATABASE),
            settings=settings,
            segments={name: _entry(making / SEGMENTS / name) for name in copied.segments},
            originals=dict(sorted(copied.originals.items())),
            problems=copied.problems,
            **about,
        )
        _write_durably(making, manifest)
        if target.exists():
            target.rmdir()
        making.rename(target)
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return BackedUp(target, manifest, time.monotonic() - started, copied.rounds)


def _about(database: Path) -> dict[str, Any]:
    """What the copy says of itself, for the manifest."""
    with contextlib.closing(snapshot.read_only(database)) as file:
        meta = dict(file.execute("SELECT key, value FROM meta"))
        documents = file.execute("SELECT COUNT(*) FROM documents").fetchone()[0]
        passages = file.execute("SELECT COALESCE(SUM(passage_count), 0) FROM chunkings")
        return {
            "schema_version": int(meta["schema_version"]),
            "epoch": meta.get("epoch", ""),
            "head_seq": int(meta["last_seq"]),
            "documents": int(documents),
            "passages": int(passages.fetchone()[0]),
        }


def _entry(path: Path) -> FileEntry:
    import hashlib

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(bytes=path.stat().st_size, sha256=digest)


def _write_durably(folder: Path, manifest: Manifest) -> None:
    """Everything in `folder` reaches the disk, and then the manifest does."""
    os.sync()
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest.model_dump(mode="json"), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


# --- restore -----------------------------------------------------------------------------------


def restore(
    backup: Path, home: Path, *, replace: bool = False, progress: Progress = lambda *_: None
) -> Restored:
    """Make `home` a data folder with what `backup` holds, every byte of it checked.

    Raises Conflict when there is something in `home` and `replace` is not set, or while anybody
    uses it; CatalogBroken when the backup is not what its manifest says.
    """
    started = time.monotonic()
    manifest = _read_manifest(backup)
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


def _read_manifest(backup: Path) -> Manifest:
    path = backup / MANIFEST
    try:
        if path.stat().st_size > _MOST_MANIFEST_BYTES:
            raise InvalidRequest(f"{path} is too large for a manifest.")
        return Manifest.model_validate_json(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NotFound(
            f"{backup} is no backup: it has no {MANIFEST}.",
            "longleaf backup FOLDER makes one; an interrupted one is to be made again.",
        ) from None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise CatalogBroken(f"{path} cannot be used: {first}", "Use another backup.") from error


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
    from longleaf.retriever.index.edge_folder import TakenFolder

    if find_server(home) is not None:
        raise Conflict(f"A server runs on {home}.", "Stop it and try again.")
    for folder in sorted((home / "index").glob("generation-*")):
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
