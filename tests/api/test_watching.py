"""A followed folder: what is added, changed, moved and removed arrives, by its own rules."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.indexer.test_run import SizedEmbedder, target

from longleaf.api.watching import watch_folder
from longleaf.core.catalog import Catalog
from longleaf.core.config import IndexerSettings
from longleaf.core.errors import NotFound
from longleaf.core.types import Scope
from longleaf.indexer.build import FileResult, Indexer
from longleaf.indexer.chunk import PassageChunker
from longleaf.indexer.parsers.here import ReadHere
from longleaf.indexer.specs import FolderSpec

ALL = Scope.all()


@pytest.fixture
def indexer(tmp_path: Path, minilm: Any) -> Iterator[Indexer]:
    catalog = Catalog(tmp_path / "data")
    catalog.create_collection("law")
    live = target(catalog, PassageChunker(minilm.tokenizer, "t", 60), SizedEmbedder("one"))
    yield Indexer(catalog, [live], ReadHere(), IndexerSettings())
    catalog.close()


def keys(indexer: Indexer, folder: Path) -> set[str]:
    return {
        Path(head.key).relative_to(folder).as_posix() for head in indexer.catalog.documents(ALL)
    }


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@contextmanager
def followed(
    indexer: Indexer,
    folder: Path,
    *,
    exclude: tuple[str, ...] = (),
    on_result: Callable[[FileResult], None] = lambda _: None,
    polling: bool = False,
) -> Iterator[list[str]]:
    """A folder that is followed, after the first look at it; yields what goes wrong."""
    spec = FolderSpec((str(folder),), exclude=exclude, prune=True, missing_is_gone=True)
    stopping, looked, problems = threading.Event(), threading.Event(), list[str]()
    thread = threading.Thread(
        target=watch_folder,
        args=(indexer, "law", folder, spec, stopping),
        kwargs={
            "on_result": on_result,
            "on_round": looked.set,
            "on_problem": problems.append,
            "rescan_seconds": 3600.0,
            "polling": polling,
        },
    )
    thread.start()
    try:
        until(looked.is_set)
        yield problems
    finally:
        stopping.set()
        thread.join()


@pytest.mark.parametrize("polling", [False, True])
def test_what_happens_in_the_folder_happens_in_the_collection(
    indexer: Indexer, tmp_path: Path, polling: bool
) -> None:
    folder = tmp_path / "documents"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_text("Lease A. The tenant pays.")
    (folder / "inner" / "b.txt").write_text("Lease B. The tenant pays.")
    results: list[FileResult] = []
    with followed(
        indexer, folder, exclude=("*.tmp",), on_result=results.append, polling=polling
    ) as problems:
        assert keys(indexer, folder) == {"a.txt", "inner/b.txt"}
        (folder / "c.txt").write_text("Lease C. The landlord repairs.")
        (folder / "draft.tmp").write_text("Not this one.")
        (folder / ".hidden").write_text("Nor this one.")
        until(lambda: "c.txt" in keys(indexer, folder))
        (folder / "inner").rename(folder / "moved")
        (folder / "a.txt").write_text("Lease A, amended. The tenant pays twice.")
        until(lambda: keys(indexer, folder) == {"a.txt", "c.txt", "moved/b.txt"})

        def text() -> str:
            [head] = [h for h in indexer.catalog.documents(ALL) if h.key.endswith("a.txt")]
            return indexer.catalog.text(head).text

        until(lambda: "twice" in text())
        (folder / "c.txt").unlink()
        until(lambda: keys(indexer, folder) == {"a.txt", "moved/b.txt"})
        looked_at = {Path(result.key).name for result in results}
        assert "draft.tmp" not in looked_at and ".hidden" not in looked_at
        assert problems == []


def test_a_folder_that_is_not_there(indexer: Indexer, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        watch_folder(
            indexer,
            "law",
            tmp_path / "nowhere",
            FolderSpec(()),
            threading.Event(),
            on_result=lambda _: None,
            on_round=lambda: None,
            on_problem=pytest.fail,
            rescan_seconds=1.0,
        )


@pytest.fixture
def watching(indexer: Indexer, tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder with two documents that is followed, and its problems."""
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "a.txt").write_text("Lease A. The tenant pays.")
    (folder / "b.txt").write_text("Lease B. The tenant pays.")
    with followed(indexer, folder) as problems:
        yield folder, problems


def test_a_folder_that_vanishes_takes_no_document_with_it(
    indexer: Indexer, watching: tuple[Path, list[str]]
) -> None:
    folder, problems = watching
    folder.rename(folder.with_name("elsewhere"))
    until(lambda: bool(problems))
    assert "is not there, or empty, and 2 files came from it" in problems[0]
    assert {head.key.rsplit("/", 1)[1] for head in indexer.catalog.documents(ALL)} == {
        "a.txt",
        "b.txt",
    }


def test_a_sidecar_that_changes_has_its_files_read_again(
    indexer: Indexer, watching: tuple[Path, list[str]]
) -> None:
    folder, _ = watching

    def titles() -> set[str]:
        return {head.title for head in indexer.catalog.documents(ALL)}

    (folder / "metadata.csv").write_text("file,title\na.txt,First Title\n")
    until(lambda: "First Title" in titles())
    (folder / "metadata.csv").write_text("file,title\na.txt,Second Title\n")
    until(lambda: "Second Title" in titles())


def test_a_round_that_fails_is_told_and_its_changes_are_looked_at_again(
    indexer: Indexer, watching: tuple[Path, list[str]]
) -> None:
    folder, problems = watching
    indexer.catalog.delete_collection("law", ALL)
    (folder / "c.txt").write_text("Lease C. The landlord repairs.")
    until(lambda: bool(problems))
    assert "There is no collection 'law'" in problems[0]
    indexer.catalog.create_collection("law")
    (folder / "d.txt").write_text("Lease D. The landlord repairs.")
    until(lambda: {"c.txt", "d.txt"} <= keys(indexer, folder))
