"""Haystack: a retriever and a ranker as components. In an async pipeline they run in a thread."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from longleaf.api.asking import DEFAULT_URL
from longleaf.api.frameworks import retrieval

try:
    from haystack import Document, component
    from haystack.utils import Secret
except ImportError as error:
    raise retrieval.missing("haystack-ai", "haystack") from error


@component
class LongleafRetriever:
    """Passages that decided, in the order of their documents; raises LongleafError.

    `top_k` documents with `passages` of each at most; `options`: more of POST /v1/search's body.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        api_key: Secret | None = None,
        collections: list[str] | None = None,
        top_k: int = 10,
        passages: int = 2,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.url, self.api_key, self.collections = url, api_key, collections
        self.top_k, self.passages, self.options = top_k, passages, options

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    def run(self, query: str, top_k: int | None = None) -> dict[str, list[Document]]:
        """`documents`, best first."""
        found = retrieval.search(
            self.url,
            _plain(self.api_key),
            query,
            collections=self.collections,
            limit=top_k or self.top_k,
            passages=self.passages,
            options=self.options or {},
        )
        return {
            "documents": [
                Document(id=each.id, content=each.text, score=each.score, meta=each.metadata)
                for each in found
            ]
        }


@component
class LongleafRanker:
    """Documents in the reranker's order; what it did not read comes last and says so.

    `top_k`: keep the best so many; `options`: more of POST /v1/rerank's body.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        api_key: Secret | None = None,
        top_k: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.url, self.api_key, self.top_k, self.options = url, api_key, top_k, options

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    def run(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """`documents` anew, best first; raises LongleafError."""
        read = retrieval.rerank(
            self.url,
            _plain(self.api_key),
            query,
            [(each.content or "", each.meta) for each in documents],
            top_n=top_k or self.top_k,
            options=self.options or {},
        )
        return {"documents": [_with(documents[each.index], each) for each in read]}


def _with(given: Document, read: retrieval.ReadText) -> Document:
    return replace(given, score=read.score, meta=given.meta | read.metadata)


def _plain(key: Secret | None) -> str:
    return (key.resolve_value() or "") if key else ""
