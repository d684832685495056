"""Everything wanted of pdfium for one file: pages, bookmarks, metadata; all handles closed again.

pdfium is not thread-safe: one lock holds for all of a document, so parsing in parallel takes
processes. A page is closed before the next is opened; what grows with the file is its text and, for
each word, 28 bytes. A page flood, endless text and streams that expand end as a named rejection;
bookmarks in a circle, as a warning.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.protocols import ParseContext
from longleaf.indexer.parsers.decode import clean
from longleaf.indexer.parsers.pdf_bombs import refuse_bombs
from longleaf.indexer.parsers.pdf_page import SourcePage, read_page
from longleaf.indexer.parsers.pdf_scan import picture_of
from longleaf.indexer.parsers.scan import OcrLog, has_words
from longleaf.indexer.parsers.sections import shorten

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

MAX_PAGES = 50_000
MAX_CHARS = 60_000_000
"""Of a file's text: 17,000 dense pages. With the places of its words it takes 13 bytes a character
at the peak, so that a file stays below 1 GiB."""

_LOCK = threading.Lock()
_ERROR_PASSWORD, _ERROR_SECURITY = 4, 5  # FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY
_MAX_BOOKMARKS = 20_000
_MAX_BOOKMARK_LEVELS = 15
_INFO_KEYS = ("Title", "Author", "Subject", "Keywords", "CreationDate")


@dataclass(frozen=True, slots=True)
class Bookmark:
    """An entry of the file's outline; level and page count from 1."""

    title: str
    level: int
    page: int


@dataclass(slots=True)
class PdfContents:
    """What a file holds, one page for each of its pages.

    `unread`: those that pdfium cannot load (they are empty here). `ocr`: what OCR read, where there
    is one.
    """

    ocr: OcrLog | None

    pages: list[SourcePage] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)
    bookmarks: list[Bookmark] = field(default_factory=list)
    info: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_contents(data: bytes, name: str, context: ParseContext) -> PdfContents:
    """Read the whole file. Raises `Rejected` (ENCRYPTED, MALFORMED, TOO_LARGE, EXPANDS)."""
    import pypdfium2

    refuse_bombs(data, name)
    with _LOCK:
        try:
            pdf = pypdfium2.PdfDocument(data)
        except pypdfium2.PdfiumError as failure:
            raise _refusal(failure, name) from failure
        with closing(pdf):
            return _read(pdf, name, context)


def _refusal(failure: Any, name: str) -> Rejected:
    if failure.err_code in (_ERROR_PASSWORD, _ERROR_SECURITY):
        return Rejected(
            RejectReason.ENCRYPTED,
            f"{name} is protected by a password.",
            "Save a copy without the password and index that.",
        )
    return Rejected(RejectReason.MALFORMED, f"{name} cannot be opened as a PDF: {failure}")


def _read(pdf: PdfDocument, name: str, context: ParseContext) -> PdfContents:
    page_count = len(pdf)
    if page_count < 1:
        raise Rejected(RejectReason.MALFORMED, f"{name} is a PDF without pages.")
    if page_count > MAX_PAGES:
        raise Rejected(
            RejectReason.TOO_LARGE,
            f"{name} says that it has {page_count:,} pages; at most {MAX_PAGES:,} are read.",
            "Split it into several files.",
        )
    contents = PdfContents(None if context.ocr is None else OcrLog(context.ocr))
    chars_left = MAX_CHARS
    for number in range(1, page_count + 1):
        page = _read_page(pdf, number, chars_left, contents)
        if page is None:
            raise Rejected(
                RejectReason.TOO_LARGE,
                f"{name} holds more than {MAX_CHARS:,} characters of text by page {number:,}.",
                "Split it into several files.",
            )
        chars_left -= len(page.characters)
        contents.pages.append(page)
        context.on_progress("parse", number, page_count)
    for key in _INFO_KEYS:
        try:
            contents.info[key] = pdf.get_metadata_value(key)
        except UnicodeDecodeError:
            contents.warnings.append(f"its {key} entry is not valid text")
    _read_bookmarks(pdf, contents)
    return contents


def _read_page(
    pdf: PdfDocument, number: int, max_chars: int, contents: PdfContents
) -> SourcePage | None:
    """A page; None if it holds too much text."""
    import pypdfium2

    try:
        with closing(pdf[number - 1]) as page:
            source = read_page(page, number, max_chars)
            if source is None or contents.ocr is None or not source.has_marks:
                return source
            if has_words(source) and not source.has_picture:
                return source
            return contents.ocr.read(source, lambda: picture_of(page))
    except pypdfium2.PdfiumError:
        contents.unread.append(number)
        return SourcePage.blank(number)


def _read_bookmarks(pdf: PdfDocument, contents: PdfContents) -> None:
    walk = _walk_bookmarks(pdf, contents.warnings)
    for bookmark, level in islice(walk, _MAX_BOOKMARKS):
        try:
            title = shorten(clean(bookmark.get_title()).text)
        except UnicodeDecodeError:
            continue
        target = bookmark.get_dest()
        page_index = None if target is None else target.get_index()
        if title and page_index is not None:
            contents.bookmarks.append(Bookmark(title, level, page_index + 1))
    if next(walk, None) is not None:
        contents.warnings.append(f"only its first {_MAX_BOOKMARKS:,} bookmarks were read")


def _walk_bookmarks(pdf: PdfDocument, warnings: list[str]) -> Iterator[tuple[Any, int]]:
    """The file's bookmarks with their levels, each once and no deeper than levels are counted."""
    from pypdfium2 import PdfBookmark, raw

    seen: set[int] = set()
    told: set[str] = set()

    def tell(warning: str) -> None:
        if warning not in told:
            told.add(warning)
            warnings.append(warning)

    above: list[Any] = []
    at = raw.FPDFBookmark_GetFirstChild(pdf, None)
    while at or above:
        if not at:
            at = raw.FPDFBookmark_GetNextSibling(pdf, above.pop())
            continue
        address = ctypes.addressof(at.contents)
        if address in seen:
            tell("its bookmarks run in a circle: each was read once")
            at = None
            continue
        seen.add(address)
        yield PdfBookmark(at, pdf, len(above)), len(above) + 1
        child = raw.FPDFBookmark_GetFirstChild(pdf, at)
        if child and len(above) + 1 < _MAX_BOOKMARK_LEVELS:
            above.append(at)
            at = child
            continue
        if child:
            tell(f"bookmarks below level {_MAX_BOOKMARK_LEVELS} were not read")
        at = raw.FPDFBookmark_GetNextSibling(pdf, at)
