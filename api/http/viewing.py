"""What a reader wants of one document: passages that decide for a query, and a text in it.

Passages come from the search itself, asked as its list was and filtered to the document, so they
are those that a hit shows.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from longleaf.api import finding
from longleaf.api.http.answer_schemas import RectangleView, rectangle_views
from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.search import body_of, search
from longleaf.api.http.search_schemas import PageLink
from longleaf.api.http.search_view import view
from longleaf.api.http.service import GivenUp, Served
from longleaf.api.http.viewing_schemas import (
    DecidingPassage,
    DecidingPassages,
    MatchList,
    MatchView,
    PassagesLink,
)
from longleaf.core.catalog import DocumentHead
from longleaf.core.layout import Layout

router = APIRouter(
    prefix="/v1",
    tags=["documents"],
    responses=PROBLEM_RESPONSES,
    default_response_class=PlainJSON,
)

_ID = Path(description="The document's id.", max_length=64)
MAX_FOUND_CHARS = 1_000


def rectangles(layout: Layout | None, start: int, end: int) -> list[RectangleView] | None:
    """Where characters stand on the pages, as JSON says it."""
    return rectangle_views(None if layout is None else layout.rectangles(start, end))


@router.get(
    "/documents/{document_id}/hits",
    response_model=DecidingPassages,
    summary="Find the passages of a document that decide for a query",
)
async def get_hits(
    service: Served,
    request: Request,
    link: Annotated[PassagesLink, Query()],
    document_id: str = _ID,
) -> Response:
    """A search for `q` in this document alone: what the document's hit would show, with places.

    Asked with what its list was asked with, it is the same search.
    """
    catalog = service.runtime.catalog
    asked = body_of(PageLink(**link.model_dump(exclude={"limit"})))

    def work(given_up: GivenUp) -> Response:
        head = catalog.document(document_id, service.scope)
        here = {"field": "document", "eq": head.public_id}
        body = asked.model_copy(
            update={
                "filter": {"and": [asked.filter, here]} if asked.filter else here,
                "limit": 1,
                "passages_per_document": link.limit,
                "highlight": "rectangles",
                "collapse": False,
            }
        )
        answer = view(*search(service, body, given_up))
        layout = catalog.layout(head)
        passages = [
            DecidingPassage(
                **{name: getattr(each, name) for name in type(each).model_fields},
                rectangles=rectangles(layout, each.start_char, each.end_char),
            )
            for hit in answer.hits
            for each in hit.passages
        ]
        return PlainJSON(
            DecidingPassages(
                document_id=head.public_id,
                revision=head.revision,
                query=link.q,
                reranker=answer.reranker,
                passages=passages,
                degraded=answer.degraded,
                warnings=answer.warnings,
            )
        )

    return await service.search(request, work)


@router.get(
    "/documents/{document_id}/find", response_model=MatchList, summary="Find a text in a document"
)
async def find_text(
    service: Served,
    text: Annotated[
        str,
        Query(
            min_length=1,
            max_length=MAX_FOUND_CHARS,
            description="What to find: any case, accents or none, across line breaks.",
        ),
    ],
    document_id: str = _ID,
    first: Annotated[
        int | None, Query(ge=0, le=1 << 31, description="List from this match on; counts from 0.")
    ] = None,
    at: Annotated[
        int,
        Query(
            ge=0, le=1 << 40, description="Without `first`: from the first behind this character."
        ),
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    places: Annotated[
        bool, Query(alias="rectangles", description="Also where each stands on the pages.")
    ] = False,
) -> Response:
    """Every place where a text stands in a document, as offsets; all are counted."""
    catalog = service.runtime.catalog

    def work() -> Response:
        head = catalog.document(document_id, service.scope)
        body = catalog.text(head).text
        found = finding.find(body, text, first=first, at_char=at, limit=limit)
        return PlainJSON(_matches(head, text, found, catalog.layout(head) if places else None))

    return await service.read(work)


def _matches(
    head: DocumentHead, text: str, found: finding.Found, layout: Layout | None
) -> MatchList:
    return MatchList(
        document_id=head.public_id,
        revision=head.revision,
        text=text,
        count=found.count,
        first=found.first,
        matches=[
            MatchView(start_char=start, end_char=end, rectangles=rectangles(layout, start, end))
            for start, end in found.matches
        ],
    )
