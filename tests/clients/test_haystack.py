"""Haystack's components against a real server."""

from __future__ import annotations

import asyncio
import os

import pytest
from tests.api.conftest import TEXTS

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # read when it is imported
pytest.importorskip("haystack", reason="the package is not here (longleaf[haystack])")

from haystack import Document, Pipeline
from haystack.utils import Secret

from longleaf.api.frameworks.haystack import LongleafRanker, LongleafRetriever

QUERY = "what ends my patent licenses?"


def pipeline(url: str) -> Pipeline:
    made = Pipeline()
    made.add_component("retriever", LongleafRetriever(url, collections=["law"], passages=1))
    made.add_component("ranker", LongleafRanker(url, top_k=2))
    made.connect("retriever.documents", "ranker.documents")
    return made


def test_a_retriever_gives_documents_with_their_places(url: str) -> None:
    found = LongleafRetriever(url, collections=["law"], passages=1).run(QUERY, top_k=3)["documents"]
    assert len(found) == 3
    best = found[0]
    assert best.content == TEXTS["apache.md"][best.meta["start_char"] : best.meta["end_char"]]
    assert best.id.startswith(f"{best.meta['document_id']}:1:") and best.score is not None
    assert best.meta["degraded"] == [] and best.meta["truncated_tokens"] == 0


def test_a_pipeline_of_both(url: str) -> None:
    asked = {"retriever": {"query": QUERY}, "ranker": {"query": QUERY}}
    found = pipeline(url).run(asked)["ranker"]["documents"]
    assert len(found) == 2 and found[0].meta["title"] == "Apache License"
    assert found[0].score == found[0].meta["relevance_score"] > found[1].score
    again = asyncio.run(pipeline(url).run_async(asked))["ranker"]["documents"]
    assert [each.id for each in again] == [each.id for each in found]


def test_given_documents_are_not_changed(url: str) -> None:
    given = [Document(content="The tenant pays."), Document(content="A patent license ends.")]
    found = LongleafRanker(url).run(QUERY, given)["documents"]
    assert [each.id for each in found] == [given[1].id, given[0].id]
    assert [(each.score, each.meta) for each in given] == [(None, {}), (None, {})]
    assert LongleafRanker(url).run(QUERY, [])["documents"] == []


def test_a_pipeline_can_be_stored_without_its_key(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGLEAF_TEST_KEY", "secret-key")
    made = pipeline(url)
    key = Secret.from_env_var("LONGLEAF_TEST_KEY")
    made.add_component("keyed", LongleafRetriever(url, api_key=key, options={"collapse": True}))
    stored = made.dumps()
    assert "secret-key" not in stored
    ours = ["longleaf.api.frameworks.haystack"]
    keyed = Pipeline.loads(stored, allowed_modules=ours).get_component("keyed")
    assert keyed.options == {"collapse": True} and keyed.api_key == key
    assert keyed.run(QUERY)["documents"]
