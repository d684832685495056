"""The reading order of a page: columns of prose that the file draws line by line across; pure.

pdfium gives text in the order in which the file draws it, and most files draw column by column.
A page is put into another order only when all of this is so: an empty strip runs down between two
bodies of text; both sides are prose (most lines are full, many go on in lower case: rows of a
table do neither); and pdfium's order jumps across the strip line by line. Lines that cross the
strip (a title, a wide caption) part the page into bands; in each, columns are read from left to
right. Everything else keeps pdfium's order. Costs 0.1 ms for a page that has no such strip.

What this does not see: columns of capitals or of a script without lower case, and right-to-left
columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from longleaf.indexer.parsers.pdf_lines import Line, lines_from
from longleaf.indexer.parsers.pdf_page import SourcePage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GUTTER_POINTS = 7
_GUTTER_SHARE = 0.45  # of the lines that cover an ordinary place: so many may cross a strip
_COLUMN_SHARE = 0.15  # of the text's width, at least
_COLUMN_LINES = 5
_PROSE_LINES = 12
_FULL_LINE = 0.6  # of the column's width
_CROSSING_SHARE = 0.5
_LOWER_CASE_SHARE = 0.25
_LINE_CHARS = 15
_JUMPS = 0.6  # of those that strictly alternating lines would make
_WIDEST_POINTS = 5_000

_STARTS_LOWER = re.compile(r"[^\w]*[a-zà-öø-ÿα-ωа-я]")


class Part(NamedTuple):
    """A line, or the part of it that stands in one column; `column` is -1 for a line across."""

    line: Line
    column: int


@dataclass(frozen=True, slots=True)
class Order:
    """A page's parts in the order to read; not `is_new` where that is pdfium's own."""

    parts: tuple[Part, ...]
    is_new: bool


def reading_order(page: SourcePage, lines: Sequence[Line]) -> Order:
    """The parts of the page's `lines` in the order to read."""
    gutters = _gutters(page, lines)
    parts = _parts(page, lines, gutters) if gutters else []
    if not gutters or not _is_prose_in_columns(page, parts, gutters):
        return Order(tuple(Part(line, 0) for line in lines), is_new=False)
    sorted_parts = _by_band(parts) if _jumps_across(parts) else None
    if sorted_parts is None:
        return Order(tuple(parts), is_new=False)
    return Order(tuple(sorted_parts), is_new=True)


def _gutters(page: SourcePage, lines: Sequence[Line]) -> list[tuple[float, float]]:
    """Strips that few lines cross, as (left, right), with text on both sides of each."""
    if len(lines) < _PROSE_LINES or page.width > _WIDEST_POINTS:
        return []
    boxes = page.boxes[page.boxes[:, 2] > page.boxes[:, 0]]
    upright = (boxes[:, 3] - boxes[:, 1]) > 2 * (boxes[:, 2] - boxes[:, 0])
    if upright.mean() > 0.3:
        return []
    points = int(page.width) + 2
    begins = np.bincount(np.floor(boxes[:, 0]).astype(np.int64), minlength=points)
    finishes = np.bincount(np.ceil(boxes[:, 2]).astype(np.int64), minlength=points)
    covered = np.cumsum(begins[:points] - finishes[:points])  # by runs, at each point of the width
    inked = np.flatnonzero(covered > 0)
    if not len(inked):
        return []
    first, last = int(inked[0]), int(inked[-1])
    usual = float(np.median(covered[first : last + 1]))
    is_open = covered <= _GUTTER_SHARE * usual
    if not is_open[first:last].any():
        return []
    least = _COLUMN_SHARE * (last - first)
    found: list[tuple[float, float]] = []
    for begin, finish in _stretches(is_open, first, last + 1):
        left_end = found[-1][1] if found else first
        if (
            finish - begin >= _GUTTER_POINTS
            and begin - left_end >= least
            and last - finish >= least
        ):
            found.append((float(begin), float(finish)))
    return found


