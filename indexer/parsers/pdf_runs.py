"""Where runs of characters stand on a PDF page, in few calls into pdfium.

A run takes three calls: how many places, the place, the height of its type (1.3 ms for 315 runs of
a page; a box for each character took 2.1). A run that pdfium drew in several text objects is looked
at by glyph only where those do not stand side by side in one type: the raised number of a footnote
is a run of its own. Knows nothing of how the page is turned.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pypdfium2 import PdfTextPage

LINE_HYPHENS = "\x02\ufffe"
"""What pdfium gives for a hyphen at a line's end, by character and in its whole-page call."""

RUN = re.compile(rf"[^\s\x01-\x1f\x7f\ufffe]+|[{LINE_HYPHENS}]")
"""Characters without white space. A line-end hyphen is a run of its own: it may not stay in the
text; a control character is none: it becomes a space."""

_MOST_PARTS = 8  # text objects of a run before its glyphs are looked at
_SAME_TYPE = 0.85  # a glyph below this share of its neighbour's height is an index or a footnote's


def read_runs(
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
