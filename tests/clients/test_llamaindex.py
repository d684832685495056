"""LlamaIndex's retriever and node postprocessor against a real server."""

from __future__ import annotations

import asyncio

import pytest
from tests.api.conftest import TEXTS

pytest.importorskip("llama_index.core", reason="the package is not here (longleaf[llama-index])")

from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from longleaf.api.frameworks.llama_index import LongleafRerank, LongleafRetriever

QUERY = "what ends my patent licenses?"


def test_a_retriever_gives_nodes_with_their_places(url: str) -> None:
    retriever = LongleafRetriever(url, collections=["law"], similarity_top_k=3, passages=1)
    found = retriever.retrieve(QUERY)
    assert len(found) == 3
    node = found[0].node
    assert isinstance(node, TextNode)
    assert node.text == TEXTS["apache.md"][node.start_char_idx : node.end_char_idx]
    assert node.ref_doc_id == node.metadata["document_id"] and node.metadata["revision"] == 1
    assert node.metadata["degraded"] == [] and node.metadata["truncated_tokens"] == 0
    assert found[0].score == node.metadata["score"]
    for_models = node.get_content(MetadataMode.LLM)
    assert "Apache License" in for_models and "document_id" not in for_models
    again = asyncio.run(retriever.aretrieve(QUERY))
    assert [each.node.node_id for each in again] == [each.node.node_id for each in found]


def test_a_pipeline_of_both(url: str) -> None:
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine

    engine = RetrieverQueryEngine.from_args(
        LongleafRetriever(url, collections=["law"], passages=1),
        llm=MockLLM(),
        node_postprocessors=[LongleafRerank(url=url, top_n=2)],
    )
    answer = engine.query(QUERY)
    titles = [each.node.metadata["title"] for each in answer.source_nodes]
    scores = [each.score for each in answer.source_nodes]
    assert titles[0] == "Apache License" and len(titles) == 2 and scores[0] > scores[1]


def test_given_nodes_are_not_changed(url: str) -> None:
    given = [
        NodeWithScore(node=TextNode(text=text, metadata={"a": place}), score=0.5)
        for place, text in enumerate(
            ("The tenant pays the rent.", "A patent license ends with litigation.")
        )
    ]
    rerank = LongleafRerank(url=url)
    found = rerank.postprocess_nodes(given, query_str=QUERY)
    assert [each.node.metadata["a"] for each in found] == [1, 0]
    assert found[0].score == found[0].node.metadata["relevance_score"] != 0.5
    assert [each.node.metadata for each in given] == [{"a": 0}, {"a": 1}]
    again = asyncio.run(rerank.apostprocess_nodes(given, QueryBundle(QUERY)))
    assert [each.score for each in again] == [each.score for each in found]
    assert rerank.postprocess_nodes([], query_str=QUERY) == []
    with pytest.raises(ValueError, match="needs the query"):
        rerank.postprocess_nodes(given)


def test_a_key_is_not_stored(url: str) -> None:
    rerank = LongleafRerank(url=url, api_key="secret-key")
    assert "secret-key" not in repr(rerank) + rerank.to_json()
    assert LongleafRerank.from_json(rerank.to_json()).url == url
