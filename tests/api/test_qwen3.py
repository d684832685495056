"""Qwen3-Reranker behind the public search: what it says, what it refuses, and how its end shows."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.conftest import TEXTS, Client
from tests.reranker.qwen3.models import train
from tests.reranker.tiny import one_torch_thread

from longleaf.api.app import create_app
from longleaf.api.jobs import ask_for_upload
from longleaf.api.reading import (
    QWEN3_MODEL,
    open_passage_tokenizer,
    open_reranker,
    store_reader_ids,
)
from longleaf.api.wire import Runtime, open_runtime, open_write_side
from longleaf.api.working import work
from longleaf.core.config import load_settings
from longleaf.core.errors import ModelUnavailable, Overloaded
from longleaf.core.reranker_settings import RerankerSettings
from longleaf.core.types import Scope
from longleaf.indexer.prepare import Labels
from longleaf.indexer.specs import UploadSpec
from longleaf.reranker.cache import cached
from longleaf.reranker.instructions import PRESETS
from longleaf.reranker.qwen3 import load as loading
from longleaf.reranker.qwen3.load import Qwen3Options, open_template
from longleaf.reranker.qwen3.reader import probability


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("reranker")
    with one_torch_thread():
        train(made)
    return made


@pytest.fixture(scope="module")
def reading(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    flags = {
        "home": tmp_path_factory.mktemp("home"),
        "chunker.target_tokens": 48,
        "reranker.kind": "qwen3",
        "reranker.model": str(folder),
        "reranker.allow_cpu": True,
        "reranker.max_pair_tokens": 2_048,
        "reranker.cached_readings": 0,  # most tests here are about reading
    }
    with one_torch_thread():
        opened = open_runtime(load_settings(flags, {}).settings, follow=False)
        try:
            opened.catalog.create_collection("law")
            for name, text in TEXTS.items():
                opened.indexer.index_bytes(
                    "law", "english", text.encode(), name, key=name, labels=Labels()
                )
            opened.follower.catch_up()
            yield opened
        finally:
            opened.close()


@pytest.fixture
def asking(reading: Runtime) -> Client:
    return Client(create_app(reading))


def test_an_answer_says_what_was_read_and_how_probable(asking: Client, reading: Runtime) -> None:
    answer = asking.search("who pays the rent?")
    assert answer["reranker"] == "qwen3" and answer["degraded"] == []
    assert answer["reranked_count"] == answer["found_count"] > 3
    scores = [hit["reading"]["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) > 3
    for hit in answer["hits"]:
        read = hit["reading"]
        assert read["probability"] == pytest.approx(probability(read["score"]))
        assert read["truncated_tokens"] == 0 and read["depth"] == "passage"
        assert 0 < read["tokens_read"] <= read["tokens_total"]
        assert read["score"] == max(each["scores"]["reading"] for each in hit["passages"])
    chosen = asking.get("/readyz").json()["chosen"]["reranker"]
    assert "float32 on cpu" in chosen and "set by reranker.kind" in chosen


def test_an_instruction_is_words_or_a_presets_name(asking: Client) -> None:
    def scores(**options: Any) -> dict[str, float]:
        hits = asking.search("who pays the rent?", rerank=options)["hits"]
        return {hit["key"]: hit["reading"]["score"] for hit in hits}

    usual = scores()
    assert scores(instruction="web") == pytest.approx(usual)
    assert scores(instruction="contract-clauses") != pytest.approx(usual)
    assert scores(instruction="Find dissents") != pytest.approx(usual)


def test_a_second_search_reads_nothing_that_is_kept(
    asking: Client, reading: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reading.engine.reranker is not None
    monkeypatch.setattr(reading.engine, "reranker", cached(reading.engine.reranker, 100))
    first = asking.search("who pays the rent?", explain=True)
    before = engine_of_inner(reading).stats.documents
    again = asking.search("who pays the rent?", explain=True, rerank={"deadline_ms": 1_000})
    assert engine_of_inner(reading).stats.documents == before
    assert [hit["score"] for hit in again["hits"]] == [hit["score"] for hit in first["hits"]]
    assert all(hit["reading"]["from_cache"] for hit in again["hits"])
    assert not any(hit["reading"]["from_cache"] for hit in first["hits"])
    other = asking.search("who pays the rent?", rerank={"instruction": "contract-clauses"})
    assert not any(hit["reading"]["from_cache"] for hit in other["hits"])
    assert asking.get("/metrics").status_code == 200


def engine_of_inner(runtime: Runtime) -> Any:
    kept: Any = runtime.engine.reranker
    return kept.inner._scorer._engine


def test_whole_documents_are_read_as_one_text(asking: Client) -> None:
    passages = asking.search("who pays the rent?", passages_per_document=1)
    whole = asking.search(
        "who pays the rent?", passages_per_document=1, rerank={"depth": "document"}, explain=True
    )
    assert whole["whole_count"] == whole["found_count"] == passages["found_count"]
    of_passage = {hit["key"]: hit["reading"]["score"] for hit in passages["hits"]}
    for hit in whole["hits"]:
        read = hit["reading"]
        assert read["depth"] == "document" and read["tokens_read"] == read["tokens_total"]
        assert hit["earlier"] is None, "no passages are read before"
        assert read["probability"] == pytest.approx(probability(read["score"]))
    longer = [h for h in whole["hits"] if h["key"] == "apache.md"]
    assert longer[0]["reading"]["score"] != pytest.approx(of_passage["apache.md"], abs=1e-4)
    auto = asking.search("who pays the rent?", rerank={"depth": "auto"}, explain=True)
    best = auto["hits"][0]
    assert best["reading"]["depth"] == "document" and best["earlier"]["depth"] == "passage"
    assert best["passages"][0]["scores"]["reading"] is not None, "its passages keep their scores"
    told = auto["explain"]
    assert told["instruction"] == PRESETS["web"] and len(told["instruction_sha256"]) == 64
    asked = {"rerank": {"instruction": "statutes"}, "explain": True}
    assert asking.search("rent", **asked)["explain"]["instruction"] == PRESETS["statutes"]


def test_a_deadline_that_is_too_short_leaves_the_first_stage_and_says_so(asking: Client) -> None:
    answer = asking.search("who pays the rent?", rerank={"deadline_ms": 0.01})
    assert answer["reranked_count"] == 0 and answer["hits"]
    assert [each["stage"] for each in answer["degraded"]] == ["rerank"]
    assert "deadline" in answer["degraded"][0]["reason"]
    assert all(hit["reading"] is None for hit in answer["hits"])
    whole = asking.search("who pays the rent?", rerank={"deadline_ms": 600_000})
    assert whole["degraded"] == [] and whole["reranked_count"] == whole["found_count"]


def test_a_query_that_leaves_no_room_is_answered_and_not_cut(asking: Client) -> None:
    answer = asking.search("zebra xylophone " * 400)
    assert answer["reranked_count"] == 0
    assert "no room is left" in answer["degraded"][0]["reason"]


def test_too_much_waiting_is_429_with_a_time(
    asking: Client, reading: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise Overloaded("9,000,000 tokens wait to be read already.", "Later.", 3.2)

    monkeypatch.setattr(engine_of(reading), "submit", full)
    for path in ("/v1/search?q=rent", "/?q=rent"):
        refused = asking.get(path, headers={"accept": "text/html"})
        assert refused.status_code == 429 and refused.headers["Retry-After"] == "4", path
    assert asking.get("/v1/search?q=rent").json()["code"] == "overloaded"
    assert asking.search("rent", rerank=False)["hits"], "the first stage has no queue"


def engine_of(runtime: Runtime) -> Any:
    reranker: Any = runtime.engine.reranker
    return reranker._scorer._engine


def test_the_queue_is_counted_for_prometheus(asking: Client) -> None:
    def numbers() -> dict[str, float]:
        lines = asking.get("/metrics").text.splitlines()
        found = [line.rsplit(" ", 1) for line in lines if line.startswith("longleaf_reader_")]
        return {name.removeprefix("longleaf_reader_"): float(value) for name, value in found}

    before = numbers()
    answer = asking.search("who pays the rent?")
    after = numbers()
    assert after["requests_total"] == before["requests_total"] + 1
    read = after["documents_total"] - before["documents_total"]
    assert read == sum(len(hit["passages"]) for hit in answer["hits"])
    assert after["tokens_total"] > before["tokens_total"]
    assert after["busy_seconds_total"] > before["busy_seconds_total"]
    assert after["waiting_tokens"] == 0 and after["refused_total"] == 0
    assert {"queue_seconds_total", "out_of_memory_total", "utilisation"} <= after.keys()


def test_a_collections_instruction_holds_where_the_search_gives_none(
    asking: Client, reading: Runtime
) -> None:
    def scores(**more: Any) -> dict[str, float]:
        found = asking.search("who pays the rent?", **more)
        assert not any("what counts as an answer" in each for each in found["warnings"])
        return {hit["key"]: hit["reading"]["score"] for hit in found["hits"]}

    usual, clauses = scores(), scores(rerank={"instruction": "contract-clauses"})
    changed = asking.request(
        "PATCH", "/v1/collections/law", json={"instruction": "contract-clauses"}
    )
    assert changed.status_code == 200 and changed.json()["instruction"] == "contract-clauses"
    try:
        assert scores() == pytest.approx(clauses) != pytest.approx(usual)
        assert scores(rerank={"instruction": "web"}) == pytest.approx(usual)
        made = {"name": "other", "instruction": "statutes"}
        assert asking.post("/v1/collections", json=made).json()["instruction"] == "statutes"
        both = asking.search("who pays the rent?")
        assert any("what counts as an answer" in each for each in both["warnings"])
        by_key = {hit["key"]: hit["reading"]["score"] for hit in both["hits"]}
        assert by_key == pytest.approx(usual)
        assert scores(collections=["law"]) == pytest.approx(clauses)
    finally:
        asking.request("PATCH", "/v1/collections/law", json={"instruction": ""})
        asking.request("DELETE", "/v1/collections/other")
    assert asking.request("PATCH", "/v1/collections/none", json={}).status_code == 404
    wrong = asking.request("PATCH", "/v1/collections/law", json={"language": "german"})
    assert wrong.status_code == 422, "a language is for good"


def test_a_client_that_leaves_ends_its_reading(
    reading: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(reading)
    real, entered, opened = engine.scorer.score, threading.Event(), threading.Event()

    def held(*given: Any, **options: Any) -> Any:
        entered.set()
        assert opened.wait(60)
        return real(*given, **options)

    monkeypatch.setattr(engine.scorer, "score", held)
    read_before = engine.stats.documents
    with served(create_app(reading)) as port:
        stays = socket.create_connection(("127.0.0.1", port))
        stays.sendall(_GET)
        assert entered.wait(60)
        leaves = socket.create_connection(("127.0.0.1", port))
        leaves.sendall(_GET)
        wait_for(lambda: engine.waiting()[0] == 2)  # one under way, one behind it
        leaves.close()
        waiting = engine._waiting[-1]
        wait_for(lambda: waiting.ticket.cancelled)
        opened.set()
        said = stays.makefile("rb").read()
        stays.close()
    answer = json.loads(said.split(b"\r\n\r\n", 1)[1])
    assert answer["reranked_count"] == answer["found_count"] > 3
    read = sum(len(hit["passages"]) for hit in answer["hits"])
    assert engine.stats.documents - read_before == read, "nothing of the other one was read"


def test_interactive_searches_reach_the_queue_past_any_number_of_bulk_ones(
    reading: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(reading)
    real, opened, order = engine.scorer.score, threading.Event(), []

    def held(*given: Any, **options: Any) -> Any:
        assert opened.wait(60)
        return real(*given, **options)

    monkeypatch.setattr(engine.scorer, "score", held)
    bulk = {"query": "rent", "rerank": {"priority": "bulk"}}
    threads = []
    with served(create_app(reading)) as port:

        def ask(body: dict[str, Any], name: str) -> None:
            answer = httpx.post(f"http://127.0.0.1:{port}/v1/search", json=body, timeout=120)
            assert answer.status_code == 200 and answer.json()["reranked_count"] > 3
            order.append(name)

        def start(body: dict[str, Any], name: str, count: int) -> None:
            for _ in range(count):
                threads.append(threading.Thread(target=ask, args=(body, name)))
                threads[-1].start()

        start(bulk, "bulk", 8)
        wait_for(lambda: engine.waiting()[0] == 8)
        start({"query": "rent"}, "interactive", 12)
        wait_for(lambda: engine.waiting()[0] == 20)
        opened.set()
        for thread in threads:
            thread.join()
    # At most the bulk ones whose pass was under way, or that shared one, came before.
    last_interactive = len(order) - 1 - order[::-1].index("interactive")
    assert order[: last_interactive + 1].count("bulk") <= 4, order
    assert len(order) == 20


_GET = b"GET /v1/search?q=rent HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.01)


@contextmanager
def served(app: Any) -> Iterator[int]:
    """The app behind a real server on a free port."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def test_stored_token_ids_are_read_instead_of_the_text(
    asking: Client, reading: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = engine_template(reading)
    real, tokenized = template.encode_documents, []

    def counted(texts: Any) -> Any:
        tokenized.extend(text for text in texts if text)
        return real(texts)

    monkeypatch.setattr(template, "encode_documents", counted)

    def scores() -> dict[str, float]:
        tokenized.clear()
        hits = asking.search("who pays the rent?")["hits"]
        return {hit["key"]: hit["reading"]["score"] for hit in hits}

    before = scores()
    titles = [text for text in tokenized if text.endswith("\n")]
    assert len(tokenized) > len(titles) > 0
    stored = store_reader_ids(reading.settings.reranker, reading.catalog)
    assert stored == reading.catalog.count(Scope.all()).passages
    assert scores() == pytest.approx(before, abs=1e-5)
    assert sorted(tokenized) == sorted(titles), "nothing but titles is tokenized"


