"""Drawn pages of originals, kept as PNG files so that a page is drawn once and not at every look.

`page-images/<original>/<page>-<scale>.png` in the data folder of the machine that drew it. Nothing
here is the truth: any file may go at any time, and goes with its original, so that a deleted
document leaves no picture behind. It knows neither documents nor how to draw. Not fsynced: a file
that a power loss cut off is not taken for a picture.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from longleaf.core.catalog.blobs import is_name

FOLDER = "page-images"

_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xae\x42\x60\x82"
_UNFINISHED = ".drawing-"
_ROOM_LEFT = 0.8
"""Of the limit, after old pictures had to make room: not for each new one again."""


class PageImages:
    """One folder of drawn pages. Thread-safe; several processes may use it at once."""

    def __init__(self, home: Path) -> None:
        self.folder = home / FOLDER
        self._lock = threading.Lock()
        self._bytes: int | None = None

    def get(self, original: str, page: int, scale: float) -> bytes | None:
        """A page that was drawn before, as a PNG."""
        file = self._file(original, page, scale)
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return None
        if not (data.startswith(_PNG_START) and data.endswith(_PNG_END)):
            return None
        with suppress(OSError):
            os.utime(file)  # what was looked at last goes last
        return data

    def put(self, original: str, page: int, scale: float, data: bytes, limit_bytes: int) -> None:
        """Keep a drawn page; older ones go where all together would be above `limit_bytes`.

        A full disk, or a folder that went meanwhile, keeps nothing and is no error.
        """
        if len(data) > limit_bytes:
            return
        file = self._file(original, page, scale)
        with self._lock, suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=_UNFINISHED)
            try:
                with os.fdopen(descriptor, "wb") as opened:
                    opened.write(data)
                Path(temporary).replace(file)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            known = self._bytes
            self._bytes = None if known is None else known + len(data)
            if self._bytes is None or self._bytes > limit_bytes:
                self._make_room(limit_bytes)

    def forget(self, original: str) -> None:
        """Remove every drawn page of an original; one that has none is fine."""
        with self._lock:
            shutil.rmtree(self._folder(original), ignore_errors=True)
            self._bytes = None

    def originals(self) -> list[str]:
        """The originals that something was drawn of."""
        with suppress(FileNotFoundError):
            return [each.name for each in self.folder.iterdir() if is_name(each.name)]
        return []

    def _make_room(self, limit_bytes: int) -> None:
        found = []
        for file in self.folder.glob("*/*"):
            with suppress(FileNotFoundError):
                status = file.stat()
                found.append((status.st_mtime_ns, status.st_size, file))
        total = sum(size for _, size, _ in found)
        if total > limit_bytes:
            for _, size, file in sorted(found, key=lambda each: each[0]):
                if total <= limit_bytes * _ROOM_LEFT:
                    break
                file.unlink(missing_ok=True)
                total -= size
        self._bytes = total

    def _folder(self, original: str) -> Path:
        if not is_name(original):
            raise ValueError(f"{original!r:.80} is not the name of an original")
        return self.folder / original

    def _file(self, original: str, page: int, scale: float) -> Path:
        return self._folder(original) / f"{page:d}-{scale:g}.png"
