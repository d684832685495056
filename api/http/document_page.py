"""The page of a document at /documents/{id}: its text, or its pages as they look, at a passage.

Without script a long text comes in parts, linked to each other, and a PDF page by page; with it the
same parts are joined while one scrolls (static/viewer.js). What the page knows beyond that comes
from the API's routes. Where to go back to is read as a search's query and written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, Field

from longleaf.api.http import textview
from longleaf.api.http.html import render
from longleaf.api.http.page_images import why_no_images
from longleaf.api.http.service import Served, Service
from longleaf.api.rendering import PDF
from longleaf.core.catalog import DocumentHead, DocumentText
from longleaf.core.errors import InvalidRequest
from longleaf.core.layout import Layout, Rectangle
from longleaf.core.suspicion import suspicions
from longleaf.core.types import Section

router = APIRouter(include_in_schema=False)

_MAX_OUTLINE = 500
_LOOKED_AT_CHARS = 100_000
_MAX_SENTENCES = 32

_Id = Annotated[str, Path(max_length=64)]
Span = tuple[int, int]


class DocumentLink(BaseModel):
    """Which part of a document to show. Offsets are characters."""

    start: int | None = Field(None, ge=0, description="Where the marked passage begins.")
    end: int | None = Field(None, ge=0, description="Where it ends.")
    s: list[Annotated[str, Field(pattern=r"^\d{1,12}-\d{1,12}$")]] = Field(
        [], max_length=_MAX_SENTENCES, description="Sentences that carry the score: 120-180."
    )
    begin: int | None = Field(None, ge=0, alias="from", description="Show from here on.")
    until: int | None = Field(None, ge=0, description="Show up to here.")
    page: int | None = Field(None, ge=0, description="Show from this page on.")
    view: Literal["text", "pages"] = Field("text", description="Its text, or how pages look.")
    q: str = Field("", max_length=20_000, description="The search that found it.")
    back: str = Field("", max_length=50_000, description="The query of the page to go back to.")

    @property
    def mark(self) -> Span | None:
        if self.start is None or self.end is None or self.start >= self.end:
            return None
        return self.start, self.end

    @property
    def sentences(self) -> list[Span]:
        """Ordered and disjoint."""
        found: list[Span] = []
        for begin, end in sorted(tuple(map(int, each.split("-"))) for each in self.s):
            if begin < end and (not found or found[-1][1] <= begin):
                found.append((begin, end))
        return found


@dataclass(frozen=True, slots=True)
class _Shown:
    """What both views are made of."""

    head: DocumentHead
    document: DocumentText
    layout: Layout | None
    link: DocumentLink

    def to(self, anchor: str = "", **changes: int | str | None) -> str:
        """This document's address with the link's marks and search, and `changes` (`begin` and
        those of DocumentLink; None: not)."""
        parts: list[tuple[str, str]] = []
        link, mark = self.link, self.link.mark
        values = {"view": link.view if link.view != "text" else None, **changes}
        parts += [
            ("from" if name == "begin" else name, str(value))
            for name, value in values.items()
            if value is not None
        ]
        if mark is not None:
            parts += [("start", str(mark[0])), ("end", str(mark[1]))]
            parts += [("s", f"{begin}-{end}") for begin, end in link.sentences]
        parts += [("q", link.q)] if link.q else []
        parts += [("back", link.back)] if link.back else []
        query = f"?{urlencode(parts)}" if parts else ""
        return f"/documents/{self.head.public_id}{query}{anchor}"

    def page_of(self, char: int) -> int | None:
        """The page that a character stands on."""
        for page in reversed(self.document.pages):
            if page.start_char <= char:
                return page.number
        return self.document.pages[0].number if self.document.pages else None


@router.get("/documents/{document_id}")
async def show_document(
    service: Served, link: Annotated[DocumentLink, Query()], document_id: _Id
) -> Response:
    """A document's text with outline and pages, at a marked passage."""
    return await service.read(lambda: _document_page(service, document_id, link))


@router.get("/documents/{document_id}/text")
async def show_part(
    service: Served, link: Annotated[DocumentLink, Query()], document_id: _Id
) -> Response:
    """A part of a document's text alone, for the page to join to those it has."""

    def work() -> Response:
        head = service.runtime.catalog.document(document_id, service.scope)
        document = service.runtime.catalog.text(head)
        begin = _begin(document, link)
        flows = head.media_type == PDF
        shown = textview.window(document, begin, None, until_char=link.until, flows=flows)
        return HTMLResponse(render("document_text.html", window=shown))

    return await service.read(work)