def engine_template(runtime: Runtime) -> Any:
    reranker: Any = runtime.engine.reranker
    return reranker._scorer.template


def test_what_cannot_be_stored_stops_nothing(
    reading: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = RerankerSettings(kind="qwen3", model=str(tmp_path))
    assert store_reader_ids(nowhere, reading.catalog) == 0
    for kind in ("late", "none"):
        assert open_passage_tokenizer(RerankerSettings(kind=kind), reading.catalog) is None
    there = RerankerSettings(kind="auto", model=reading.settings.reranker.model)
    for gpu, wanted in ((True, True), (False, False)):
        monkeypatch.setattr(loading, "sees_gpu", lambda gpu=gpu: gpu)
        assert (open_passage_tokenizer(there, reading.catalog) is not None) is wanted


def test_a_worker_stores_token_ids_of_old_and_new_documents(folder: Path, tmp_path: Path) -> None:
    flags = {"home": tmp_path / "home", "chunker.target_tokens": 48}
    settings = load_settings(flags, {}).settings
    parts = open_write_side(settings)
    parts.catalog.create_collection("law")
    parts.indexer.index_bytes("law", "english", b"Old words.", "a.txt", key="a", labels=Labels())
    qwen3 = {**flags, "reranker.kind": "qwen3", "reranker.model": str(folder)}
    wanted = load_settings(qwen3, {}).settings
    ask_for_upload(parts.catalog, "law", b"New words.", UploadSpec("", "b.txt"))
    work(wanted, threading.Event(), until_idle=True)
    [first, second] = parts.catalog.documents(Scope.all())
    template = open_template(folder)
    for head in (first, second):
        for passage in parts.catalog.passages(head, parts.generation):
            found = parts.catalog.reader_ids(template.fingerprint, [passage.passage_id])
            assert len(found[passage.passage_id]) > 0
    parts.close()


def test_without_a_gpu_it_is_refused_with_what_to_do(
    folder: Path, reading: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "sees_gpu", lambda: False)
    settings = RerankerSettings(kind="qwen3", model=str(folder))
    with pytest.raises(ModelUnavailable, match=r"needs a GPU.*reranker\.allow_cpu"):
        open_reranker(settings, reading.catalog, reading.generation, {})


def test_auto_takes_it_where_there_is_a_gpu_and_a_model_and_says_why_not(
    reading: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[str, str] = {}
    asked: list[Qwen3Options] = []

    def choose(model: str = "") -> str:
        settings = RerankerSettings(model=model, instruction="statutes", deterministic=True)
        chosen = open_reranker(settings, reading.catalog, reading.generation, said)
        return chosen.name if chosen else "none"

    def opening(options: Qwen3Options, **given: Any) -> Any:
        asked.append(options)
        if len(asked) == 1:
            raise ModelUnavailable("The GPU is full.")
        wanted = {"first_stage_weight": 0.0, "instruction": "statutes", "stored": reading.catalog}
        assert given == wanted
        return type("Loaded", (), {"reranker": reading.engine.reranker, "reason": "qwen3: tiny"})

    monkeypatch.setattr(loading, "open_qwen3", opening)
    monkeypatch.setattr(loading, "sees_gpu", lambda: False)
    assert choose(str(folder)) == "late" and "GPU is needed" in said["reranker"]
    monkeypatch.setattr(loading, "sees_gpu", lambda: True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert choose() == "late" and f"models pull {QWEN3_MODEL}" in said["reranker"]
    assert asked == [], "nothing is downloaded unasked"
    assert choose(str(folder)) == "late" and "The GPU is full." in said["reranker"]
    assert choose(str(folder)) == "qwen3"
    assert said["reranker"] == "qwen3: tiny; chosen because there is a GPU"
    assert asked[-1].model == str(folder) and asked[-1].deterministic
    assert asked[-1].allow_cpu is False and asked[-1].max_pair_tokens == 32_768


def test_a_dead_device_is_not_ready_and_searches_are_answered_without_it(
    asking: Client, reading: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test here: its engine is gone afterwards."""

    def dies(*_: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    assert asking.get("/readyz").status_code == 200
    monkeypatch.setattr(engine_of(reading).scorer, "batch", dies)
    for _ in range(2):
        answer = asking.search("who pays the rent?")
        assert answer["hits"] and answer["reranked_count"] == 0
        assert "illegal memory access" in answer["degraded"][0]["reason"]
    unready = asking.get("/readyz")
    assert unready.status_code == 503
    assert "illegal memory access" in unready.json()["reasons"][0]
    assert asking.get("/healthz").status_code == 200
