"""Words to rectangles, and back from bytes without a loss that anybody could see."""

from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.core.layout import Layout, Rectangle, stored_digest

# "The water is cold.\nIt flows." on page 1, "End" on page 2.
LAYOUT = Layout(
    np.array(
        [(0, 3, 1), (4, 9, 1), (10, 12, 1), (13, 18, 1), (19, 21, 1), (22, 28, 1), (29, 32, 2)],
        np.int32,
    ),
    np.array(
        [
            (10, 20, 40, 30),
            (50, 20, 100, 32),
            (110, 20, 130, 30),
            (140, 20, 190, 30),
            (10, 40, 30, 50),
            (40, 40, 100, 50),
            (10, 20, 40, 30),
        ],
        np.float32,
    ),
    np.array([(612, 792), (595, 842)], np.float32),
)


def test_one_rectangle_for_each_line_of_each_page() -> None:
    assert LAYOUT.rectangles(0, 32) == [
        Rectangle(1, 10, 20, 190, 32),
        Rectangle(1, 10, 40, 100, 50),
        Rectangle(2, 10, 20, 40, 30),
    ]


def test_a_part_of_a_word_is_its_share_of_the_width() -> None:
    assert LAYOUT.rectangles(5, 7) == [Rectangle(1, 60, 20, 80, 32)]
    assert LAYOUT.rectangles(8, 11) == [Rectangle(1, 90, 20, 120, 32)]


@pytest.mark.parametrize("span", [(3, 4), (18, 19), (28, 29), (32, 99), (5, 5)])
def test_white_space_covers_nothing(span: tuple[int, int]) -> None:
    assert LAYOUT.rectangles(*span) == []


def _layouts() -> st.SearchStrategy[Layout]:
    run = st.tuples(
        st.integers(1, 9),
        st.integers(0, 3),
        st.integers(1, 3),
        st.lists(st.floats(0, 2000, width=32), min_size=4, max_size=4),
    )

    def build(runs: list[tuple[int, int, int, list[float]]]) -> Layout:
        at, spans, boxes = 0, [], []
        for length, gap, page, box in runs:
            spans.append((at + gap, at + gap + length, page))
            boxes.append(box)
            at += gap + length
        return Layout(
            np.array(spans, np.int32).reshape(-1, 3),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array([(612, 792)] * 3, np.float32),
        )

    return st.lists(run, max_size=30).map(build)


@given(_layouts())
def test_stored_and_read_again_it_is_the_same_to_a_twentieth_of_a_point(layout: Layout) -> None:
    again = Layout.from_bytes(layout.to_bytes())
    assert np.array_equal(again.spans, layout.spans)
    assert np.array_equal(again.pages, layout.pages)
    assert np.allclose(again.boxes, layout.boxes, atol=0.051)


@pytest.mark.parametrize(
    "data", [b"", b"LLL1", LAYOUT.to_bytes()[:12] + b"junk", LAYOUT.to_bytes() + b"x"]
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="a layout"):
        Layout.from_bytes(data)


def test_a_digest_is_of_the_words_and_not_of_the_compression() -> None:
    stored = LAYOUT.to_bytes()
    assert stored_digest(stored) == LAYOUT.digest() == Layout.from_bytes(stored).digest()
    harder = stored[:12] + zlib.compress(zlib.decompress(stored[12:]), 9)
    assert stored_digest(harder) == LAYOUT.digest()


def test_no_more_is_unpacked_than_the_header_announces() -> None:
    bomb = LAYOUT.to_bytes()[:12] + zlib.compress(bytes(200_000_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match="another form"):
        Layout.from_bytes(bomb)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
