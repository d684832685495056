"""The lines of a page and where they stand; pure.

A line is what pdfium ends with a line break or with the mark of a hyphen at a line's end, or where
the next run stands below and further left (pdfium sometimes gives only a space there). Lines come
in pdfium's order. Knows nothing of columns: text of two columns that the file draws side by side
is one line here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longleaf.indexer.parsers.pdf_page import SourcePage
from longleaf.indexer.parsers.pdf_runs import LINE_HYPHENS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LINE = re.compile(f"[^\n\r\f{LINE_HYPHENS}]*[^\n\r\f]?")
_MAX_TENTHS = 2_000  # of points, a height of type
_WIDE_GAP = 1.5  # type heights between two runs that are cells of a table, not words of a sentence


@dataclass(frozen=True, slots=True)
class Line:
    """`characters[start:end]` without its line break; runs `first_run` up to `end_run`.

    Places in points, as `core.layout` counts them; `height` is the median height of its type, 0
    where not known.
    """

    start: int
    end: int
    first_run: int
    end_run: int
    left: float
    top: float
    right: float
    bottom: float
    height: float

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


def lines_of(page: SourcePage) -> list[Line]:
    """The lines that have a place on the page, in pdfium's order."""
    if not len(page.spans):
        return []
    ends = [match.end() for match in _LINE.finditer(page.characters) if match.group()]
    line_of_run = np.searchsorted(np.array(ends), page.spans[:, 0], side="right")
    begins = np.ones(len(line_of_run), bool)
    begins[1:] = (line_of_run[1:] > line_of_run[:-1]) | _returns(page)
    return lines_from(page, np.flatnonzero(begins))


def lines_from(page: SourcePage, first_runs: NDArray[np.int64]) -> list[Line]:
    """The lines that begin with these runs, ascending; none for one that has no place."""
    nowhere = (page.boxes[:, 2] <= page.boxes[:, 0])[:, None]
    near = np.minimum.reduceat(np.where(nowhere, np.inf, page.boxes[:, :2]), first_runs)
    far = np.maximum.reduceat(np.where(nowhere, -np.inf, page.boxes[:, 2:]), first_runs)
    heights = page.heights.tolist()
    starts, ends = page.spans[:, 0].tolist(), page.spans[:, 1].tolist()
    firsts = first_runs.tolist()
    lines: list[Line] = []
    for first, after, (left, top), (right, bottom) in zip(
        firsts, [*firsts[1:], len(starts)], near.tolist(), far.tolist(), strict=True
    ):
        if left < right:
            height = sorted(heights[first:after])[(after - first) // 2]
            lines.append(
                Line(starts[first], ends[after - 1], first, after, left, top, right, bottom, height)
            )
    return lines


def _returns(page: SourcePage) -> NDArray[np.bool_]:
    """Whether each run but the first begins a new line below and left of the run before it."""
    before, after = page.boxes[:-1], page.boxes[1:]
    placed = (before[:, 2] > before[:, 0]) & (after[:, 2] > after[:, 0])
    height = before[:, 3] - before[:, 1]
    back = after[:, 2] < before[:, 0] - 2 * height
    return np.asarray(placed & back & (after[:, 1] > before[:, 3] - 0.3 * height))


def gaps(page: SourcePage) -> Iterator[tuple[int, int, str]]:
    """White space that stands for more than a space, as (start, end, what it stands for).

    A tab parts cells of a table row; a line break was missing.
    """
    if len(page.spans) < 2:
        return
    before, after = page.boxes[:-1], page.boxes[1:]
    height = np.maximum(page.heights[:-1], page.heights[1:])
    beside = np.minimum(before[:, 3], after[:, 3]) > np.maximum(before[:, 1], after[:, 1])
    is_wide = after[:, 0] - before[:, 2] > _WIDE_GAP * np.maximum(
        height, before[:, 3] - before[:, 1]
    )
    is_cell = beside & is_wide & (height > 0)
    is_return = _returns(page)
    is_apart = page.spans[1:, 0] > page.spans[:-1, 1]
    for row in np.flatnonzero((is_cell | is_return) & is_apart).tolist():
        start, end = int(page.spans[row, 1]), int(page.spans[row + 1, 0])
        if "\n" not in page.characters[start:end]:
            yield start, end, "\n" if is_return[row] else "\t"


def body_height(pages: Sequence[SourcePage]) -> float:
    """The height of the type that most characters are set in; 0 where not known."""
    counts = np.zeros(_MAX_TENTHS)
    for page in pages:
        tenths = np.clip(np.rint(page.heights * 10), 0, _MAX_TENTHS - 1).astype(np.int64)
        counts += np.bincount(tenths, page.spans[:, 1] - page.spans[:, 0], _MAX_TENTHS)
    counts[0] = 0
    return float(counts.argmax()) / 10
