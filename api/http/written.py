"""POST /v1/answer: a search, and an answer in words from what it found, each citation checked.

The search runs in the searches' lane and ends there; the model is waited for in a lane of its own,
so that slow answers keep no search waiting. A client that leaves ends both. `answer_in_words` does
the same for the command line, without a server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from longleaf.api.answering.chat import ChatModel
from longleaf.api.answering.reply import Reply, nothing_found, write
from longleaf.api.answering.sources import Chosen, Source, choose
from longleaf.api.answering.splitting import Part, Restart
from longleaf.api.http.answer_schemas import AnswerView
from longleaf.api.http.errors import (
    CLIENT_LEFT,
    PROBLEM_RESPONSES,
    problem_of,
)
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.search import as_json, asked_as, reading_tokens, request_of
from longleaf.api.http.search_view import document_url, view
from longleaf.api.http.service import GivenUp, Served, Service
from longleaf.api.http.streaming import EVENT_SCHEMA, MEDIA_TYPE, Tell, follow, is_wanted
from longleaf.api.http.written_schemas import (
    AskBody,
    LeftOutView,
    QuoteView,
    SourcesEvent,
    SourceView,
    SpanView,
    UsageView,
    WordsEvent,
    WrittenAnswer,
)
from longleaf.api.search import SearchAnswer, SearchEngine
from longleaf.api.wire import Runtime
from longleaf.core.distant_stream import NobodyWaits
from longleaf.core.errors import NoAnswers
from longleaf.core.types import Scope

router = APIRouter(prefix="/v1", tags=["search"], responses=PROBLEM_RESPONSES)

_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {MEDIA_TYPE: {"schema": EVENT_SCHEMA}},
        "description": "The answer; with `stream` events `sources`, `token`, `done`, `error`.",
    }
}

UrlOf = Callable[[Source], str]


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gave to answer from; `search_ms`: from the request's arrival."""

    chosen: Chosen
    search: AnswerView
    search_ms: float


@router.post("/answer", response_model=WrittenAnswer, summary="Answer in words", responses=_EVENTS)
async def post_answer(body: AskBody, request: Request, service: Served) -> Response:
    """Search, send the deciding passages to the configured chat model, and check what it writes:
    every citation is one of the passages that were sent. The documents not saying it is an answer.
    A model that fails is told in the answer (`failure`), beside what was found.
    """
    chat = chat_of(service.runtime)
    began = time.perf_counter()

    async def run(tell: Tell) -> WrittenAnswer:
        found = await searched(service, request, body, began)
        sources = [source_view(each, _url) for each in found.chosen.sources]
        left_out = _left_out(found.chosen)
        tell("sources", SourcesEvent(sources=sources, left_out=left_out, search=found.search))
        reply = await have_written(service, request, chat, body, found, began, words_to(tell))
        return written_view(reply, found, began, _url)

    if body.stream or is_wanted(request):
        return await follow(service, run, "done")
    return PlainJSON(await run(lambda _name, _data: None))


def chat_of(runtime: Runtime) -> ChatModel:
    """Who writes answers. Raises NoAnswers where nobody is set up."""
    chat = runtime.chat
    if chat is None:
        raise NoAnswers(
            "No chat model is set up here that could write answers.",
            "Set answer.url and answer.model (docs/answers.md); POST /v1/search finds passages.",
        )
    return chat


def find(
    runtime: Runtime, body: AskBody, scope: Scope, began: float, given_up: GivenUp = lambda: False
) -> tuple[Found, SearchAnswer]:
    """Search (blocking) and choose what is sent; the search's own answer too, to be counted.

    Raises what a search raises.
    """
    settings = runtime.settings.answer
    with runtime.answering() as engine:
        if body.highlight == "words":  # where a passage is cut, its best sentences are to stay
            body = body.model_copy(update={"highlight": "sentences"})
        answer = engine.search(request_of(body, scope, given_up))
        chosen = choose(
            answer.hits,
            body.max_sources or settings.max_sources,
            settings.max_tokens_context,
            counter(engine),
        )
    return Found(chosen, view(answer, runtime.catalog.head_seq()), _since(began)), answer


async def searched(service: Service, request: Request, body: AskBody, began: float) -> Found:
    """What `find` finds, in the searches' lane."""

    def work(given_up: GivenUp) -> Found:
        found, answer = find(service.runtime, body, service.scope, began, given_up)
        service.metrics.note_answer(answer)
        return found

    return await service.search(
        request,
        work,
        is_bulk=body.rerank.priority == "bulk",
        tokens=reading_tokens(service, body),
    )


