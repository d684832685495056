"""`longleaf reindex`: what it makes anew, what it inherits, and what a kill cannot break."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.api.conftest import own_process
from tests.api.sized import HashEmbedder

from longleaf.api import rebuilding, reindexing, wire
from longleaf.api.search import SearchRequest
from longleaf.core.catalog import Catalog, Generation
from longleaf.core.config import Settings, load_settings
from longleaf.core.errors import Conflict, NotFound
from longleaf.core.types import Scope
from longleaf.indexer.parsers.here import ReadHere

if TYPE_CHECKING:
    from longleaf.indexer.embed import MiniLMEmbedder

ROOT = Path(__file__).parents[2]
EVERYONE = Scope.all()
SENTENCES = (
    "The tenant shall pay the rent on the first day of each month. ",
    "The landlord shall repair the roof within thirty days of a notice. ",
    "Force majeure suspends the obligation to pay. ",
    "The deposit is returned when the lease has ended. ",
)


@pytest.fixture(autouse=True)
def _one_model(minilm: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real bundled model, loaded once for all tests; files are read in this process."""
    real = wire.open_models

    def load(settings: Settings, reasons: dict[str, str]) -> tuple[Any, Any]:
        if settings.embedder.model != "bundled" or settings.embedder.projection:
            return real(settings, reasons)
        return minilm, wire.open_chunker(settings, minilm)

    monkeypatch.setattr(wire, "open_models", load)
    monkeypatch.setattr(wire, "open_reader", lambda *_: ReadHere())


def settings_of(home: Path, **more: Any) -> Settings:
    flags = {"home": home, **{name.replace("__", "."): value for name, value in more.items()}}
    return load_settings(flags, {}).settings


def text_of(number: int, sentences: int = 24) -> str:
    return f"Lease {number}.\n\n" + "".join(
        SENTENCES[(number + n) % len(SENTENCES)] for n in range(sentences)
    )


def index(parts: wire.WriteSide, key: str, text: str) -> None:
    result = parts.indexer.index_bytes("law", "english", text.encode(), f"{key}.txt", key=key)
    assert result.document_ids


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return filled(tmp_path / "home")


def filled(home: Path) -> Path:
    """A data folder with six documents, and their index."""
    settings = settings_of(home)
    parts = wire.open_write_side(settings)
    parts.catalog.create_collection("law")
    for number in range(6):
        index(parts, str(number), text_of(number))
    rebuilding.follow_once(parts)
    parts.close()
    return home


@pytest.fixture
def catalog(home: Path) -> Iterator[Catalog]:
    opened = Catalog(home)
    yield opened
    opened.close()


def live(catalog: Catalog) -> Generation:
    found = catalog.live_generation()
    assert found is not None
    return found


def passages(catalog: Catalog, generation: Generation) -> dict[str, int]:
    """Document key -> passages in this generation."""
    return {
        head.key: len(catalog.passages(head, generation, limit=10_000))
        for head in catalog.documents(EVERYONE, limit=1000)
    }


def search(settings: Settings, query: str) -> list[str]:
    runtime = wire.open_runtime(settings, follow=False)
    try:
        runtime.follower.catch_up()
        return [hit.key for hit in runtime.engine.search(SearchRequest(query)).hits]
    finally:
        runtime.close()


# --- what it does ------------------------------------------------------------------------------


def test_all_is_cut_and_embedded_anew_and_nothing_of_the_old_is_left(
    home: Path, catalog: Catalog
) -> None:
    old = live(catalog)
    before = passages(catalog, old)
    told: list[tuple[str, int, int]] = []
    done = reindexing.reindex(
        settings_of(home, chunker__target_tokens=48), progress=lambda *each: told.append(each)
    )
    new = live(catalog)
    assert done == reindexing.Reindexed(new.id, changed=True, embedded=6, switched=True)
    after = passages(catalog, new)
    assert sum(after.values()) > 2 * sum(before.values())
    assert set(passages(catalog, old).values()) == {0}
    assert catalog.count(EVERYONE).passages == sum(after.values())
    assert [path.name for path in (home / "index").iterdir()] == [f"generation-{new.id}"]
    assert ("Embed", 6, 6) in told and any(what == "Index" for what, *_ in told)
    again = reindexing.reindex(settings_of(home, chunker__target_tokens=48))
    assert again == reindexing.Reindexed(new.id, changed=False, embedded=0, switched=True)


