"""PDF: one text in the order to read, where each word stands, sections, and what is no body text.

`pdf_file` asks pdfium (and OCR, for pages without text), `pdf_flow` makes one text of the pages,
`pdf_asides` marks tables of contents and bibliographies. Bookmarks become sections where their
words stand on the page they point to; a PDF without any gets those that its lines look like. Does
not read form fields or comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.suspicion import HIDDEN_TEXT
from longleaf.core.types import (
    Document,
    MetaValue,
    Page,
    Region,
    Rejection,
    Role,
    Section,
)
from longleaf.indexer.parsers.decode import clean, refuse_empty
from longleaf.indexer.parsers.headings import sections_of
from longleaf.indexer.parsers.pdf_asides import asides_of
from longleaf.indexer.parsers.pdf_file import Bookmark, PdfContents, read_contents
from longleaf.indexer.parsers.pdf_flow import Joined, join_pages
from longleaf.indexer.parsers.pdf_hidden import LEAST_CHARS
from longleaf.indexer.parsers.scan import has_words, no_text, ranges
from longleaf.indexer.parsers.sections import Mark, nest, shorten, title_from

_ALNUM = re.compile(r"[^\W_]")
_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(?:(\d\d)(\d\d)(\d\d))?")
_PROGRAM_PREFIX = re.compile(r"^(?:Microsoft (?:Word|PowerPoint|Excel)|Print(?:ing)?) - ", re.I)
_FILE_NAME = re.compile(
    r"^\S+\.\w{2,4}$|\.(?:docx?|pdf|rtf|wpd|tex|dvi|indd)$|^[\w.-]*_[\w.-]*$|^untitled$|^title$",
    re.IGNORECASE,
)


class PdfParser:
    """A `core.protocols.Parser` for PDF files."""

    media_type = "application/pdf"
    suffixes: tuple[str, ...] = (".pdf",)

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """One document. Raises `Rejected` (EMPTY, ENCRYPTED, MALFORMED, TOO_LARGE, EXPANDS) and
        `NoTextFound`."""
        name = clean(name).text
        refuse_empty(data, name)
        contents = read_contents(data, name, context)
        notes = _notes(contents, name, context)
        total = len(contents.pages)
        joined = join_pages(
            contents.pages, lambda number: context.on_progress("join", number, total)
        )
        yield _document(contents, joined, name, notes)


def _notes(contents: PdfContents, name: str, context: ParseContext) -> list[str]:
    """What the user should know of the pages. Raises if none of them has text."""
    total = len(contents.pages)
    unread = set(contents.unread)
    if len(unread) == total:
        raise Rejected(RejectReason.MALFORMED, f"{name}: none of its {total} pages can be read.")
    silent = [
        page.number for page in contents.pages if page.number not in unread and not has_words(page)
    ]
    if len(unread) + len(silent) == total:
        if contents.ocr is not None and contents.ocr.failures:
            raise next(iter(contents.ocr.failures.values()))
        raise no_text(name, f"its {total} pages", context)
    notes = [*contents.warnings, *_hidden(contents)]
    if unread:
        notes.append(f"pages that cannot be read: {ranges(contents.unread)}")
    if contents.ocr is not None:
        return notes + contents.ocr.notes()
    if silent:
        notes.append(f"pages without text (OCR would find more): {ranges(silent)}")
    pictures = [page.number for page in contents.pages if page.has_picture]
    if pictures:
        notes.append(f"pages with an image and almost no text: {ranges(pictures)}")
    return notes


def _hidden(contents: PdfContents) -> list[str]:
    """What `core.suspicion` takes for a reason."""
    pages = [page for page in contents.pages if page.hidden_chars]
    chars = sum(page.hidden_chars for page in pages)
    if chars < LEAST_CHARS:
        return []
    where = ranges([page.number for page in pages])
    return [
        f"{HIDDEN_TEXT}: {chars:,} characters on page{'' if len(pages) == 1 else 's'} {where} "
        "(white, invisible, tiny or outside of it)"
    ]


def _document(contents: PdfContents, joined: Joined, name: str, notes: list[str]) -> Document:
    body = joined.text[: joined.notes_start_char]
    if joined.unmapped:
        notes.append(f"{joined.unmapped} characters have no Unicode value: replaced by U+FFFD")
    info = {key: clean(value).text.strip() for key, value in contents.info.items()}
    sections = _outline(contents.bookmarks, joined.pages, body) or sections_of(body)
    return Document(
        text=joined.text,
        title=_title(info.get("Title", "")) or title_from(body, name),
        pages=joined.pages,
        sections=sections,
        metadata=_metadata(info),
        regions=_regions(joined, sections),
        layout=joined.layout,
        warnings=tuple(notes),
    )


def _regions(joined: Joined, sections: Sequence[Section]) -> tuple[Region, ...]:
    regions = asides_of(joined.text, sections, joined.notes_start_char)
    if joined.notes_start_char < len(joined.text):
        footnotes = Region(Role.FOOTNOTE, joined.notes_start_char, len(joined.text))
        return (*regions, footnotes)
    return regions


def _outline(
    bookmarks: Sequence[Bookmark], pages: Sequence[Page], body: str
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
            body, max(page.start_char, at_least), page.end_char
        )
        if found is not None:
            marks.append(Mark(bookmark.title, bookmark.level, found.start()))
            at_least = found.end()
    return nest(marks, len(body))


def _title(stated: str) -> str:
    """The stated title, unless it is a program's or a file's name."""
    title = _PROGRAM_PREFIX.sub("", shorten(stated))
    return "" if _FILE_NAME.search(title) or _ALNUM.search(title) is None else title


def _metadata(info: Mapping[str, str]) -> dict[str, MetaValue]:
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
