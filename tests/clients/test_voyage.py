"""The real `voyageai` package, sync and async, asks this server over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.clients.texts import BEST, QUESTION, ROOF, TEXTS, Busy, Cutting
from tests.remote.longleaf import reading_for_others

voyageai = pytest.importorskip("voyageai")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with reading_for_others(tmp_path_factory.mktemp("home")) as url:
        yield url


@pytest.fixture(autouse=True)
def _connections() -> Iterator[None]:
    """The package keeps a session for each thread, and never closes it."""
    from voyageai.api_resources.api_requestor import _thread_context

    yield
    session = vars(_thread_context).pop("session", None)
    if session is not None:
        session.close()


def client(url: str) -> Any:
    return voyageai.Client(api_key="no key", base_url=f"{url}/v1")


def test_texts_come_back_best_first(url: str) -> None:
    answer = client(url).rerank(QUESTION, TEXTS, model="rerank-2.5", top_k=2)
    best, second = answer.results
    assert (best.index, best.document) == (BEST, ROOF)
    assert 0 < second.relevance_score < best.relevance_score < 1
    assert answer.total_tokens > 10
    assert len(client(url).rerank(QUESTION, TEXTS, model="any name at all").results) == 3


def test_texts_come_back_when_awaited(url: str) -> None:
    async def ask() -> Any:
        asking = voyageai.AsyncClient(api_key="no key", base_url=f"{url}/v1")
        return await asking.rerank(QUESTION, TEXTS, model="rerank-2.5-lite")

    assert asyncio.run(ask()).results[0].index == BEST


def test_without_truncation_a_long_text_is_an_error(tmp_path: Path) -> None:
    with reading_for_others(tmp_path, Cutting()) as url:
        texts = [ROOF, "the roof"]
        assert len(client(url).rerank(QUESTION, texts, model="rerank-2").results) == 2
        with pytest.raises(voyageai.error.InvalidRequestError, match=r"documents\[0\]"):
            client(url).rerank(QUESTION, texts, model="rerank-2", truncation=False)
        short = client(url).rerank(QUESTION, texts[1:], model="rerank-2", truncation=False)
        assert len(short.results) == 1


def test_errors_are_voyage_s_own(url: str, tmp_path: Path) -> None:
    with pytest.raises(voyageai.error.InvalidRequestError, match="empty"):
        client(url).rerank(" ", TEXTS, model="rerank-2")
    with pytest.raises(voyageai.error.MalformedRequestError, match="top_k"):
        client(url).rerank(QUESTION, TEXTS, model="rerank-2", top_k=0)
    body = {"query": QUESTION, "documents": TEXTS, "model": "rerank-2", "topk": 3}
    unknown = httpx.post(f"{url}/v1/rerank", json=body)
    assert unknown.status_code == 422 and "topk" in unknown.json()["detail"]
    with reading_for_others(tmp_path, Busy()) as busy:
        with pytest.raises(voyageai.error.RateLimitError) as many:
            client(busy).rerank(QUESTION, TEXTS, model="rerank-2")
        assert many.value.headers["retry-after"] == "3"


def test_documents_are_sent_back_when_asked_for(url: str) -> None:
    body = {"query": QUESTION, "documents": TEXTS, "model": "rerank-2", "return_documents": True}
    answer = httpx.post(f"{url}/v1/rerank", json=body).json()
    assert answer["object"] == "list" and answer["data"][0]["document"] == ROOF
