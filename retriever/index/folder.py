"""The folder of an index that lives in files: made whole, opened by one process, removed whole.

It knows no engine: what lies in the folder is its index's matter. Trade-off: the lock is advisory
(`flock`), so it holds between processes of one machine and on file systems that keep such locks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from longleaf.core.catalog.blobs import sync_folder
from longleaf.core.errors import CatalogBroken, IndexLocked
from longleaf.retriever.index.incoming import REBUILD

if TYPE_CHECKING:
    from types import TracebackType

LOCK = "longleaf.lock"
_OLD_PREFIX = ".old-"
_MAKING_SECONDS = 3600.0


class TakenFolder:
    """An index's folder that nobody else can open until this is closed. Raises IndexLocked.

    The engine has no lock without its log, and its load writes to the segments. `inherited` is the
    descriptor of a lock that another process holds and shares with this one, its child.
    """

    def __init__(self, folder: Path, inherited: int | None = None) -> None:
        self.folder = folder
        if inherited is not None:
            self._file = inherited
            return
        self._file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have removed the folder, and another is in its place.
            ours = os.path.samestat(os.fstat(self._file), (folder / LOCK).stat())
        except OSError:
            ours = False
        if not ours:
            self.close()
            raise IndexLocked(
                f"Another process owns the index in {folder}.",
                "Stop it (longleaf serve or longleaf index), or search through the server.",
            )

    def __enter__(self) -> TakenFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """The lock's descriptor, for a child that is to share it."""
        return self._file

    def close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def remove(self) -> None:
        """Delete the folder; it loses its name first, so that half of one is never opened."""
        name = f"{_OLD_PREFIX}{self.folder.name}-{secrets.token_hex(4)}"
        old = self.folder.replace(self.folder.with_name(name))
        sync_folder(self.folder.parent)
        self.close()
        shutil.rmtree(old)


def make_whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """A folder that has all that `fill` writes, or is not there; one with anything in it stays.

    So does one that another process makes meanwhile: whoever takes it first has it.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-new-"))
    try:
        fill(new)
        try:
            new.replace(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(new)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def remove_scraps(parent: Path, prefix: str) -> None:
    """Remove what kills left of folders that were being removed, or made under a name that begins
    with `prefix`. Of the latter those of the last hour stay: another process may be at it, which
    takes it a second, and they hold no document."""
    for old in parent.glob(f"{_OLD_PREFIX}*"):
        shutil.rmtree(old, ignore_errors=True)  # another process may be at it, too
    for new in parent.glob(f".{prefix}*-new-*"):
        with suppress(FileNotFoundError):
            if time.time() - new.stat().st_mtime > _MAKING_SECONDS:
                shutil.rmtree(new, ignore_errors=True)


def damaged(folder: Path, error: BaseException) -> CatalogBroken:
    return CatalogBroken(f"The index in {folder} cannot be read: {error}", REBUILD)