def test_what_nobody_sets_stays_as_the_documents_were_indexed(home: Path, catalog: Catalog) -> None:
    reindexing.reindex(settings_of(home, chunker__target_tokens=48))
    assert search(settings_of(home), "force majeure")
    parts = wire.open_write_side(settings_of(home))
    assert parts.settings.chunker.target_tokens == 48
    index(parts, "later", text_of(7))
    rebuilding.follow_once(parts)
    parts.close()
    reindexing.reindex(settings_of(home, chunker__overlap_tokens=12))
    found = catalog.generations.live()
    assert found is not None
    assert found.settings["chunker"] == {"target_tokens": 48, "overlap_tokens": 12}
    assert set(passages(catalog, found.generation)) == {*"012345", "later"}


def test_a_parsers_marks_reach_the_chunker_again(home: Path, catalog: Catalog) -> None:
    """Sections, pages and roles are stored, and a text is cut by them as when it came in."""
    parts = wire.open_write_side(settings_of(home))
    markdown = "# Title\n\n" + text_of(1) + "\n\n## Second part\n\n" + text_of(2)
    parts.indexer.index_bytes("law", "english", markdown.encode(), "m.md", key="m")
    parts.close()
    reindexing.reindex(settings_of(home, chunker__target_tokens=48))
    reindexing.reindex(settings_of(home, chunker__target_tokens=200))
    [head] = [each for each in catalog.documents(EVERYONE) if each.key == "m"]
    fresh = wire.open_write_side(settings_of(home / "fresh", chunker__target_tokens=200))
    fresh.catalog.create_collection("law")
    fresh.indexer.index_bytes("law", "english", markdown.encode(), "m.md", key="m")
    [expected] = fresh.catalog.documents(EVERYONE)
    spans = [
        [(each.start_char, each.end_char, each.headings, each.role) for each in found]
        for found in (
            catalog.passages(head, live(catalog)),
            fresh.catalog.passages(expected, fresh.generation),
        )
    ]
    assert spans[0] == spans[1] and any(headings for _, _, headings, _ in spans[0])
    fresh.close()


def test_vectors_are_those_that_indexing_would_have_made(home: Path, catalog: Catalog) -> None:
    reindexing.reindex(settings_of(home, chunker__target_tokens=48))
    fresh = wire.open_write_side(settings_of(home / "fresh", chunker__target_tokens=48))
    fresh.catalog.create_collection("law")
    for number in range(6):
        index(fresh, str(number), text_of(number))
    for key in "012345":
        made = [
            _vectors(catalog, live(catalog), key),
            _vectors(fresh.catalog, fresh.generation, key),
        ]
        for first, second in zip(*made, strict=True):
            # Other neighbours in a batch move a float in its last bits, and a code by one.
            assert np.abs(first.astype(np.float32) - second.astype(np.float32)).max() <= 1
    fresh.close()


def _vectors(catalog: Catalog, generation: Generation, key: str) -> list[Any]:
    [head] = [each for each in catalog.documents(EVERYONE) if each.key == key]
    [entry] = catalog.index_entries([head.document_id], generation)
    ids = [each.passage_id for each in catalog.passages(head, generation, limit=1000)]
    codes, _, _ = catalog.token_vectors(ids, generation)
    return [np.stack([passage.dense for passage in entry.passages]), codes]


