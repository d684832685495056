"""What stands where on a page, and what becomes of it: places, headers, columns, footnotes."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdfium2 import raw
from tests.indexer.pdfs import LETTER, Box, Words, placed_pdf

from longleaf.core.protocols import NO_CONTEXT
from longleaf.core.types import Document, Role
from longleaf.indexer.parsers.pdf import PdfParser
from longleaf.indexer.parsers.pdf_file import read_contents
from longleaf.indexer.parsers.pdf_flow import Joined, join_pages
from longleaf.indexer.parsers.pdf_page import SourcePage

PROSE = (
    "the appellate court held that the petition was",
    "timely although the clerk had stamped it later,",
    "because a prisoner delivers a paper when he hands",
    "it to the warden for mailing, and nothing in this",
    "rule makes the date of filing depend on a stamp.",
    "It follows that the judgment below must be set",
    "aside and that the matter goes back to the judge",
    "who tried it, with costs to abide the event and",
    "without prejudice to any claim not raised so far.",
    "Whether the statute reaches further than that we",
    "need not say, for neither side has argued it and",
    "the record is silent on what was done afterwards.",
    "On remand the parties may supplement the record",
    "by agreement, or by leave of the court on motion.",
)


def document(pages: Sequence[Sequence[Words]], box: Box = LETTER) -> Document:
    (found,) = PdfParser().parse(placed_pdf(pages, box), "file.pdf")
    assert isinstance(found, Document)
    return found


def pages_of(data: bytes) -> list[SourcePage]:
    return read_contents(data, "file.pdf", NO_CONTEXT).pages


def joined(pages: Sequence[Sequence[Words]]) -> Joined:
    return join_pages(pages_of(placed_pdf(pages)))


def paragraph(x: float = 72, y: float = 100, lines: Sequence[str] = PROSE) -> list[Words]:
    return [Words(x, y + 14 * number, line) for number, line in enumerate(lines)]


def body(page: int, lines: Sequence[str] = PROSE) -> list[Words]:
    """A paragraph whose words no other page has."""
    return paragraph(lines=[f"{line} {'abcdefgh'[page]}{at}" for at, line in enumerate(lines)])


def _letters(text: str) -> Counter[str]:
    return Counter(re.sub("[\\s\x02\ufffe-]", "", text))


# --- places ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [0.0, 36.0])
def test_boxes_are_where_pdfium_shows_the_text(rotate: int, crop: float) -> None:
    data = placed_pdf(
        [[Words(72, 100, "first"), Words(300, 500, "second")]], Box(rotate=rotate, crop=crop)
    )
    (source,) = pages_of(data)
    pdf = pypdfium2.PdfDocument(data)
    page = pdf[0]
    assert (source.width, source.height) == pytest.approx(page.get_size())
    text_page = page.get_textpage()
    for run, word in enumerate(("first", "second")):
        start = source.characters.index(word)
        assert source.spans[run].tolist() == [start, start + len(word)]
        corners = [
            _shown(page, *corner)
            for box in (
                text_page.get_charbox(text_page.get_text_range().index(word) + at)
                for at in range(len(word))
            )
            for corner in ((box[0], box[1]), (box[2], box[3]))
        ]
        xs, ys = zip(*corners, strict=True)
        assert source.boxes[run].tolist() == pytest.approx(
            [min(xs), min(ys), max(xs), max(ys)], abs=0.6
        )


def _shown(page: pypdfium2.PdfPage, x: float, y: float) -> tuple[float, float]:
    """pdfium's own way from a page to the page as shown, in points, to half a point."""
    width, height = (round(side) for side in page.get_size())
    shown_x, shown_y = ctypes.c_int(), ctypes.c_int()
    raw.FPDF_PageToDevice(page, 0, 0, width, height, 0, x, y, shown_x, shown_y)
    return shown_x.value, shown_y.value


def test_text_outside_the_page_is_kept_without_a_place() -> None:
    found = document([[Words(72, 100, "seen"), Words(700, 100, "unseen")]])
    assert found.text.split() == ["seen", "unseen"] and found.layout is not None
    at = found.text.index("unseen")
    assert found.layout.rectangles(at, at + 6) == []
    assert len(found.layout.rectangles(0, 4)) == 1


def test_a_passage_has_a_rectangle_for_each_line() -> None:
    found = document([paragraph()])
    assert found.layout is not None
    start, end = found.text.index("timely"), found.text.index("it to the warden")
    one, two = found.layout.rectangles(start, end)
    assert [one.left, two.left] == pytest.approx([72, 72], abs=1)
    assert 0 < two.top - one.bottom < 14 and one.page == 1


