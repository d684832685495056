"""PDF: the text layer, page by page, with a map from every character back to its page.

What becomes of pdfium's characters is in `pdf_text`. Bookmarks become sections where their words
stand on the page they point to; a PDF without any gets those that its lines look like. Does no
OCR, no layout analysis, no de-duplication of running headers. pdfium is not thread-safe: one lock
holds for all of a document, so parsing in parallel takes processes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, MetaValue, Page, Rejection, Section
from longleaf.indexer.parsers.decode import clean, refuse_empty
from longleaf.indexer.parsers.headings import sections_of
from longleaf.indexer.parsers.pdf_text import JoinedPages, Usage
from longleaf.indexer.parsers.sections import Mark, nest, shorten, title_from

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

_LOCK = threading.Lock()
_ERROR_PASSWORD, _ERROR_SECURITY = 4, 5  # FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY
_MAX_BOOKMARKS = 20_000
_SCAN_CHARS = 200  # a page with an image and less text than this is probably a stamped scan

_ALNUM = re.compile(r"[^\W_]")
_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(?:(\d\d)(\d\d)(\d\d))?")
_PROGRAM_PREFIX = re.compile(r"^(?:Microsoft (?:Word|PowerPoint|Excel)|Print(?:ing)?) - ", re.I)
_FILE_NAME = re.compile(
    r"^\S+\.\w{2,4}$|\.(?:docx?|pdf|rtf|wpd|tex|dvi|indd)$|^[\w.-]*_[\w.-]*$|^untitled$|^title$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Bookmark:
    title: str
    level: int
    page: int  # counts from 1


@dataclass(slots=True)
class _Extracted:
    """What pdfium said, before any change: one string a page, None where the page is broken."""

    pages: list[str | None] = field(default_factory=list)
    scans: list[int] = field(default_factory=list)
    bookmarks: list[_Bookmark] = field(default_factory=list)
    info: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class PdfParser:
    """A `core.protocols.Parser` for PDF files with a text layer."""

    media_type = "application/pdf"
    suffixes: tuple[str, ...] = (".pdf",)

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """One document. Raises `Rejected` (EMPTY, ENCRYPTED, MALFORMED) and `NoTextFound`."""
        name = clean(name).text
        refuse_empty(data, name)
        with _LOCK:
            extracted = _extract(data, name)
        yield _document(extracted, name)


def _document(extracted: _Extracted, name: str) -> Document:
    unread = [number for number, text in enumerate(extracted.pages, 1) if text is None]
    silent = [
        number
        for number, text in enumerate(extracted.pages, 1)
        if text is not None and _ALNUM.search(text) is None
    ]
    total = len(extracted.pages)
    if len(unread) == total:
        raise Rejected(RejectReason.MALFORMED, f"{name}: none of its {total} pages can be read.")
    if len(unread) + len(silent) == total:
        raise NoTextFound(
            f"{name} holds no text on its {total} pages.", "It is probably a scan: run OCR on it."
        )
    text = JoinedPages(Usage.of(extracted.pages))
    for number, characters in enumerate(extracted.pages, 1):
        text.add_page(number, characters or "")
    body = text.text()
    notes = list(extracted.warnings)
    if unread:
        notes.append(f"pages that cannot be read: {_ranges(unread)}")
    if silent:
        notes.append(f"pages without text (OCR would find more): {_ranges(silent)}")
    if extracted.scans:
        notes.append(f"pages with an image and almost no text: {_ranges(extracted.scans)}")
    if text.unmapped:
        notes.append(f"{text.unmapped} characters have no Unicode value: replaced by U+FFFD")
    info = {key: clean(value).text.strip() for key, value in extracted.info.items()}
    return Document(
        text=body,
        title=_title(info.get("Title", "")) or title_from(body, name),
        pages=tuple(text.pages),
        sections=_outline(extracted.bookmarks, text.pages, body) or sections_of(body),
        metadata=_metadata(info),
        warnings=tuple(notes),
    )


def _extract(data: bytes, name: str) -> _Extracted:
    """Everything wanted of pdfium, all handles closed again; the caller holds the lock."""
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as failure:
        if failure.err_code in (_ERROR_PASSWORD, _ERROR_SECURITY):
            raise Rejected(
                RejectReason.ENCRYPTED,
                f"{name} is protected by a password.",
                "Save a copy without the password and index that.",
            ) from failure
        raise Rejected(
            RejectReason.MALFORMED, f"{name} cannot be opened as a PDF: {failure}"
        ) from failure
    with closing(pdf):
        page_count = len(pdf)
        if page_count < 1:
            raise Rejected(RejectReason.MALFORMED, f"{name} is a PDF without pages.")
        extracted = _Extracted()
        for index in range(page_count):
            try:
                characters, is_scan = _page_characters(pdf, index)
            except pypdfium2.PdfiumError:
                extracted.pages.append(None)
                continue
            extracted.pages.append(characters)
            if is_scan:
                extracted.scans.append(index + 1)
        for key in ("Title", "Author", "Subject", "Keywords", "CreationDate"):
            try:
                extracted.info[key] = pdf.get_metadata_value(key)
            except UnicodeDecodeError:
                extracted.warnings.append(f"its {key} entry is not valid text")
        _read_bookmarks(pdf, extracted)
        return extracted


def _page_characters(pdf: PdfDocument, index: int) -> tuple[str, bool]:
    """The page's pdfium characters, one each, and whether it looks like a scan with a stamp."""
    from pypdfium2 import raw

    with closing(pdf[index]) as page, closing(page.get_textpage()) as text_page:
        handle, read = text_page.raw, raw.FPDFText_GetUnicode
        # Character by character: whole-page calls leave out unmapped characters, and the map
        # back to the page would shift (measured: 0.6 µs a character, a third of loading a page).
        codes = [read(handle, at) for at in range(text_page.count_chars())]
        characters = "".join(chr(code) if code < 0x110000 else "\ufffd" for code in codes)
        is_scan = 0 < len(characters.strip()) < _SCAN_CHARS and any(
            page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE])
        )
    return characters, is_scan


