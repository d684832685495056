"""PDF files made for tests: lines of text, words at places, pictures of text."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_PAGE = "/Type /Page /Parent 2 0 R /Resources << /Font << /F 3 0 R >> /XObject << /I 6 0 R >> >>"
_TO_UNICODE = (
    "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def"
    " 1 begincodespacerange <00> <FF> endcodespacerange"
    " 2 beginbfchar <51> <D835DC00> <5A> <00AD> endbfchar"
    " 1 beginbfrange <20> <50> <0020> endbfrange 1 beginbfrange <52> <59> <0052> endbfrange"
    " 1 beginbfrange <5B> <7E> <005B> endbfrange 1 beginbfrange <A1> <FF> <00A1> endbfrange"
    " endcmap end end"
)
_OUTLINES = 100_000


@dataclass(frozen=True)
class Mark:
    """A bookmark to a page (from 1)."""

    title: str
    page: int


@dataclass(frozen=True)
class Words:
    """Text whose baseline begins at (x, y), in points from the page's upper left corner."""

    x: float
    y: float
    text: str
    size: float = 11.0


@dataclass(frozen=True)
class Box:
    """What a page is: its size, its turn in degrees, and what is cut off on each side."""

    width: float = 612.0
    height: float = 792.0
    rotate: int = 0
    crop: float = 0.0

    def entries(self) -> str:
        left, right, top = self.crop, self.width - self.crop, self.height - self.crop
        return (
            f"/MediaBox [0 0 {self.width} {self.height}] /Rotate {self.rotate}"
            f" /CropBox [{left} {self.crop} {right} {top}]"
        )


LETTER = Box()


def lines_pdf(pages: Sequence[Sequence[str]], info: str = "", marks: Sequence[Mark] = ()) -> bytes:
    """These lines on each page ("Q" is U+1D400, "Z" a soft hyphen), from the top down."""
    return _pdf([_shown_lines(lines) for lines in pages], info=info, marks=marks)


def placed_pdf(pages: Sequence[Sequence[Words]], box: Box = LETTER) -> bytes:
    """Words at places, drawn in the order given."""
    streams = [
        " ".join(
            f"BT /F {each.size} Tf 1 0 0 1 {each.x} {box.height - each.y} Tm"
            f" ({_escaped(each.text)}) Tj ET"
            for each in words
        ).encode("latin-1")
        for words in pages
    ]
    return _pdf(streams, box)


def drawn_pdf(pages: Sequence[str]) -> bytes:
    """Pages as their content streams draw them; the font is /F."""
    return _pdf([page.encode("latin-1") for page in pages])


def scanned_pdf(
    picture: bytes,
    width_pixels: int,
    height_pixels: int,
    box: Box = LETTER,
    words: str = "",
    more: str = "",
) -> bytes:
    """A page that is a grey picture, with a line of text over it if there are `words`.

    `more`: what is drawn last.
    """
    shown = f"q {box.width} 0 0 {box.height} 0 0 cm /I Do Q".encode()
    page = b" ".join((shown, _shown_lines([words]), more.encode("latin-1")))
    return _pdf([page], box, (picture, width_pixels, height_pixels))


def raw_pdf(objects: Mapping[int, bytes], trailer: bytes = b"") -> bytes:
    """Objects by number. There is no cross-reference table: pdfium rebuilds it."""
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n")
    for number, body in objects.items():
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    out.write(b"trailer << /Root 1 0 R /Info 5 0 R %s >>\n%%%%EOF\n" % trailer)
    return out.getvalue()


def stream(body: bytes, entries: bytes = b"") -> bytes:
    """A stream object's body."""
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(body), entries, body)


def _pdf(
    streams: Sequence[bytes],
    box: Box = LETTER,
    picture: tuple[bytes, int, int] = (b"\xff", 1, 1),
    info: str = "",
    marks: Sequence[Mark] = (),
) -> bytes:
    kids = [10 + 2 * number for number in range(len(streams))]
    pixels, width, height = picture
    image = (
        b"/Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray"
        b" /BitsPerComponent 8 /Filter /FlateDecode" % (width, height)
    )
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R /Outlines %d 0 R >>" % _OUTLINES,
        2: (
            f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{k} 0 R' for k in kids)}] >>"
        ).encode(),
        3: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 4 0 R >>",
        4: stream(_TO_UNICODE.encode()),
        5: f"<< {info} >>".encode(),
        6: stream(zlib.compress(pixels), image),
    }
    for number, shown in zip(kids, streams, strict=True):
        objects[number] = f"<< {_PAGE} {box.entries()} /Contents {number + 1} 0 R >>".encode()
        objects[number + 1] = stream(shown)
    numbers = [_OUTLINES + 1 + n for n in range(len(marks))]
    ends = f"/First {numbers[0]} 0 R /Last {numbers[-1]} 0 R" if marks else ""
    objects[_OUTLINES] = f"<< /Type /Outlines {ends} >>".encode()
    for number, mark in zip(numbers, marks, strict=True):
        following = f"/Next {number + 1} 0 R" if number != numbers[-1] else ""
        place = f"/Parent {_OUTLINES} 0 R {following} /Dest [{kids[mark.page - 1]} 0 R /Fit]"
        objects[number] = f"<< /Title ({mark.title}) {place} >>".encode()
    return raw_pdf(objects)


def _shown_lines(lines: Sequence[str]) -> bytes:
    shown = " ".join(f"({_escaped(line)}) Tj T*" for line in lines)
    return f"BT /F 12 Tf 72 700 Td 14 TL {shown} ET".encode("latin-1")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
