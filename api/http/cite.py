"""GET /v1/documents/{document_id}/citation: a document, or a page of it, as a citation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from longleaf.api.citation import (
    Reference,
    as_bibtex,
    as_csl,
    as_csl_json,
    as_plain,
    as_ris,
    reference_of,
)
from longleaf.api.http.documents import check_span
from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.service import Served
from longleaf.core.catalog import DocumentText
from longleaf.retriever.query import readable

router = APIRouter(prefix="/v1", tags=["documents"], responses=PROBLEM_RESPONSES)

_FORMATS = {
    "plain": (as_plain, "text/plain"),
    "bibtex": (as_bibtex, "application/x-bibtex"),
    "ris": (as_ris, "application/x-research-info-systems"),
    "csl": (as_csl_json, "application/vnd.citationstyles.csl+json"),
}


class CitationView(BaseModel):
    """A citation in each format."""

    document_id: str
    first_page: int | None = Field(description="Of `start` to `end`; null without pages.")
    last_page: int | None
    plain: str
    bibtex: str
    ris: str
    csl: dict[str, Any] = Field(description="CSL-JSON, one item.")


@router.get(
    "/documents/{document_id}/citation",
    response_model=CitationView,
    summary="Cite a document",
    responses={200: {"content": {kind: {} for _, kind in _FORMATS.values()}}},
)
async def get_citation(
    service: Served,
    document_id: Annotated[str, Path(description="The document's id.", max_length=64)],
    start: Annotated[int | None, Query(ge=0, description="The first character meant.")] = None,
    end: Annotated[int | None, Query(ge=1, description="Behind the last one.")] = None,
    wanted: Annotated[
        Literal["plain", "bibtex", "ris", "csl"] | None,
        Query(alias="format", description="Answer this format alone, as text."),
    ] = None,
) -> Response:
    """From its metadata; with the page where `start` and `end` say what is meant."""
    catalog = service.runtime.catalog

    def work() -> Response:
        head = catalog.document(document_id, service.scope)
        pages = None
        if start is not None and end is not None:
            check_span(head, start, end)
            pages = _pages(catalog.text(head), start, end)
        cited = reference_of(
            head.public_id, readable(head.title or head.key), head.source, head.metadata, pages
        )
        return _answer(cited, wanted)

    return await service.read(work)


def _answer(cited: Reference, wanted: str | None) -> Response:
    if wanted is not None:
        write, media_type = _FORMATS[wanted]
        return Response(readable(write(cited)), media_type=media_type)
    first, last = cited.pages or (None, None)
    return PlainJSON(
        CitationView(
            document_id=cited.document_id,
            first_page=first,
            last_page=last,
            plain=as_plain(cited),
            bibtex=as_bibtex(cited),
            ris=as_ris(cited),
            csl=as_csl(cited),
        )
    )


def _pages(text: DocumentText, start: int, end: int) -> tuple[int, int] | None:
    """The pages that the characters stand on."""
    numbers = [
        page.number for page in text.pages if page.start_char < end and page.end_char > start
    ]
    return (min(numbers), max(numbers)) if numbers else None
