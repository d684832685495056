"""/v1/index/compare: the server's own index against the catalog, for `longleaf doctor`.

The server owns its index, so nobody else can open it. Comparing reads every point id on both sides
(100,000 passages: about a second) and changes nothing; mending is the doctor's, through the log.
"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from longleaf.api.doctor.compare import compare
from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.service import Served

router = APIRouter(prefix="/v1", tags=["operations"], responses=PROBLEM_RESPONSES)

_MOST_IDS = 100_000


class ComparedIndex(BaseModel):
    """What the index lacks and what it has too much, in passages."""

    passages: int = Field(description="How many the catalog has.")
    missing: int
    extra: int
    document_ids: list[int] = Field(description="The catalog's own numbers of their documents.")
    unknown: list[int] = Field(description="Extra points of no document that is still known.")
    hidden: int = Field(description="Extra points in collections that are gone.")


@router.post(
    "/index/compare", response_model=ComparedIndex, summary="Compare the index with the catalog"
)
async def compare_index(service: Served) -> Response:
    """Follow the catalog to its end, then compare; changes that come in meanwhile do not count."""
    runtime = service.runtime

    def work() -> ComparedIndex:
        found = compare(runtime.engine.index, runtime.follower, runtime.catalog, runtime.generation)
        return ComparedIndex(
            passages=found.passages,
            missing=found.missing,
            extra=found.extra,
            document_ids=list(found.document_ids[:_MOST_IDS]),
            unknown=list(found.unknown[:_MOST_IDS]),
            hidden=found.hidden,
        )

    return JSONResponse((await service.read(work)).model_dump())
