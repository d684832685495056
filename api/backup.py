"""Backups of a data folder, made while it is in use.

A backup is a folder: the catalog as one SQLite file, the originals and token vectors it refers to,
the settings file, and `manifest.json` with the size and SHA-256 of each, written last: without it
the folder is no backup. Indexes are left out, because they are made from the catalog. It is made
beside its name and renamed, so a half one is never taken for a whole one. `restoring` takes one in.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

import longleaf
from longleaf.core.catalog import snapshot
from longleaf.core.catalog.blobs import sync_folder
from longleaf.core.catalog.database import DATABASE
from longleaf.core.catalog.snapshot import SEGMENTS
from longleaf.core.config import CONFIG_FILE_NAME, Settings
from longleaf.core.errors import CatalogBroken, Conflict, InvalidRequest, NotFound

MANIFEST = "manifest.json"
LAST = "last-backup.json"
"""In a data folder: when it was last saved, for the doctor."""

_MOST_MANIFEST_BYTES = 1024 * 1024 * 1024

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


def require_one_folder(settings: Settings) -> None:
    """Raise InvalidRequest where the data folder does not hold all that a backup would save."""
    if settings.catalog.url:
        raise InvalidRequest(
            "longleaf backup and restore are for a catalog in SQLite; this one is in Postgres.",
            "Save the database with pg_dump, and after it the originals and the token vectors; or "
            "write it all out with longleaf export (docs/stores.md).",
        )
    if settings.catalog.originals or settings.catalog.token_vectors:
        raise InvalidRequest(
            "longleaf backup and restore are for a data folder that holds everything; "
            "catalog.originals or catalog.token_vectors names another place.",
            "Write it all out with longleaf export (docs/stores.md).",
        )


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
        read_manifest(link_from)
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
    with contextlib.suppress(OSError):  # the backup is whole all the same
        said = json.dumps({"at": manifest.created_at, "documents": manifest.documents})
        (home / LAST).write_text(said, "utf-8")
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


def read_manifest(backup: Path) -> Manifest:
    """What a backup says it holds. Raises NotFound where there is none, CatalogBroken."""
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
