"""LangChain: a retriever, and a document compressor that reranks. Async calls run in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from longleaf.api.asking import DEFAULT_URL
from longleaf.api.frameworks import retrieval

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun, Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.retrievers import BaseRetriever
except ImportError as error:
    raise retrieval.missing("langchain-core", "langchain") from error
from pydantic import Field, SecretStr


class LongleafRetriever(BaseRetriever):  # type: ignore[misc]
    """Passages that decided, in the order of their documents; raises LongleafError."""

    url: str = Field(DEFAULT_URL, description="Of the server.")
    api_key: SecretStr = Field(SecretStr(""), description="Where the server asks for one.")
    collections: list[str] | None = Field(None, description="Where to look; None: everywhere.")
    k: int = Field(10, ge=1, description="Documents.")
    passages: int = Field(2, ge=1, description="Passages of each at most.")
    options: dict[str, Any] = Field({}, description="More of POST /v1/search's body.")

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        found = retrieval.search(
            self.url,
            self.api_key.get_secret_value(),
            query,
            collections=self.collections,
            limit=self.k,
            passages=self.passages,
            options=self.options,
        )
        return [
            Document(id=each.id, page_content=each.text, metadata=each.metadata) for each in found
        ]


class LongleafRerank(BaseDocumentCompressor):  # type: ignore[misc]
    """Documents in the reranker's order; what it did not read comes last and says so."""

    url: str = Field(DEFAULT_URL, description="Of the server.")
    api_key: SecretStr = Field(SecretStr(""), description="Where the server asks for one.")
    top_n: int | None = Field(None, ge=1, description="Keep the best so many; None: all.")
    options: dict[str, Any] = Field({}, description="More of POST /v1/rerank's body.")

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """New documents with `relevance_score` in their metadata; raises LongleafError."""
        read = retrieval.rerank(
            self.url,
            self.api_key.get_secret_value(),
            query,
            [(each.page_content, each.metadata) for each in documents],
            top_n=self.top_n,
            options=self.options,
        )
        return [
            documents[each.index].model_copy(
                update={"metadata": documents[each.index].metadata | each.metadata}
            )
            for each in read
        ]