def test_a_raised_number_is_a_run_of_its_own() -> None:
    words = [Words(72, 100, "held"), Words(91.3, 96, "3", 6), Words(110, 100, "that")]
    (source,) = pages_of(placed_pdf([words]))
    runs = [source.characters[a:b] for a, b in source.spans.tolist()]
    assert runs == ["held", "3", "that"]
    assert source.heights[1] < 0.7 * source.heights[0]


# --- headers, footers, line numbers ----------------------------------------------------------


def stamped(number: int, total: int, lines: Sequence[str] = PROSE) -> list[Words]:
    return [
        Words(
            150, 30, f"Case 1:20-cv-00123-AB Document 45 Filed 01/02/21 Page {number} of {total}"
        ),
        *paragraph(lines=[f"{line} {number}{at}" for at, line in enumerate(lines)]),
        Words(300, 770, str(number + 6)),
    ]


def test_the_first_header_stays_and_the_others_go() -> None:
    found = joined([stamped(number, 4) for number in range(1, 5)])
    assert found.text.count("Document 45") == 1 and "Page 1 of 4" in found.text
    assert sorted(found.left_out) == sorted(
        [f"Case 1:20-cv-00123-AB Document 45 Filed 01/02/21 Page {n} of 4" for n in (2, 3, 4)]
        + ["8", "9", "10"]
    )
    for number in range(1, 5):
        assert f"{PROSE[0]} {number}0\n" in found.text


def test_two_pages_are_enough_for_a_stamp_and_too_few_for_a_number() -> None:
    found = joined([stamped(number, 2) for number in (1, 2)])
    assert len(found.left_out) == 1 and "Page 2 of 2" in found.left_out[0]


def test_a_sentence_over_a_page_break_is_whole() -> None:
    pages = [
        [
            *paragraph(lines=[f"Court {'ABC'[n - 1]} had to deter-" if n < 4 else "It ended."]),
            Words(300, 770, f"- {n} -"),
        ]
        for n in range(1, 5)
    ]
    for page, opening in zip(pages[1:], ["mine one.", "mine two.", "mine three."], strict=True):
        page.insert(0, Words(72, 86, opening))
    text = joined(pages).text
    assert "mine one.\nCourt B had to determine two.\nCourt C had to determine three.\n" in text


@pytest.mark.parametrize(
    "numbers",
    [(1, 3, 2, 9), (5, 5, 5, 5)],
    ids=["rows of a table that goes on", "the same number"],
)
def test_numbers_that_do_not_count_pages_stay(numbers: tuple[int, ...]) -> None:
    pages = [[Words(72, 50, str(number)), *body(at)] for at, number in enumerate(numbers)]
    assert joined(pages).left_out == ()


def test_a_row_of_a_table_that_goes_on_stays() -> None:
    rows = [("Item 17", "34.20"), ("Item 12", "99.10"), ("Item 99", "12.50"), ("Item 3", "1.00")]
    pages = [[Words(72, 50, a), Words(400, 50, b), *body(at)] for at, (a, b) in enumerate(rows)]
    assert joined(pages).left_out == ()


def test_a_cell_that_repeats_beside_others_that_do_not_stays() -> None:
    pages = [
        [Words(72, 50, name), *body(at), Words(400, 50, "Permanent")]
        for at, name in enumerate("ABCD")
    ]
    assert joined(pages).left_out == ()


def test_a_copy_of_a_page_is_no_header() -> None:
    assert joined([paragraph()] * 5).left_out == ()


def test_of_two_stamps_at_one_place_each_stays_once() -> None:
    pages = [
        [
            Words(100, 30, f"Case 4:08-cv-02214 Document 26 Filed 01/29/2009 Page {number} of 3"),
            Words(100, 32, f"Case 4:08-cv-02214 Document 27 Filed 02/03/2009 Page {number} of 3"),
            *body(number),
        ]
        for number in (1, 2, 3)
    ]
    text = joined(pages).text
    assert text.count("Document 26") == text.count("Document 27") == 1


def test_a_pages_only_words_stay() -> None:
    pages = [[Words(280, 40, f"Exhibit {number}")] for number in range(1, 6)]
    assert joined(pages).left_out == ()


def numbered(page: int, first: int = 1) -> list[Words]:
    """A pleading: numbers down the margin, drawn before the text, and lines that carry them."""
    numbers = [Words(40, 100 + 24 * at, str(first + at)) for at in range(14)]
    return [
        *numbers,
        *(Words(72, 100 + 24 * at, f"{line} {page}") for at, line in enumerate(PROSE)),
    ]


def test_line_numbers_go_from_every_page() -> None:
    found = joined([numbered(page) for page in (1, 2)])
    assert found.text == "".join(f"{line} {page}\n" for page in (1, 2) for line in PROSE)
    assert len(found.left_out) == 28


def test_line_numbers_drawn_with_their_lines_go() -> None:
    pages = [
        [each for pair in zip(numbered(p)[:14], numbered(p)[14:], strict=True) for each in pair]
        for p in (1, 2)
    ]
    found = joined(pages)
    assert found.text == "".join(f"{line} {page}\n" for page in (1, 2) for line in PROSE)


