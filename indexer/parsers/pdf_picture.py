"""A page of a PDF drawn for a person to read: in colour, at a scale, within a number of pixels.

The page is drawn as it is shown (rotated, cropped), so a layout's points times the scale are
pixels. Annotations are drawn, form fields are not filled in, nothing that a file wants to run is.
"""

from __future__ import annotations

import io
import math
from contextlib import closing
from typing import TYPE_CHECKING

from longleaf.core.errors import NotDrawn
from longleaf.indexer.parsers.pdf_page import image_pixels
from longleaf.indexer.parsers.pdf_scan import MAX_IMAGE_PIXELS

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

MAX_PIXELS = 24_000_000
"""Of a drawn page, 96 MB of memory; a larger one is drawn coarser. US letter at scale 4 has 8."""
MAX_SIDE_PIXELS = 16_000


def draw_page(pdf: PdfDocument, number: int, scale: float) -> bytes:
    """Page `number` (from 1) as a PNG, `scale` pixels a point or fewer. Raises NotDrawn."""
    import pypdfium2

    if not 1 <= number <= len(pdf):
        raise NotDrawn(f"The file has no page {number}.", f"It has {len(pdf)}.")
    try:
        with closing(pdf[number - 1]) as page:
            pixels = image_pixels(page) or 0
            if pixels > MAX_IMAGE_PIXELS:
                raise NotDrawn(
                    f"Page {number} holds an image of {pixels:,} pixels, more than is drawn.",
                    "Read its text, or open the original file.",
                )
            width, height = max(page.get_width(), 1.0), max(page.get_height(), 1.0)
            scale = min(
                scale,
                math.sqrt(MAX_PIXELS / (width * height)),
                MAX_SIDE_PIXELS / max(width, height),
            )
            with closing(page.render(scale=scale, rev_byteorder=True)) as bitmap:
                picture = io.BytesIO()
                # Level 3: a quarter larger than the best, three times as fast.
                bitmap.to_pil().convert("RGB").save(picture, "PNG", compress_level=3)
    except pypdfium2.PdfiumError as failure:
        raise NotDrawn(
            f"Page {number} cannot be drawn: {failure}", "Read its text, or open the original file."
        ) from failure
    return picture.getvalue()
