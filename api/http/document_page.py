"""The page of a document at /documents/{id}: its text with outline and pages, at a passage."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, Field

from longleaf.api.http import textview
from longleaf.api.http.html import render
from longleaf.api.http.service import Served, Service
from longleaf.core.catalog import DocumentText
from longleaf.core.errors import InvalidRequest
from longleaf.core.types import Section

router = APIRouter(include_in_schema=False)

_MAX_OUTLINE = 500


class DocumentLink(BaseModel):
    """Which part of a document to show. Offsets are characters."""

    start: int | None = Field(None, ge=0, description="Where the marked passage begins.")
    end: int | None = Field(None, ge=0, description="Where it ends.")
    begin: int | None = Field(None, ge=0, alias="from", description="Show from here on.")
    page: int | None = Field(None, ge=0, description="Show from this page on.")
    q: str = Field("", max_length=20_000, description="The search to go back to.")


@router.get("/documents/{document_id}")
async def show_document(
    service: Served,
    link: Annotated[DocumentLink, Query()],
    document_id: Annotated[str, Path(max_length=64)],
) -> Response:
    """A document's text with outline and pages, at a marked passage."""
    return await service.read(lambda: _document_page(service, document_id, link))


def _document_page(service: Service, document_id: str, link: DocumentLink) -> Response:
    catalog = service.runtime.catalog
    head = catalog.document(document_id, service.scope)
    document = catalog.text(head)
    mark = None
    if link.start is not None and link.end is not None and link.start < link.end:
        mark = (link.start, link.end)
    shown = textview.window(document, _begin(document, link), mark)

    def to(begin: int | None = None, anchor: str = "") -> str:
        parts: dict[str, str] = {} if begin is None else {"from": str(begin)}
        if mark is not None:
            parts |= {"start": str(mark[0]), "end": str(mark[1])}
        if link.q:
            parts["q"] = link.q
        return f"/documents/{head.public_id}?{urlencode(parts)}{anchor}"

    def to_section(number: int, section: Section) -> str:
        inside = shown.start_char <= section.start_char < shown.end_char
        return f"#s-{number}" if inside else to(section.start_char, f"#s-{number}")

    outline = list(enumerate(document.sections))
    page = render(
        "document.html",
        head=head,
        window=shown,
        outline=outline[:_MAX_OUTLINE],
        hidden_sections=max(0, len(outline) - _MAX_OUTLINE),
        page_count=_page_count(document),
        link=link,
        mark=mark,
        to=to,
        to_section=to_section,
        back=f"/?{urlencode({'q': link.q})}" if link.q else "/",
    )
    return HTMLResponse(page)


def _begin(document: DocumentText, link: DocumentLink) -> int | None:
    """Where the link asks to begin. Raises InvalidRequest for a page that is not there."""
    if link.page is None:
        return link.begin
    for page in document.pages:
        if page.number == link.page:
            return page.start_char
    raise InvalidRequest(
        f"This document has no page {link.page}.", f"It has {_page_count(document)} pages."
    )


def _page_count(document: DocumentText) -> int:
    """Pages, not runs of text on them: a page whose footnotes stand elsewhere has two."""
    return max((page.number for page in document.pages), default=0)
