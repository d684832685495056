"""Originals by content hash: written whole and fsynced before anything refers to them.

A blob is named by the SHA-256 of its bytes, so equal originals share one file, and a name that
comes from outside can never leave the folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from longleaf.core.catalog.space import naming_a_full_disk
from longleaf.core.errors import CatalogBroken, NotFound

_NAME = re.compile(r"[0-9a-f]{64}")


class BlobFolder:
    """A content-addressed folder: `ab/cdef…`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Store `data` durably and return its SHA-256 in hexadecimal."""
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
        descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix="incoming-")
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
        """The bytes of a blob. Raises NotFound, or CatalogBroken when they do not check out."""
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"The original {name} is not in the data folder.") from None
        if hashlib.sha256(data).hexdigest() != name:
            raise CatalogBroken(
                f"The original {name} was changed on disk.", "Restore it from a backup."
            )
        return data

    def exists(self, name: str) -> bool:
        return self._path(name).exists()

    def delete(self, name: str) -> None:
        """Remove a blob for good; one that is not there is fine."""
        path = self._path(name)
        if path.exists():
            path.unlink(missing_ok=True)
            sync_folder(path.parent)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise NotFound(f"{name!r} is not the name of an original.")
        return self.folder / name[:2] / name[2:]


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
