"""The library at /library: a collection's documents, collections, uploads, and how it all stands.

Every room's data is what the API answers. Lists and forms work without script; with it, files are
dropped, and lists change in place. Changes are `library_forms`'.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from longleaf.api.http.document_list import found_documents
from longleaf.api.http.html import render
from longleaf.api.http.schemas import CollectionView, DocumentList
from longleaf.api.http.service import Served, Service
from longleaf.api.http.status import found_status
from longleaf.api.http.uploads import ALL_KINDS, found_uploads
from longleaf.core.catalog.jobs import JobFile
from longleaf.core.catalog.listing import Order
from longleaf.core.catalog.uploads import KIND
from longleaf.core.errors import NotFound
from longleaf.reranker.instructions import PRESETS
from longleaf.retriever.index.sparse import LANGUAGES

router = APIRouter(include_in_schema=False)

_ON_A_PAGE = 50
FIRST_COLLECTION = "default"

SORTS = {
    "newest": (Order.UPDATED, True, "Newest first"),
    "oldest": (Order.UPDATED, False, "Oldest first"),
    "title": (Order.TITLE, False, "Title, A to Z"),
    "title-down": (Order.TITLE, True, "Title, Z to A"),
    "path": (Order.KEY, False, "Path or key"),
}
NOTICES = {
    "deleted": "The document is deleted.",
    "again": "The file is being read again. What is there stays found until that is done.",
    "made": "The collection is there. Drop documents into it.",
    "changed": "The collection is changed; searches use it from now on.",
    "collection-deleted": "The collection is deleted, with all its documents.",
}
_KINDS = {
    "application/pdf": "PDF",
    "text/plain": "Text",
    "text/markdown": "Markdown",
    "text/html": "HTML",
    "text/csv": "Table",
    "application/xml": "XML",
    "application/x-tex": "LaTeX",
    "application/jsonl": "JSON",
    "application/epub+zip": "EPUB",
    "application/rtf": "RTF",
    "application/msword": "Word",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "Word",
    "application/vnd.oasis.opendocument.text": "OpenDocument",
    "message/rfc822": "Mail",
    "application/vnd.ms-outlook": "Mail",
    "application/mbox": "Mail",
    "image/png": "Picture",
    "image/jpeg": "Picture",
    "image/tiff": "Scan",
}


class LibraryLink(BaseModel):
    """Which documents to show."""

    model_config = ConfigDict(extra="ignore")

    collection: str | None = Field(None, max_length=100)
    title: str = Field("", max_length=200)
    sort: str = Field("newest", pattern="^(" + "|".join(SORTS) + ")$")
    after: str | None = Field(None, max_length=4096)
    notice: str = Field("", max_length=30)


def kind_of(media_type: str) -> str:
    """A media type in a word."""
    return _KINDS.get(media_type) or media_type.rpartition("/")[2][:20]


def collections_of(service: Service) -> list[CollectionView]:
    """As /v1/collections answers."""
    found = service.runtime.catalog.collections(service.scope)
    return [CollectionView.of(each) for each in found]


def library_url(link: LibraryLink, **changes: Any) -> str:
    """The library's address for `link` with `changes`; from its first page unless one is named."""
    values = link.model_copy(update={"after": None, "notice": ""} | changes)
    asked = values.model_dump(exclude_none=True, exclude_defaults=True)
    return f"/library?{urlencode(asked)}" if asked else "/library"


@router.get("/library")
async def show_library(service: Served, link: Annotated[LibraryLink, Query()]) -> Response:
    """A collection's documents, and where others are dropped."""
    return await service.read(lambda: _library_page(service, link))


def _library_page(service: Service, link: LibraryLink) -> Response:
    collections = collections_of(service)
    names = [each.name for each in collections]
    if link.collection is None and collections:
        link = link.model_copy(update={"collection": _first(collections)})
    elif link.collection is not None and link.collection not in names:
        raise NotFound(
            f"There is no collection {link.collection!r}.",
            f"Collections: {', '.join(names) or 'none yet'}.",
        )
    shown: DocumentList | None = None
    if link.collection is not None:
        order, descending, _ = SORTS[link.sort]
        shown = found_documents(
            service,
            link.collection,
            order,
            descending=descending,
            title=link.title,
            after=link.after,
            limit=_ON_A_PAGE,
        )
    settings = service.runtime.settings
    page = render(
        "library.html",
        room="documents",
        link=link,
        collections=collections,
        current=next((each for each in collections if each.name == link.collection), None),
        first_collection=FIRST_COLLECTION,
        shown=shown,
        sorts=[(name, words) for name, (_, _, words) in SORTS.items()],
        max_bytes=min(settings.server.max_upload_bytes, settings.indexer.max_file_bytes),
        notice=NOTICES.get(link.notice, ""),
        kind_of=kind_of,
        to=lambda **changes: library_url(link, **changes),
    )
    return HTMLResponse(page)


def _first(collections: list[CollectionView]) -> str:
    """The one that has documents, rather than an empty one."""
    return max(collections, key=lambda each: each.document_count > 0).name


@router.get("/library/uploads/{job_id}")
async def show_upload(
    service: Served,
    job_id: Annotated[str, Path(max_length=64)],
    after: Annotated[str, Query(max_length=4096)] = "",
) -> Response:
    """How an upload, or a job of many files, stands or ended, and what to do."""

    def work() -> Response:
        found = found_uploads(service, 1, job_ids=[job_id], kinds=ALL_KINDS).uploads
        if not found:
            raise NotFound(f"There is no upload {job_id!r}.", "Uploads are kept for 30 days.")
        [upload] = found
        files: list[JobFile] = []
        if upload.kind != KIND:
            store = service.runtime.catalog.jobs
            job = store.get(job_id, service.scope)
            files = store.files(job, after, _ON_A_PAGE + 1)
        page = render(
            "library_upload.html",
            room="",
            upload=upload,
            is_open=upload.state in ("queued", "running"),
            files=files[:_ON_A_PAGE],
            more=files[_ON_A_PAGE - 1].key if len(files) > _ON_A_PAGE else None,
        )
        return HTMLResponse(page)

    return await service.read(work)


@router.get("/library/collections")
async def show_collections(
    service: Served,
    notice: Annotated[str, Query(max_length=30)] = "",
) -> Response:
    """All collections, each with what can be said of it, and a form for a new one."""
    return await service.read(lambda: collections_page(service, notice=notice))


def collections_page(
    service: Service, *, notice: str = "", failure: Any = None, said: Any = None
) -> Response:
    """The page, with what was typed (`said`) and why it could not be done (`failure`)."""
    page = render(
        "library_collections.html",
        room="collections",
        collections=collections_of(service),
        languages=LANGUAGES,
        presets=PRESETS,
        notice=NOTICES.get(notice, ""),
        failure=failure,
        said=said or {},
    )
    return HTMLResponse(page, failure.status if failure else 200)


@router.get("/library/health")
async def show_health(service: Served) -> Response:
    """How everything stands, each problem with what to do."""

    def work() -> Response:
        page = render("library_health.html", room="health", status=found_status(service))
        return HTMLResponse(page)

    return await service.probe(work)
