"""LlamaIndex: a retriever, and a node postprocessor that reranks. Async calls run in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from longleaf.api.asking import DEFAULT_URL
from longleaf.api.frameworks import retrieval

try:
    from llama_index.core.bridge.pydantic import Field, SecretStr
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import (
        MetadataMode,
        NodeRelationship,
        NodeWithScore,
        QueryBundle,
        RelatedNodeInfo,
        TextNode,
    )
except ImportError as error:
    raise retrieval.missing("llama-index-core", "llama-index") from error

_FOR_MODELS = frozenset({"title", "headings", "first_page", "last_page"})
"""Metadata that stand in front of a node's text where it is given to a model."""


class LongleafRetriever(BaseRetriever):  # type: ignore[misc]
    """Passages that decided, in the order of their documents; raises LongleafError.

    `similarity_top_k` documents with `passages` of each at most; `options`: more of POST
    /v1/search's body.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str = "",
        collections: Sequence[str] | None = None,
        similarity_top_k: int = 10,
        passages: int = 2,
        options: Mapping[str, Any] | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(callback_manager=callback_manager)
        self._url, self._api_key = url, api_key
        self._collections, self._limit, self._passages = collections, similarity_top_k, passages
        self._options = dict(options or {})

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = retrieval.search(
            self._url,
            self._api_key,
            query_bundle.query_str,
            collections=self._collections,
            limit=self._limit,
            passages=self._passages,
            options=self._options,
        )
        return [NodeWithScore(node=_node(each), score=each.score) for each in found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _node(found: retrieval.FoundPassage) -> TextNode:
    hidden = [name for name in found.metadata if name not in _FOR_MODELS]
    document = RelatedNodeInfo(node_id=found.metadata["document_id"])
    return TextNode(
        id_=found.id,
        text=found.text,
        start_char_idx=found.metadata["start_char"],
        end_char_idx=found.metadata["end_char"],
        metadata=found.metadata,
        excluded_llm_metadata_keys=hidden,
        excluded_embed_metadata_keys=hidden,
        relationships={NodeRelationship.SOURCE: document},
    )


class LongleafRerank(BaseNodePostprocessor):  # type: ignore[misc]
    """Nodes in the reranker's order; what it did not read comes last and says so."""

    url: str = Field(default=DEFAULT_URL, description="Of the server.")
    api_key: SecretStr = Field(
        default=SecretStr(""), exclude=True, description="Where the server asks for one."
    )
    top_n: int | None = Field(default=None, ge=1, description="Keep the best so many; None: all.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="More of POST /v1/rerank's body."
    )

    @classmethod
    def class_name(cls) -> str:
        """The name under which it is stored."""
        return "LongleafRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("LongleafRerank needs the query: query_str or query_bundle.")
        read = retrieval.rerank(
            self.url,
            self.api_key.get_secret_value(),
            query_bundle.query_str,
            [(each.node.get_content(MetadataMode.NONE), each.node.metadata) for each in nodes],
            top_n=self.top_n,
            options=self.options,
        )
        return [_with(nodes[each.index], each) for each in read]


def _with(given: NodeWithScore, read: retrieval.ReadText) -> NodeWithScore:
    node = given.node
    changed = {
        "metadata": node.metadata | read.metadata,
        "excluded_llm_metadata_keys": [*node.excluded_llm_metadata_keys, *read.metadata],
        "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, *read.metadata],
    }
    return NodeWithScore(node=node.model_copy(update=changed), score=read.score)