def answer_in_words(
    runtime: Runtime, asked: Mapping[str, Any], tell: Tell = lambda _name, _data: None
) -> dict[str, Any]:
    """What POST /v1/answer would answer to `asked`, blocking; `tell` hears the events on the way.

    Raises InvalidRequest, NoAnswers and what a search raises.
    """
    body = asked_as(AskBody, asked)
    chat = chat_of(runtime)
    began = time.perf_counter()
    found, _ = find(runtime, body, Scope.all(), began)
    reply = nothing_found(found.chosen)
    if found.chosen.sources:
        left = runtime.settings.answer.timeout_seconds - _since(began) / 1000.0
        reply = write(chat, body.query, found.chosen, within_seconds=left, tell=words_to(tell))
    return as_json(written_view(reply, found, began, _url))


def counter(engine: SearchEngine) -> Callable[[str], int]:
    """Tokens of a text, as passages are counted."""
    tokenizer = engine.embedder.tokenizer  # type: ignore[attr-defined]
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


async def have_written(
    service: Service,
    request: Request,
    chat: ChatModel,
    body: AskBody,
    found: Found,
    began: float,
    tell: Callable[[Part], None],
) -> Reply:
    """The reply to what was found; where that is nothing, nobody is asked."""
    if not found.chosen.sources:
        reply = nothing_found(found.chosen)
        service.metrics.note_written(reply.state)
        return reply
    ends = began + service.runtime.settings.answer.timeout_seconds

    def work(given_up: GivenUp) -> Reply:
        try:
            return write(
                chat,
                body.query,
                found.chosen,
                within_seconds=ends - time.perf_counter(),
                tell=tell,
                given_up=given_up,
            )
        except NobodyWaits:
            raise HTTPException(CLIENT_LEFT, "The client has left.") from None

    reply = await service.answer(request, work)
    service.metrics.note_written(reply.state)
    return reply


def words_to(tell: Tell) -> Callable[[Part], None]:
    """Parts of an answer as `token` events."""
    return lambda part: tell("token", WordsEvent(text=part.text, restart=isinstance(part, Restart)))


def source_view(source: Source, url_of: UrlOf) -> SourceView:
    """A source as JSON says it."""
    return SourceView(
        number=source.number,
        document_id=source.document_id,
        revision=source.revision,
        collection=source.collection,
        key=source.key,
        title=source.title,
        rank=source.rank,
        first_page=source.first_page,
        last_page=source.last_page,
        start_char=source.start_char,
        end_char=source.end_char,
        headings=list(source.headings),
        text=source.text,
        is_cut=source.is_cut,
        suspicious=list(source.suspicious),
        tokens=source.tokens,
        url=url_of(source),
    )


def written_view(reply: Reply, found: Found, began: float, url_of: UrlOf) -> WrittenAnswer:
    """A reply as JSON says it."""
    sources = {each.number: source_view(each, url_of) for each in reply.chosen.sources}
    checked = reply.checked
    timings = {"search": found.search_ms, "total": _since(began)}
    if reply.first_ms is not None:
        timings["first_word"] = reply.first_ms
    return WrittenAnswer(
        state=reply.state,
        text=checked.text,
        citations=[sources[each] for each in checked.cited],
        unsupported_citations=list(checked.unsupported),
        uncited_sentences=[SpanView(**asdict(each)) for each in checked.uncited],
        sentence_count=checked.sentence_count,
        quotes_not_found=[QuoteView(**asdict(each)) for each in checked.quotes_not_found],
        is_cut=reply.is_cut,
        sources=list(sources.values()),
        left_out=_left_out(reply.chosen),
        failure=problem_of(reply.failure) if reply.failure else None,
        model=reply.model or None,
        usage=UsageView(**asdict(reply.usage)),
        degraded=found.search.degraded,
        warnings=list(reply.warnings),
        timings_ms={name: round(value, 3) for name, value in timings.items()},
        search=found.search,
    )


def _url(source: Source) -> str:
    return document_url(source.document_id, source.start_char, source.end_char)


def _left_out(chosen: Chosen) -> list[LeftOutView]:
    return [LeftOutView(**asdict(each)) for each in chosen.left_out]


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000.0
