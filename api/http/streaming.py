"""A search as server-sent events (HTML Standard, section 9.2): what is known as soon as it is.

`first`: the first stage's hits. `order`, any number of times: how reading has put the hits in order
so far. `answer`: the answer, as without streaming; or `error`, a problem, such as that the server
ends. What is wrong with the
request is answered before the first event, with its status. Reading goes on in a thread that no
event waits for: events are handed over, and a client that leaves ends it as in any search.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
from fastapi import HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from longleaf.api.http.draining import shutting_down
from longleaf.api.http.errors import our_fault, problem_of
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.service import GivenUp, Service
from longleaf.core.errors import LongleafError

MEDIA_TYPE = "text/event-stream"
EVENT_SCHEMA = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
"""One event, for OpenAPI; `data` holds JSON."""
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}

_log = structlog.get_logger(__name__)

Tell = Callable[[str, BaseModel], None]


def is_wanted(request: Request) -> bool:
    """Whether the client asks for events before JSON."""
    accepted = [part.partition(";")[0].strip() for part in _accept(request).split(",")]
    return MEDIA_TYPE in accepted and "application/json" not in accepted


def _accept(request: Request) -> str:
    return request.headers.get("accept", "").lower()


def event(name: str, data: BaseModel) -> bytes:
    """One event; JSON has no line breaks of its own."""
    return b"event: " + name.encode() + b"\ndata: " + bytes(PlainJSON(data).body) + b"\n\n"


async def stream(
    service: Service,
    request: Request,
    work: Callable[[GivenUp, Tell], BaseModel],
    *,
    is_bulk: bool,
    tokens: int | None = None,
) -> Response:
    """Events of `work`, a search, which tells others on the way and returns the `answer`.

    `tokens`: see `Service.search`. Raises what `Service.search` and `work` raise before the first
    event.
    """

    async def run(tell: Tell) -> BaseModel:
        return await service.search(
            request, lambda given_up: work(given_up, tell), is_bulk=is_bulk, tokens=tokens
        )

    return await follow(service, run, "answer")


async def follow(
    service: Service, run: Callable[[Tell], Awaitable[BaseModel]], last: str
) -> Response:
    """Events that `run` tells on the way, from any thread, and what it returns as the `last`; an
    `error` where the server ends before.

    Raises what `run` raises before the first event.
    """
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[bytes | None] = asyncio.Queue()

    def tell(name: str, data: BaseModel) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event(name, data))

    async def work() -> bytes:
        try:
            return event(last, await run(tell))
        finally:
            loop.call_soon(events.put_nowait, None)  # behind what was told before

    running = asyncio.create_task(work())
    # A client that has left asks for no result: what ended the work is nobody's error then.
    running.add_done_callback(lambda done: done.cancelled() or done.exception())
    first = await events.get()
    if first is None:
        return _whole(await running)

    is_over = False

    def end() -> None:
        nonlocal is_over
        is_over = True
        events.put_nowait(None)

    async def body() -> AsyncIterator[bytes]:
        yield first
        with service.draining.on_end(end):
            while (following := await events.get()) is not None:
                yield following
        if is_over and not running.done():
            running.cancel()
            yield event("error", problem_of(shutting_down()))
            return
        try:
            yield await running
        except LongleafError as error:
            yield event("error", problem_of(error))
        except HTTPException:  # the client has left: nobody is there to be told
            return
        except Exception:
            _log.exception("http.stream_failed")
            yield event("error", our_fault())

    return StreamingResponse(body(), media_type=MEDIA_TYPE, headers=_HEADERS)


def _whole(last: bytes) -> Response:
    return Response(last, media_type=MEDIA_TYPE, headers=_HEADERS)
