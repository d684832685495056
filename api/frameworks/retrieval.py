"""What the adapters for frameworks have in common: a server is asked, its answer becomes passages.

Each framework has its own word for the same three things, a text, a score and metadata; here they
have one. An adapter's module imports its framework and nothing that runs a model or opens an index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from longleaf.api.asking import Longleaf

_OF_HIT = ("document_id", "revision", "collection", "key", "title", "source", "rank")
_OF_PASSAGE = ("start_char", "end_char", "first_page", "last_page", "headings", "role")
_OF_READING = ("depth", "tokens_read", "tokens_total", "truncated_tokens")


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A deciding passage. `id` names document, revision and characters; `score` is the reranker's,
    or the first stage's where nobody read, None where only the whole document was read."""

    id: str
    text: str
    score: float | None
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReadText:
    """A given text's place among those given, its score (None: not read) and what is said of it."""

    index: int
    score: float | None
    metadata: dict[str, Any]


def missing(package: str, extra: str) -> ImportError:
    """What is raised where the framework is not installed."""
    return ImportError(
        f'This adapter needs {package}, which is not installed: pip install "longleaf[{extra}]".'
    )


@lru_cache(maxsize=16)
def _server(url: str, api_key: str) -> Longleaf:
    return Longleaf(url, {"authorization": f"Bearer {api_key}"} if api_key else None)


def search(
    url: str,
    api_key: str,
    query: str,
    *,
    collections: Sequence[str] | None,
    limit: int,
    passages: int,
    options: Mapping[str, Any],
) -> list[FoundPassage]:
    """`passages` deciding passages of each of the best `limit` documents, in their order.

    `options`: more of POST /v1/search's body. Raises what `Longleaf` raises.
    """
    named = {"collections": list(collections)} if collections else {}
    answer = _server(url, api_key).search({"query": query, **named, "limit": limit, **options})
    about = {
        "reranker": answer["reranker"],
        "degraded": [f"{each['stage']}: {each['reason']}" for each in answer["degraded"]],
        "warnings": answer["warnings"],
    }
    return [
        _passage(url, hit, passage, about)
        for hit in answer["hits"]
        for passage in hit["passages"][:passages]
    ]


def _passage(
    url: str, hit: dict[str, Any], passage: dict[str, Any], about: dict[str, Any]
) -> FoundPassage:
    scores, reading = passage["scores"], hit["reading"] or {}
    score = scores["fused"] if scores["reading"] is None else scores["reading"]
    metadata = {
        **hit["metadata"],  # first, so that a document cannot say what only we know
        **{name: hit[name] for name in _OF_HIT},
        **{name: passage[name] for name in _OF_PASSAGE},
        **{name: reading.get(name) for name in _OF_READING},
        "url": url.rstrip("/") + hit["url"],
        "score": score,
        "document_score": hit["score"],
        **about,
    }
    place = f"{passage['start_char']}-{passage['end_char']}"
    return FoundPassage(
        f"{hit['document_id']}:{hit['revision']}:{place}", passage["text"], score, metadata
    )


def rerank(
    url: str,
    api_key: str,
    query: str,
    texts: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    top_n: int | None,
    options: Mapping[str, Any],
) -> list[ReadText]:
    """(text, metadata) of each document read for `query`, best first; a `title` is read in front.

    What was not read comes last, in the given order, with the reason as `unread`. `options`: more
    of POST /v1/rerank's body. Raises what `Longleaf` raises.
    """
    if not texts:
        return []
    documents = [
        {"text": text, "title": title if isinstance(title := about.get("title"), str) else ""}
        for text, about in texts
    ]
    answer = _server(url, api_key).rerank({"query": query, "documents": documents, **options})
    found = [
        ReadText(
            each["index"],
            each["relevance_score"],
            {
                "relevance_score": each["relevance_score"],
                "reranker": answer["model"],
                **{name: each[name] for name in _OF_READING},
            },
        )
        for each in answer["results"]
    ]
    found += [
        ReadText(
            each["index"],
            None,
            {"relevance_score": None, "reranker": answer["model"], "unread": each["reason"]},
        )
        for each in answer["unread"]
    ]
    return found[:top_n]