def test_numbers_of_rows_stay() -> None:
    found = joined([numbered(1), numbered(2, first=15)])
    assert found.left_out == () and found.text.startswith("1")


# --- columns ---------------------------------------------------------------------------------

OTHER = tuple(line.replace("the", "no").replace("court", "board") for line in PROSE)


def interleaved(left: Sequence[str], right: Sequence[str], y: float = 100) -> list[Words]:
    """Two columns, drawn line by line across both."""
    return [
        Words(x, y + 14 * at, line, 10)
        for at, pair in enumerate(zip(left, right, strict=True))
        for x, line in zip((60, 320), pair, strict=True)
    ]


def test_interleaved_columns_are_read_one_after_the_other() -> None:
    title = Words(200, 70, "On the filing of papers by prisoners in custody", 12)
    found = joined([[title, *interleaved(PROSE, OTHER)]])
    assert found.reordered == (1,)
    assert found.text == "\n".join([title.text, *PROSE, *OTHER, ""])
    assert found.layout is not None
    at = found.text.index(OTHER[0])
    assert found.layout.rectangles(at, at + 3)[0].left > 300


def test_a_line_across_parts_the_page_into_bands() -> None:
    across = Words(
        60, 310, "A heading that runs across both of the columns of this page in one line", 13
    )
    words = [*interleaved(PROSE, OTHER), across, *interleaved(OTHER, PROSE, y=340)]
    found = joined([words])
    assert found.text == "\n".join([*PROSE, *OTHER, across.text, *OTHER, *PROSE, ""])


def test_three_columns() -> None:
    thirds = [[line[:26].strip() for line in PROSE] for _ in range(3)]
    words = [
        Words(x, 100 + 12 * at, thirds[column][at], 9)
        for at in range(len(PROSE))
        for column, x in enumerate((50, 220, 390))
    ]
    found = joined([words])
    assert found.reordered == (1,)
    assert found.text == "\n".join([*thirds[0], *thirds[1], *thirds[2], ""])


def test_columns_that_are_drawn_in_order_are_left_alone() -> None:
    words = interleaved(PROSE, OTHER)
    found = joined([[*words[::2], *words[1::2]]])
    assert found.reordered == () and found.text == "\n".join([*PROSE, *OTHER, ""])


def test_a_table_is_read_row_by_row_with_its_cells_parted() -> None:
    rows = [(f"Smith v. Jones No. {n}", f"2:1{n}-cv-0{n}739", "Ala. N.D.") for n in range(10, 40)]
    words = [
        Words(x, 90 + 14 * at, cell)
        for at, row in enumerate(rows)
        for x, cell in zip((60, 260, 420), row, strict=True)
    ]
    found = joined([words])
    assert found.reordered == ()
    assert found.text == "".join("\t".join(row) + "\n" for row in rows)


def test_a_word_cut_at_a_columns_end_is_whole() -> None:
    left, right = (
        [*PROSE[:-1], "and the board had to deter-"],
        ["mine the matter at once.", *OTHER[1:]],
    )
    assert "had to determine the matter" in joined([interleaved(left, right)]).text


# --- footnotes -------------------------------------------------------------------------------


def noted(number: int, opening: str, closing: str) -> list[Words]:
    """A page whose text refers to a footnote ("held" with a raised number), in small type below."""
    return [
        Words(72, 86, opening),
        Words(72, 100, "held"),
        Words(93, 96, str(number), 6),
        Words(100, 100, f"that much on page {number}"),
        *paragraph(y=114, lines=[*(f"{line} {number}" for line in PROSE[1:8]), closing]),
        Words(72, 700, str(number), 5),
        Words(76, 703, f"See note {number} of the report,", 8),
        Words(72, 713, f"which says the same of {number}.", 8),
    ]


def test_footnotes_move_behind_the_text() -> None:
    ends = [("It began.", "and so the court"), ("went on for the appellant.", "The end.")]
    found = document([noted(number, *each) for number, each in enumerate(ends, 1)])
    assert "and so the court\nwent on for the appellant." in found.text
    notes = "".join(
        f"{number} See note {number} of the report,\nwhich says the same of {number}.\n"
        for number in (1, 2)
    )
    assert found.text.endswith("The end.\n" + notes)
    (region,) = found.regions
    assert region.role == Role.FOOTNOTE
    assert found.text[region.start_char : region.end_char] == notes
    assert [page.number for page in found.pages] == [1, 2, 1, 2]
    assert all(a.end_char == b.start_char for a, b in pairwise(found.pages))
    assert found.pages[-1].end_char == len(found.text)
    assert found.layout is not None
    at = found.text.index("See note 2")
    assert found.layout.rectangles(at, at + 3)[0].page == 2


