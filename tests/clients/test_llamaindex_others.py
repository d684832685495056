"""LlamaIndex's own rerankers for TEI and Jina, real packages, pointed at our server."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_index.postprocessor.tei_rerank", reason="longleaf[clients]")
pytest.importorskip("llama_index.postprocessor.jinaai_rerank", reason="longleaf[clients]")

from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

QUERY = "what ends my patent licenses?"
TEXTS = ["The tenant pays the rent.", "A patent license ends with litigation.", "Moths fly."]


def nodes() -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text), score=0.1) for text in TEXTS]


@pytest.mark.parametrize("prefix", ["", "/as/tei"])
def test_its_tei_reranker(url: str, prefix: str) -> None:
    rerank = TextEmbeddingInference(top_n=2, base_url=url + prefix)
    found = rerank.postprocess_nodes(nodes(), query_str=QUERY)
    assert found[0].node.text == TEXTS[1] and len(found) == 2
    assert 0 < found[1].score < found[0].score < 1


@pytest.mark.parametrize("prefix", ["", "/as/jina"])
def test_its_jina_reranker(url: str, prefix: str) -> None:
    rerank = JinaRerank(top_n=2, base_url=f"{url}{prefix}/v1", api_key="any")
    found = rerank.postprocess_nodes(nodes(), query_str=QUERY)
    assert found[0].node.text == TEXTS[1] and len(found) == 2
    assert found[0].score > found[1].score


def test_its_jina_reranker_says_what_we_refuse(url: str) -> None:
    """It raises the answer's `detail`, and nothing where there is none."""
    rerank = JinaRerank(top_n=2, base_url=f"{url}/as/jina/v1", api_key="any")
    with pytest.raises(RuntimeError, match="query"):
        rerank.postprocess_nodes(nodes(), query_str=" ")
