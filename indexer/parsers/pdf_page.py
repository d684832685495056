"""One page of a PDF as pdfium sees it: its characters, and where each run of them stands.

A run is a stretch of characters without white space. Its box is the union of its glyphs' boxes, so
that the text under the rectangle is exactly the run: a box from ascender to descender would touch
the lines above and below. Calls into pdfium are what reading a page costs. Characters come in one
call (0.1 ms a page; one call each took 1.8), a run takes three: how many places, the place, the
height of its type (1.3 ms for 315 runs; a box for each character took 2.1). Decides nothing about
lines or order.
"""

from __future__ import annotations

import ctypes
import functools
import math
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pypdfium2 import PdfPage, PdfTextPage

LINE_HYPHENS = "\x02\ufffe"
"""What pdfium gives for a hyphen at a line's end, by character and in its whole-page call."""

RUN = re.compile(rf"[^\s\x01-\x1f\x7f\ufffe]+|[{LINE_HYPHENS}]")
"""Characters without white space. A line-end hyphen is a run of its own: it may not stay in the
text; a control character is none: it becomes a space."""

MAX_POINTS = 100_000.0
"""Pages larger than 35 m have no layout: tenths of points would not fit into 32 bits."""

_LINE_END = re.compile("\r\n")
_SCAN_CHARS = 200  # a page with an image and less text than this is probably a stamped scan
_MAX_OBJECTS, _MAX_DEPTH = 5_000, 3  # page objects looked at in search of an image
_MOST_PARTS = 8  # text objects of a run before its glyphs are looked at
_SAME_TYPE = 0.85  # a glyph below this share of its neighbour's height is an index or a footnote's


@dataclass(frozen=True, slots=True, eq=False)
class SourcePage:
    """What stands on a page, before any change.

    `characters`: pdfium's, one each, but line ends are "\\n". `spans`: (n_runs, 2) int32, start and
    end of each run in it, ascending. `boxes`: (n_runs, 4) float32, left, top, right, bottom in
    points from the upper left corner of the page as shown; all 0 where a run has no place there.
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
        spans, boxes, heights = _runs(text_page, characters)
    line_ends = [match.start() for match in _LINE_END.finditer(characters)]
    if line_ends:
        spans -= np.searchsorted(np.array(line_ends), spans).astype(np.int32)
        characters = characters.replace("\r\n", "\n")
    frame = _frame_of(page)
    width, height = frame.size()
    is_short = len(characters.strip()) < _SCAN_CHARS
    return SourcePage(
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


class _Calls(NamedTuple):
    """pdfium's functions by address, so that results go straight into arrays: a quarter faster."""

    count_rects: Callable[[int, int, int], int]
    rect: Callable[[int, int, int, int, int, int], int]
    glyph_box: Callable[[int, int, int, int, int, int], int]
    type_box: Callable[[int, int, int], int]


@functools.cache
def _calls() -> _Calls:
    from pypdfium2 import raw

    def at(function: Any, *arguments: Any) -> Any:
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, *arguments)(address)

    index, place = ctypes.c_int, ctypes.c_void_p
    return _Calls(
        at(raw.FPDFText_CountRects, index, index),
        at(raw.FPDFText_GetRect, index, place, place, place, place),
        at(raw.FPDFText_GetCharBox, index, place, place, place, place),
        at(raw.FPDFText_GetLooseCharBox, index, place),
    )


