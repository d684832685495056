"""Whose a folder of originals or token vectors is: a file in it names the catalog.

Two catalogs in one place would take each other's files for left over, and delete them. So whoever
writes there leaves its name at first use, and one that finds another's is refused. A place without
a name (made by an older version, or copied out of a backup) is taken. The name outlives a restore,
so a restored catalog keeps its folders. Trade-off: a catalog and its own copy have one name, and
nothing here tells them apart.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from longleaf.core.errors import ConfigError

MARK = "longleaf-catalog"
"""The file's, or object's, name."""


def claim_folder(folder: Path, owner: str, setting: str, *, take: bool) -> None:
    """Raise ConfigError where `folder` is another catalog's; `take` it where it is nobody's."""
    mark = folder / MARK
    found = _read(mark)
    if found is None and take:
        making = folder / f"{MARK}-{secrets.token_hex(4)}"
        making.write_text(f"{owner}\n", encoding="ascii")
        with suppress(FileExistsError):
            os.link(making, mark)  # whole or not at all, and the first one stays
        making.unlink()
        found = _read(mark)
    require_own(found, owner, setting, str(folder), str(mark))


def require_own(found: str | None, owner: str, setting: str, place: str, mark: str) -> None:
    """Raise ConfigError where `found`, what stands in `mark`, names another catalog."""
    if found is not None and found != owner:
        raise ConfigError(
            f"{place} belongs to another catalog ({found[:32]}; this one is {owner}): each would "
            "delete what the other keeps there.",
            f"Name a place of its own in {setting}, or another LONGLEAF_HOME. If that catalog is "
            f"gone and this one has taken its place, remove {mark}.",
        )


def _read(mark: Path) -> str | None:
    try:
        return mark.read_text("utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None
