"""The demo corpus: legal texts of this machine, the same folder however often it is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from longleaf.core.errors import Conflict
from longleaf.core.types import Document
from longleaf.indexer.demo_corpus import MARKER, collect
from longleaf.indexer.parsers import parser_for
from longleaf.indexer.sources import read_bytes, walk


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("demo") / "corpus"
    collect(target)
    return target


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_text_parses_with_a_title_and_comes_once(corpus: Path) -> None:
    bodies = set()
    sources = list(walk([corpus], (), ()))
    assert len(sources) > 20
    for source in sources:
        data = read_bytes(source, 3 << 20)
        (document,) = parser_for(source.path.name, data).parse(data, source.path.name)
        assert isinstance(document, Document)
        title, _, body = document.text.partition("\n\n")
        assert document.title[:60] == " ".join(title.split())[:60]
        bodies.add(" ".join(body.split()))
    assert len(bodies) == len(sources)


def test_the_licences_of_what_is_installed_are_there(corpus: Path) -> None:
    assert any(path.parts[-2] == "numpy" for path in corpus.rglob("*.txt"))


def test_a_second_run_changes_nothing_and_clears_only_its_own_folder(
    corpus: Path, tmp_path: Path
) -> None:
    before = snapshot(corpus)
    outside = tmp_path / "precious.txt"
    outside.write_text("keep me")
    (corpus / "stale").mkdir()
    (corpus / "stale" / "old.txt").write_text("old")
    (corpus / "linked").symlink_to(tmp_path)
    victim = next(path for path in corpus.rglob("*.txt"))
    victim.unlink()
    victim.symlink_to(outside)
    made = collect(corpus)
    assert snapshot(corpus) == before
    assert not (corpus / "stale").exists()
    assert outside.read_text() == "keep me"
    texts = {name: data for name, data in before.items() if name != MARKER}
    assert (made.files, made.bytes) == (len(texts), sum(map(len, texts.values())))


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(Conflict):
        collect(tmp_path)
    with pytest.raises(Conflict):
        collect(tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "mine"
