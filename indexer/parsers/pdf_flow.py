"""Pages to one text: what is left out, what moves, what comes where; pure.

Joins the findings of its neighbours: repeated lines go (`pdf_repeated`), columns are read one
after the other (`pdf_columns`), footnotes move behind the text (`pdf_footnotes`), and `pdf_text`
makes one text of what remains. Nothing else is lost: `left_out` holds what went.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from longleaf.core.layout import Layout
from longleaf.core.types import Page
from longleaf.indexer.parsers.pdf_columns import Order, reading_order
from longleaf.indexer.parsers.pdf_footnotes import FootnoteFinder, Footnotes, raised_marks
from longleaf.indexer.parsers.pdf_lines import body_height, gaps, lines_of
from longleaf.indexer.parsers.pdf_page import SourcePage
from longleaf.indexer.parsers.pdf_repeated import RepeatedFinder
from longleaf.indexer.parsers.pdf_runs import LINE_HYPHENS
from longleaf.indexer.parsers.pdf_text import Flow, TextBuilder, Usage

_LINE_ENDS = "\n\r\f" + LINE_HYPHENS


@dataclass(frozen=True, slots=True)
class Joined:
    """The one text of all pages. From `notes_start_char` on there are only footnotes.

    `left_out`: repeated lines, line numbers and rules drawn with dashes, each as it stood on its
    page. `reordered`: numbers of the pages that were not read in pdfium's order.
    """

    text: str
    pages: tuple[Page, ...]
    layout: Layout | None
    notes_start_char: int
    unmapped: int
    left_out: tuple[str, ...]
    reordered: tuple[int, ...]


def _nobody(_page: int) -> None: ...


def join_pages(pages: list[SourcePage], on_page: Callable[[int], None] = _nobody) -> Joined:
    """One text of all `pages`, in page order; empties the list on its way, to free memory.

    `on_page` hears the number of each page that is done.
    """
    usage = Usage.of(page.characters for page in pages)
    sizes = [(page.width, page.height) for page in pages]
    edges = RepeatedFinder()
    for page in pages:
        edges.add(page, lines_of(page))
    repeated, margins = edges.lines(), edges.margin_runs()
    finder = FootnoteFinder(body_height(pages))
    notes: list[Flow] = []
    reordered: list[int] = []
    left_out: list[str] = []

    def body() -> Iterator[Flow]:
        pages.reverse()
        while pages:
            page = pages.pop()
            ranges = _whole_lines(page, repeated.cuts.get(page.number, ()))
            ranges += _margin_ranges(page, margins.get(page.number, ()))
            if not _outside(page, ranges):
                ranges = []  # a page's only words ("Exhibit 3") are no running header
            headers = repeated.firsts.get(page.number, frozenset())
            taken = _take(page, sorted(ranges), headers, finder)
            left_out.extend(page.characters[start:end].strip() for start, end in taken.cuts)
            if taken.is_new:
                reordered.append(page.number)
            if taken.notes is not None:
                notes.append(taken.notes)
            on_page(page.number)
            yield taken.body

    builder = TextBuilder(usage)
    _add_all(builder, body())
    notes_start_char = builder.chars
    _add_all(builder, notes)
    return Joined(
        builder.text(),
        tuple(builder.pages),
        builder.layout(sizes),
        notes_start_char,
        builder.unmapped,
        tuple(left_out),
        tuple(reordered),
    )


def _add_all(builder: TextBuilder, flows: Iterable[Flow]) -> None:
    held: Flow | None = None
    for flow in flows:
        if held is not None:
            builder.add(held, flow.opening())
        held = flow
    if held is not None:
        builder.add(held, "")


def _whole_lines(page: SourcePage, lines: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans of lines, with the white space around and the line break."""
    text = page.characters
    found: list[tuple[int, int]] = []
    for start, end in lines:
        while start and text[start - 1] not in _LINE_ENDS and text[start - 1].isspace():
            start -= 1
        while end < len(text) and text[end] not in _LINE_ENDS and text[end].isspace():
            end += 1
        opens = start == 0 or text[start - 1] in _LINE_ENDS
        found.append((start, end + 1 if opens and text[end : end + 1] == "\n" else end))
    return found


def _margin_ranges(page: SourcePage, runs: Sequence[int]) -> list[tuple[int, int]]:
    """Line numbers with the white space behind them; the whole line where nothing follows."""
    return _whole_lines(page, (tuple(page.spans[run].tolist()) for run in runs))


class _Taken(NamedTuple):
    """A page's text, its footnotes, what is left out, and whether the order is not pdfium's."""

    body: Flow
    notes: Flow | None
    cuts: Sequence[tuple[int, int]]
    is_new: bool


def _take(
    page: SourcePage,
    cuts: Sequence[tuple[int, int]],
    headers: frozenset[int],
    finder: FootnoteFinder,
) -> _Taken:
    page = _without(page, cuts)
    order = reading_order(page, lines_of(page))
    found = finder.notes(page, order.parts, headers)
    edits = {start: (end - start, instead) for start, end, instead in gaps(page)}
    edits |= _spaces_around(page, order, found)
    rules = [(line.start, line.end) for line in found.rules]
    notes = [order.parts[at].line for at in sorted(found.parts)]
    note_spans = [(line.start, line.end) for line in notes]
    body = [
        (part.line.start, part.line.end)
        for at, part in enumerate(order.parts)
        if at not in found.parts and part.line not in found.rules
    ]
    cuts = [*cuts, *_whole_lines(page, rules)]
    is_new = order.is_new and not _outside(page, [*cuts, *body, *note_spans])
    if not is_new:
        body = _kept(len(page.characters), [*cuts, *_whole_lines(page, note_spans)])
    return _Taken(
        Flow(page, body, edits),
        Flow(page, note_spans, edits) if notes else None,
        cuts,
        is_new,
    )


def _without(page: SourcePage, cuts: Sequence[tuple[int, int]]) -> SourcePage:
    """The page without the runs inside `cuts`; its characters stay, so places do not shift."""
    if not cuts:
        return page
    starts = page.spans[:, 0]
    kept = np.ones(len(starts), bool)
    for start, end in cuts:
        kept[np.searchsorted(starts, start) : np.searchsorted(starts, end)] = False
    return replace(page, spans=page.spans[kept], boxes=page.boxes[kept], heights=page.heights[kept])


def _spaces_around(
    page: SourcePage, order: Order, found: Footnotes
) -> Mapping[int, tuple[int, str]]:
    """A space between a word and the raised number of its footnote: "held 3", not "held3"."""
    spaces: dict[int, tuple[int, str]] = {}
    if not found.marks:
        return spaces
    text = page.characters
    for at, start, mark in raised_marks(page, order.parts):
        if mark not in found.marks:
            continue
        behind = start + len(mark)
        opens = start == order.parts[at].line.start
        if at in found.parts and opens and text[behind : behind + 1].strip():
            spaces[behind] = (0, " ")
        elif at not in found.parts and not opens and text[start - 1].strip():
            spaces[start] = (0, " ")
    return spaces


def _outside(page: SourcePage, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether any character that is no white space lies outside of `spans`."""
    gaps = _kept(len(page.characters), spans)
    return any(page.characters[start:end].strip() for start, end in gaps)


def _kept(length: int, cuts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of `length` characters lies outside of `cuts`."""
    kept: list[tuple[int, int]] = []
    at = 0
    for start, end in sorted(cuts):
        if at < start:
            kept.append((at, start))
        at = max(at, end)
    if at < length:
        kept.append((at, length))
    return kept
