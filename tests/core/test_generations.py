"""Generations: filled beside each other, swapped by one row, gone when nobody answers from them."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from sqlalchemy import func, select
from tests.core.conftest import Clock
from tests.core.test_catalog import DIM, EVERYONE, TOKEN_DIM, content, write

from longleaf.core.catalog import Catalog, ContentWrite, DocumentWrite, Generation, schema
from longleaf.core.catalog import generations as module
from longleaf.core.catalog.generations import ANSWERING_SECONDS, Generations
from longleaf.core.errors import GenerationMismatch

SETTINGS = {"chunker": {"target_tokens": 60}}


@pytest.fixture
def old(catalog: Catalog) -> Generation:
    return catalog.open_generation("chunker-1", "embedder-1", "tiny", DIM, TOKEN_DIM, SETTINGS)


def begin(catalog: Catalog, chunker: str = "chunker-1", embedder: str = "embedder-2") -> Generation:
    return catalog.generations.begin(chunker, embedder, "tiny", DIM, TOKEN_DIM, {})


def fill(catalog: Catalog, generation: Generation, *texts: str, width: int = 10) -> None:
    catalog.add_vectors(generation, [content(text, width=width) for text in texts])


def states(catalog: Catalog) -> dict[int, str]:
    table = schema.generations
    with catalog._database.reading() as connection:
        return {row.id: row.state for row in connection.execute(select(table.c.id, table.c.state))}


def rows(catalog: Catalog) -> tuple[int, int, int]:
    """How many passages, chunkings and vectors there are, of whatever generation."""
    with catalog._database.reading() as connection:
        count = [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (schema.passages, schema.chunkings, schema.vectors)
        ]
    return count[0], count[1], count[2]


def other(write_of: DocumentWrite, generation: Generation, made: ContentWrite) -> DocumentWrite:
    return replace(write_of, others=((generation, made),))


def test_settings_are_kept_so_that_anybody_can_load_the_models(
    catalog: Catalog, old: Generation
) -> None:
    live = catalog.generations.live()
    assert live is not None
    assert (live.generation, live.state, live.settings) == (old, "live", SETTINGS)
    assert catalog.generations.opened() == [live]


def test_a_generation_is_live_only_when_no_document_lacks_its_vectors(
    catalog: Catalog, old: Generation
) -> None:
    catalog.commit(old, [write("a", "words")])
    new = begin(catalog)
    assert not catalog.generations.make_live(new)
    assert catalog.live_generation() == old
    assert catalog.generations.missing(new, 0, 9) == [(1, content("words").digest)]
    fill(catalog, new, "words")
    catalog.commit(old, [write("b", "written meanwhile")])
    assert not catalog.generations.make_live(new)
    fill(catalog, new, "written meanwhile")
    assert catalog.generations.missing_count(new) == 0
    assert catalog.generations.make_live(new)
    assert catalog.live_generation() == new
    assert states(catalog) == {old.id: "retiring", new.id: "live"}
    assert catalog.generations.make_live(new), "twice is once"
    assert states(catalog) == {old.id: "retiring", new.id: "live"}


def test_a_content_that_nobody_has_yet_holds_nothing_back(
    catalog: Catalog, old: Generation
) -> None:
    """A long document is written in slices before it is put."""
    made = content("x" * 50)
    catalog.write_slice(old, replace(made, vectors=made.vectors[:2]))
    new = begin(catalog)
    assert catalog.generations.make_live(new)


def test_after_the_swap_no_write_may_leave_the_live_generation_out(
    catalog: Catalog, old: Generation
) -> None:
    catalog.commit(old, [write("a", "words")])
    new = begin(catalog)
    fill(catalog, new, "words")
    catalog.commit(old, [write("b", "for both", known=False)])
    fill(catalog, new, "for both")
    assert catalog.generations.make_live(new)
    with pytest.raises(GenerationMismatch):
        catalog.commit(old, [write("c", "only the old one")])
    assert {head.key for head in catalog.documents(EVERYONE)} == {"a", "b"}
    catalog.commit(old, [write("d", "words", known=True)])  # it has the new one's already
    made = other(write("c", "both at once"), new, content("both at once"))
    catalog.commit(old, [made])
    catalog.commit(new, [other(write("e", "the other way"), old, content("the other way"))])
    for generation in (old, new):
        assert catalog.generations.missing_count(generation) == 0
    catalog.generations.retire()
    with pytest.raises(GenerationMismatch):
        catalog.commit(old, [made])


def test_building_is_gone_on_with_or_given_up_for_another(
    catalog: Catalog, old: Generation
) -> None:
    first = begin(catalog)
    assert begin(catalog) == first
    second = begin(catalog, chunker="chunker-2")
    assert states(catalog) == {old.id: "live", first.id: "retired", second.id: "building"}
    catalog.generations.give_up_building()
    assert states(catalog)[second.id] == "retired"
    assert catalog.generations.empty()
    assert states(catalog) == {old.id: "live", first.id: "gone", second.id: "gone"}
    assert [each.generation for each in catalog.generations.opened()] == [old]


def swapped(catalog: Catalog, old: Generation, clock: Clock) -> tuple[Generations, Generation]:
    """Two documents, a new generation with another chunker live, the old one retiring."""
    catalog.commit(old, [write("a", "x" * 35), write("b", "y" * 60)])
    new = begin(catalog, chunker="chunker-2", embedder="embedder-1")
    fill(catalog, new, "x" * 35, "y" * 60, width=5)
    assert catalog.generations.make_live(new)
    return Generations(catalog._database, catalog.erasure.settle, clock), new


def test_the_old_one_goes_only_when_nobody_answers_from_it(
    catalog: Catalog, old: Generation
) -> None:
    clock = Clock()
    there, new = swapped(catalog, old, clock)
    assert there.answer_from("server-1", old) and there.answer_from("server-2", old)
    assert there.retire() == []
    assert there.answering(old) == ["server-1", "server-2"]
    assert there.answer_from("server-1", new)  # it has switched
    assert there.answering(old) == ["server-2"]
    clock.now += ANSWERING_SECONDS - 1
    assert there.answer_from("server-2", old)  # it is still alive
    clock.now += ANSWERING_SECONDS - 1
    assert there.retire() == []
    clock.now += 1  # nothing was heard of it for a minute: it is dead
    assert there.retire() == [old.id]
    assert there.empty()
    assert rows(catalog) == (7 + 12, 2, 7 + 12)
    assert states(catalog) == {old.id: "gone", new.id: "live"}
    assert not there.answer_from("server-2", old), "and if it was not dead, it is told"
    for head in catalog.documents(EVERYONE):
        found = catalog.passages(head, new)
        assert "".join(passage.text for passage in found) == catalog.text(head).text
        codes, _, _ = catalog.token_vectors([each.passage_id for each in found], new)
        assert len(codes) == head.text_chars


def test_who_ends_in_order_holds_nothing_back(catalog: Catalog, old: Generation) -> None:
    there, _ = swapped(catalog, old, Clock())
    assert there.answer_from("server", old)
    there.answer_no_more("server")
    assert there.retire() == [old.id]


def test_emptying_goes_on_after_it_was_stopped_and_what_is_left_is_whole(
    catalog: Catalog, old: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONTENTS_AT_ONCE", 1)
    there, new = swapped(catalog, old, Clock())
    there.retire()
    asked: list[int] = []
    assert not there.empty(lambda: asked.append(1) is None and len(asked) > 1)
    assert rows(catalog) == (6 + 7 + 12, 3, 6 + 7 + 12)
    # Somebody wants it back: what is there is counted on, and only the rest is made.
    again = begin(catalog, chunker="chunker-1", embedder="embedder-1")
    assert [digest for _, digest in there.missing(again, 0, 9)] == [content("x" * 35).digest]
    fill(catalog, again, "x" * 35, "y" * 60)
    assert there.missing_count(again) == 0
    assert there.empty()
    assert rows(catalog) == (4 + 6 + 7 + 12, 4, 4 + 6 + 7 + 12)
    assert there.make_live(again)
    assert there.retire() == [new.id]
    assert there.empty()
    assert rows(catalog) == (10, 2, 10)


def test_passages_that_another_generation_needs_stay(catalog: Catalog, old: Generation) -> None:
    """The same chunker with another embedder: only the vectors go."""
    catalog.commit(old, [write("a", "x" * 35)])
    new = begin(catalog)
    fill(catalog, new, "x" * 35)
    assert rows(catalog) == (4, 1, 8)
    assert catalog.generations.make_live(new)
    catalog.generations.retire()
    assert catalog.generations.empty()
    assert rows(catalog) == (4, 1, 4)
    [head] = catalog.documents(EVERYONE)
    assert len(next(iter(catalog.index_entries([head.document_id], new))).passages) == 4


def test_the_stamp_changes_with_the_set_of_open_generations(
    catalog: Catalog, old: Generation
) -> None:
    stamps = [catalog.generations.stamp()]
    new = begin(catalog)
    stamps.append(catalog.generations.stamp())
    catalog.generations.make_live(new)
    stamps.append(catalog.generations.stamp())
    catalog.generations.retire()
    stamps.append(catalog.generations.stamp())
    assert len(set(stamps)) == 4
    assert catalog.generations.stamp() == stamps[-1]


def test_vectors_for_a_content_erased_meanwhile_bring_nothing_back(
    catalog: Catalog, old: Generation
) -> None:
    [result] = catalog.commit(old, [write("a", "zyzzyva")])
    new = begin(catalog)
    catalog.delete_document(result.public_id, EVERYONE)
    fill(catalog, new, "zyzzyva")
    assert rows(catalog) == (0, 0, 0)
    assert catalog.content_document(content("zyzzyva").digest) is None


def test_a_swap_under_writes_leaves_no_document_without_vectors(
    catalog: Catalog, old: Generation
) -> None:
    """Writers that know only the old generation are refused from the swap on, never lost."""
    new = begin(catalog)
    written: list[str] = []
    begun, refused = threading.Event(), threading.Event()

    def run() -> None:
        mine = Catalog(catalog.folder, catalog.settings)
        number = 0
        while not refused.is_set():
            number += 1
            try:
                mine.commit(old, [write(f"k{number}", f"text number {number}")])
                written.append(f"text number {number}")
                if number == 20:
                    begun.set()
                # Longer than `fill` takes: a queue for the lock would let one in before each swap.
                refused.wait(0.05)
            except GenerationMismatch:
                refused.set()
        mine.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(60)
    filled = 0
    while not catalog.generations.make_live(new):
        # As `longleaf reindex` does it: what is missing now, then ask again.
        some = written[filled:]
        fill(catalog, new, *some)
        filled += len(some)
    thread.join()
    assert refused.is_set()
    assert catalog.generations.missing_count(new) == 0
    assert len(catalog.documents(EVERYONE, limit=10_000)) == len(written)
