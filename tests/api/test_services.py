"""A search whose second stage is a rerank service: what it finds, and what is told of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import Client
from tests.remote.longleaf import filled, opened
from tests.remote.rerankers import RerankServer, overlap
from tests.remote.servers import Answer, Server, served
from typer.testing import CliRunner

from longleaf.api.app import create_app
from longleaf.api.cli.main import app as cli
from longleaf.core.config import load_settings
from longleaf.core.errors import ConfigError, ModelUnavailable
from longleaf.reranker.instructions import PRESETS
from longleaf.reranker.services.dialects import SERVICES

KEY = "sk-canary-4711"
QUERY = "who pays the rent?"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("home"))


OpenClient = Callable[..., tuple[Client, RerankServer, Server]]


@pytest.fixture
def open_client(home: Path) -> Iterator[OpenClient]:
    with ExitStack() as kept:

        def open_one(dialect: str, **flags: Any) -> tuple[Client, RerankServer, Server]:
            kept.close()  # one process alone has the index open
            there = RerankServer(dialect)
            server = kept.enter_context(served(there))
            runtime = opened(
                home,
                reranker__kind="remote",
                reranker__dialect=dialect,
                reranker__url=server.url,
                reranker__model="m",
                **flags,
            )
            kept.callback(runtime.close)
            return Client(create_app(runtime)), there, server

        yield open_one


@pytest.mark.parametrize("dialect", ["cohere", "vllm-qwen3", "dashscope"])
@pytest.mark.parametrize("depth", ["passage", "document"])
def test_a_search_is_in_the_services_order_and_says_who_read(
    open_client: OpenClient, dialect: str, depth: str
) -> None:
    client, there, server = open_client(dialect)
    chosen = client.get("/readyz").json()["chosen"]["reranker"]
    assert chosen.startswith(f"remote:{dialect} (m) at {server.url} (texts and queries are sent")
    found = client.search(QUERY, limit=20, rerank={"depth": depth}, explain=True)
    assert found["degraded"] == [] and found["reranker"] == f"remote:{dialect}"
    assert found["reranked_count"] == len(found["hits"]) > 5
    assert found["explain"]["reranker_fingerprint"].startswith(f"service/1 {dialect} m ")
    scores = [hit["reading"]["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) > 5
    sent = [overlap(QUERY, text) for asked in there.asked for text in asked.texts]
    assert scores[0] == pytest.approx(max(sent))
    for hit in found["hits"]:
        reading = hit["reading"]
        assert reading["depth"] == depth and reading["truncated_tokens"] == 0
        assert (reading["probability"] is not None) == (SERVICES[dialect].meaning != "other")


def test_an_instruction_goes_there_or_is_said_to_go_nowhere(open_client: OpenClient) -> None:
    client, there, _ = open_client("dashscope")
    found = client.search(QUERY, rerank={"instruction": "statutes"}, explain=True)
    assert there.asked[-1].instruction == PRESETS["statutes"] == found["explain"]["instruction"]
    client, there, _ = open_client("cohere")
    found = client.search(QUERY, rerank={"instruction": "statutes"})
    assert "takes no instruction" in json.dumps(found["warnings"])


def test_a_service_that_fails_leaves_the_first_stages_order(open_client: OpenClient) -> None:
    client, there, server = open_client("tei")
    read = client.search(QUERY, limit=20)
    there.says = Answer({"error": "rent"}, 503)
    found = client.search("who pays rent and deposit?", limit=20)
    (degraded,) = found["degraded"]
    assert degraded["stage"] == "rerank" and server.url in degraded["reason"]
    assert found["reranked_count"] == 0 and len(found["hits"]) > 3
    there.says = None
    again = client.search(QUERY, limit=20)
    assert [hit["key"] for hit in again["hits"]] == [hit["key"] for hit in read["hits"]]


def test_a_key_is_sent_and_shown_nowhere(
    open_client: OpenClient, caplog: pytest.LogCaptureFixture, home: Path
) -> None:
    with caplog.at_level(logging.INFO):
        client, there, server = open_client("cohere", reranker__api_key=KEY)
        told = [client.get("/readyz").text, client.get("/metrics").text]
        for status in (401, 422, 500):
            there.says = Answer({"code": KEY, "message": KEY, "error": {"type": KEY}}, status)
            told.append(json.dumps(client.search(f"rent {status}", explain=True)))
            assert f"status {status}" in told[-1]
    assert {each["authorization"] for each in server.headers} == {f"Bearer {KEY}"}
    assert KEY not in caplog.text + "".join(told)


def test_the_doctor_says_who_reads_and_no_key(home: Path) -> None:
    with served(RerankServer("cohere")) as server:
        environment = {
            "LONGLEAF_RERANKER__KIND": "remote",
            "LONGLEAF_RERANKER__DIALECT": "cohere",
            "LONGLEAF_RERANKER__MODEL": "m",
            "LONGLEAF_RERANKER__URL": server.url,
            "LONGLEAF_RERANKER__API_KEY": KEY,
        }
        for command in (["doctor", "--json"], ["config", "--json"], ["models", "check", "--json"]):
            result = CliRunner().invoke(cli, [*command, "--home", str(home)], env=environment)
            assert "remote" in result.output and "cohere" in result.output
            assert KEY not in result.output
            if command[0] != "config":
                assert "texts and queries are sent there" in result.output
                assert "4,096 tokens a text" in result.output
        assert {each["authorization"] for each in server.headers} == {f"Bearer {KEY}"}
    for file in home.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def test_the_doctor_says_what_the_service_does_wrong(home: Path) -> None:
    there = RerankServer("vllm", has_template=False)
    with served(there) as server:
        environment = {
            "LONGLEAF_RERANKER__KIND": "remote",
            "LONGLEAF_RERANKER__DIALECT": "vllm",
            "LONGLEAF_RERANKER__URL": server.url,
        }
        result = CliRunner().invoke(cli, ["doctor", "--home", str(home)], env=environment)
        assert result.exit_code != 0
        assert "without its template" in " ".join(result.output.split())
        checked = CliRunner().invoke(cli, ["models", "check", "--home", str(home)], env=environment)
        assert isinstance(checked.exception, ModelUnavailable)
        nothing = CliRunner().invoke(cli, ["models", "check", "--home", str(home)])
        assert isinstance(nothing.exception, ConfigError)
        with pytest.raises(ModelUnavailable, match="nonsense above sense"):
            opened(
                home,
                reranker__kind="remote",
                reranker__dialect="vllm",
                reranker__url=server.url,
            )


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"reranker.dialect": "cohere"}, r"reranker\.kind is auto"),
        ({"reranker.dialect": "cohere", "reranker.kind": "remote"}, r"reranker\.url is not set"),
    ],
)
def test_a_dialect_needs_an_address(tmp_path: Path, flags: dict[str, Any], told: str) -> None:
    named = {name.replace(".", "__"): value for name, value in flags.items()}
    with pytest.raises(ConfigError, match=told):
        opened(tmp_path, **named)


def test_a_dialect_that_nobody_speaks_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reranker\.dialect cannot be 'klingon'"):
        load_settings({"home": tmp_path, "reranker.dialect": "klingon"}, {})
