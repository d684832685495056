"""Token ids of passages: kept under their tokenizer's name, checked, gone with their passage."""

from __future__ import annotations

import numpy as np
from sqlalchemy import select, update
from tests.core.test_catalog import EVERYONE, write

from longleaf.core.catalog import Catalog, Generation, schema

SECRET_IDS = np.arange(77_101, 77_117, dtype=np.uint32)


def passages_of(catalog: Catalog, generation: Generation) -> list[int]:
    [head] = catalog.documents(EVERYONE)
    return [each.passage_id for each in catalog.passages(head, generation)]


def test_what_is_lacking_is_named_with_its_title_and_what_is_put_comes_back(
    catalog: Catalog, generation: Generation
) -> None:
    catalog.commit(generation, [write("a", "the rent is due. " * 40)])
    wanted = passages_of(catalog, generation)
    lacking = catalog.lacking_reader_ids("t1", 0, 1_000)
    [head] = catalog.documents(EVERYONE)
    assert [each.passage_id for each in lacking] == wanted and len(wanted) > 3
    assert [each.text for each in lacking] == [
        each.text for each in catalog.passages(head, generation)
    ]
    assert {each.title for each in lacking} == {head.title}
    assert [each.passage_id for each in catalog.lacking_reader_ids("t1", wanted[1], 2)] == wanted[
        2:4
    ]
    made = {each: np.arange(each, each + 3, dtype=np.uint32) for each in wanted[:2]}
    assert catalog.put_reader_ids("t1", made) == 2
    found = catalog.reader_ids("t1", wanted)
    assert found.keys() == made.keys()
    assert all(np.array_equal(found[each], made[each]) for each in made)
    assert catalog.lacking_reader_ids("t1", 0, 1_000)[0].passage_id == wanted[2]


def test_another_tokenizers_ids_are_not_taken_and_make_way(
    catalog: Catalog, generation: Generation
) -> None:
    catalog.commit(generation, [write("a", "the rent is due. " * 40)])
    first, *others = passages_of(catalog, generation)
    catalog.put_reader_ids("t1", {first: SECRET_IDS})
    assert catalog.reader_ids("t2", [first]) == {}
    assert len(catalog.lacking_reader_ids("t2", 0, 1_000)) == 1 + len(others)
    catalog.put_reader_ids("t2", {first: SECRET_IDS + 1})
    assert catalog.reader_ids("t1", [first]) == {}
    assert np.array_equal(catalog.reader_ids("t2", [first])[first], SECRET_IDS + 1)


def test_a_flipped_bit_makes_them_missing(catalog: Catalog, generation: Generation) -> None:
    catalog.commit(generation, [write("a", "the rent is due. " * 40)])
    first, second, *_ = passages_of(catalog, generation)
    catalog.put_reader_ids("t1", {first: SECRET_IDS, second: SECRET_IDS})
    table = schema.reader_ids
    with catalog._database.writing() as connection:
        blob = bytearray(
            connection.execute(select(table.c.ids).where(table.c.passage_id == first)).scalar_one()
        )
        blob[5] ^= 4
        flipped = update(table).where(table.c.passage_id == first).values(ids=bytes(blob))
        connection.execute(flipped)
    assert catalog.reader_ids("t1", [first, second]).keys() == {second}


def test_they_go_with_their_passage_and_leave_no_byte(
    catalog: Catalog, generation: Generation
) -> None:
    [result] = catalog.commit(generation, [write("a", "the rent is due. " * 40)])
    first = passages_of(catalog, generation)[0]
    catalog.put_reader_ids("t1", {first: SECRET_IDS})

    def is_in_the_folder() -> bool:
        files = [path for path in catalog.folder.rglob("*") if path.is_file()]
        return any(SECRET_IDS.astype("<u4").tobytes() in path.read_bytes() for path in files)

    assert is_in_the_folder() != bool(catalog.settings.url)  # Postgres keeps it elsewhere
    catalog.delete_document(result.public_id, EVERYONE)
    # Made before the deletion was heard of: nothing is there to keep them with.
    assert catalog.put_reader_ids("t1", {first: SECRET_IDS}) == 0
    catalog.record_follower("one", catalog.head_seq())
    catalog.erasure.scrub()
    assert not is_in_the_folder()
    assert catalog.reader_ids("t1", [first]) == {}
