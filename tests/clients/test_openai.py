"""The real `openai` package, and LangChain's embeddings on top of it, ask this server over HTTP."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.clients.texts import BEST, QUESTION, ROOF, TEXTS, Cutting
from tests.remote.longleaf import served_app

from longleaf.api.app import create_app
from longleaf.api.wire import Runtime, open_runtime
from longleaf.core.config import load_settings
from longleaf.core.types import Scope
from longleaf.indexer.prepare import Labels

openai = pytest.importorskip("openai")

YEARS = {"fever.txt": 2019, "rent.txt": 2020, "roof.txt": 2021}


@contextmanager
def opened(home: Path) -> Iterator[Runtime]:
    settings = load_settings({"home": home}, {}).settings
    runtime = open_runtime(settings, follow=False)
    try:
        for name in ("leases", "empty"):
            runtime.catalog.create_collection(name, description="What we rent")
        for (name, year), text in zip(YEARS.items(), TEXTS, strict=True):
            labels = Labels(metadata={"year": year, "kind": "medical" if year == 2019 else "law"})
            runtime.indexer.index_bytes(
                "leases", "english", text.encode(), name, key=name, labels=labels
            )
        runtime.follower.catch_up()
        yield runtime
    finally:
        runtime.close()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with opened(tmp_path_factory.mktemp("home")) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def url(runtime: Runtime) -> Iterator[str]:
    with served_app(create_app(runtime)) as url:
        yield f"{url}/v1"


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    with openai.OpenAI(api_key="no key", base_url=url, max_retries=0) as client:
        yield client


def test_embeddings_as_floats_and_as_base64_are_the_same(client: Any, runtime: Runtime) -> None:
    known = {"model": "text-embedding-3-small", "input": TEXTS}
    floats = client.embeddings.create(**known, encoding_format="float")
    default = client.embeddings.create(**known)  # which asks for base64
    asked = client.embeddings.create(**known, encoding_format="base64")
    assert floats.model == runtime.embedder.name and floats.usage.total_tokens > 20
    for place, each in enumerate(floats.data):
        vector = np.array(each.embedding)
        assert each.index == place and vector.shape == (runtime.embedder.dim,)
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
        assert default.data[place].embedding == pytest.approx(each.embedding, abs=1e-7)
        raw = np.frombuffer(base64.b64decode(asked.data[place].embedding), "<f4")
        assert raw == pytest.approx(vector, abs=1e-7)
    (query,) = client.embeddings.create(model="m", input=QUESTION, encoding_format="float").data
    cosines = [float(np.dot(query.embedding, each.embedding)) for each in floats.data]
    assert int(np.argmax(cosines)) == BEST


def test_embeddings_are_those_of_the_index(client: Any, runtime: Runtime) -> None:
    (asked,) = client.embeddings.create(
        model="m", input=QUESTION, extra_body={"input_type": "query"}
    ).data
    ours = runtime.embedder.embed_query(QUESTION).dense
    assert asked.embedding == pytest.approx(ours.tolist(), abs=1e-5)


def test_a_text_longer_than_the_window_is_told(client: Any) -> None:
    raw = client.embeddings.with_raw_response.create(model="m", input=["short", "roof " * 400])
    place, _, tokens = raw.headers["x-longleaf-truncated"].partition("=")
    assert place == "1" and 140 <= int(tokens) < 400
    usage = raw.parse().usage
    assert usage.prompt_tokens == usage.total_tokens == 401 - int(tokens)
    assert raw.headers["x-longleaf-model"] == "all-MiniLM-L6-v2"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input": [1, 2, 3]}, "token ids"),
        ({"input": [[1, 2], [3]]}, "token ids"),
        ({"input": ""}, "empty"),
        ({"input": ["x", " "]}, r"input\[1\]"),
        ({"input": []}, "2,048"),
        ({"input": ["x"] * 2049}, "2,048"),
        ({"input": "x", "dimensions": 64}, "384"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_what_cannot_be_embedded_is_a_bad_request(
    client: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=said) as error:
        client.embeddings.create(**{"model": "m", "encoding_format": "float", **options})
    assert error.value.type == "invalid_request_error"
    own = client.embeddings.create(model="m", input="x", dimensions=384)
    assert len(own.data[0].embedding) == 384


def test_langchain_embeds_with_it(url: str) -> None:
    langchain = pytest.importorskip("langchain_openai")
    with httpx.Client() as web:
        embeddings = langchain.OpenAIEmbeddings(
            model="text-embedding-3-small", api_key="no key", base_url=url,
            check_embedding_ctx_length=False, http_client=web, max_retries=0,
        )  # fmt: skip
        vectors = embeddings.embed_documents(TEXTS)
        query = embeddings.embed_query(QUESTION)
        embeddings.client._client.close()
    assert int(np.argmax(np.array(vectors) @ np.array(query))) == BEST


def test_a_search_gives_documents_with_their_passages(client: Any, runtime: Runtime) -> None:
    page = client.vector_stores.search("leases", query=QUESTION)
    found = list(page)
    assert page.object == "vector_store.search_results.page" and len(found) == 3
    best = found[0]
    assert [(each.type, each.text) for each in best.content] == [("text", ROOF)]
    assert best.filename == "roof.txt" and best.attributes == {"year": 2021, "kind": "law"}
    assert 0.6 < best.score < 1
    head = runtime.catalog.document(best.file_id, Scope.all())
    assert head.key == "roof.txt"
    assert len(list(client.vector_stores.search("leases", query=QUESTION, max_num_results=1))) == 1
    assert list(client.vector_stores.search("empty", query=QUESTION)) == []


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"type": "eq", "key": "kind", "value": "law"}, {"rent.txt", "roof.txt"}),
        ({"type": "ne", "key": "kind", "value": "law"}, {"fever.txt"}),
        ({"type": "gte", "key": "year", "value": 2020}, {"rent.txt", "roof.txt"}),
        ({"type": "lt", "key": "year", "value": 2020}, {"fever.txt"}),
        ({"type": "in", "key": "year", "value": [2019, 2021]}, {"fever.txt", "roof.txt"}),
        ({"type": "nin", "key": "year", "value": [2019, 2021]}, {"rent.txt"}),
        (
            {
                "type": "and",
                "filters": [
                    {"type": "eq", "key": "kind", "value": "law"},
                    {
                        "type": "or",
                        "filters": [
                            {"type": "gt", "key": "year", "value": 2020},
                            {"type": "lte", "key": "year", "value": 2018},
                        ],
                    },
                ],
            },
            {"roof.txt"},
        ),
    ],
)
def test_filters_are_kept(client: Any, filters: Any, names: set[str]) -> None:
    found = client.vector_stores.search("leases", query=QUESTION, filters=filters)
    assert {each.filename for each in found} == names


def test_ranking_options_and_queries(client: Any) -> None:
    search = client.vector_stores.with_raw_response.search
    some = search("leases", query=QUESTION, ranking_options={"score_threshold": 0.6})
    assert [each.filename for each in some.parse()] == ["roof.txt"]
    first = search("leases", query=QUESTION, ranking_options={"ranker": "none"})
    assert first.headers["x-longleaf-model"] == "none"
    scores = [each.score for each in first.parse()]
    assert len(scores) == 3 and max(scores) == scores[0] < 1  # one of them below 0
    both = search("leases", query=["who repairs", '-"the roof"'], rewrite_query=True)
    assert both.headers["x-longleaf-ignored"] == "rewrite_query"
    assert b'"search_query":["who repairs\\n-\\"the roof\\""]' in both.content
    # Plain words, and no query syntax.
    assert next(iter(both.parse())).filename == "roof.txt"


def test_a_search_tells_what_of_its_query_was_cut(client: Any) -> None:
    search = client.vector_stores.with_raw_response.search
    cut = search("leases", query="roof " * 400)
    query, _, tokens = cut.headers["x-longleaf-truncated"].partition("=")
    assert query == "query" and 140 <= int(tokens) < 400
    assert f"its last {tokens} tokens" in cut.headers["x-longleaf-warnings"]
    whole = search("leases", query=QUESTION)
    assert "x-longleaf-truncated" not in whole.headers
    assert "x-longleaf-warnings" not in whole.headers


def test_a_search_tells_what_of_its_documents_was_cut(tmp_path: Path) -> None:
    with opened(tmp_path) as runtime:
        runtime.engine.reranker = Cutting()
        with served_app(create_app(runtime)) as url:
            asked = {"query": QUESTION, "ranking_options": {"score_threshold": 0}}
            answer = httpx.post(f"{url}/v1/vector_stores/leases/search", json=asked)
            first = httpx.post(
                f"{url}/v1/vector_stores/leases/search", json={**asked, "max_num_results": 1}
            )
    cut = dict(each.split("=") for each in answer.headers["x-longleaf-truncated"].split(","))
    assert cut.keys() == {"0", "1", "2"} and all(int(tokens) > 0 for tokens in cut.values())
    assert first.headers["x-longleaf-truncated"] == f"0={cut['0']}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"query": " "}, "query"),
        ({"query": "x", "max_num_results": 51}, "max_num_results"),
        ({"query": "x", "filters": {"type": "like", "key": "a", "value": 1}}, "filters.type"),
        ({"query": "x", "filters": {"type": "eq", "key": 7, "value": 1}}, "filters.field"),
        ({"query": "x", "filters": {"type": "and", "filters": [5]}}, r"filters\[0\]"),
    ],
)
def test_a_search_that_makes_no_sense_is_a_bad_request(
    client: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        client.vector_stores.search("leases", **options)


def test_stores_and_models_are_listed(client: Any) -> None:
    assert [each.id for each in client.vector_stores.list()] == ["empty", "leases"]
    assert [each.id for each in client.vector_stores.list(limit=1)] == ["empty", "leases"]
    assert [each.id for each in client.vector_stores.list(order="asc")] == ["leases", "empty"]
    assert [each.id for each in client.vector_stores.list(before="leases")] == ["empty"]
    with pytest.raises(openai.BadRequestError, match="no vector store 'gone'"):
        client.vector_stores.list(after="gone")
    store = client.vector_stores.retrieve("leases")
    assert (store.name, store.status, store.file_counts.total) == ("leases", "completed", 3)
    assert [each.id for each in client.models.list()] == ["all-MiniLM-L6-v2", "late"]
    assert client.models.retrieve("late").owned_by == "longleaf"
    for missing in (client.vector_stores.retrieve, client.models.retrieve):
        with pytest.raises(openai.NotFoundError, match="There is no"):
            missing("nowhere")
    with pytest.raises(openai.NotFoundError, match="leases"):
        client.vector_stores.search("nowhere", query="x")
    with pytest.raises(openai.APIStatusError) as refused:
        client.vector_stores.delete("leases")
    assert refused.value.status_code == 405 and "DELETE" in refused.value.message


def test_all_of_it_awaited(url: str) -> None:
    async def ask() -> tuple[int, str, list[str]]:
        async with openai.AsyncOpenAI(api_key="no key", base_url=url) as client:
            vectors = await client.embeddings.create(model="m", input=TEXTS)
            found = await client.vector_stores.search("leases", query=QUESTION)
            stores = [each.id async for each in client.vector_stores.list()]
            return len(vectors.data), found.data[0].filename, stores

    assert asyncio.run(ask()) == (3, "roof.txt", ["empty", "leases"])


def test_reranks_as_model_studio_documents_it(url: str) -> None:
    base = url.removesuffix("/v1") + "/compatible-api/v1"
    body = {"model": "qwen3-rerank", "query": QUESTION, "documents": TEXTS, "top_n": 2}
    with openai.OpenAI(api_key="no key", base_url=base, max_retries=0) as client:
        answer = client.post("/reranks", body=body, cast_to=object)
        assert answer["results"][0]["index"] == BEST and len(answer["results"]) == 2
        with pytest.raises(openai.BadRequestError, match="top_n"):
            client.post("/reranks", body={**body, "top_n": 0}, cast_to=object)