def _stretches(flags: NDArray[np.bool_], start: int, end: int) -> list[tuple[int, int]]:
    """Where `flags[start:end]` are set, as (begin, finish)."""
    edges = np.flatnonzero(np.diff(flags[start:end].astype(np.int8), prepend=0, append=0)) + start
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _parts(
    page: SourcePage, lines: Sequence[Line], gutters: Sequence[tuple[float, float]]
) -> list[Part]:
    """Lines cut at the gutters, in pdfium's order; a line with a run in a gutter stays whole."""
    middles = np.array([(left + right) / 2 for left, right in gutters])
    lefts, rights = page.boxes[:, 0], page.boxes[:, 2]
    columns: list[int] = np.searchsorted(middles, lefts).tolist()
    is_across = np.searchsorted(middles, rights) > np.searchsorted(middles, lefts)
    # A gap over a gutter that is no wider than one between words: the line runs across.
    narrow = (lefts[1:] - rights[:-1] < _GUTTER_POINTS) & (lefts[1:] > lefts[:-1])
    across: list[bool] = is_across.tolist()
    narrow_after: list[bool] = [*narrow.tolist(), False]
    parts: list[Part] = []
    for line in lines:
        runs = range(line.first_run, line.end_run)
        borders = [run for run in runs[1:] if columns[run] != columns[run - 1]]
        if any(across[run] for run in runs) or any(narrow_after[run - 1] for run in borders):
            parts.append(Part(line, -1))
        elif not borders:
            parts.append(Part(line, columns[line.first_run]))
        else:
            for begin, end in pairwise([line.first_run, *borders, line.end_run]):
                part = _line_of_runs(page, begin, end)
                if part is not None:
                    parts.append(Part(part, columns[begin]))
    return parts


def _line_of_runs(page: SourcePage, first_run: int, end_run: int) -> Line | None:
    part = SourcePage(
        page.number,
        page.characters,
        page.width,
        page.height,
        page.spans[first_run:end_run],
        page.boxes[first_run:end_run],
        page.heights[first_run:end_run],
    )
    found = lines_from(part, np.zeros(1, np.int64))
    if not found:
        return None
    line = found[0]
    return Line(
        line.start,
        line.end,
        first_run,
        end_run,
        line.left,
        line.top,
        line.right,
        line.bottom,
        line.height,
    )


def _is_prose_in_columns(
    page: SourcePage, parts: Sequence[Part], gutters: Sequence[tuple[float, float]]
) -> bool:
    across = sum(part.column < 0 for part in parts)
    columns: list[list[Line]] = [
        [part.line for part in parts if part.column == column] for column in range(len(gutters) + 1)
    ]
    counts = [len(column) for column in columns]
    if across > _CROSSING_SHARE * len(parts) or min(counts) < _COLUMN_LINES:
        return False
    return max(counts) >= _PROSE_LINES and all(_is_prose(page, column) for column in columns)


def _is_prose(page: SourcePage, column: Sequence[Line]) -> bool:
    left, right = min(line.left for line in column), max(line.right for line in column)
    widths = sorted(line.right - line.left for line in column)
    texts = [page.characters[line.start : line.end] for line in column]
    lower = sum(_STARTS_LOWER.match(text) is not None for text in texts)
    return (
        widths[len(widths) // 2] >= _FULL_LINE * (right - left)
        and lower >= _LOWER_CASE_SHARE * len(column)
        and sum(map(len, texts)) >= _LINE_CHARS * len(column)
    )


def _jumps_across(parts: Sequence[Part]) -> bool:
    columns = [part.column for part in parts if part.column >= 0]
    jumps = sum(a != b for a, b in pairwise(columns))
    counts = np.bincount(columns)
    return bool(jumps >= _JUMPS * 2 * counts.min())


def _by_band(parts: Sequence[Part]) -> list[Part] | None:
    """Sorted: lines across and what is above them first, then column by column."""
    across = [part.line.middle for part in parts if part.column < 0]
    if any(later < earlier for earlier, later in pairwise(across)):
        return None
    # A line across stands above the band that follows it.
    borders = np.array(across)
    keys: list[tuple[int, int]] = []
    crossing = 0
    for part in parts:
        if part.column < 0:
            crossing += 1
            keys.append((crossing, -1))
        else:
            keys.append((int(np.searchsorted(borders, part.line.middle)), part.column))
    order = sorted(range(len(parts)), key=lambda at: keys[at])
    return [parts[at] for at in order]
