"""/v1/collections: list, make, look at, read again, delete."""

from __future__ import annotations

from fastapi import APIRouter, Path
from fastapi.responses import Response

from longleaf.api import jobs
from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.schemas import (
    CollectionBody,
    CollectionChanges,
    CollectionDeleted,
    CollectionList,
    CollectionView,
    JobView,
)
from longleaf.api.http.service import Served, Service
from longleaf.api.wire import check_language
from longleaf.core.catalog import Collection
from longleaf.core.catalog.jobs import Job
from longleaf.core.errors import ConfigError, InvalidRequest, NotFound

router = APIRouter(
    prefix="/v1",
    tags=["collections"],
    responses=PROBLEM_RESPONSES,
    default_response_class=PlainJSON,
)

_NAME = Path(description="The collection's name.")


@router.get("/collections", summary="List collections")
async def list_collections(service: Served) -> CollectionList:
    """All collections, by name, with how many documents each holds."""
    found = await service.read(lambda: service.runtime.catalog.collections(service.scope))
    return CollectionList(collections=[CollectionView.of(each) for each in found])


@router.post("/collections", status_code=201, summary="Make a collection")
async def create_collection(body: CollectionBody, service: Served) -> CollectionView:
    """Make an empty collection. Its language cannot be changed later."""

    # Before the catalog is asked, which would tell of others' collections by "there is one".
    within = service.scope.collections
    if service.scope.groups is not None or (within is not None and body.name not in within):
        raise InvalidRequest(
            f"Your key may not make a collection {body.name[:100]!r}.",
            f"It is limited to: {', '.join(sorted(within or ())) or 'access groups'}.",
        )

    def work() -> Collection:
        try:
            language = check_language(body.language)
        except ConfigError as error:
            raise InvalidRequest(error.message, error.hint) from None
        return service.runtime.catalog.create_collection(
            body.name, language, body.description, body.instruction, body.rerank.defaults()
        )

    return CollectionView.of(await service.write(work))


@router.get("/collections/{name}", summary="Look at a collection")
async def get_collection(service: Served, name: str = _NAME) -> CollectionView:
    """One collection."""
    return await _look_at(service, name)


@router.patch("/collections/{name}", summary="Change what is said of a collection")
async def change_collection(
    body: CollectionChanges, service: Served, name: str = _NAME
) -> CollectionView:
    """Change what is said of a collection; searches use it from then on."""
    catalog = service.runtime.catalog

    def work() -> None:
        catalog.describe_collection(
            name,
            service.scope,
            description=body.description,
            instruction=body.instruction,
            rerank=None if body.rerank is None else body.rerank.defaults(),
        )

    await service.write(work)
    return await _look_at(service, name)


async def _look_at(service: Service, name: str) -> CollectionView:
    return CollectionView.of(await service.read(lambda: collection_named(service, name)))


def collection_named(service: Service, name: str) -> Collection:
    """One collection (blocking). Raises NotFound, which names those that are there."""
    found = service.runtime.catalog.collections(service.scope)
    for each in found:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in found) or "none yet"
    raise NotFound(f"There is no collection {name[:100]!r}.", f"Collections: {known}.")


@router.delete("/collections/{name}", summary="Delete a collection")
async def delete_collection(service: Served, name: str = _NAME) -> CollectionDeleted:
    """Delete a collection with all its documents, for good."""
    catalog = service.runtime.catalog
    count = await service.write(lambda: catalog.delete_collection(name, service.scope))
    return CollectionDeleted(name=name, deleted_documents=count)


@router.post(
    "/collections/{name}/reindex",
    status_code=202,
    response_model=JobView,
    summary="Read a collection's files again",
)
async def reindex_collection(service: Served, name: str = _NAME) -> Response:
    """A job reads the file of every document anew, as after installing OCR; titles, metadata and
    groups stay. Files that hold several documents, or are not there any more, are left as they are
    and named.
    """
    job = await read_again(service, name)
    return PlainJSON(JobView.of(job), 202, {"Location": f"/v1/jobs/{job.public_id}"})


async def read_again(service: Service, name: str) -> Job:
    """The job that reads a collection's files again. Raises NotFound, and Conflict where one does
    so already."""
    catalog = service.runtime.catalog
    return await service.write(lambda: jobs.read_collection_again(catalog, name, service.scope))
