"""A PDF page drawn for OCR: grey, 300 dots per inch, never in more than `MAX_PIXELS`.

Tesseract is made for 300 dots per inch; a page too large for that is drawn coarser. An image on the
page is decoded whole to draw it, so one with more than `MAX_IMAGE_PIXELS` is refused before.
"""

from __future__ import annotations

import io
import math
from contextlib import closing
from typing import TYPE_CHECKING

from longleaf.core.errors import Rejected, RejectReason
from longleaf.indexer.parsers.pdf_page import image_pixels
from longleaf.indexer.parsers.scan import POINTS_PER_INCH

if TYPE_CHECKING:
    from PIL.Image import Image
    from pypdfium2 import PdfPage

DOTS_PER_INCH = 300
MAX_PIXELS = 40_000_000
"""A page of 17 x 27 inches at 300 dots per inch; 40 MB."""
MAX_SIDE_PIXELS = 30_000
MAX_IMAGE_PIXELS = 89_000_000
"""A2 at 450 dots per inch; 89 to 360 MB. Pillow warns of pictures from there on."""


def picture_of(page: PdfPage) -> bytes:
    """The page as a grey PNG with its resolution inside. Raises `Rejected` for a pixel flood."""
    pixels = image_pixels(page) or 0
    if pixels > MAX_IMAGE_PIXELS:
        raise Rejected(
            RejectReason.EXPANDS,
            f"an image of {pixels:,} pixels is not drawn (at most {MAX_IMAGE_PIXELS:,})",
        )
    width, height = max(page.get_width(), 1.0), max(page.get_height(), 1.0)
    scale = min(
        DOTS_PER_INCH / POINTS_PER_INCH,
        math.sqrt(MAX_PIXELS / (width * height)),
        MAX_SIDE_PIXELS / max(width, height),
    )
    with closing(page.render(scale=scale, grayscale=True)) as bitmap:
        return png_of(bitmap.to_pil(), scale * POINTS_PER_INCH)


def png_of(image: Image, dots_per_inch: float) -> bytes:
    """`image` as a PNG, hardly compressed: it is read once, at once."""
    picture = io.BytesIO()
    image.save(picture, "PNG", dpi=(dots_per_inch, dots_per_inch), compress_level=1)
    return picture.getvalue()
