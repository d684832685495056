"""What the library's forms change: each asks the API's own route, and goes back to a page.

Works without script: an upload ends on a page that tells its outcome, a deletion is confirmed on a
page of its own (which script shows as a dialog). That a form is this server's own, the guard
checks.
"""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, File, Form, Path, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError

from longleaf.api.http import collections, document_list, documents, jobs
from longleaf.api.http.errors import Problem, problem_of, validation_problem
from longleaf.api.http.html import render
from longleaf.api.http.library_page import collections_of, collections_page
from longleaf.api.http.schemas import CollectionBody, CollectionChanges, CollectionView
from longleaf.api.http.service import Served, Service
from longleaf.core.access import Role
from longleaf.core.errors import LongleafError, NotFound

router = APIRouter(include_in_schema=False)

_WAIT_SECONDS = 20.0
_ID = Path(max_length=64)


def _to(path: str, **link: str) -> RedirectResponse:
    """Go on at a page of ours, whose address is never taken from a request."""
    return RedirectResponse(f"{path}?{urlencode(link)}" if link else path, status_code=303)


@router.post("/library/upload")
async def upload_by_form(
    service: Served,
    file: Annotated[UploadFile, File()],
    collection: Annotated[str, Form(max_length=1000)],
) -> Response:
    """One file; goes to the page that tells how it ended, or is."""
    try:
        may_make = service.caller.role.includes(Role.ADMIN)
        if may_make and not await service.read(lambda: collections_of(service)):
            await collections.create_collection(CollectionBody(name=collection), service)
        answer = await documents.upload_document(
            service, file, collection, wait_seconds=_WAIT_SECONDS
        )
    except LongleafError as error:
        # One that was read and refused is told where it can be found again: at its job.
        said = problem_of(error)
        if said.code not in ("rejected", "no_text"):
            return _problem_page(said, file.filename or "The file")
        newest = await service.read(
            lambda: service.runtime.catalog.uploads(service.scope, collection=collection, limit=1)
        )
        return _to(f"/library/uploads/{newest[0][0].job.public_id}")
    told = json.loads(bytes(answer.body))
    return _to(f"/library/uploads/{told.get('job') or told['id']}")


def _problem_page(problem: Problem, name: str) -> Response:
    page = render("library_problem.html", room="", problem=problem, name=name)
    return HTMLResponse(page, problem.status)


@router.post("/library/collections")
async def make_collection(
    service: Served,
    name: Annotated[str, Form(max_length=1000)] = "",
    language: Annotated[str, Form(max_length=100)] = "english",
    description: Annotated[str, Form(max_length=4000)] = "",
) -> Response:
    """A new collection; its documents are next."""
    said = {"name": name, "language": language, "description": description}
    try:
        await collections.create_collection(CollectionBody(**said), service)
    except (LongleafError, ValidationError) as error:
        return await _again(service, error, said)
    return _to("/library", collection=name, notice="made")


