"""Pages of documents as pictures: kept ones, or drawn now by a process of its own.

A page that could not be drawn is remembered for the process's life, so that a hostile one costs its
time once. What is kept lies with the catalog and goes with the original. It knows no web.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from longleaf.core.catalog import Catalog, DocumentHead
from longleaf.core.config import Settings
from longleaf.core.errors import NotDrawn, NotFound
from longleaf.core.ids import PART_MARK
from longleaf.core.types import Scope

if TYPE_CHECKING:
    from longleaf.indexer.sandbox.drawer import PageDrawer

SCALES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Pixels a point that are drawn; what is asked between them is drawn at the next larger one."""

PDF = "application/pdf"
_MOST_REMEMBERED = 10_000


def scale_of(wanted: float) -> float:
    """The scale that is drawn for one that was asked for."""
    return next((each for each in SCALES if each >= wanted), SCALES[-1])


def why_no_pages(head: DocumentHead) -> str:
    """Why a document's pages cannot be shown as pictures; "" where they can."""
    if head.media_type != PDF:
        return "Only the pages of PDFs can be shown as pictures."
    if PART_MARK in head.key.removeprefix(head.source):
        return "It came inside another file, whose pages are not its own."
    if head.original is None:
        return "Its original was not kept (indexer.keep_originals): there is nothing to draw."
    return ""


class Pages:
    """Draws and keeps pages of one catalog's documents. Thread-safe."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._catalog = catalog
        self._settings = settings
        self._drawer: PageDrawer | None = None
        self._failed: OrderedDict[tuple[str, int], NotDrawn] = OrderedDict()

    def kept(self, head: DocumentHead, page: int, scale: float) -> bytes | None:
        """A page's picture (PNG) if it was drawn before. Raises NotDrawn for one that could not
        be, NotFound where there are no pictures."""
        original = original_of(head)
        failure = self._failed.get((original, page))
        if failure is not None:
            raise failure
        return self._catalog.page_images.get(original, page, scale)

    def drawn(self, head: DocumentHead, page: int, scale: float, scope: Scope) -> bytes:
        """A page's picture, drawn now unless somebody else just did: one at a time, please."""
        found = self.kept(head, page, scale)
        if found is not None:
            return found
        original = original_of(head)
        try:
            data = self._open().draw(
                original, lambda: self._catalog.blobs.get(original), page, scale
            )
        except NotDrawn as failure:
            self._failed[original, page] = failure
            while len(self._failed) > _MOST_REMEMBERED:
                self._failed.popitem(last=False)
            raise
        images = self._catalog.page_images
        images.put(original, page, scale, data, self._settings.server.page_image_bytes)
        try:
            self._catalog.document(head.public_id, scope)
        except NotFound:
            # Deleted while it was drawn, and its pictures were removed before this one came.
            self._catalog.erasure.forget_drawn()
            raise
        return data

    def _open(self) -> PageDrawer:
        if self._drawer is None:
            from longleaf.indexer.sandbox.drawer import PageDrawer

            limits = self._settings.indexer
            self._drawer = PageDrawer(
                limits.parse_memory_bytes, limits.max_file_bytes, [self._settings.home]
            )
        return self._drawer

    def close(self) -> None:
        """End the process that draws."""
        if self._drawer is not None:
            self._drawer.close()


def original_of(head: DocumentHead) -> str:
    """The file whose pages can be drawn. Raises NotFound where there are no pictures."""
    why = why_no_pages(head)
    if why or head.original is None:
        raise NotFound(why, f"Its text: /documents/{head.public_id}")
    return head.original
