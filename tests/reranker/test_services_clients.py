"""The services of these tests answer as the vendors do: their own clients understand them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.remote.rerankers import RerankServer, overlap
from tests.remote.servers import served

from longleaf.reranker.services.dialects import SERVICES
from longleaf.reranker.services.service import Question

QUERY = "patent licence"
TEXTS = ["a lease of a house", "the patent licence of a house", "a patent"]


def _cohere(url: str) -> list[tuple[int, float]]:
    import cohere

    with httpx.Client() as web:  # its own stays open until it is collected
        client = cohere.ClientV2(api_key="k", base_url=url, httpx_client=web)
        answer = client.rerank(model="m", query=QUERY, documents=TEXTS)
    return [(each.index, each.relevance_score) for each in answer.results]


def _voyage(url: str) -> list[tuple[int, float]]:
    import voyageai
    from voyageai.api_resources.api_requestor import _thread_context

    client = voyageai.Client(api_key="k", base_url=f"{url}/v1")  # type: ignore[attr-defined]
    answer = client.rerank(QUERY, TEXTS, model="m")
    vars(_thread_context).pop("session").close()
    return [(each.index, each.relevance_score) for each in answer.results]


def _dashscope(url: str) -> list[tuple[int, float]]:
    import dashscope
    from dashscope.api_entities.http_request import close_shared_sync_session

    answer = dashscope.TextReRank.call(
        model="m",
        query=QUERY,
        documents=TEXTS,
        instruct="x",
        api_key="k",
        base_address=f"{url}/api/v1",
    )
    close_shared_sync_session()
    return [(each.index, each.relevance_score) for each in answer.output.results]


@pytest.mark.parametrize(
    ("dialect", "ask"), [("cohere", _cohere), ("voyage", _voyage), ("dashscope", _dashscope)]
)
def test_the_vendors_client_asks_as_we_do_and_understands(
    dialect: str, ask: Callable[[str], list[tuple[int, float]]]
) -> None:
    with served(RerankServer(dialect)) as server:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs
            found = ask(server.url)
        ((path, body),) = server.asked
    assert path == SERVICES[dialect].path
    assert [place for place, _ in found] == [1, 2, 0]
    words = "x" if dialect == "dashscope" else None
    read = {} if words is None else {"instruction": words}
    assert dict(found) == pytest.approx(
        {place: overlap(QUERY, text, **read) for place, text in enumerate(TEXTS)}
    )
    ours: dict[str, Any] = SERVICES[dialect].body(Question(QUERY, words, "m", 4_096), TEXTS)
    for name, value in body.items():
        if name == "parameters":
            assert value.items() <= ours[name].items()
        elif name != "truncation" and value is not None:  # which we tell not to be done
            assert ours[name] == value