def test_long_documents_are_embedded_in_slices(
    home: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices: list[int] = []
    real = Catalog.add_vectors

    def counted(self: Catalog, generation: Generation, contents: Any) -> None:
        slices.extend(len(each.vectors) for each in contents)
        real(self, generation, contents)

    monkeypatch.setattr(Catalog, "add_vectors", counted)
    reindexing.reindex(settings_of(home, chunker__target_tokens=48, indexer__commit_passages=3))
    assert max(slices) <= 3
    assert sum(slices) == sum(passages(catalog, live(catalog)).values())


def test_without_documents_there_is_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no documents yet"):
        reindexing.reindex(settings_of(tmp_path))


def test_two_at_once_are_refused(home: Path) -> None:
    refused: list[str] = []

    def progress(what: str, *_: int) -> None:
        if what == "Embed" and not refused:
            with pytest.raises(Conflict, match="Another longleaf reindex"):
                reindexing.reindex(settings_of(home, chunker__target_tokens=64))
            refused.append(what)

    reindexing.reindex(settings_of(home, chunker__target_tokens=48), progress=progress)
    assert refused


def test_another_target_gives_up_what_was_begun(home: Path, catalog: Catalog) -> None:
    _interrupted(settings_of(home, chunker__target_tokens=48))
    [_, building] = catalog.generations.opened()
    assert passages(catalog, building.generation)
    reindexing.reindex(settings_of(home, chunker__target_tokens=64))
    assert set(passages(catalog, building.generation).values()) == {0}
    assert [each.state for each in catalog.generations.opened()] == ["live"]
    _interrupted(settings_of(home, chunker__target_tokens=48))
    reindexing.reindex(settings_of(home, chunker__target_tokens=64))  # as it is already
    assert [each.state for each in catalog.generations.opened()] == ["live"]


class _Interrupt(BaseException):
    pass


def _interrupted(settings: Settings) -> None:
    def progress(what: str, done: int, _total: int) -> None:
        if what == "Embed" and done == 4:
            raise _Interrupt

    settings = settings.model_copy(
        update={"indexer": settings.indexer.model_copy(update={"commit_passages": 1})}
    )
    with pytest.raises(_Interrupt):
        reindexing.reindex(settings, progress=progress)


def test_it_goes_on_where_it_was_interrupted(
    home: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(home, chunker__target_tokens=48)
    _interrupted(settings)
    assert search(settings_of(home), "force majeure"), "the live one answers as before"
    done = reindexing.reindex(settings)
    assert 2 <= done.embedded <= 3


def test_what_is_written_while_everything_is_embedded_is_not_lost(
    home: Path, catalog: Catalog
) -> None:
    """By a process that was there before, by one that comes later, and what is deleted."""
    before = wire.open_write_side(settings_of(home))
    steps: dict[int, Callable[[], object]] = {
        2: lambda: index(before, "by one from before", text_of(20)),
        3: lambda: _by_a_new_process(home),
        4: lambda: catalog.delete_document(
            next(h.public_id for h in catalog.documents(EVERYONE) if h.key == "0"), EVERYONE
        ),
    }

    def progress(what: str, done: int, _total: int) -> None:
        if what == "Embed" and done in steps:
            steps.pop(done)()

    reindexing.reindex(settings_of(home, chunker__target_tokens=48), progress=progress)
    assert steps == {}
    index(before, "after the swap", text_of(22))
    before.close()
    expected = {*"12345", "by one from before", "by a new one", "after the swap"}
    found = passages(catalog, live(catalog))
    assert set(found) == expected and min(found.values()) > 3
    assert catalog.generations.missing_count(live(catalog)) == 0
    assert set(search(settings_of(home), "rent")) == expected


def _by_a_new_process(home: Path) -> None:
    parts = wire.open_write_side(settings_of(home))
    index(parts, "by a new one", text_of(21))
    parts.close()


# --- killed ------------------------------------------------------------------------------------

_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.api import sized
from longleaf.api import indexes, reindexing, wire
from longleaf.core.catalog import Catalog
from longleaf.core.catalog.generations import Generations
from longleaf.core.config import load_settings

home, when = Path(sys.argv[1]), sys.argv[2]
sized.use()
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
flags = {"home": home, "chunker.target_tokens": 48, "indexer.commit_passages": 1}

def progress(what, done, total):
    if (what, done) == ("Embed", 3) and when == "embedding":
        die()

if when == "before the swap":
    Generations.make_live = lambda self, new: self.missing_count(new) == 0 and die()
if when == "after the swap":
    reindexing._finish = die
if when == "filling the index":
    from longleaf.retriever.index.edge import EdgeIndex
    EdgeIndex.flush = die
if when == "emptying":
    from longleaf.core.catalog import generations
    generations._CONTENTS_AT_ONCE = 2
    real = generations.empty_batch
    calls = []
    def empty_batch(connection, after):
        calls.append(after)
        return real(connection, after) if len(calls) < 3 else die()
    generations.empty_batch = empty_batch
if when == "dropping the index":
    indexes.drop_closed = die
reindexing.reindex(load_settings(flags, {}).settings, progress=progress)
"""


@own_process
@pytest.mark.parametrize(
    "when",
    [
        "embedding",
        "before the swap",
        "after the swap",
        "filling the index",
        "emptying",
        "dropping the index",
    ],
)
def test_killed_at_any_moment_it_goes_on_when_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    embedder: Any = HashEmbedder()
    monkeypatch.setattr(
        wire, "open_models", lambda settings, _: (embedder, wire.open_chunker(settings, embedder))
    )
    home = filled(tmp_path / "home")
    catalog = Catalog(home)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(home), when], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(search(settings_of(home), "rent")) == 6, "whatever it left, searches answer"
    done = reindexing.reindex(settings_of(home, chunker__target_tokens=48))
    assert done.switched
    assert 0 < done.embedded < 6 if when == "embedding" else done.embedded == 0
    found = passages(catalog, live(catalog))
    assert len(found) == 6 and catalog.count(EVERYONE).passages == sum(found.values())
    assert [path.name for path in (home / "index").iterdir()] == [f"generation-{done.generation}"]
    assert len(search(settings_of(home), "rent")) == 6
    catalog.close()
