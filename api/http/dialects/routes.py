"""The routes of all rerank dialects: whose body it is, reading, and the answer in the same form.

All of it goes through one function, with the lanes, queue and budget of searches. A body is parsed
on the event loop, as anywhere (`guard.RERANK_BODY_BYTES` bounds that); nothing else is done there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from longleaf.api.given import GivenReadings, about_tokens
from longleaf.api.http.dialects import places
from longleaf.api.http.dialects.forms import notes, unread_error
from longleaf.api.http.errors import FOREIGN_PROBLEMS
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.rerank_schemas import RerankView
from longleaf.api.http.service import GivenUp, Served, Service

router = APIRouter(tags=["rerank"], responses=FOREIGN_PROBLEMS)


async def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises RequestValidationError for anything else."""
    try:
        body = json.loads(await request.body())
    except RecursionError:
        raise _not_json("nested too deeply") from None
    except ValueError as error:
        raise _not_json(str(error)[:200]) from None
    if not isinstance(body, dict):
        raise _not_json("expected an object")
    return body


def _not_json(why: str) -> RequestValidationError:
    return RequestValidationError(
        [{"type": "json_invalid", "loc": ("body",), "msg": "", "ctx": {"error": why}}]
    )


def validated(model: type[BaseModel], body: dict[str, Any]) -> Any:
    """The body as a request. Raises RequestValidationError, which never holds what was sent."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in found]
        ) from None


async def _answer(request: Request, service: Service, here: Sequence[places.Place]) -> Response:
    began = time.perf_counter()
    request_id = str(getattr(request.state, "request_id", ""))
    request.state.say = here[0].dialect.say
    body = places.without_empty_model(await json_object(request))
    dialect = places.choose(here, body, request.headers)
    request.state.say = dialect.say
    asked = validated(dialect.body, body)
    texts = dialect.given(asked)

    def work(given_up: GivenUp) -> Response:
        with service.runtime.answering() as engine:
            found = _joined(
                [
                    service.text_reading.read(
                        engine,
                        replace(
                            each,
                            deadline_ms=each.deadline_ms or engine.deadline_ms,
                            given_up=given_up,
                            began=began,
                        ),
                    )
                    for each in texts
                ]
            )
        if not found.readings and not dialect.empty_is_ok:
            raise unread_error(found)
        answer = dialect.answer(asked, found, request_id)
        return PlainJSON(answer, headers=notes(found, dialect, asked))

    return await service.search(
        request,
        work,
        is_bulk=any(each.is_bulk for each in texts),
        tokens=sum(about_tokens(each) for each in texts),
    )


def _joined(found: Sequence[GivenReadings]) -> GivenReadings:
    """One for all queries, where there are several with one text each."""
    if len(found) == 1:
        return found[0]
    return GivenReadings(
        found[0].reader,
        {place: each.readings[0] for place, each in enumerate(found) if each.readings},
        {place: each.unread[0] for place, each in enumerate(found) if each.unread},
        sum(each.elapsed_ms for each in found),
        sum(each.query_truncated_tokens for each in found),
    )


def body_schema(*models: type[BaseModel]) -> dict[str, Any]:
    """For OpenAPI: the body of a route that reads it itself, one of these."""
    refs = [{"$ref": f"#/components/schemas/{each.__name__}"} for each in models]
    schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _add_route(path: str) -> None:
    here = places.places_at(path)

    async def post(request: Request, service: Served) -> Response:
        return await _answer(request, service, here)

    said = ", ".join(dict.fromkeys(each.dialect.name for each in here))
    router.add_api_route(
        path,
        post,
        methods=["POST"],
        name=f"post{path.replace('/', '_')}",
        summary=f"Read given texts ({said})",
        description="Texts, best first by the reranker that searches use, in the form in which "
        "they were asked for: the body decides which. No index is asked and nothing is stored.",
        openapi_extra=body_schema(*(each.dialect.body for each in here)),
        # Longleaf's own; the others' forms are their makers' to describe.
        responses={200: {"model": RerankView}} if here[0].dialect.name == "longleaf" else None,
    )


for _path in places.PLACES:
    _add_route(_path)


@router.post("/as/{dialect}/{path:path}", summary="Read given texts in a named form")
async def post_as(
    request: Request,
    service: Served,
    dialect: str = Path(description="Whose form, by name."),
    path: str = Path(description="The path below, as that dialect has it."),
) -> Response:
    """The same where the path says which dialect it is, whatever the body holds."""
    return await _answer(request, service, places.places_at(f"/{path}", dialect))


def body_models() -> list[type[BaseModel]]:
    """The request models that the routes' descriptions refer to."""
    return list(
        dict.fromkeys(each.dialect.body for here in places.PLACES.values() for each in here)
    )
