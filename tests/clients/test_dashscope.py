"""The real `dashscope` package, sync and async, asks this server over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.texts import BEST, QUESTION, ROOF, TEXTS, Busy, Cutting
from tests.remote.longleaf import reading_for_others

dashscope = pytest.importorskip("dashscope")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with reading_for_others(tmp_path_factory.mktemp("home")) as url:
        yield url


@pytest.fixture(autouse=True)
def _connections() -> Iterator[None]:
    from dashscope.api_entities.http_request import close_shared_sync_session

    yield
    close_shared_sync_session()


def call(monkeypatch: pytest.MonkeyPatch, url: str, **options: Any) -> Any:
    monkeypatch.setattr(dashscope, "base_http_api_url", f"{url}/api/v1")
    known = {"model": "qwen3-rerank", "query": QUESTION, "documents": TEXTS, "api_key": "no key"}
    return dashscope.TextReRank.call(**{**known, **options})


def test_texts_come_back_best_first(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    answer = call(monkeypatch, url, top_n=2, return_documents=True)
    assert answer.status_code == 200 and answer.request_id
    best, second = answer.output.results
    # As an attribute it is always the class's own None.
    assert best.index == BEST and best["document"] == {"text": ROOF}
    assert 0 < second.relevance_score < best.relevance_score < 1
    assert answer.usage.total_tokens > 10
    everything = call(monkeypatch, url, model="gte-rerank-v2", top_n=50).output.results
    assert len(everything) == 3 and everything[0]["document"] is None


def test_texts_come_back_when_awaited(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(dashscope, "base_http_api_url", f"{url}/api/v1")

    async def ask() -> Any:
        try:
            return await dashscope.AioTextReRank.call(
                model="qwen3-rerank", query=QUESTION, documents=TEXTS, api_key="no key"
            )
        finally:
            from dashscope.api_entities.aio_session import close_shared_aio_session

            await close_shared_aio_session()

    answer = asyncio.run(ask())
    assert answer.status_code == 200 and answer.output.results[0].index == BEST


def test_an_instruction_reaches_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cutting = Cutting()
    with reading_for_others(tmp_path, cutting) as url:
        answer = call(monkeypatch, url, instruct="Find who repairs", documents=["roof", ROOF])
    assert answer.status_code == 200 and cutting.heard == "Find who repairs"
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert headers["x-longleaf-truncated"] == "1=1"
    assert headers["x-longleaf-model"] == "lengths"


def test_errors_are_dashscope_s_own(
    monkeypatch: pytest.MonkeyPatch, url: str, tmp_path: Path
) -> None:
    wrong = call(monkeypatch, url, top_n=0)
    assert (wrong.status_code, wrong.code) == (400, "InvalidParameter")
    assert "top_n" in wrong.message and wrong.request_id
    unheard = call(monkeypatch, url, instruct="x")
    assert (unheard.status_code, unheard.code) == (400, "InvalidParameter")
    assert "no instruction" in unheard.message
    with reading_for_others(tmp_path, Busy()) as busy:
        many = call(monkeypatch, busy)
    assert (many.status_code, many.code) == (429, "Throttling")