def _read_bookmarks(pdf: PdfDocument, extracted: _Extracted) -> None:
    bookmarks: Iterator[Any] = iter(pdf.get_toc())
    for bookmark in islice(bookmarks, _MAX_BOOKMARKS):
        try:
            title = shorten(clean(bookmark.get_title()).text)
        except UnicodeDecodeError:
            continue
        target = bookmark.get_dest()
        page_index = None if target is None else target.get_index()
        if title and page_index is not None:
            extracted.bookmarks.append(_Bookmark(title, bookmark.level + 1, page_index + 1))
    if next(bookmarks, None) is not None:
        extracted.warnings.append(f"only its first {_MAX_BOOKMARKS:,} bookmarks were read")


def _outline(
    bookmarks: Sequence[_Bookmark], pages: Sequence[Page], text: str
) -> tuple[Section, ...]:
    """Sections from the bookmarks whose words stand on the page they point to, in text order."""
    marks: list[Mark] = []
    at_least = 0
    for bookmark in bookmarks:
        if bookmark.page > len(pages):
            continue
        page = pages[bookmark.page - 1]
        words = [re.escape(word) for word in bookmark.title.rstrip("…").split()]
        found = re.compile(r"\s+".join(words), re.IGNORECASE).search(
            text, max(page.start_char, at_least), page.end_char
        )
        if found is not None:
            marks.append(Mark(bookmark.title, bookmark.level, found.start()))
            at_least = found.end()
    return nest(marks, len(text))


def _title(stated: str) -> str:
    """The stated title, unless it is a program's or a file's name."""
    title = _PROGRAM_PREFIX.sub("", shorten(stated))
    return "" if _FILE_NAME.search(title) or _ALNUM.search(title) is None else title


def _metadata(info: dict[str, str]) -> dict[str, MetaValue]:
    metadata: dict[str, MetaValue] = {
        key.lower(): " ".join(info[key].split())
        for key in ("Author", "Subject", "Keywords")
        if info.get(key)
    }
    if (date := _DATE.match(info.get("CreationDate", ""))) is not None:
        year, month, day, hour, minute, second = date.groups()
        metadata["created"] = "-".join(part for part in (year, month, day) if part)
        if second is not None:
            metadata["created"] = f"{year}-{month}-{day}T{hour}:{minute}:{second}"
    return metadata


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as "2, 5-9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
