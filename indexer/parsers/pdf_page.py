"""One page of a PDF as pdfium sees it: its characters, and where each run of them stands.

A run is a stretch of characters without white space. Its box is the union of its glyphs' boxes, so
that the text under the rectangle is exactly the run: a box from ascender to descender would touch
the lines above and below. Calls into pdfium are what reading a page costs. Characters come in one
call (0.1 ms a page; one call each took 1.8); runs are read by `pdf_runs`. Decides nothing about
lines or order.
"""

from __future__ import annotations

import ctypes
import math
import re
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice, repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from longleaf.indexer.parsers.pdf_hidden import hidden_chars
from longleaf.indexer.parsers.pdf_runs import read_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pypdfium2 import PdfPage, PdfTextPage

MAX_POINTS = 100_000.0
"""Pages larger than 35 m have no layout: tenths of points would not fit into 32 bits."""

_LINE_END = re.compile("\r\n")
_SCAN_CHARS = 200  # a page with an image and less text than this is probably a stamped scan
_MAX_OBJECTS, _MAX_DEPTH = 5_000, 3  # page objects looked at in search of an image


@dataclass(frozen=True, slots=True, eq=False)
class SourcePage:
    """What stands on a page, before any change.

    `characters`: pdfium's, one each, but line ends are "\\n". `spans`: (n_runs, 2) int32, start and
    end of each run in it, ascending. `boxes`: (n_runs, 4) float32, left, top, right, bottom in
    points from the upper left corner of the page as shown; all 0 where a run has no place there.
    `hidden_chars`: how many of the characters nobody sees there.
    `heights`: (n_runs,) float32, height of the type from ascender to descender; 0 where not known.
    """

    number: int
    characters: str
    width: float
    height: float
    spans: NDArray[np.int32]
    boxes: NDArray[np.float32]
    heights: NDArray[np.float32]
    has_picture: bool = False
    has_marks: bool = True
    hidden_chars: int = 0

    @classmethod
    def blank(cls, number: int) -> SourcePage:
        """A page without size, text or marks."""
        spans, boxes = np.zeros((0, 2), np.int32), np.zeros((0, 4), np.float32)
        return cls(number, "", 0.0, 0.0, spans, boxes, boxes[:, 0], has_marks=False)


def read_page(page: PdfPage, number: int, max_chars: int) -> SourcePage | None:
    """What stands on `page`; None if it holds more than `max_chars` characters."""
    with closing(page.get_textpage()) as text_page:
        count = text_page.count_chars()
        if count > max_chars:
            return None
        characters = _characters(text_page, count)
        spans, boxes, heights = read_runs(text_page, characters)
        starts = spans[:, 0].copy()
        line_ends = [match.start() for match in _LINE_END.finditer(characters)]
        if line_ends:
            spans -= np.searchsorted(np.array(line_ends), spans).astype(np.int32)
            characters = characters.replace("\r\n", "\n")
        frame = _frame_of(page)
        width, height = frame.size()
        is_short = len(characters.strip()) < _SCAN_CHARS
        source = SourcePage(
            number,
            characters,
            width,
            height,
            spans,
            frame.shown(boxes),
            heights,
            has_picture=is_short and image_pixels(page) is not None,
            has_marks=not is_short or _has_marks(page),
        )
        hidden = hidden_chars(page, text_page, source, starts, boxes)
    return replace(source, hidden_chars=hidden) if hidden else source


def image_pixels(page: PdfPage) -> int | None:
    """The largest image among the page's first objects, in pixels; None if there is no image."""
    from pypdfium2 import raw

    largest: int | None = None
    width, height = ctypes.c_uint(), ctypes.c_uint()
    for each in islice(page.get_objects(max_depth=_MAX_DEPTH), _MAX_OBJECTS):
        if each.type == raw.FPDF_PAGEOBJ_IMAGE:
            raw.FPDFImageObj_GetImagePixelSize(each, width, height)
            largest = max(largest or 0, width.value * height.value)
    return largest


def _has_marks(page: PdfPage) -> bool:
    from pypdfium2 import raw

    return bool(raw.FPDFPage_CountObjects(page) > 0 or raw.FPDFPage_GetAnnotCount(page) > 0)


class _Frame(NamedTuple):
    """The part of a page that is shown, in the page's own points (y grows upwards)."""

    left: float
    bottom: float
    right: float
    top: float
    quarter_turns: int  # clockwise

    def size(self) -> tuple[float, float]:
        width, height = self.right - self.left, self.top - self.bottom
        return (height, width) if self.quarter_turns % 2 else (width, height)

    def shown(self, boxes: NDArray[np.float64]) -> NDArray[np.float32]:
        """(n, 4) left, top, right, bottom on the page to the same on the page as shown.

        What lies outside is cut off; all 0 where nothing is left.
        """
        width, height = self.size()
        if not len(boxes) or not 0 < max(width, height) <= MAX_POINTS:
            return np.zeros((len(boxes), 4), np.float32)
        columns, signs = _TURNS[self.quarter_turns]
        from_x, from_y = (
            (-self.left, self.top),
            (-self.bottom, -self.left),
            (self.right, -self.bottom),
            (self.top, self.right),
        )[self.quarter_turns]
        shown = boxes[:, columns] * signs + (from_x, from_y, from_x, from_y)
        shown = np.minimum(np.maximum(shown, 0.0), (width, height, width, height))
        is_somewhere = (shown[:, 2] > shown[:, 0]) & (shown[:, 3] > shown[:, 1])  # false for NaN
        shown[~is_somewhere] = 0.0
        return shown.astype(np.float32)


_TURNS = (
    ((0, 1, 2, 3), (1.0, -1.0, 1.0, -1.0)),
    ((3, 0, 1, 2), (1.0, 1.0, 1.0, 1.0)),
    ((2, 3, 0, 1), (-1.0, 1.0, -1.0, 1.0)),
    ((1, 2, 3, 0), (-1.0, -1.0, -1.0, -1.0)),
)
"""For each quarter turn, which edges become left, top, right and bottom, and their signs."""


def _frame_of(page: PdfPage) -> _Frame:
    from pypdfium2 import raw

    box = raw.FS_RECTF()
    raw.FPDF_GetPageBoundingBox(page, box)
    edges = (box.left, box.bottom, box.right, box.top)
    turns = raw.FPDFPage_GetRotation(page) % 4
    left, bottom, right, top = (edge if math.isfinite(edge) else 0.0 for edge in edges)
    return _Frame(left, bottom, right, top, turns)


def _characters(text_page: PdfTextPage, count: int) -> str:
    """The page's characters as pdfium counts them, one for each index."""
    from pypdfium2 import raw

    if count < 1:
        return ""
    handle = text_page.raw
    # The whole-page call leaves out what has no Unicode value; then indexes would shift.
    if raw.FPDFText_GetTextIndexFromCharIndex(handle, count - 1) == count - 1:
        # Twice the room: were a character ever written as two units, it would not run over.
        units = (ctypes.c_ushort * (2 * count + 2))()
        if raw.FPDFText_GetText(handle, 0, count, units) == count + 1:
            return bytes(units)[: 2 * count].decode("utf-16-le", "surrogatepass")
    codes = map(raw.FPDFText_GetUnicode, repeat(handle), range(count))
    return "".join(chr(code) if code < 0x110000 else "\ufffd" for code in codes)
