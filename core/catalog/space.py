"""A full disk by its name: what was to be written was not, and what was written before stands."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longleaf.core.errors import NoSpace

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No room on the disk, in the user's share of it, or in what one file may have."""


@contextmanager
def naming_a_full_disk(folder: Path) -> Iterator[None]:
    """Turn the system's word for it into NoSpace."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise no_space(folder) from error
        raise


def require_room(folder: Path, room_bytes: int) -> None:
    """Raise NoSpace unless the folder's disk has that much left."""
    if shutil.disk_usage(folder).free < room_bytes:
        raise no_space(folder)


def no_space(folder: Path) -> NoSpace:
    return NoSpace(
        f"There is no room left on the disk of {folder}.",
        "Free some; nothing that was acknowledged is lost, and searches go on.",
    )
