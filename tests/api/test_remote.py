"""Embedding and reading elsewhere behind the public search: as here, or visibly less."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from tests.api.conftest import TEXTS, Client, own_process
from tests.remote.longleaf import (
    fill,
    filled,
    opened,
    process,
    reading_for_others,
    sensible_cross_encoder,
)
from tests.remote.openai import Embeddings
from tests.remote.servers import Answer, Server, served
from tests.reranker.tiny import one_torch_thread

from longleaf.api import reindexing, wire
from longleaf.api.app import create_app
from longleaf.api.wire import Runtime
from longleaf.core.config import load_settings
from longleaf.core.errors import ConfigError, GenerationMismatch, RemoteUnavailable
from longleaf.core.types import Outcome
from longleaf.indexer.prepare import Labels

if TYPE_CHECKING:
    from longleaf.indexer.embed import MiniLMEmbedder

QUESTIONS = ("who pays the rent?", "patent litigation", "vaccine in older adults")
KEY = "sk-very-secret"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents, embedded by the bundled model."""
    return filled(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    with one_torch_thread():
        return sensible_cross_encoder(tmp_path_factory.mktemp("cross-encoder"))


# --- reading elsewhere -------------------------------------------------------------------------


def readings(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {hit["key"]: hit["reading"] for hit in found["hits"]}


def asked(url: str, query: str, **options: Any) -> dict[str, Any]:
    body = {"query": query, "limit": 20, **options}
    response = httpx.post(f"{url}/v1/search", json=body, timeout=60, trust_env=False)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@own_process
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cross-encoder", "late"])
def test_two_processes_read_as_one_does(
    home: Path, cross_encoder: str, tmp_path: Path, kind: str
) -> None:
    model = cross_encoder if kind == "cross-encoder" else ""
    here = opened(home, reranker__kind=kind, reranker__model=model)
    try:
        alone = Client(create_app(here))
        expected = {
            (query, depth): alone.search(query, limit=20, rerank={"depth": depth})
            for query in QUESTIONS
            for depth in ("passage", "document")
        }
    finally:
        here.close()
    with ExitStack() as running:
        reads = {"reranker__kind": kind, "reranker__model": model}
        url, reader = running.enter_context(process(tmp_path / "reader", **reads))
        searches = {"reranker__kind": "remote", "reranker__url": url}
        # What `late` scores lies apart by where the title's vectors come from.
        tolerance = 1e-6 if kind == "cross-encoder" else 0.01
        there, _ = running.enter_context(process(home, **searches))
        chosen = httpx.get(f"{there}/readyz", trust_env=False).json()["chosen"]["reranker"]
        assert chosen.startswith(f"remote:{kind} at {url}") and "set by reranker.kind" in chosen
        for (query, depth), local in expected.items():
            found = asked(there, query, rerank={"depth": depth})
            assert found["degraded"] == [] and found["reranker"] == f"remote:{kind}"
            assert found["reranked_count"] == local["reranked_count"] > 5
            mine, theirs = readings(local), readings(found)
            assert mine.keys() == theirs.keys()
            for key in mine:
                assert theirs[key].pop("score") == pytest.approx(
                    mine[key].pop("score"), abs=tolerance
                )
                assert theirs[key] == mine[key]
            if kind == "cross-encoder":
                assert list(theirs) == list(mine)
            else:
                assert next(iter(theirs)) == next(iter(mine))
        reader.kill()
        reader.wait()
        for number in range(3):
            found = asked(there, f"rent of {number} months")
            (degraded,) = found["degraded"]
            assert degraded["stage"] == "rerank" and found["hits"]
            assert url in degraded["reason"] and found["reranked_count"] == 0
        ready = httpx.get(f"{there}/readyz", trust_env=False)
        assert ready.status_code == 200
        assert "times in a row" in ready.json()["chosen"]["reranker"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in this process that reads with `late`."""
    with reading_for_others(tmp_path_factory.mktemp("reader")) as url:
        yield url


def test_what_is_known_of_the_other_server_is_used(home: Path, reader: str) -> None:
    runtime = opened(home, reranker__kind="remote", reranker__url=reader)
    try:
        client = Client(create_app(runtime))
        found = client.search("who pays the rent?", min_score="calibrated", explain=True)
        assert found["hits"] and all(hit["reading"]["score"] > 0.6 for hit in found["hits"])
        assert found["explain"]["reranker_fingerprint"].startswith("remote/1 late/1")
        # It does not read for others itself: two that ask each other would never end.
        refused = client.post("/v1/rerank", json={"query": "x", "documents": ["x"]})
        assert refused.status_code == 404 and "reranker.kind is remote" in refused.text
    finally:
        runtime.close()


def test_readings_are_kept_under_the_other_servers_name(home: Path, reader: str) -> None:
    runtime = opened(
        home, reranker__kind="remote", reranker__url=reader, reranker__cached_readings=100
    )
    try:
        client = Client(create_app(runtime))
        first, again = (client.search("who pays the rent?") for _ in range(2))
        assert not any(hit["reading"]["from_cache"] for hit in first["hits"])
        assert all(hit["reading"]["from_cache"] for hit in again["hits"])
    finally:
        runtime.close()


def test_an_overloaded_reader_degrades_the_search(home: Path, reader: str) -> None:
    busy = False

    def between(path: str, body: Any) -> Answer:
        if busy:
            return Answer({"code": "overloaded"}, 429, {"Retry-After": "3"})
        told = httpx.request("GET" if body is None else "POST", reader + path, json=body)
        return Answer(told.json(), told.status_code)

    with served(between) as proxy:
        runtime = opened(home, reranker__kind="remote", reranker__url=proxy.url)
        try:
            client = Client(create_app(runtime))
            assert client.search("rent")["degraded"] == []
            busy = True
            found = client.search("rent and deposit", rerank={"deadline_ms": 500})
            (degraded,) = found["degraded"]
            assert "status 429" in degraded["reason"] and len(found["hits"]) > 3
            assert "429" in client.get("/readyz").json()["chosen"]["reranker"]
        finally:
            runtime.close()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"reranker__kind": "remote"}, r"reranker\.url is not set"),
        ({"reranker__url": "http://127.0.0.1:1"}, r"reranker\.kind is auto"),
        ({"reranker__kind": "remote", "reranker__url": "x"}, r"reranker\.url"),
        ({"embedder__url": "http://127.0.0.1:1"}, r"embedder\.kind is local"),
        ({"embedder__kind": "openai"}, r"embedder\.url is not set"),
        (
            {"embedder__kind": "openai", "embedder__url": "http://127.0.0.1:1"},
            r"embedder\.model is not set",
        ),
    ],
)
def test_settings_that_do_not_belong_together_are_told(
    tmp_path: Path, flags: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        opened(tmp_path, **flags).close()


def test_keys_come_from_the_environment_only(tmp_path: Path) -> None:
    for section in ("embedder", "reranker"):
        (tmp_path / "longleaf.toml").write_text(f'[{section}]\napi_key = "{KEY}"\n')
        with pytest.raises(ConfigError, match=f"LONGLEAF_{section.upper()}__API_KEY") as raised:
            load_settings({"home": tmp_path}, {})
        assert KEY not in str(raised.value)
        variable = f"LONGLEAF_{section.upper()}__API_KEY"
        loaded = load_settings({"home": tmp_path / "other"}, {variable: KEY})
        assert KEY not in repr(loaded.settings)


# --- embedding elsewhere -----------------------------------------------------------------------


@pytest.fixture
def service(minilm: MiniLMEmbedder) -> Embeddings:
    return Embeddings(minilm)


@pytest.fixture
def server(service: Embeddings) -> Iterator[Server]:
    with served(service) as running:
        yield running


Open = Callable[..., Runtime]


@pytest.fixture
def open_remote(tmp_path: Path, server: Server) -> Iterator[Open]:
    runtimes = []

    def open_one(**flags: Any) -> Runtime:
        flags = {"embedder__model": "mini", "embedder__url": server.url, **flags}
        runtimes.append(opened(tmp_path / "data", embedder__kind="openai", **flags))
        return runtimes[-1]

    yield open_one
    for each in runtimes:
        each.close()


def test_dense_results_are_those_of_the_model_here(
    home: Path, open_remote: Open, server: Server
) -> None:
    here = opened(home, reranker__kind="none")
    try:
        local = {query: Client(create_app(here)).search(query, limit=20) for query in QUESTIONS}
    finally:
        here.close()
    runtime = open_remote(embedder__api_key=KEY, embedder__request_texts=3)
    fill(runtime)
    client = Client(create_app(runtime))
    chosen = client.get("/readyz").json()["chosen"]
    assert f"mini at {server.url}/v1" in chosen["embedder"]
    assert "gives none" in chosen["token vectors"]
    # Without token vectors `late` has nothing to read, and `auto` says so.
    assert chosen["reranker"].startswith("none: this embedder stores no token vectors")
    for query, expected in local.items():
        found = client.search(query, limit=20)
        assert [hit["key"] for hit in found["hits"]] == [hit["key"] for hit in expected["hits"]]
        for one, other in zip(found["hits"], expected["hits"], strict=True):
            for mine, theirs in zip(one["passages"], other["passages"], strict=True):
                assert mine["text"] == theirs["text"]
                dense = mine["scores"]["dense"], theirs["scores"]["dense"]
                assert dense[0] == pytest.approx(dense[1], abs=0.01)
    assert {each["authorization"] for each in server.headers} == {f"Bearer {KEY}"}


def test_neither_key_nor_address_is_stored(open_remote: Open, server: Server) -> None:
    runtime = open_remote(embedder__api_key=KEY)
    fill(runtime)
    live = runtime.catalog.generations.live()
    assert live is not None
    stored = json.dumps(live.settings)
    assert '"kind": "openai"' in stored and '"model": "mini"' in stored
    assert KEY not in stored and "127.0.0.1" not in stored and "request_texts" not in stored
    home = runtime.settings.home
    runtime.close()
    for file in home.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert KEY.encode() not in data and server.url.encode() not in data, file


def test_the_same_model_elsewhere_goes_on_and_another_is_refused(
    open_remote: Open, minilm: MiniLMEmbedder, service: Embeddings
) -> None:
    first = open_remote()
    fill(first)
    first.close()
    with served(Embeddings(minilm)) as elsewhere:
        open_remote(embedder__url=elsewhere.url, embedder__timeout_seconds=5.0).close()

    def another(answer: dict[str, Any]) -> dict[str, Any]:
        turned = np.roll(minilm.embed_query("x").dense, 1).tolist()
        return {**answer, "data": [{"index": 0, "embedding": turned}]}

    service.change = another
    with pytest.raises(GenerationMismatch, match="under the same name") as raised:
        open_remote()
    assert "longleaf reindex" in raised.value.hint


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"embedder__query_prompt": "query: "}, "query_prompt"),
        ({"embedder__dimensions": 128}, "dimensions"),
    ],
)
def test_what_makes_other_vectors_is_refused(
    open_remote: Open, flags: dict[str, Any], told: str
) -> None:
    fill(open_remote())
    with pytest.raises(GenerationMismatch, match=rf"embedder\.{told}"):
        open_remote(**flags)


def test_reindexing_moves_documents_to_a_service_and_back(
    open_remote: Open, server: Server, tmp_path: Path
) -> None:
    runtime = opened(tmp_path / "data")
    fill(runtime)
    runtime.close()
    with pytest.raises(GenerationMismatch, match=r"embedder\.kind is 'openai'"):
        open_remote()
    remote = {
        "home": tmp_path / "data",
        "chunker.target_tokens": 48,
        "embedder.kind": "openai",
        "embedder.url": server.url,
        "embedder.model": "mini",
    }
    moved = reindexing.reindex(load_settings(remote, {}).settings)
    assert moved.embedded > 5
    found = Client(create_app(open_remote())).search("who pays the rent?")
    assert found["hits"][0]["key"] in ("lease.txt", "commercial.txt")
    # The settings that were stored name no address: that is for whoever starts here.
    with pytest.raises(ConfigError, match=r"embedder\.url is not set"):
        opened(tmp_path / "data")
    local = {"home": tmp_path / "data", "embedder.kind": "local", "embedder.model": "bundled"}
    assert reindexing.reindex(load_settings(local, {}).settings, wait=False).embedded > 5


def test_while_one_is_built_the_other_is_loaded_as_it_was_made(
    open_remote: Open, tmp_path: Path, server: Server
) -> None:
    """The live generation is the bundled model's, although an address is set."""
    runtime = opened(tmp_path / "data")
    fill(runtime)
    live = runtime.catalog.generations.live()
    runtime.close()
    assert live is not None
    flags = {
        "home": tmp_path / "data",
        "embedder.kind": "openai",
        "embedder.url": server.url,
        "embedder.model": "mini",
    }
    catalog = wire.open_catalog(load_settings(flags, {}).settings)
    try:
        models = wire.make_models(load_settings(flags, {}).settings, catalog)
        # As vectors from before there was such a setting say nothing of it.
        older = {name: value for name, value in live.settings["embedder"].items() if name != "kind"}
        catalog.generations.keep_settings(live.generation, {**live.settings, "embedder": older})
        again = catalog.generations.live()
        assert again is not None
        assert models.of(again).embedder.name == "all-MiniLM-L6-v2"
    finally:
        catalog.close()


def test_what_the_service_cuts_off_is_a_warning_of_the_document(
    open_remote: Open, service: Embeddings
) -> None:
    runtime = open_remote()
    runtime.catalog.create_collection("law")
    service.most_chars = 100
    result = runtime.indexer.index_bytes(
        "law", "english", TEXTS["apache.md"].encode(), "a.md", key="a.md", labels=Labels()
    )
    assert result.outcome is Outcome.INDEXED_WITH_WARNINGS
    assert any("did not fit the embedder" in each for each in result.warnings)


def test_a_search_without_the_service_is_by_words_and_says_so(
    open_remote: Open, service: Embeddings
) -> None:
    runtime = open_remote()
    fill(runtime)
    client = Client(create_app(runtime))
    service.says = Answer(status=500)
    found = client.search("who pays the rent?")
    assert {hit["key"] for hit in found["hits"]} >= {"lease.txt", "commercial.txt"}
    assert "dense" in {each["stage"] for each in found["degraded"]}
    service.says = None
    assert client.search("who pays the rent?")["degraded"] == []


def test_a_service_that_is_not_there_is_told_at_the_start(open_remote: Open) -> None:
    started = time.perf_counter()
    with pytest.raises(RemoteUnavailable, match=r"127\.0\.0\.1:1/v1"):
        open_remote(embedder__url="http://127.0.0.1:1")
    assert time.perf_counter() - started < 30
