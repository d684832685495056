"""Pictures of pages (PNG, JPEG, TIFF with any number of pages): read by OCR, pages like a PDF's.

The size is read from the header and a flood of pixels refused before anything is decoded. Pages go
to OCR in grey, the way up that the file states, and in no more pixels than a PDF page is drawn in.
A resolution that no scanner has (72 dots per inch for a photograph) is replaced by one that makes
the longer side 11 inches, because OCR measures letters with it. Without OCR there is no text.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, Rejection
from longleaf.indexer.parsers.decode import clean, refuse_empty
from longleaf.indexer.parsers.headings import sections_of
from longleaf.indexer.parsers.pdf_asides import asides_of
from longleaf.indexer.parsers.pdf_flow import join_pages
from longleaf.indexer.parsers.pdf_page import SourcePage
from longleaf.indexer.parsers.pdf_scan import MAX_IMAGE_PIXELS, MAX_PIXELS, png_of
from longleaf.indexer.parsers.scan import (
    POINTS_PER_INCH,
    OcrLog,
    has_words,
    no_text,
    page_of_words,
    ranges,
)
from longleaf.indexer.parsers.sections import title_from

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PICTURES = 5_000
"""Pages of one TIFF."""

_SCANNER_DOTS = (100.0, 1_200.0)
_LONG_SIDE_INCHES = 11.0
_SQUARE = 0.05  # dots across and down that differ by less are alike
_ORIENTATION = 0x0112  # the EXIF tag; Pillow's TIFF reader applies and removes it
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""EXIF orientation to Pillow's `Image.Transpose` that undoes it."""
_FORMATS = ("PNG", "JPEG", "TIFF")


class ImageParser:
    """A `core.protocols.Parser` for the pictures of one media type."""

    def __init__(self, media_type: str, suffixes: tuple[str, ...]) -> None:
        self.media_type = media_type
        self.suffixes = suffixes

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """One document. Raises `Rejected` (EMPTY, MALFORMED, EXPANDS, TOO_LARGE), `NoTextFound`."""
        name = clean(name).text
        refuse_empty(data, name)
        with _opened(data, name) as image:
            broken: dict[int, str] = {}
            count = _count(image, name, broken) if image.format == "TIFF" else 1
            if context.ocr is None:
                raise no_text(name, "its picture" if count == 1 else f"its {count} pages", context)
            log = OcrLog(context.ocr)
            pages: list[SourcePage] = []
            for number in range(1, count + 1):
                pages.append(_read(image, number, log, broken))
                context.on_progress("parse", number, count)
        yield _document(pages, log, broken, name, context)


PNG = ImageParser("image/png", (".png",))
JPEG = ImageParser("image/jpeg", (".jpg", ".jpeg"))
TIFF = ImageParser("image/tiff", (".tif", ".tiff"))


def _document(
    pages: list[SourcePage],
    log: OcrLog,
    broken: Mapping[int, str],
    name: str,
    context: ParseContext,
) -> Document:
    if not any(map(has_words, pages)):
        if log.failures:
            raise next(iter(log.failures.values()))
        if broken:
            raise Rejected(
                RejectReason.MALFORMED, f"{name} cannot be decoded: {next(iter(broken.values()))}"
            )
        raise no_text(name, f"its {len(pages)} pages", context)
    joined = join_pages(pages)
    sections = sections_of(joined.text)
    notes = [f"pages that cannot be decoded: {ranges(list(broken))}"] if broken else []
    return Document(
        text=joined.text,
        title=title_from(joined.text, name),
        pages=joined.pages,
        sections=sections,
        regions=asides_of(joined.text, sections, len(joined.text)),
        layout=joined.layout,
        warnings=(*notes, *log.notes()),
    )


def _opened(data: bytes, name: str) -> Image:
    """The picture, its header read and nothing decoded; a wrong suffix does not matter."""
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        # Pillow's own limit: it only warns from 89 million pixels on, and refuses twice as many.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return Image.open(io.BytesIO(data), formats=_FORMATS)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as flood:
            raise Rejected(RejectReason.EXPANDS, f"{name} is not decoded: {flood}") from flood
        except UnidentifiedImageError as failure:
            raise Rejected(
                RejectReason.MALFORMED,
                f"{name} is no picture in one of the formats {', '.join(_FORMATS)}.",
            ) from failure
        except Exception as failure:  # decoders raise whatever their arithmetic meets
            raise Rejected(RejectReason.MALFORMED, f"{name}: {failure}") from failure


def _count(image: Image, name: str, broken: dict[int, str]) -> int:
    """How many pages a TIFF has, by their headers; a broken one is the last."""
    for number in range(1, MAX_PICTURES + 1):
        try:
            with warnings.catch_warnings(action="ignore"):
                image.seek(number)
        except EOFError:
            return number
        except Exception as failure:
            broken[number + 1] = str(failure)
            return number
    raise Rejected(
        RejectReason.TOO_LARGE,
        f"{name} has more than {MAX_PICTURES:,} pages.",
        "Split it into several files.",
    )


def _read(image: Image, number: int, log: OcrLog, broken: dict[int, str]) -> SourcePage:
    """One page, read; an empty one, with the reason in `broken`, where it cannot be decoded."""
    try:
        # What a decoder only warns of (odd metadata) does not touch the picture.
        with warnings.catch_warnings(action="ignore"):
            image.seek(number - 1)
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.width:,} x {image.height:,} pixels are not decoded")
            grey, dots = _upright(image)
    except Exception as failure:
        broken[number] = str(failure)
        return SourcePage.blank(number)
    scale = POINTS_PER_INCH / dots
    page = page_of_words(number, grey.width * scale, grey.height * scale, ())
    return log.read(page, lambda: png_of(grey, dots))


def _upright(image: Image) -> tuple[Image, float]:
    """The picture in grey as it is meant to be seen, and its dots per inch, alike both ways."""
    from PIL.Image import Transpose

    across, down = _stated_dots(image)
    image.draft("L", image.size)  # JPEG: decode nothing but the brightness
    image.load()
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    grey = _grey(image)
    factor = max(math.ceil(math.sqrt(grey.width * grey.height / MAX_PIXELS)), 1)
    if factor > 1:
        grey = grey.reduce(factor)
    dots = max(across, down)
    if not _SCANNER_DOTS[0] <= dots <= _SCANNER_DOTS[1]:
        dots = factor * max(grey.size) / _LONG_SIDE_INCHES
    elif abs(across - down) > _SQUARE * dots and min(across, down) > dots / 4:
        # A fax has half as many dots downwards as across.
        grey = grey.resize((round(grey.width * dots / across), round(grey.height * dots / down)))
    if turn is not None:
        grey = grey.transpose(Transpose(turn))
    return grey, dots / factor


def _grey(image: Image) -> Image:
    """Its brightness, on white paper where it is transparent."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    grey = image.convert("L")
    if not image.has_transparency_data:
        return grey
    alpha = image.convert("RGBA").getchannel("A")
    return Image.composite(grey, Image.new("L", grey.size, 255), alpha)


def _stated_dots(image: Image) -> tuple[float, float]:
    try:
        across, down = (float(dots) for dots in image.info.get("dpi", (0, 0)))
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0, 0.0
    return (across, down) if math.isfinite(across) and math.isfinite(down) else (0.0, 0.0)
