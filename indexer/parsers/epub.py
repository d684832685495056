"""EPUB 2 and 3: the pages of the book's spine in reading order, read as HTML is.

The table of contents (EPUB 3's nav, else EPUB 2's NCX) names a section where its first entry opens
a page; headings inside the pages nest below. Only markup is read: pages that are pictures, and
pages that the package lacks, are counted in a warning. A book is refused as encrypted when its
pages are; obfuscated fonts alone do not matter. What the package's own XML says is in
`epub_package`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, Region, Rejection, Role
from longleaf.indexer.parsers.decode import clean, refuse_empty
from longleaf.indexer.parsers.epub_package import Entry, Item, metadata_of, read_book
from longleaf.indexer.parsers.html import read_page
from longleaf.indexer.parsers.sections import Mark, nest, shorten, title_from
from longleaf.indexer.parsers.zipped import Package

_PAGE_TYPES = frozenset(
    (
        *("application/xhtml+xml", "text/html", "application/x-dtbook+xml"),
        *("text/x-oeb1-document", "application/xml"),
    )
)
_PAGE_RANK = 100
"""Below every depth of a table of contents, so that a page's headings nest under its entry."""


class EpubParser:
    """A `core.protocols.Parser` for EPUB books."""

    media_type = "application/epub+zip"
    suffixes: tuple[str, ...] = (".epub",)

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """One document. Raises `Rejected`: EMPTY, MALFORMED, ENCRYPTED, EXPANDS; `NoTextFound`."""
        name = clean(name).text
        refuse_empty(data, name)
        package = Package(data, name)
        book = read_book(package)
        pages = _Pages(package)
        for done, item in enumerate(book.pages, 1):
            pages.add(item, book.contents)
            context.on_progress("parse", done, len(book.pages))
        text = pages.text()
        if not text:
            raise NoTextFound(
                f"{name} holds no text on its {len(book.pages):,} pages.",
                "Its pages may be pictures: convert it to PDF and run OCR on that.",
            )
        title = shorten("".join(book.fields.get("title", ())[:1]))
        yield Document(
            text=text,
            title=title or title_from(text, name),
            sections=nest(pages.marks, len(text)),
            metadata=metadata_of(book),
            regions=tuple(pages.regions),
            warnings=tuple(pages.warnings()),
        )


class _Pages:
    """Pages laid one after the other, with their headings."""

    def __init__(self, package: Package) -> None:
        self.marks: list[Mark] = []
        self.regions: list[Region] = []
        self._package = package
        self._parts: list[str] = []
        self._chars = 0
        self._pictures = self._missing = 0
        self._unread: list[str] = []
        self._notes: dict[str, int] = {}

    def add(self, item: Item, contents: Mapping[str, Entry]) -> None:
        """The next page of the spine."""
        if item.file is None:
            self._missing += 1
        elif item.media_type not in _PAGE_TYPES:
            self._pictures += 1
        else:
            self._add_page(item.file, item.is_contents, contents.get(item.file))

    def _add_page(self, file: str, is_contents: bool, opened_by: Entry | None) -> None:
        try:
            page = read_page(self._package.read(file), file)
        except Rejected as failure:
            if failure.reason is RejectReason.EXPANDS:
                raise
            self._unread.append(failure.message)
            return
        for note in page.warnings:
            self._notes[note] = self._notes.get(note, 0) + 1
        if not page.text:
            return
        if self._parts:
            self._parts.append("\n\n")
            self._chars += 2
        if is_contents:
            end = self._chars + len(page.text)
            self.regions.append(Region(Role.CONTENTS, self._chars, end))
        if opened_by is not None:
            self.marks.append(Mark(opened_by.title, opened_by.depth, self._chars))
        for mark in page.marks:
            # The page's own heading mostly says what the table of contents has said already.
            if opened_by is None or mark.start_char > 0 or mark.title != opened_by.title:
                start = self._chars + mark.start_char
                self.marks.append(Mark(mark.title, _PAGE_RANK + mark.rank, start))
        self._parts.append(page.text)
        self._chars += len(page.text)

    def text(self) -> str:
        return "".join(self._parts)

    def warnings(self) -> Iterator[str]:
        """What of the book is not in the text, and what was read with a guess."""
        if self._pictures:
            yield f"pages that are pictures left out: {self._pictures:,}"
        if self._missing:
            yield f"pages of the spine that the package lacks: {self._missing:,}"
        if self._unread:
            yield f"pages that cannot be read: {len(self._unread):,} ({self._unread[0]})"
        for note, pages in self._notes.items():
            yield note if pages == 1 else f"{note} (on {pages:,} pages)"