@router.post("/library/collections/{name}")
async def change_collection(
    service: Served,
    name: str,
    description: Annotated[str, Form(max_length=4000)] = "",
    instruction: Annotated[str, Form(max_length=4000)] = "",
    depth: Annotated[str, Form(max_length=20)] = "",
    candidates: Annotated[str, Form(max_length=20)] = "",
    deadline_ms: Annotated[str, Form(max_length=20)] = "",
    max_tokens: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """What is said of a collection; an empty field is as configured."""
    rerank = {
        "depth": depth,
        "candidates": candidates,
        "deadline_ms": deadline_ms,
        "max_tokens": max_tokens,
    }
    said: dict[str, Any] = {"description": description, "instruction": instruction}
    try:
        changes = CollectionChanges.model_validate(
            said | {"rerank": {part: value for part, value in rerank.items() if value}}
        )
        await collections.change_collection(changes, service, name)
    except (LongleafError, ValidationError) as error:
        return await _again(service, error, said | rerank | {"changing": name})
    return _to("/library/collections", notice="changed")


async def _again(
    service: Service, error: LongleafError | ValidationError, said: dict[str, Any]
) -> Response:
    failure = (
        problem_of(error) if isinstance(error, LongleafError) else validation_problem(_told(error))
    )
    return await service.read(lambda: collections_page(service, failure=failure, said=said))


def _told(error: ValidationError) -> list[dict[str, Any]]:
    return [dict(each) for each in error.errors(include_input=False, include_url=False)]


@router.get("/library/collections/{name}/delete")
async def ask_to_delete_collection(service: Served, name: str) -> Response:
    """What deleting a collection takes with it."""

    def work() -> Response:
        page = render(
            "library_confirm.html",
            room="collections",
            heading=f"Delete the collection {name}?",
            title="",
            collection=_collection(service, name),
            action=f"/library/collections/{quote(name)}/delete",
            back="/library/collections",
        )
        return HTMLResponse(page)

    return await service.read(work)


def _collection(service: Service, name: str) -> CollectionView:
    """Raises NotFound."""
    for each in collections_of(service):
        if each.name == name:
            return each
    raise NotFound(f"There is no collection {name[:100]!r}.")


@router.post("/library/collections/{name}/delete")
async def delete_collection(service: Served, name: str) -> Response:
    """For good."""
    await collections.delete_collection(service, name)
    return _to("/library/collections", notice="collection-deleted")


@router.get("/library/collections/{name}/reindex")
async def ask_to_read_collection_again(service: Served, name: str) -> Response:
    """What reading all of a collection again does."""

    def work() -> Response:
        page = render(
            "library_again.html",
            room="documents",
            heading=f"Read all of {name} again?",
            collection=_collection(service, name),
            action=f"/library/collections/{quote(name)}/reindex",
            back=f"/library?{urlencode({'collection': name})}",
        )
        return HTMLResponse(page)

    return await service.read(work)


@router.post("/library/collections/{name}/reindex")
async def read_collection_again(service: Served, name: str) -> Response:
    """Goes to the page that tells how far it is."""
    job = await collections.read_again(service, name)
    return _to(f"/library/uploads/{job.public_id}")


@router.get("/library/documents/{document_id}/delete")
async def ask_to_delete_document(
    service: Served,
    document_id: Annotated[str, _ID],
) -> Response:
    """What deleting a document takes with it."""

    def work() -> Response:
        catalog = service.runtime.catalog
        head = catalog.document(document_id, service.scope)
        file = catalog.file_of(head)
        page = render(
            "library_confirm.html",
            room="documents",
            heading="Delete this document?",
            title=head.title or head.key,
            collection=None,
            others=(file.document_count if file else 1) - 1,
            has_original=head.original is not None,
            action=f"/library/documents/{head.public_id}/delete",
            back=f"/library?{urlencode({'collection': head.collection})}",
        )
        return HTMLResponse(page)

    return await service.read(work)


@router.post("/library/documents/{document_id}/delete")
async def delete_document(service: Served, document_id: Annotated[str, _ID]) -> Response:
    """For good."""
    collection = await _collection_of(service, document_id)
    await documents.delete_document(service, document_id)
    return _to("/library", collection=collection, notice="deleted")


@router.post("/library/documents/{document_id}/reindex")
async def reindex_document(service: Served, document_id: Annotated[str, _ID]) -> Response:
    """Its file is read again."""
    collection = await _collection_of(service, document_id)
    await document_list.reindex_document(service, document_id)
    return _to("/library", collection=collection, notice="again")


async def _collection_of(service: Service, document_id: str) -> str:
    catalog = service.runtime.catalog
    return await service.read(lambda: catalog.document(document_id, service.scope).collection)


@router.post("/library/uploads/{job_id}/{what}")
async def change_upload(
    service: Served,
    job_id: Annotated[str, _ID],
    what: Annotated[str, Path(pattern="^(cancel|retry)$")],
) -> Response:
    """Stop an upload, or do it again."""
    await (jobs.cancel_job if what == "cancel" else jobs.retry_job)(service, job_id)
    return _to(f"/library/uploads/{quote(job_id)}")
