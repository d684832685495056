"""A content is put whole or in slices, by one process or two, and seen when it is whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.core.test_catalog import EVERYONE, content

from longleaf.core.catalog import Catalog, ContentWrite, DocumentWrite, Generation
from longleaf.core.catalog.writes import ContentGone


def test_a_long_content_comes_in_slices_and_is_seen_when_it_is_whole(
    catalog: Catalog, generation: Generation
) -> None:
    whole = content("The first tenth, then more and more of it, until the end comes.")
    middle = len(whole.passages) // 2

    def part(first: int, last: int) -> ContentWrite:
        return replace(whole, vectors=whole.vectors[first:last], first=first)

    catalog.write_slice(generation, part(0, middle))
    assert catalog.vectors_written(whole.digest, generation) == middle
    assert not catalog.has_content(whole.digest, generation)
    wanted = DocumentWrite(
        "law", "long", whole.digest, {}, (), "long.txt", "text/plain", None, "en", ()
    )
    with pytest.raises(ContentGone):
        catalog.commit(generation, [wanted])
    # Another process wrote the same slice, and more.
    catalog.write_slice(generation, part(0, middle + 1))
    catalog.write_slice(generation, part(middle + 1, len(whole.passages)))
    assert catalog.has_content(whole.digest, generation)
    [result] = catalog.commit(generation, [wanted])
    head = catalog.document(result.public_id, EVERYONE)
    assert [p.text for p in catalog.passages(head, generation)] == [
        whole.document.text[p.start_char : p.end_char] for p in whole.passages
    ]
    [entry] = list(catalog.index_entries([head.document_id], generation))
    dense = np.stack([passage.dense for passage in entry.passages])
    assert np.allclose(dense, np.stack([v.dense for v in whole.vectors]), atol=1e-3)
