"""The MCP tools: each asks the HTTP API's own routes and keeps to what a model can take in.

They open nothing and know no catalog: whoever calls a tool is let in, limited, given his `Scope`
and put in line exactly as one who asks /v1, because it is /v1 that answers. Trade-off: an answer
is JSON twice; with all of the protocol a call takes 6 ms more than the route that it asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from longleaf.api.asking import answer_of
from longleaf.api.mcp import texts
from longleaf.api.mcp.answers import (
    CollectionsAnswer,
    DocumentAnswer,
    FoundDocument,
    FoundPassage,
    PassageAnswer,
    ReadPassage,
    SearchAnswer,
)
from longleaf.api.mcp.arguments import (
    MOST_READ_CHARS,
    Arguments,
    ListCollectionsArguments,
    ReadDocumentArguments,
    ReadPassageArguments,
    SearchArguments,
)
from longleaf.core.errors import Conflict, LongleafError

MOST_PASSAGE_CHARS = 2_000
MOST_SEARCH_CHARS = 24_000
MOST_SECTIONS = 100
_MOST_WORDS = 8
_MOST_METADATA_CHARS = 1_000


class Tool(NamedTuple):
    """A tool as clients are told of it, and how it is done."""

    name: str
    title: str
    description: str
    takes: type[Arguments]
    answers: type[BaseModel]
    call: Callable[[Api, Any], Awaitable[BaseModel]]
    tell: Callable[[Any], str]


class Api:
    """The routes, asked through the client that `reach` gives (its base URL is the server's).

    Raises LongleafError with the server's own words, and what `reach` raises.
    """

    def __init__(self, reach: Callable[[], Awaitable[httpx.AsyncClient]]) -> None:
        self._reach = reach

    async def get(self, path: str, **params: Any) -> dict[str, Any]:
        """The JSON of a GET; parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        return await self._ask("GET", path, params=given)

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of a POST."""
        return await self._ask("POST", path, json=body)

    async def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        client = await self._reach()
        try:
            return answer_of(await client.request(method, path, **options))
        except httpx.TransportError as error:
            raise LongleafError(
                f"The Longleaf server could not be asked ({type(error).__name__}).",
                "Look whether `longleaf serve` still runs.",
            ) from None


async def search(api: Api, asked: SearchArguments) -> SearchAnswer:
    """The best documents with the passages that decided, within MOST_SEARCH_CHARS of text."""
    rerank = {"depth": asked.depth, "instruction": asked.instruction}
    found = await api.post(
        "/v1/search",
        {
            "query": asked.query,
            "collections": asked.collections,
            "filter": asked.filter,
            "limit": asked.limit,
            "rerank": rerank,
        },
    )
    documents: list[FoundDocument] = []
    left_chars, cut_count = MOST_SEARCH_CHARS, 0
    for hit in found["hits"]:
        passages = []
        for passage in hit["passages"][: asked.passages]:
            shown = _found_passage(passage, min(left_chars, MOST_PASSAGE_CHARS))
            left_chars -= len(shown.text)
            cut_count += shown.left_out_chars > 0
            passages.append(shown)
        documents.append(_found_document(hit, found["reranker"], passages))
    return SearchAnswer(
        documents=documents,
        found_count=found["found_count"],
        exhausted=found["exhausted"],
        reranker=found["reranker"],
        reranked_count=found["reranked_count"],
        degraded=[f"{each['stage']}: {each['reason']}" for each in found["degraded"]],
        warnings=found["warnings"],
        left_out=_left_out(found, documents, cut_count),
    )


def _left_out(found: dict[str, Any], documents: list[FoundDocument], cut_count: int) -> list[str]:
    said = []
    if (more := found["found_count"] - len(documents)) > 0:
        said.append(f"{more} more ranked documents: raise `limit`, or narrow the query.")
    if not found["exhausted"]:
        said.append("Documents beyond those that were ranked: narrow the query or the filter.")
    if hidden := sum(each.more_passages for each in documents):
        said.append(f"{hidden} more deciding passages: raise `passages`.")
    if cut_count:
        said.append(
            f"The ends of {cut_count} passages (`left_out_chars`): `read_passage` with their "
            "`start_char`."
        )
    return said


def _found_document(
    hit: dict[str, Any], reranker: str | None, passages: list[FoundPassage]
) -> FoundDocument:
    reading, first = hit["reading"], hit["first_stage"]
    why = f"first stage: rank {first['rank']}, score {first['score']:.3f}"
    if reading is None:
        why += "; not read"
    else:
        why += (
            f"; {reranker} read {reading['tokens_read']:,} of {reading['tokens_total']:,} tokens "
            f"({reading['depth']}): {reading['score']:.3f}"
        )
        if reading["truncated_tokens"]:
            why += f", {reading['truncated_tokens']:,} tokens did not fit"
    metadata = hit["metadata"]
    if len(str(metadata)) > _MOST_METADATA_CHARS:
        metadata = {"left_out": f"{len(metadata)} fields, too long to be shown"}
    return FoundDocument(
        **{name: hit[name] for name in ("rank", "score", "document_id", "revision", "collection")},
        title=hit["title"],
        source=hit["source"],
        metadata=metadata,
        why=why,
        suspicious=hit["suspicious"],
        passages=passages,
        more_passages=len(hit["passages"]) - len(passages),
    )


def _found_passage(passage: dict[str, Any], most_chars: int) -> FoundPassage:
    text, start, scores = passage["text"], passage["start_char"], passage["scores"]
    shown = text[: max(0, most_chars)]
    named = (("reading", "read"), ("dense", "dense"), ("bm25", "BM25"))
    why = [f"{name} {scores[key]:.3f}" for key, name in named if scores[key] is not None]
    words = {text[begin - start : end - start] for begin, end in passage["highlights"]}
    if words:
        why.append(f"words: {', '.join(sorted(words)[:_MOST_WORDS])}")
    score = scores["reading"] if scores["reading"] is not None else scores["fused"]
    places = ("start_char", "end_char", "first_page", "last_page", "headings")
    return FoundPassage(
        **{name: passage[name] for name in places},
        score=score,
        why="; ".join(why),
        text=shown,
        left_out_chars=len(text) - len(shown),
    )


async def read_passage(api: Api, asked: ReadPassageArguments) -> PassageAnswer:
    """A passage by character or number, with its neighbours."""
    path = f"/v1/documents/{_in_path(asked.document_id)}/passages"
    number, revision = asked.number, asked.revision
    if number is None:
        found = await api.get(path, at=asked.start_char, limit=1)
        _check_revision(found, revision)
        number, revision = int(found["first"]), found["revision"]
    first = max(0, number - asked.before)
    found = await api.get(path, first=first, limit=number - first + 1 + asked.after)
    _check_revision(found, revision)
    fields = ReadPassage.model_fields.keys() - {"number"}
    passages = [
        ReadPassage(number=first + place, **{name: each[name] for name in fields})
        for place, each in enumerate(found["passages"])
    ]
    kept = _nearest(passages, number)
    return PassageAnswer(
        document_id=found["document_id"],
        revision=found["revision"],
        passages=kept,
        is_last=found["next"] is None and kept[-1:] == passages[-1:],
        left_out=[
            f"Passage {each.number}: too much for one answer; read it by its number."
            for each in passages
            if each not in kept
        ],
    )


def _nearest(passages: list[ReadPassage], number: int) -> list[ReadPassage]:
    """What of them goes into one answer: `number`, and of its neighbours the nearest."""
    kept = list(passages)
    while len(kept) > 1 and sum(len(each.text) for each in kept) > MOST_READ_CHARS:
        is_farther = number - kept[0].number > kept[-1].number - number
        kept.pop(0 if is_farther else -1)
    return kept


async def read_document(api: Api, asked: ReadDocumentArguments) -> DocumentAnswer:
    """Part of a document's text, at its start with the outline."""
    path = f"/v1/documents/{_in_path(asked.document_id)}"
    found = await api.get(
        f"{path}/text",
        start=asked.start_char,
        end=asked.end_char,
        page=asked.first_page,
        last_page=asked.last_page,
        limit=asked.max_chars,
    )
    _check_revision(found, asked.revision)
    outline, left_out = None, []
    if asked.outline and asked.start_char == 0 and asked.first_page is None:
        head = await api.get(path)
        _check_revision(head, found["revision"])
        sections = head["sections"]
        outline = sections[:MOST_SECTIONS]
        if more := len(sections) - len(outline):
            left_out.append(f"{more:,} more sections of the outline.")
    if found["next"] is not None:
        left_out.append(f"The rest of what was asked for: start_char={found['next']}.")
    names = ("document_id", "revision", "collection", "title", "text_chars", "page_count", "parts")
    return DocumentAnswer(
        **{name: found[name] for name in names},
        next_char=found["next"],
        outline=outline,
        left_out=left_out,
    )


async def list_collections(api: Api, _asked: ListCollectionsArguments) -> CollectionsAnswer:
    """The collections that the caller may see."""
    return CollectionsAnswer.model_validate(await api.get("/v1/collections"))


def _in_path(document_id: str) -> str:
    return quote(document_id, safe="")


def _check_revision(found: dict[str, Any], wanted: int | None) -> None:
    if wanted is not None and found["revision"] != wanted:
        raise Conflict(
            f"The document is at revision {found['revision']} now, not {wanted}: its offsets have "
            "moved.",
            "Search again, or leave revision out.",
        )


TOOLS: Mapping[str, Tool] = {
    each.name: each
    for each in (
        Tool(
            "search",
            "Search documents",
            "Search long documents by meaning and by exact words; a second stage reads the "
            "candidates. Answers the best documents with the passages that decided: text, section, "
            "page, offsets, and why. Begin here, then read around a passage with `read_passage` or "
            "`read_document`.",
            SearchArguments,
            SearchAnswer,
            search,
            texts.search,
        ),
        Tool(
            "read_passage",
            "Read a passage",
            "Read one passage of a document whole, by a character in it or by its number, with "
            "neighbours before and after.",
            ReadPassageArguments,
            PassageAnswer,
            read_passage,
            texts.passages,
        ),
        Tool(
            "read_document",
            "Read part of a document",
            "Read a document from a character on, or some of its pages, at most `max_chars` at "
            "once; the answer tells where the rest begins. At its start also title and outline.",
            ReadDocumentArguments,
            DocumentAnswer,
            read_document,
            texts.document,
        ),
        Tool(
            "list_collections",
            "List collections",
            "The collections of documents that can be searched, with what they hold.",
            ListCollectionsArguments,
            CollectionsAnswer,
            list_collections,
            texts.collections,
        ),
    )
}
