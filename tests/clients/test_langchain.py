"""LangChain's retriever and compressor against a real server."""

from __future__ import annotations

import asyncio

import pytest
from tests.api.conftest import TEXTS

from longleaf.core.errors import InvalidRequest, LongleafError

pytest.importorskip("langchain_core", reason="the package is not here (longleaf[langchain])")

from langchain_core.documents import Document

from longleaf.api.frameworks.langchain import LongleafRerank, LongleafRetriever

QUERY = "what ends my patent licenses?"


def test_a_retriever_gives_passages_with_their_places(url: str) -> None:
    found = LongleafRetriever(url=url, collections=["law"], k=3, passages=1).invoke(QUERY)
    assert len(found) == 3
    best = found[0]
    said = best.metadata
    text = TEXTS["apache.md"]
    assert best.page_content == text[said["start_char"] : said["end_char"]]
    assert said["title"] == "Apache License" and said["revision"] == 1 and said["rank"] == 1
    assert best.id == f"{said['document_id']}:1:{said['start_char']}-{said['end_char']}"
    assert said["reranker"] == "late" and said["degraded"] == []
    assert said["tokens_read"] == said["tokens_total"] > said["truncated_tokens"] == 0
    assert [each.metadata["document_score"] for each in found] == sorted(
        (each.metadata["document_score"] for each in found), reverse=True
    )


def test_more_of_the_search_can_be_said(url: str) -> None:
    only = {"filter": {"field": "year", "gte": 2020}, "rerank": {"enabled": False}}
    found = LongleafRetriever(url=url, options=only).invoke("rent")
    assert {each.metadata["year"] for each in found} == {2020, 2021}
    assert {each.metadata["reranker"] for each in found} == {None}
    assert all(each.metadata["score"] is not None for each in found)


def test_a_pipeline_of_both(url: str) -> None:
    from langchain_classic.retrievers import ContextualCompressionRetriever

    both = ContextualCompressionRetriever(
        base_retriever=LongleafRetriever(url=url, collections=["law"], passages=1),
        base_compressor=LongleafRerank(url=url, top_n=2),
    )
    found = both.invoke(QUERY)
    assert found[0].metadata["title"] == "Apache License"
    scores = [each.metadata["relevance_score"] for each in found]
    assert len(scores) == 2 and scores[0] > scores[1]
    again = asyncio.run(both.ainvoke(QUERY))
    assert [each.page_content for each in again] == [each.page_content for each in found]


def test_given_documents_are_not_changed(url: str) -> None:
    given = [
        Document(page_content="The tenant pays the rent.", metadata={"a": 1}),
        Document(page_content="A patent license ends with litigation.", metadata={"a": 2}),
    ]
    found = LongleafRerank(url=url).compress_documents(given, QUERY)
    assert [each.metadata["a"] for each in found] == [2, 1]
    assert [each.metadata for each in given] == [{"a": 1}, {"a": 2}]
    assert LongleafRerank(url=url).compress_documents([], QUERY) == []


def test_what_was_not_read_comes_last_and_says_why(url: str) -> None:
    given = [Document(page_content=text) for text in ("", "The tenant pays.", "Patents end. " * 40)]
    found = LongleafRerank(url=url, options={"max_tokens": 10}).compress_documents(given, QUERY)
    assert len(found) == 3
    read = [each for each in found if each.metadata["relevance_score"] is not None]
    unread = found[len(read) :]
    assert unread and all(each.metadata["unread"] for each in unread)


def test_mistakes_raise_what_the_server_said(url: str) -> None:
    with pytest.raises(InvalidRequest, match="unknown here"):
        LongleafRetriever(url=url, options={"no_such_option": 1}).invoke(QUERY)
    with pytest.raises(LongleafError, match="longleaf serve"):
        LongleafRetriever(url="http://127.0.0.1:9").invoke(QUERY)


def test_a_key_is_sent_and_never_shown(url: str) -> None:
    retriever = LongleafRetriever(url=url, api_key="secret-key")
    assert "secret-key" not in repr(retriever) + str(retriever.model_dump())
    assert retriever.invoke(QUERY)


def test_its_own_compressor_for_cohere(url: str) -> None:
    cohere = pytest.importorskip("cohere", reason="the package is not here (longleaf[clients])")
    from langchain_classic.retrievers.document_compressors import CohereRerank

    texts = ("The tenant pays the rent.", "A patent license ends with litigation.", "Moths fly.")
    given = [Document(text, metadata={"place": place}) for place, text in enumerate(texts)]
    with cohere.Client("any", base_url=url) as client:
        with pytest.warns(match="deprecated"):  # the newer one wants an older cohere
            rerank = CohereRerank(client=client, top_n=2)
        found = rerank.compress_documents(given, "what ends my patent licenses?")
    assert found[0].metadata["place"] == 1 and len(found) == 2
    scores = [each.metadata["relevance_score"] for each in found]
    assert scores[0] > scores[1]
