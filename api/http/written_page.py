"""The search page's answer in words: asked for with a button, never by itself.

The button is a form: without script it brings the page with the answer above the hits. With script
the same address answers events: `sources` and `done` are rendered here, `token` is the API's and
plain text. It is a POST, so that no other site's page or link can have a model asked.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError

from longleaf.api import facets
from longleaf.api.answering.chat import ChatModel
from longleaf.api.answering.sources import Source
from longleaf.api.http.errors import validation_problem
from longleaf.api.http.html import render
from longleaf.api.http.search import body_of
from longleaf.api.http.search_page import Around, Fragment, search_url, values_of
from longleaf.api.http.search_schemas import PageLink
from longleaf.api.http.search_view import document_url
from longleaf.api.http.service import Served
from longleaf.api.http.streaming import Tell, follow, is_wanted
from longleaf.api.http.written import (
    chat_of,
    have_written,
    searched,
    source_view,
    words_to,
    written_view,
)
from longleaf.api.http.written_schemas import AskBody, SourceView, WrittenAnswer
from longleaf.api.http.written_view import paragraphs
from longleaf.core.errors import InvalidRequest

router = APIRouter(include_in_schema=False)


@router.get("/answer", include_in_schema=False)
async def go_back(link: Annotated[PageLink, Query()]) -> Response:
    """To the search: an answer has no address of its own, since a link must not cost anything."""
    return RedirectResponse(search_url(link), 303)


@router.post("/answer")
async def ask(link: Annotated[PageLink, Query()], request: Request, service: Served) -> Response:
    """The search page with an answer, or events on the way to it."""
    chat = chat_of(service.runtime)
    began = time.perf_counter()
    around = Around(service, link)
    streams = is_wanted(request)
    body = _body(link, with_results=not streams)

    def url_of(source: Source) -> str:
        return document_url(
            source.document_id,
            source.start_char,
            source.end_char,
            link.q,
            source.sentences,
            back=search_url(link).removeprefix("/?"),
        )

    async def write(tell: Tell) -> WrittenAnswer:
        found = await searched(service, request, body, began)
        views = [source_view(each, url_of) for each in found.chosen.sources]
        if views:
            sent = {"state": "writing", "sources": views}
            tell("sources", Fragment(html=_section(link, chat, sent)))
        reply = await have_written(service, request, chat, body, found, began, words_to(tell))
        return written_view(reply, found, began, url_of)

    async def run(tell: Tell) -> Fragment:
        return Fragment(html=_section(link, chat, **_shown(await write(tell))))

    if streams:
        return await follow(service, run, "done")
    written = await write(lambda _name, _data: None)
    page = await service.read(lambda: values_of(around, written.search))
    return HTMLResponse(render("search.html", **page | _shown(written) | {"failure": None}))


def _body(link: PageLink, *, with_results: bool) -> AskBody:
    """The link's search for its best documents. Raises InvalidRequest where it asks nothing."""
    more = {"facets": [facets.ALL]} if with_results else {}
    searched = body_of(link).model_dump(exclude={"cursor", "offset"})
    try:
        return AskBody.model_validate(searched | more)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise InvalidRequest(validation_problem(found).detail) from None


def _section(link: PageLink, chat: ChatModel, written: Any, **more: Any) -> str:
    here = search_url(link).removeprefix("/?")
    return render("written.html", here=here, chat=chat, written=written, is_final=True, **more)


def _shown(written: WrittenAnswer) -> dict[str, Any]:
    """What the template is given of an answer."""
    cited = {each.number for each in written.citations}
    others: list[SourceView] = [each for each in written.sources if each.number not in cited]
    return {"written": written, "paragraphs": paragraphs(written), "others": others}