def _document_page(service: Service, document_id: str, link: DocumentLink) -> Response:
    catalog = service.runtime.catalog
    head = catalog.document(document_id, service.scope)
    layout = catalog.layout(head)
    shown = _Shown(head, catalog.text(head), layout, link)
    why = why_no_images(head, layout)
    as_pages = link.view == "pages" and not why
    outline = list(enumerate(shown.document.sections))
    window = textview.window(
        shown.document,
        _begin(shown.document, link),
        link.mark,
        until_char=link.until,
        sentences=link.sentences,
        flows=head.media_type == PDF,
    )
    number = _page_number(shown, window) if as_pages else None

    def to_section(number: int, section: Section) -> str:
        inside = window.start_char <= section.start_char < window.end_char and not as_pages
        return (
            f"#s-{number}"
            if inside
            else shown.to(f"#s-{number}", view=None, begin=section.start_char)
        )

    page = render(
        "document.html",
        head=head,
        window=window,
        outline=outline[:_MAX_OUTLINE],
        hidden_sections=max(0, len(outline) - _MAX_OUTLINE),
        page_count=shown.document.page_count,
        link=link,
        mark=link.mark,
        suspicious=_suspicious(service, shown),
        to=shown.to,
        to_part=lambda begin: shown.to(begin=begin),
        to_section=to_section,
        back=_back(link),
        has_images=not why,
        as_pages=as_pages,
        number=number,
        sheet_count=0 if layout is None else len(layout.pages),
        size=None if layout is None or number is None else layout.pages[number - 1].tolist(),
        rectangles=_rectangles(layout, [link.mark] if link.mark else [], number),
        underlined=_rectangles(layout, link.sentences, number),
        text_url=_text_url(shown, number),
        pages_url=_pages_url(shown, window),
    )
    return HTMLResponse(page)


def _suspicious(service: Service, shown: _Shown) -> tuple[str, ...]:
    """Of the marked passage; what the parser saw stands among the document's warnings."""
    if shown.link.mark is None or not service.runtime.settings.suspicion.mark:
        return ()
    start, end = shown.link.mark
    return suspicions(shown.document.text[start:end][:_LOOKED_AT_CHARS], shown.link.q)


def _back(link: DocumentLink) -> str:
    """Back to the search with all of its state: never anywhere but to our own search page."""
    query = urlencode(parse_qsl(link.back, keep_blank_values=True))
    query = query or (urlencode({"q": link.q}) if link.q else "")
    return f"/?{query}" if query else "/"


def _page_number(shown: _Shown, window: textview.Window) -> int:
    """Which page to show, from 1. Raises InvalidRequest for one that is not there."""
    count = 0 if shown.layout is None else len(shown.layout.pages)
    number = shown.link.page
    if number is None:
        at = window.start_char
        if shown.link.begin is None and shown.link.mark is not None:
            at = shown.link.mark[0]
        number = shown.page_of(at) or 1
    if not 1 <= number <= count:
        raise InvalidRequest(f"This document has no page {number}.", f"It has {count} pages.")
    return number


def _text_url(shown: _Shown, number: int | None) -> str:
    starts = [page.start_char for page in shown.document.pages if page.number == number]
    if not starts or (shown.link.mark is not None and shown.link.page is None):
        return shown.to(view=None)
    return shown.to(view=None, begin=starts[0])


def _pages_url(shown: _Shown, window: textview.Window) -> str:
    link = shown.link
    at = window.start_char if link.begin is None else link.begin
    at_mark = link.mark is not None and link.begin is None and link.page is None
    if at_mark or not at:
        return shown.to(view="pages")
    return shown.to(view="pages", page=shown.page_of(at))


def _rectangles(
    layout: Layout | None, spans: Sequence[Span], number: int | None
) -> list[Rectangle]:
    if layout is None or number is None:
        return []
    found = [each for start, end in spans for each in layout.rectangles(start, end)]
    return [each for each in found if each.page == number]


def _begin(document: DocumentText, link: DocumentLink) -> int | None:
    """Where the link asks to begin. Raises InvalidRequest for a page that is not there."""
    if link.page is None or link.view == "pages":
        return link.begin
    for page in document.pages:
        if page.number == link.page:
            return page.start_char
    raise InvalidRequest(
        f"This document has no page {link.page}.", f"It has {document.page_count} pages."
    )
