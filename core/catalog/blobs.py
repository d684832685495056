"""Originals by content hash: written whole and fsynced before anything refers to them.

A blob is named by the SHA-256 of its bytes, so equal originals share one file, and a name that
comes from outside can never leave the folder. `BlobFolder` is a folder, of one machine or shared;
`objects` keeps the same names in an object store.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from longleaf.core.catalog.ownership import claim_folder
from longleaf.core.catalog.space import naming_a_full_disk
from longleaf.core.errors import CatalogBroken, NotFound

_NAME = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = "incoming-"
SETTING = "catalog.originals"


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as it lies in its store; `written_at` is in seconds since the epoch."""

    name: str
    size_bytes: int
    written_at: float


class Blobs(Protocol):
    """Originals of one catalog, wherever they are kept. Thread-safe.

    A text that names no blob raises NotFound; a store that fails raises OSError where it is a
    folder, CatalogUnavailable where it is reached over a network.
    """

    def claim(self, owner: str, *, take: bool) -> None:
        """Raise ConfigError where another catalog than `owner` keeps its originals there; `take`
        the place where nobody does. A store that is away is asked before the first change."""

    def put(self, data: bytes) -> str:
        """Store `data` and return its SHA-256 in hexadecimal; durable when it returns."""

    def get(self, name: str) -> bytes:
        """The bytes of a blob. Raises NotFound, or CatalogBroken when they do not check out."""

    def file(self, name: str) -> Path | None:
        """Where it would lie as a file on this machine; None where it is kept elsewhere."""

    def exists(self, name: str) -> bool:
        """Whether it is there, asked of the store and not remembered."""

    def missing(self, names: Iterable[str]) -> set[str]:
        """Those of `names` that are not there. Asked while writers wait, so it is quick."""

    def delete(self, name: str) -> None:
        """Remove a blob for good; one that is not there is fine."""

    def stored(self) -> Iterator[StoredBlob]:
        """All that is there, in any order."""

    def unfinished(self) -> list[Path]:
        """Files that a write which never ended may have left."""


class BlobFolder:
    """A content-addressed folder: `ab/cdef…`. See `Blobs`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def claim(self, owner: str, *, take: bool) -> None:
        claim_folder(self.folder, owner, SETTING, take=take)

    def put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        target = self._path(name)
        with naming_a_full_disk(self.folder):
            if not target.exists():
                self._write(data, target)
            # Also for one that is there: whoever put it may not have come to this.
            sync_folder(target.parent)
            sync_folder(self.folder)
        return name

    def _write(self, data: bytes, target: Path) -> None:
        target.parent.mkdir(exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=_UNFINISHED)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def get(self, name: str) -> bytes:
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"The original {name} is not in the data folder.") from None
        return checked(name, data)

    def file(self, name: str) -> Path:
        return self._path(name)

    def exists(self, name: str) -> bool:
        return self._path(name).exists()

    def missing(self, names: Iterable[str]) -> set[str]:
        return {name for name in names if not self.exists(name)}

    def delete(self, name: str) -> None:
        path = self._path(name)
        if path.exists():
            path.unlink(missing_ok=True)
            sync_folder(path.parent)

    def stored(self) -> Iterator[StoredBlob]:
        for path in self.folder.glob("??/*"):
            name = path.parent.name + path.name
            if _NAME.fullmatch(name):
                status = path.stat()
                yield StoredBlob(name, status.st_size, status.st_mtime)

    def unfinished(self) -> list[Path]:
        return sorted(self.folder.glob(f"{_UNFINISHED}*"))

    def _path(self, name: str) -> Path:
        begin, rest = name_parts(name)
        return self.folder / begin / rest


def name_parts(name: str) -> tuple[str, str]:
    """A blob's place below where blobs lie. Raises NotFound for what names none."""
    if not _NAME.fullmatch(name):
        raise NotFound(f"{name!r} is not the name of an original.")
    return name[:2], name[2:]


def is_name(text: str) -> bool:
    """Whether that names a blob."""
    return _NAME.fullmatch(text) is not None


def checked(name: str, data: bytes) -> bytes:
    """`data`, if it is what its name says. Raises CatalogBroken."""
    if hashlib.sha256(data).hexdigest() != name:
        raise CatalogBroken(
            f"The original {name} was changed where it is kept.", "Restore it from a backup."
        )
    return data


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
