"""Pieces of pages to one text: hyphens at line ends, places, and nothing lost."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.indexer.parsers.pdf_page import SourcePage
from longleaf.indexer.parsers.pdf_runs import RUN
from longleaf.indexer.parsers.pdf_text import Flow, TextBuilder, Usage, is_hyphen


def page_of(characters: str, number: int = 1) -> SourcePage:
    """A page whose run `n` has the box (n + 1, 1, n + 2, 2)."""
    spans = np.array([match.span() for match in RUN.finditer(characters)], np.int32).reshape(-1, 2)
    lefts = np.arange(1, len(spans) + 1, dtype=np.float32)
    ones = np.ones_like(lefts)
    boxes = np.stack((lefts, ones, lefts + 1, ones + 1), axis=1)
    return SourcePage(number, characters, 612, 792, spans, boxes, 10 * ones)


def whole(page: SourcePage) -> Flow:
    return Flow(page, [(0, len(page.characters))], {})


def build(*flows: Flow) -> TextBuilder:
    builder = TextBuilder(Usage.of(flow.page.characters for flow in flows))
    for flow, following in pairwise((*flows, None)):
        assert flow is not None
        builder.add(flow, following.opening() if following is not None else "")
    return builder


@pytest.mark.parametrize(
    ("page", "kept"),
    [
        ("wa\x02ter and water", False),
        ("Okla\x02homa alone", False),
        ("in\x02person and in-person", True),
        ("COVID\x0219 rules", True),
        ("cross\ufffeborder: the water, wa\x02ter, cross the border", True),
        ("a range 5\x02", True),
    ],
)
def test_the_documents_own_words_decide_about_hyphens(page: str, kept: bool) -> None:
    at = min(page.find(mark) for mark in "\x02\ufffe" if mark in page)
    assert is_hyphen(page, at, Usage.of([page])) is kept


def test_a_document_that_never_cuts_words_keeps_its_hyphens() -> None:
    page = "vendor\x02plaintiffs, in\x02person and in-person"
    assert is_hyphen(page, page.index("\x02"), Usage.of([page]))


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ("It had to deter-\n", "mine the matter.\n", "It had to determine the matter.\n"),
        ("It had to deter- \n", "mine the matter.\n", "It had to determine the matter.\n"),
        ("It had to deter\x02", "mine the matter.\n", "It had to determine the matter.\n"),
        ("an in-person or in-\n", "person day\n", "an in-person or in-person day\n"),
        ("the court - \n", "mine the matter.\n", "the court - \nmine the matter.\n"),
        ("Smith-\n", "Jones won.\n", "Smith-\nJones won.\n"),
        ("whole words\n", "go on\n", "whole words\ngo on\n"),
    ],
)
def test_a_word_cut_at_a_page_break_is_whole(first: str, second: str, text: str) -> None:
    builder = build(whole(page_of(first)), whole(page_of(second, 2)))
    assert builder.text() == text
    assert builder.pages[0].end_char == builder.pages[1].start_char
    assert text[builder.pages[1].start_char :].lstrip("-").startswith(second[:4])


def test_a_hyphen_that_goes_has_no_place_and_one_that_stays_has() -> None:
    page = page_of("wa\x02ter water in\x02person in-person")
    builder = build(whole(page))
    layout = builder.layout([(612, 792)])
    assert builder.text() == "water water in-person in-person\n" and layout is not None
    runs = [builder.text()[start:end] for start, end, _ in layout.spans.tolist()]
    assert runs == ["wa", "ter", "water", "in", "-", "person", "in-person"]
    assert [left for left, *_ in layout.boxes.tolist()] == [1, 3, 4, 5, 6, 7, 8]


def test_pieces_come_in_their_order_with_their_places() -> None:
    page = page_of("left one right one\nleft two right two\n")
    flow = Flow(page, [(0, 8), (19, 27), (9, 18), (28, 37)], {})
    builder = build(flow)
    layout = builder.layout([(612, 792)])
    assert builder.text() == "left one\nleft two\nright one\nright two\n" and layout is not None
    assert [left for left, *_ in layout.boxes.tolist()] == [1, 2, 5, 6, 3, 4, 7, 8]
    assert [rectangle.left for rectangle in layout.rectangles(9, 13)] == [5.0]


def test_edits_replace_and_insert() -> None:
    page = page_of("Name   Sum\nheld1 that\n")
    builder = build(Flow(page, [(0, len(page.characters))], {4: (3, "\t"), 15: (0, " ")}))
    assert builder.text() == "Name\tSum\nheld 1 that\n"


_CHARS = st.text(st.sampled_from("ab A1.-\x02\ufffe\u00ad\n\0\f\ud835\udc00\ud800"), max_size=40)


def _letters(text: str) -> str:
    """What may neither be lost nor be added: all but white space, hyphens and lone surrogates."""
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return re.sub("[\\s\\-\0\x02\ufffe\u00ad\ufffd]", "", text)


@settings(deadline=None)
@given(st.lists(_CHARS, max_size=5))
def test_the_places_hold_for_any_characters(sources: list[str]) -> None:
    pages = [page_of(characters, number) for number, characters in enumerate(sources, 1)]
    builder = build(*map(whole, pages))
    text = builder.text()
    text.encode()
    assert not set("\0\r\x02\ufffe\u00ad") & set(text)
    assert _letters(text) == "".join(map(_letters, sources))
    assert [page.number for page in builder.pages] == list(range(1, len(sources) + 1))
    assert all(a.end_char == b.start_char for a, b in pairwise(builder.pages))
    layout = builder.layout([(612, 792)] * len(sources))
    if layout is None:
        assert not any(len(page.spans) for page in pages) or not _letters(text)
        return
    spans = layout.spans.tolist()
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert all(start < end for start, end, _ in spans)
    for (start, end, number), (left, *_) in zip(spans, layout.boxes.tolist(), strict=True):
        begin, finish = pages[number - 1].spans[int(left) - 1]
        source = sources[number - 1][begin:finish]
        assert _letters(text[start:end]) == _letters(source)


@settings(deadline=None)
@given(_CHARS, st.data())
def test_pieces_in_any_order_lose_nothing(characters: str, data: st.DataObject) -> None:
    page = page_of(characters)
    cuts = data.draw(st.lists(st.sampled_from([0, *page.spans[:, 0].tolist()]), max_size=4))
    borders = sorted({0, len(characters), *cuts})
    pieces = data.draw(st.permutations(list(pairwise(borders))))
    text = build(Flow(page, pieces, {})).text()
    assert sorted(_letters(text)) == sorted(_letters(characters))
