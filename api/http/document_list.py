"""/v1/documents as a list: by id over everything, or in a collection by title, date or key.

Also reading one of them again. A page goes on behind the last document of the one before
(`after`), so a million of them are paged as fast as ten. What `after` says is plain and not a
secret: an order's value and a number.
"""

from __future__ import annotations

import base64
import json
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from longleaf.api import jobs
from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON, check_plain
from longleaf.api.http.schemas import DocumentList, JobView, ListedView
from longleaf.api.http.service import Served, Service
from longleaf.core.catalog.listing import ListedDocument, Order, Place
from longleaf.core.errors import InvalidRequest

router = APIRouter(
    prefix="/v1",
    tags=["documents"],
    responses=PROBLEM_RESPONSES,
    default_response_class=PlainJSON,
)

_MOST_AFTER = 4096
_MOST_TITLE = 200
_LAST = (1 << 63) - 1


@router.get("/documents", summary="List documents")
async def list_documents(
    service: Served,
    collection: Annotated[str | None, Query(description="Only of this collection.")] = None,
    sort: Annotated[
        Order, Query(description="The order; other ones than id are of one collection.")
    ] = Order.ID,
    descending: Annotated[bool, Query(description="The last ones first.")] = False,
    title: Annotated[
        str, Query(max_length=_MOST_TITLE, description="Only titles that hold these words.")
    ] = "",
    after: Annotated[
        str | None,
        Query(max_length=_MOST_AFTER, description="Go on behind this place (`next`)."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> DocumentList:
    """Documents in a stable order; what is added meanwhile disturbs no page."""
    return await service.read(
        lambda: found_documents(
            service,
            collection,
            sort,
            descending=descending,
            title=title,
            after=after,
            limit=limit,
        )
    )


def found_documents(
    service: Service,
    collection: str | None,
    sort: Order,
    *,
    descending: bool = False,
    title: str = "",
    after: str | None = None,
    limit: int = 100,
) -> DocumentList:
    """What `list_documents` answers."""
    check_plain(title, "title")
    if collection is None and (title.strip() or sort is not Order.ID):
        raise InvalidRequest(
            "Titles and other orders than by id are of one collection.", "Name a collection."
        )
    found = service.runtime.catalog.listed(
        service.scope,
        collection,
        sort,
        descending=descending,
        title=title,
        after=None if after is None else _place(after, sort, descending=descending),
        limit=limit + 1,
    )
    more = _next(found[limit - 1], sort) if len(found) > limit else None
    shown = [ListedView.of_listed(each) for each in found[:limit]]
    return DocumentList(documents=shown, next=more)


def _next(listed: ListedDocument, sort: Order) -> str:
    if sort is Order.ID:
        return listed.head.public_id
    said = json.dumps([sort.value, listed.place.value, listed.place.document_id])
    return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")


def _place(after: str, sort: Order, *, descending: bool) -> Place:
    """Raises InvalidRequest for what no `next` of this order was."""
    if sort is Order.ID:
        check_plain(after, "after")
        return Place(after, 0 if descending else _LAST)  # an id is one document's
    try:
        padded = after + "=" * (-len(after) % 4)
        order, value, document_id = json.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
    except (ValueError, TypeError, RecursionError):
        order = value = document_id = None
    is_right = isinstance(value, float) if sort is Order.UPDATED else isinstance(value, str)
    is_whole = isinstance(document_id, int) and 0 <= document_id < 1 << 63
    if order != sort.value or not is_right or not is_whole:
        raise InvalidRequest(
            "after: no `next` of an answer in this order.", "Begin again without `after`."
        )
    check_plain(value, "after")
    return Place(value, document_id)


@router.post(
    "/documents/{document_id}/reindex",
    status_code=202,
    response_model=JobView,
    summary="Read a document's file again",
)
async def reindex_document(
    service: Served,
    document_id: Annotated[str, Path(description="The document's id.", max_length=64)],
) -> Response:
    """A job reads its file anew, as after installing OCR; title, metadata and groups stay."""
    catalog = service.runtime.catalog
    job = await service.write(lambda: jobs.read_again(catalog, document_id, service.scope))
    return PlainJSON(JobView.of(job), 202, {"Location": f"/v1/jobs/{job.public_id}"})
