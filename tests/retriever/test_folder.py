"""The folders of indexes: made by several at once, and what kills leave of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from longleaf.retriever.index.folder import make_whole, remove_scraps


def test_a_folder_that_another_makes_meanwhile_stays(tmp_path: Path) -> None:
    folder = tmp_path / "parent" / "index"

    def fill(new: Path) -> None:
        (new / "whole").write_text("ours")
        make_whole(folder, lambda other: (other / "whole").write_text("theirs"))

    make_whole(folder, fill)
    assert (folder / "whole").read_text() == "theirs"
    assert [path.name for path in folder.parent.iterdir()] == ["index"], "a scrap stayed"


def test_what_cannot_have_its_name_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "index"

    def fill(new: Path) -> None:
        folder.write_text("a file")

    with pytest.raises(OSError, match="index"):
        make_whole(folder, fill)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_what_kills_left_goes_and_what_is_being_made_stays(tmp_path: Path) -> None:
    for name in (".old-generation-1-aa", ".generation-2-new-aa", ".generation-3-new-bb",
                 ".faiss-generation-2-new-cc", "generation-4"):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("half")
        if name != ".generation-3-new-bb":
            os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    remove_scraps(tmp_path, "generation-")
    assert {path.name for path in tmp_path.iterdir()} == {
        ".generation-3-new-bb", ".faiss-generation-2-new-cc", "generation-4",
    }  # fmt: skip
    remove_scraps(tmp_path / "none", "generation-")
