"""Searches that would be refused anyway, refused before anything is done for them.

A refusal behind looking up who asks, routing and reading the body took 2.7 ms of the process, and
ten times the capacity then took the searches' own share: they fell to 69 % of the best. What
decides is the lane's own rule, without what only the body tells: how much is to be read. A bulk
search has a line of its own, so whatever may be one goes on. Trade-off: who has no key learns that
the server is busy instead of being asked for one.
"""

from __future__ import annotations

from typing import NamedTuple

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longleaf.api.http.errors import BodyTooLarge, problem_of, respond, retry_headers
from longleaf.api.http.lanes import Lane
from longleaf.core.errors import LongleafError

_SEARCH = ("POST", "/v1/search")


class _Route(NamedTuple):
    path: str


class Shed:
    """`lane`: of the searches."""

    def __init__(self, app: ASGIApp, lane: Lane) -> None:
        self._app = app
        self._lane = lane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_search = scope["type"] == "http" and (scope["method"], scope["path"]) == _SEARCH
        if is_search and self._lane.refusal() is not None:
            first = await _first(receive)
            if not _may_be_bulk(first):
                try:
                    self._lane.admit()
                except LongleafError as error:
                    scope["route"] = _Route(scope["path"])  # for log and metrics
                    told = respond(Request(scope), problem_of(error), retry_headers(error))
                    await told(scope, receive, send)
                    return
            receive = _behind(first, receive)
        await self._app(scope, receive, send)


async def _first(receive: Receive) -> Message:
    try:
        return await receive()
    except BodyTooLarge:
        return {"type": "http.request"}


def _may_be_bulk(first: Message) -> bool:
    """Whether a body holds the word, or is not here whole."""
    return bool(first.get("more_body", False)) or b"bulk" in first.get("body", b"")


def _behind(first: Message, receive: Receive) -> Receive:
    """`receive`, which gives `first` once more."""
    given = False

    async def one() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return first

    return one
