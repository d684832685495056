"""A document's pages: their sizes, their words, and pictures of them.

Pictures are drawn one at a time in a lane of their own, so a book that somebody leafs through
delays no search; one that was drawn before comes from the disk. A browser asks each time whether
its copy is still good (ETag), so that what was deleted or hidden is not shown from a cache.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.service import Served
from longleaf.api.http.viewing_schemas import PageList, PageWords, WordView
from longleaf.api.rendering import SCALES, original_of, scale_of, why_no_pages
from longleaf.core.catalog import Catalog, DocumentHead
from longleaf.core.errors import NotFound
from longleaf.core.layout import Layout

router = APIRouter(
    prefix="/v1",
    tags=["documents"],
    responses=PROBLEM_RESPONSES,
    default_response_class=PlainJSON,
)

_Id = Annotated[str, Path(description="The document's id.", max_length=64)]
_Page = Annotated[int, Path(description="Counts from 1.", ge=1, le=1_000_000)]
_NO_PLACES = "Where its words stand on the pages is not known."


def why_no_images(head: DocumentHead, layout: Layout | None) -> str:
    """Why a document has no pages to look at; "" where it has."""
    return why_no_pages(head) or ("" if layout is not None else _NO_PLACES)


@router.get(
    "/documents/{document_id}/pages", response_model=PageList, summary="Tell a document's pages"
)
async def get_pages(service: Served, document_id: _Id) -> Response:
    """How large each page is, and whether it can be had as a picture."""
    catalog = service.runtime.catalog

    def work() -> Response:
        head = catalog.document(document_id, service.scope)
        layout = catalog.layout(head)
        why = why_no_images(head, layout)
        return PlainJSON(
            PageList(
                document_id=head.public_id,
                revision=head.revision,
                images=not why,
                why_no_images=why,
                pages=[[float(w), float(h)] for w, h in layout.pages] if layout else None,
            )
        )

    return await service.read(work)


@router.get(
    "/documents/{document_id}/pages/{page}/words",
    response_model=PageWords,
    summary="Read the words of a page with their places",
)
async def get_words(service: Served, document_id: _Id, page: _Page) -> Response:
    """Each run of characters without white space, and where it stands on the page."""
    catalog = service.runtime.catalog

    def work() -> Response:
        head = catalog.document(document_id, service.scope)
        layout = _layout(catalog, head, page)
        text = catalog.text(head).text
        rows = np.nonzero(layout.spans[:, 2] == page)[0]
        width, height = layout.pages[page - 1]
        words = [
            WordView(
                start_char=start,
                end_char=end,
                text=text[start:end],
                left=round(left, 2),
                top=round(top, 2),
                right=round(right, 2),
                bottom=round(bottom, 2),
            )
            for (start, end, _), (left, top, right, bottom) in zip(
                layout.spans[rows].tolist(), layout.boxes[rows].tolist(), strict=True
            )
        ]
        return PlainJSON(
            PageWords(
                document_id=head.public_id,
                revision=head.revision,
                page=page,
                width=float(width),
                height=float(height),
                words=words,
            )
        )

    return await service.read(work)


def _layout(catalog: Catalog, head: DocumentHead, page: int) -> Layout:
    """Raises NotFound for a page that is not there."""
    layout = catalog.layout(head)
    if layout is None:
        raise NotFound(_NO_PLACES, "Only PDFs and pictures that were read by OCR tell.")
    if page > len(layout.pages):
        raise NotFound(f"This document has no page {page}.", f"It has {len(layout.pages)}.")
    return layout


@router.get(
    "/documents/{document_id}/pages/{page}/image",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "The page."},
        304: {"description": "The copy that `If-None-Match` names is still good."},
    },
    summary="Look at a page",
)
async def get_image(
    service: Served,
    request: Request,
    document_id: _Id,
    page: _Page,
    scale: Annotated[
        float,
        Query(
            ge=SCALES[0],
            le=SCALES[-1],
            allow_inf_nan=False,
            description="Pixels a point, taken up to the next of "
            f"{', '.join(f'{each:g}' for each in SCALES)}; a very large page is drawn coarser.",
        ),
    ] = 1.5,
) -> Response:
    """A page of a PDF as it looks, as a PNG."""
    catalog, pages, scope = service.runtime.catalog, service.pages, service.scope
    drawn_scale = scale_of(scale)

    def look() -> tuple[DocumentHead, str, bytes | None]:
        head = catalog.document(document_id, scope)
        tag = f'"{original_of(head)[:20]}-{page}-{drawn_scale:g}"'
        if tag in request.headers.get("if-none-match", ""):
            return head, tag, b""
        found = pages.kept(head, page, drawn_scale)
        if found is None:
            _layout(catalog, head, page)
        return head, tag, found

    head, tag, data = await service.read(look)
    headers = {
        "ETag": tag,
        # `no-cache`: keep it, but ask each time.
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    if data == b"":
        return Response(status_code=304, headers=headers)
    if data is None:
        data = await service.draw(request, lambda _: pages.drawn(head, page, drawn_scale, scope))
    return Response(data, media_type="image/png", headers=headers)
