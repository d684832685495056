"""Which files a sidecar's table names that are not there.

Names are compared as the table is searched (`sidecar_table.file_key`), folder by folder, each
listed once. Links to folders are not followed, as in the walk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from longleaf.indexer.parsers.decode import clean
from longleaf.indexer.sidecar_table import file_key

_Listings: TypeAlias = dict[Path, Mapping[str, Path]]


def missing_files(folder: Path, files: Iterable[str]) -> list[str]:
    """Those of `files` (keys of a table's rows) that are no files below `folder`, in order."""
    listings: _Listings = {}
    return [file for file in files if not _is_there(folder, file, listings)]


def _is_there(folder: Path, file: str, listings: _Listings) -> bool:
    *above, name = file.split("/")
    for part in above:
        found = _listing(folder, listings).get(part)
        if found is None or found.is_symlink() or not found.is_dir():
            return False
        folder = found
    found = _listing(folder, listings).get(name)
    return found is not None and not found.is_dir()


def _listing(folder: Path, listings: _Listings) -> Mapping[str, Path]:
    known = listings.get(folder)
    if known is None:
        try:
            paths = list(folder.iterdir())
        except OSError:
            paths = []
        known = listings[folder] = {file_key(clean(path.name).text): path for path in paths}
    return known
