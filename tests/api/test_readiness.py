"""/readyz is true of each part: what breaks is named, and what mends is ready again by itself."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.api.conftest import Client, own_process, wait_until_followed

from longleaf.api.gate import Gate
from longleaf.api.wire import Runtime
from longleaf.core.catalog import Catalog
from longleaf.core.errors import CatalogUnavailable, IndexUnavailable
from longleaf.core.types import QueryVectors
from longleaf.retriever.index.process import IndexProcess


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def reasons(client: Client) -> list[str]:
    """Why the server says that it is not ready; /metrics says the same, and /healthz is not
    asked about parts."""
    ready = client.get("/readyz")
    assert client.get("/healthz").status_code == 200
    metrics = client.get("/metrics")
    if metrics.status_code == 200:
        assert f"longleaf_ready {1.0 if ready.status_code == 200 else 0.0}" in metrics.text
    if ready.status_code == 200:
        return []
    assert ready.status_code == 503 and ready.headers["Retry-After"] == "5"
    told: list[str] = ready.json()["reasons"]
    assert told
    return told


def test_each_part_that_breaks_is_named(
    runtime: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until_followed(runtime)
    assert reasons(client) == []
    engine, followed = runtime.engine, runtime.side.followed
    gone = failing(CatalogUnavailable("The database does not answer."))
    away = failing(IndexUnavailable("The index process has ended."))
    for broken, name, instead, said in (
        (Catalog, "head_seq", gone, "The catalog cannot be read: CatalogUnavailable."),
        (engine.index, "passage_count", away, "The index process has ended."),
        (engine.index, "passage_count", failing(ValueError("x")), "The index cannot be read"),
        (type(followed), "failure", "OSError: it is gone", "cannot follow the catalog: OSError"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(broken, name, instead)
            assert said in reasons(client)[0]
        assert reasons(client) == []


def test_an_embedder_that_fails_is_not_ready_until_it_embeds_again(
    runtime: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(runtime.embedder, "embed_query", failing(RuntimeError("secret words")))
        assert reasons(client) == []  # nobody has asked yet
        assert client.search("security deposit")["degraded"]
        [said] = reasons(client)
        assert "RuntimeError" in said and "secret" not in said
    assert reasons(client) == []
    assert not client.search("security deposit")["degraded"]


def test_an_embedder_that_stands_still_is_told_and_searches_find_by_words(
    runtime: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    engine = runtime.engine
    embed_query = engine.embedder.embed_query

    def stands(text: str, instruction: str | None) -> QueryVectors:
        let_go.wait()
        return embed_query(text, instruction)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(engine, "_embed_seconds", 0.2)
            patch.setattr(engine.embedder, "embed_query", stands)
            answer = client.search("security deposit")
            assert answer["hits"] and answer["degraded"][0]["stage"] == "dense"
            [said] = reasons(client)
            assert "Nothing came from the embedding model" in said
    finally:
        let_go.set()
    assert not client.search("security deposit")["degraded"]
    assert reasons(client) == []


def test_a_full_disk_is_told_and_searches_go_on(
    runtime: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(runtime.settings.home)._replace(free=100 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    ready = client.get("/readyz")
    assert ready.status_code == 200 and ready.json()["chosen"]["disk"].startswith("100 MiB")
    told = client.get("/v1/status").json()
    assert told["status"] == "FAIL" and told["ready"]
    assert [each["subject"] for each in told["findings"]].count("disk") == 1


def told_soon(client: Client, path: str, seconds: float = 10.0) -> Any:
    began = time.monotonic()
    answer = client.get(path)
    assert time.monotonic() - began < seconds, path
    return answer


@own_process
def test_an_index_process_that_stands_still_is_told_and_nobody_waits_for_it(
    runtime: Runtime, client: Client
) -> None:
    process = runtime.engine.index
    assert isinstance(process, IndexProcess) and process.child_pid is not None
    stopped = process.child_pid
    os.kill(stopped, signal.SIGSTOP)
    try:
        for _ in range(3):
            [said] = told_soon(client, "/readyz").json()["reasons"]
            assert "the index" in said
        assert "longleaf_ready 0.0" in told_soon(client, "/metrics").text
        status = told_soon(client, "/v1/status").json()
        assert not status["ready"] and status["status"] == "FAIL"
        assert told_soon(client, "/v1/collections", 2.0).status_code == 200
        assert client.post("/login", data={"key": "none"}).status_code == 303
    finally:
        os.kill(stopped, signal.SIGCONT)
    end = time.monotonic() + 20
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < end
    assert process.child_pid == stopped, "who is slow is not ended"


@pytest.mark.parametrize("name", ["head_seq", "count", "caller"])
def test_a_catalog_that_stands_still_is_told(
    runtime: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    let_go = threading.Event()

    def stands(*_: object, **__: object) -> Any:
        let_go.wait(60)
        raise CatalogUnavailable("It was standing.")

    owner: Any = Gate if name == "caller" else Catalog
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stands)
        try:
            for _ in range(3):
                ready = told_soon(client, "/readyz")
                if name == "head_seq":
                    assert "the catalog" in ready.json()["reasons"][0]
                metrics = told_soon(client, "/metrics")
                if metrics.status_code == 200:  # counts came, how far it has come did not
                    assert name == "head_seq" and "longleaf_ready 0.0" in metrics.text
                else:
                    assert metrics.status_code == 503 and "the catalog" in metrics.text
        finally:
            let_go.set()
    time.sleep(0.2)
    assert reasons(client) == []