def _runs(
    text_page: PdfTextPage, characters: str
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float32]]:
    """Spans, boxes on the page (left, top, right, bottom; y upwards) and heights of all runs."""
    calls = _calls()
    handle = ctypes.cast(text_page.raw, ctypes.c_void_p).value or 0
    spans = [match.span() for match in RUN.finditer(characters)]
    boxes = np.zeros((len(spans), 4))
    types = np.zeros((len(spans), 4), np.float32)  # FS_RECTF: left, top, right, bottom
    scattered: list[int] = []
    at, type_at = boxes.ctypes.data, types.ctypes.data
    for row, (start, end) in enumerate(spans):
        calls.type_box(handle, start, type_at)
        parts = calls.count_rects(handle, start, end - start)
        if parts == 1:
            calls.rect(handle, 0, at, at + 8, at + 16, at + 24)
        elif not _joins(calls, handle, end - 1, parts, boxes[row], types[row]):
            scattered.append(row)
        at += 32
        type_at += 16
    heights = np.abs(types[:, 1] - types[:, 3])
    if not scattered:
        return np.array(spans, np.int32).reshape(-1, 2), boxes, heights
    kept = np.ones(len(spans), bool)
    kept[scattered] = False
    pieces = [piece for row in scattered for piece in _by_glyph(calls, handle, *spans[row])]
    all_spans = np.array(
        [span for span, keep in zip(spans, kept, strict=True) if keep]
        + [(piece.start, piece.end) for piece in pieces],
        np.int32,
    ).reshape(-1, 2)
    order = np.argsort(all_spans[:, 0], kind="stable")
    piece_boxes = np.array([piece.box for piece in pieces]).reshape(-1, 4)
    piece_heights = np.array([piece.height for piece in pieces], np.float32)
    return (
        all_spans[order],
        np.concatenate((boxes[kept], piece_boxes))[order],
        np.concatenate((heights[kept], piece_heights))[order],
    )


def _joins(
    calls: _Calls,
    handle: int,
    last: int,
    parts: int,
    box: NDArray[np.float64],
    type_box: NDArray[np.float32],
) -> bool:
    """Whether a run of several text objects stands side by side in one type; if so, fill `box`."""
    if not 1 < parts <= _MOST_PARTS:
        return False
    rects, end_type = np.zeros((parts, 4)), np.zeros(4, np.float32)
    at = rects.ctypes.data
    for part in range(parts):
        calls.rect(handle, part, at, at + 8, at + 16, at + 24)
        at += 32
    calls.type_box(handle, last, end_type.ctypes.data)
    lower, higher = sorted(abs(float(each[1] - each[3])) for each in (type_box, end_type))
    lefts, tops, rights, bottoms = zip(*rects.tolist(), strict=True)
    if not 0 < _SAME_TYPE * higher <= lower or min(tops) - max(bottoms) <= 0:
        return False
    if any(
        not -0.5 * lower < left - right < 0.5 * lower
        for left, right in zip(lefts[1:], rights, strict=False)
    ):
        return False
    box[:] = min(lefts), max(tops), max(rights), min(bottoms)
    return True


class _Piece(NamedTuple):
    """A part of a run whose glyphs stand side by side in one type."""

    start: int
    end: int
    box: tuple[float, float, float, float]  # left, top, right, bottom; y upwards
    height: float


def _by_glyph(calls: _Calls, handle: int, start: int, end: int) -> Iterator[_Piece]:
    """A run of several text objects, cut where the next glyph is raised, smaller or elsewhere."""
    boxes, types = np.zeros((end - start, 4)), np.zeros((end - start, 4), np.float32)
    at, type_at = boxes.ctypes.data, types.ctypes.data
    for index in range(start, end):
        calls.glyph_box(handle, index, at, at + 16, at + 24, at + 8)
        calls.type_box(handle, index, type_at)
        at += 32
        type_at += 16
    heights = np.abs(types[:, 1] - types[:, 3]).tolist()
    piece: _Piece | None = None
    for row, (left, top, right, bottom) in enumerate(boxes.tolist()):
        height = heights[row]
        if right <= left or top <= bottom:  # a glyph without ink goes with its neighbour
            left, top, right, bottom = piece.box if piece is not None else (0.0, 0.0, 0.0, 0.0)
            height = piece.height if piece is not None else height
        if piece is not None and _side_by_side(piece, left, top, bottom, height):
            old = piece.box
            box = min(old[0], left), max(old[1], top), max(old[2], right), min(old[3], bottom)
            piece = _Piece(piece.start, start + row + 1, box, max(piece.height, height))
            continue
        if piece is not None:
            yield piece
        piece = _Piece(start + row, start + row + 1, (left, top, right, bottom), height)
    if piece is not None:
        yield piece


def _side_by_side(piece: _Piece, left: float, top: float, bottom: float, height: float) -> bool:
    type_height = max(piece.height, height)
    if min(piece.height, height) < _SAME_TYPE * type_height:
        return False
    near = piece.box[0] - type_height < left < piece.box[2] + type_height
    apart = max(bottom - piece.box[1], piece.box[3] - top)  # vertical gap
    return near and apart < 0.5 * type_height
