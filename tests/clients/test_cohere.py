"""The real `cohere` package (v2 and v1, sync and async) asks this server over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.clients.texts import BEST, QUESTION, RENT, ROOF, TEXTS, Busy, Cutting, Late
from tests.remote.longleaf import reading_for_others

cohere = pytest.importorskip("cohere")

ONCE: Any = {"max_retries": 0}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with reading_for_others(tmp_path_factory.mktemp("home")) as url:
        yield url


_web: list[httpx.Client] = []


@pytest.fixture(autouse=True, scope="module")
def _connections() -> Iterator[None]:
    """Of all clients here; the package's own stay open until they are collected."""
    with httpx.Client(timeout=60) as web:
        _web[:] = [web]
        yield


def v2(url: str) -> Any:
    return cohere.ClientV2("no key", base_url=url, httpx_client=_web[0])


def v1(url: str) -> Any:
    return cohere.Client("no key", base_url=url, httpx_client=_web[0])


def test_v2_ranks_texts(url: str) -> None:
    answer = v2(url).rerank(model="rerank-v3.5", query=QUESTION, documents=TEXTS, top_n=2)
    assert answer.results[0].index == BEST and len(answer.results) == 2
    scores = [each.relevance_score for each in answer.results]
    assert 0 < scores[1] < scores[0] < 1
    assert answer.id and answer.meta.api_version.version == "2"
    assert answer.meta.billed_units.search_units == 1
    assert answer.meta.tokens.input_tokens > 10 and answer.meta.warnings is None


def test_v2_ranks_texts_when_awaited(url: str) -> None:
    async def ask() -> Any:
        async with cohere.AsyncClientV2("no key", base_url=url) as client:
            return await client.rerank(model="rerank-v4.0-pro", query=QUESTION, documents=TEXTS)

    assert asyncio.run(ask()).results[0].index == BEST


@pytest.mark.parametrize("model", ["rerank-v3.5", "rerank-english-v3.0", None])
def test_v1_ranks_texts(url: str, model: str | None) -> None:
    answer = v1(url).rerank(
        query=QUESTION, documents=TEXTS, **({} if model is None else {"model": model})
    )
    assert answer.results[0].index == BEST and len(answer.results) == 3
    assert answer.results[0].document is None


def test_v1_reads_the_named_fields_in_their_order(tmp_path: Path) -> None:
    cutting = Cutting()
    documents = [
        {"title": "Lease", "text": "the roof", "author": "A", "pages": "7"},
        {"text": "the rent"},
    ]
    with reading_for_others(tmp_path, cutting) as url:
        answer = v1(url).rerank(
            model="rerank-v3.5",
            query=QUESTION,
            documents=documents,
            rank_fields=["text", "title"],
            return_documents=True,
        )
        assert list(cutting.seen) == ["the roof\nLease", "the rent"]
        by_place = {each.index: each.document for each in answer.results}
        assert by_place[0].text == "the roof" and by_place[0].title == "Lease"
        v1(url).rerank(query=QUESTION, documents=documents, max_chunks_per_doc=1)
        assert list(cutting.seen) == ["the roof", "the rent"]
        with pytest.raises(cohere.BadRequestError, match=r"documents\[1\]"):
            v1(url).rerank(query=QUESTION, documents=documents, rank_fields=["title"])


@pytest.mark.parametrize("prefix", ["", "/as/cohere"])
def test_v1_needs_no_model_and_reads_objects(url: str, prefix: str) -> None:
    documents = [{"text": text, "author": "A", "id": str(n)} for n, text in enumerate(TEXTS)]
    client = v1(f"{url}{prefix}").with_raw_response
    raw = client.rerank(query=QUESTION, documents=documents, return_documents=True, top_n=2)
    assert raw.headers["x-longleaf-dialect"] == "cohere"
    best = raw.data.results[0]
    assert best.index == BEST and best.document.text == ROOF and best.document.id == str(BEST)
    assert raw.data.meta.api_version.version == "1"
    plain = client.rerank(query=QUESTION, documents=TEXTS)
    assert plain.headers["x-longleaf-dialect"] == "cohere" and plain.data.results[0].index == BEST
    with pytest.raises(cohere.BadRequestError, match=r"documents\[0\]"):
        client.rerank(query=QUESTION, documents=[{"author": "A"}])


def test_v1_without_its_client_is_known_by_its_documents(url: str) -> None:
    asked = {"query": QUESTION, "documents": [{"text": ROOF, "author": "A"}, RENT]}
    answer = httpx.post(f"{url}/v1/rerank", json=asked)
    assert answer.status_code == 200 and answer.json()["meta"]["api_version"]["version"] == "1"


def test_documents_are_cut_after_the_tokens_that_are_asked_for_and_it_is_told(url: str) -> None:
    long = [f"{RENT} {ROOF}", ROOF]
    answer = v2(url).rerank(model="m", query=QUESTION, documents=long, max_tokens_per_doc=8)
    assert [each.index for each in answer.results] == [1, 0]
    assert answer.meta.warnings == ["documents[0]: the last 11 tokens were not read."]
    raw = v2(url).with_raw_response.rerank(
        model="m", query=QUESTION, documents=long, max_tokens_per_doc=8
    )
    assert raw.headers["x-longleaf-truncated"] == "0=11"
    assert raw.headers["x-longleaf-model"] == "late"
    whole = v2(url).rerank(model="m", query=QUESTION, documents=[*long, "rent " * 4100])
    assert whole.meta.warnings == ["documents[2]: the last 4 tokens were not read."]


def test_what_was_not_read_is_told(tmp_path: Path) -> None:
    with reading_for_others(tmp_path, Late(2)) as url:
        answer = v2(url).rerank(model="m", query=QUESTION, documents=TEXTS)
        assert sorted(each.index for each in answer.results) == [0, 1]
        assert answer.meta.warnings == ["documents[2]: not in results, deadline reached."]


def test_errors_are_cohere_s_own(url: str, tmp_path: Path) -> None:
    with pytest.raises(cohere.BadRequestError) as empty:
        v2(url).rerank(model="m", query=" ", documents=TEXTS)
    assert "empty" in empty.value.body["message"]
    with pytest.raises(cohere.BadRequestError, match="top_n"):
        v2(url).rerank(model="m", query=QUESTION, documents=TEXTS, top_n=-1)
    spans = {"mode": "enabled"}
    with pytest.raises(cohere.BadRequestError, match="relevant_spans"):
        v2(url).rerank(model="m", query=QUESTION, documents=TEXTS, relevant_spans=spans)
    with pytest.raises(cohere.BadRequestError, match="larger than"):
        v2(url).rerank(model="m", query=QUESTION, documents=["x" * 5_000_000])
    with reading_for_others(tmp_path, Busy()) as busy:
        for client in (v1(busy), v2(busy)):
            with pytest.raises(cohere.TooManyRequestsError) as many:
                client.rerank(
                    model="rerank-v3.5", query=QUESTION, documents=TEXTS, request_options=ONCE
                )
            assert many.value.headers["retry-after"] == "3"


def test_lower_priority_waits_for_all_others(tmp_path: Path) -> None:
    cutting = Cutting()
    with reading_for_others(tmp_path, cutting) as url:
        v2(url).rerank(model="m", query=QUESTION, documents=["roof"], priority=3)
        assert cutting.was_bulk
        v2(url).rerank(model="m", query=QUESTION, documents=["roof"], priority=0)
        assert not cutting.was_bulk