def test_a_reference_is_parted_from_its_word() -> None:
    assert "held 1\nthat much" in document([noted(1, "It began.", "The end.")]).text


def test_a_raised_number_without_a_footnote_stays_where_it_is() -> None:
    words = [each for each in noted(1, "It began.", "The end.") if each.y < 700]
    assert "held1\nthat much" in document([words]).text


def test_a_note_that_goes_on_overleaf_is_whole() -> None:
    first, second = noted(1, "It began.", "and so the court"), body(2, PROSE[:9])
    first[-1] = Words(72, 713, "which says the same, and", 8)
    second.append(Words(72, 703, "more of it in the annex.", 8))
    text = document([first, second]).text
    assert text.endswith("which says the same, and\nmore of it in the annex.\n")
    assert f"and so the court\n{PROSE[0]} c0" in text


def test_a_page_number_below_the_notes_is_none() -> None:
    words = [*noted(1, "It began.", "The end."), Words(300, 760, "17")]
    found = document([words])
    assert "The end.\n17\n1 See note 1" in found.text


@pytest.mark.parametrize("small", ["4 out of 5 samples were", "(a) as the schedule says"])
def test_small_type_that_nothing_refers_to_stays(small: str) -> None:
    pages = [[*paragraph(), Words(72, 703, small, 8)], paragraph()]
    found = document(pages)
    assert found.regions == () and [page.number for page in found.pages] == [1, 2]


def test_a_bibliography_in_small_type_is_no_footnote() -> None:
    words = noted(1, "It began.", "References")
    assert document([words]).regions == ()


# --- contents and references -----------------------------------------------------------------


def test_a_table_of_contents_is_marked() -> None:
    entries = [
        f"{name} {'.' * 40} {page}" for name, page in zip("ABCDEF", range(3, 9), strict=True)
    ]
    found = document([paragraph(lines=["TABLE OF CONTENTS", *entries, *PROSE])])
    (region,) = found.regions
    assert region.role == Role.CONTENTS
    assert found.text[region.start_char : region.end_char] == "\n".join(
        ["TABLE OF CONTENTS", *entries]
    )


def test_a_bibliography_is_marked() -> None:
    entries = [
        f"[{n}] Smith, A. On the law of things. J. Law {n} (20{n}) 12." for n in range(10, 16)
    ]
    found = document([paragraph(lines=[*PROSE, "References", *entries])])
    (region,) = found.regions
    assert region.role == Role.REFERENCES
    assert found.text[region.start_char : region.end_char] == "\n".join(["References", *entries])


def test_prose_under_such_headings_is_not_marked() -> None:
    for heading in ("Contents", "References"):
        assert document([paragraph(lines=[heading, *PROSE])]).regions == ()


# --- nothing is lost -------------------------------------------------------------------------

_WORDS = st.builds(
    Words,
    st.integers(30, 560),
    st.integers(20, 780),
    st.sampled_from(
        [
            "Page 1 of 3",
            "1",
            "2",
            "12",
            "- 3 -",
            "iv",
            "deter-",
            "mine",
            "Case 1 Document 2",
            *PROSE[:4],
        ]
    ),
    st.sampled_from([6.0, 8.0, 11.0, 14.0]),
)
_LINES = st.builds(
    lambda x, y, step, text, size, count: [
        Words(x, y + step * at, f"{at + 1}" if text == "n" else text, size) for at in range(count)
    ],
    st.integers(30, 350),
    st.integers(20, 400),
    st.integers(6, 20),
    st.sampled_from(["n", *PROSE[:3], "1 See the annex"]),
    st.sampled_from([7.0, 10.0, 11.0]),
    st.integers(1, 16),
)
_PAGE = st.lists(st.one_of(_WORDS.map(lambda words: [words]), _LINES), max_size=6).map(
    lambda groups: [words for group in groups for words in group]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_PAGE, min_size=1, max_size=4), st.integers(1, 3))
def test_whatever_stands_on_pages_is_in_the_text_or_named_as_left_out(
    pages: list[list[Words]], times: int
) -> None:
    data = placed_pdf(pages * times)
    sources = pages_of(data)
    found = join_pages(list(sources))
    had = sum((_letters(page.characters) for page in sources), Counter())
    got = _letters(found.text) + sum(map(_letters, found.left_out), Counter())
    assert got == had
    assert all(a.end_char == b.start_char for a, b in pairwise(found.pages))
    numbers = [page.number for page in found.pages]
    assert numbers[: len(sources)] == list(range(1, len(sources) + 1))
    assert numbers[len(sources) :] == sorted(numbers[len(sources) :])
    if found.layout is not None:
        spans = found.layout.spans.tolist()
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
        assert not any(re.search(r"\s", found.text[start:end]) for start, end, _ in spans)
