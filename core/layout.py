"""Where every word of a document stands on its pages: characters to rectangles, without the file.

A parser that knows places (PDF, OCR) gives one row for each run of characters without white space;
a rectangle of part of a run is its share of the run's width. Stored beside the text, so that a
highlight needs neither the original nor its parser. It knows no file format.

Points are PDF points (1/72 inch) from the upper left corner of the page as it is shown (its
rotation applied, its crop box cut out): x grows to the right, y downwards.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEADER = struct.Struct("<4sII")
_MAGIC = b"LLL1"
_UNITS_PER_POINT = 10.0
"""Boxes are stored in tenths of a point: 0.035 mm, finer than any screen or printer shows."""

_SAME_LINE = 0.5
"""Two runs are on one line when they overlap by half of the lower one's height."""

_SAME_HEIGHT, _TALL_TYPE = 3.0, 36.0
"""A run that is this many times higher, and higher than this in points, runs up the margin."""


class Rectangle(NamedTuple):
    """A part of page `page` (counts from 1), in points from its upper left corner."""

    page: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Runs of characters and where they stand.

    `spans`: (n_runs, 3) int32: start_char, end_char, page number; ascending, never overlapping.
    `boxes`: (n_runs, 4) float32: left, top, right, bottom in points.
    `pages`: (n_pages, 2) float32: width and height of each page in points; page 1 comes first.
    """

    spans: NDArray[np.int32]
    boxes: NDArray[np.float32]
    pages: NDArray[np.float32]

    def rectangles(self, start_char: int, end_char: int) -> list[Rectangle]:
        """What `text[start_char:end_char]` covers: one rectangle for each line of each page.

        In text order; empty where nothing of it stands on a page.
        """
        found: list[Rectangle] = []
        if start_char >= end_char:
            return found
        for page, left, top, right, bottom in self._parts(start_char, end_char):
            last = found[-1] if found else None
            if last is not None and last.page == page and _on_one_line(last, top, bottom):
                found[-1] = Rectangle(
                    page,
                    min(last.left, left),
                    min(last.top, top),
                    max(last.right, right),
                    max(last.bottom, bottom),
                )
            else:
                found.append(Rectangle(page, left, top, right, bottom))
        return found

    def _parts(
        self, start_char: int, end_char: int
    ) -> Iterator[tuple[int, float, float, float, float]]:
        first = bisect_right(self.spans[:, 1], start_char)
        after = bisect_left(self.spans[:, 0], end_char)
        for (start, end, page), (left, top, right, bottom) in zip(
            self.spans[first:after].tolist(), self.boxes[first:after].tolist(), strict=True
        ):
            per_char = (right - left) / (end - start)
            begin = left + max(0, start_char - start) * per_char
            finish = right - max(0, end - end_char) * per_char
            yield page, begin, top, finish, bottom

    def to_bytes(self) -> bytes:
        """Compressed, for the catalog; `from_bytes` reads it again, boxes to 0.05 points."""
        header, body = self._packed()
        return header + zlib.compress(body, 6)

    def digest(self) -> bytes:
        """The SHA-256 of what `to_bytes` compresses: the same with every version of zlib."""
        return hashlib.sha256(b"".join(self._packed())).digest()

    def _packed(self) -> tuple[bytes, bytes]:
        spans = np.diff(self.spans.astype("<i4"), axis=0, prepend=np.zeros((1, 3), "<i4"))
        boxes = np.round(self.boxes * _UNITS_PER_POINT).astype("<i4")
        boxes = np.diff(boxes, axis=0, prepend=np.zeros((1, 4), "<i4"))
        body = b"".join(
            (
                np.ascontiguousarray(spans.T).tobytes(),
                np.ascontiguousarray(boxes.T).astype("<i4").tobytes(),
                self.pages.astype("<f4").tobytes(),
            )
        )
        return _HEADER.pack(_MAGIC, len(self.spans), len(self.pages)), body

    @classmethod
    def from_bytes(cls, data: bytes) -> Layout:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        header, body = _unpacked(data)
        _, runs, pages = _HEADER.unpack(header)
        columns = np.frombuffer(body, "<i4", runs * 7).reshape(7, runs)
        columns = np.cumsum(columns, axis=1, dtype=np.int32)
        sizes = np.frombuffer(body, "<f4", pages * 2, runs * 28).reshape(pages, 2)
        return cls(
            np.ascontiguousarray(columns[:3].T),
            np.ascontiguousarray(columns[3:].T).astype(np.float32) / np.float32(_UNITS_PER_POINT),
            sizes.astype(np.float32),
        )


def stored_digest(data: bytes) -> bytes:
    """`Layout.digest` of what `to_bytes` wrote, without reading it. Raises ValueError."""
    return hashlib.sha256(b"".join(_unpacked(data))).digest()


def _unpacked(data: bytes) -> tuple[bytes, bytes]:
    """Header and body; never unpacks more than the header announces. Raises ValueError."""
    if len(data) < _HEADER.size:
        raise ValueError("a layout without its header")
    magic, runs, pages = _HEADER.unpack_from(data)
    body_bytes = runs * 28 + pages * 8
    unpacking = zlib.decompressobj()
    try:
        body = unpacking.decompress(data[_HEADER.size :], body_bytes + 1)
    except zlib.error as error:
        raise ValueError(f"a layout that cannot be unpacked: {error}") from None
    whole = unpacking.eof and not unpacking.unused_data
    if magic != _MAGIC or len(body) != body_bytes or not whole:
        raise ValueError("a layout of another form")
    return data[: _HEADER.size], body


def _on_one_line(last: Rectangle, top: float, bottom: float) -> bool:
    overlap = min(last.bottom, bottom) - max(last.top, top)
    lower, higher = sorted((last.bottom - last.top, bottom - top))
    return overlap > _SAME_LINE * lower and higher <= max(_SAME_HEIGHT * lower, _TALL_TYPE)
