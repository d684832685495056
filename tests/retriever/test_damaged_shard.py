"""A shard whose files are not as the engine wrote them ends in a named error, never in a panic."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.contracts.test_index_folder import ALL, entry, opened

from longleaf.core.errors import CatalogBroken
from longleaf.core.protocols import LexicalQuery


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shard") / "index"
    index = opened(folder)
    for number in range(1, 6):
        index.put([entry(number, number)])
    index.flush(5)
    index.close()
    return folder


def small_files(folder: Path) -> list[str]:
    """One of each name: every kind of state is in them, and the large ones are mostly holes."""
    found = {path.name: path for path in sorted(folder.rglob("*")) if path.is_file()}
    return [
        path.relative_to(folder).as_posix()
        for name, path in found.items()
        if 0 < path.stat().st_size <= 65536 and name not in ("longleaf.json", "longleaf.lock")
    ]


def test_every_cut_file_gives_answers_or_a_named_error(template: Path, tmp_path: Path) -> None:
    names = small_files(template)
    assert len(names) > 5
    broken = 0
    for name in names:
        folder = shutil.copytree(template, tmp_path / "index")
        os.truncate(folder / name, (folder / name).stat().st_size // 2)
        try:
            index = opened(folder)
        except CatalogBroken:
            broken += 1
        else:
            try:
                index.search_bm25(LexicalQuery("text 3", "none"), ALL, 10)
                index.put([entry(9, 9)])
                index.flush(6)
            except CatalogBroken:
                broken += 1
            finally:
                index.close()
        shutil.rmtree(folder)
    assert broken, "nothing was damaged by this"
