"""How much text of a PDF page nobody sees who looks at the page: white, invisible, tiny, outside.

Colour alone says little: white words stand on dark bars, and the invisible words of OCR lie over
the picture that they were read from. So where a page has words in white or in no colour at all, it
is drawn once, and what counts is whether anything at all stands out within their boxes. Does not
know text under an opaque picture and layers that are switched off.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pypdfium2 import PdfPage, PdfTextPage

    from longleaf.indexer.parsers.pdf_page import SourcePage

LEAST_CHARS = 20
"""Of a document: fewer are marks of print shops and empty fields."""

_TINY_POINTS = 1.5
_WHITE = 240
_CLEAR = 16  # of 255: alpha below
_UNPAINTED_MODES = (3, 7)  # PDF 32000-1, table 106
_STANDS_OUT = 16  # of 255 levels of grey
_MOST_PIXELS = 1_200


def hidden_chars(
    page: PdfPage,
    text_page: PdfTextPage,
    source: SourcePage,
    starts: NDArray[np.int32],
    boxes: NDArray[np.float64],
) -> int:
    """Characters of the page's runs that no reader sees.

    `starts` (n_runs,): each run's place among pdfium's characters; `boxes` (n_runs, 4): left, top,
    right, bottom before anything was cut off, y upwards.
    """
    lengths = source.spans[:, 1] - source.spans[:, 0]
    has_place = source.boxes[:, 2] > source.boxes[:, 0]
    outside = ~has_place & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 1] > boxes[:, 3])
    tiny = has_place & (source.heights > 0) & (source.heights < _TINY_POINTS)
    pale = has_place & ~tiny & _pale(text_page, starts)
    hidden = int(lengths[tiny | outside].sum())
    if lengths[pale].sum() + hidden < LEAST_CHARS:
        return hidden
    return hidden + int(lengths[pale][_shows_nothing(page, source, source.boxes[pale])].sum())


def _pale(text_page: PdfTextPage, starts: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which runs are white, clear, or drawn without paint."""
    calls = _calls()
    handle = ctypes.cast(text_page.raw, ctypes.c_void_p).value or 0
    colour = np.zeros(4, np.uint32)
    at = colour.ctypes.data
    found = np.zeros(len(starts), bool)
    for row, start in enumerate(starts.tolist()):
        if calls.colour(handle, start, at, at + 4, at + 8, at + 12):
            red, green, blue, alpha = colour.tolist()
            found[row] = min(red, green, blue) >= _WHITE or alpha < _CLEAR
        if not found[row] and (part := calls.part(handle, start)):
            found[row] = calls.mode(part) in _UNPAINTED_MODES
    return found


def _shows_nothing(
    page: PdfPage, source: SourcePage, boxes: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Whether nothing stands out within each box (left, top, right, bottom in points)."""
    scale = min(2.0, _MOST_PIXELS / max(source.width, source.height, 1.0))
    drawn = page.render(scale=scale, grayscale=True).to_numpy()
    grey = drawn.reshape(drawn.shape[0], drawn.shape[1], -1)[:, :, 0].astype(np.int16)
    nothing = np.zeros(len(boxes), bool)
    for row, (left, top, right, bottom) in enumerate((boxes * scale).tolist()):
        part = grey[int(top) : int(bottom) + 1, int(left) : int(right) + 1]
        nothing[row] = part.size == 0 or int(part.max() - part.min()) < _STANDS_OUT
    return nothing


class _Calls(NamedTuple):
    """pdfium's functions by address, as in `pdf_runs`."""

    colour: Callable[[int, int, int, int, int, int], int]
    part: Callable[[int, int], int | None]
    mode: Callable[[int], int]


@functools.cache
def _calls() -> _Calls:
    from pypdfium2 import raw

    place, index = ctypes.c_void_p, ctypes.c_int

    def at(function: Any, result: Any, *arguments: Any) -> Any:
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        return ctypes.CFUNCTYPE(result, ctypes.c_void_p, *arguments)(address)

    return _Calls(
        at(raw.FPDFText_GetFillColor, index, index, place, place, place, place),
        at(raw.FPDFText_GetTextObject, place, index),
        at(raw.FPDFTextObj_GetTextRenderMode, index),
    )
