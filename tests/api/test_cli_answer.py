"""`longleaf answer`: with a server and without one, in words and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.test_cli import longleaf
from tests.remote.chat import Chat, chatting
from tests.remote.longleaf import served_app

from longleaf.api.app import create_app
from longleaf.api.running import announced
from longleaf.api.wire import open_runtime
from longleaf.core.config import load_settings

QUESTION = "When is rent due?"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("answer")
    (root / "lease.txt").write_text("LEASE\n\nThe tenant pays rent on the first of each month.\n")
    longleaf(root / "home", "index", str(root / "lease.txt"))
    return root / "home"


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    with chatting("On the ", "first [", "1]. The moon is [9].") as service:
        monkeypatch.setenv("LONGLEAF_ANSWER__URL", service.url)
        monkeypatch.setenv("LONGLEAF_ANSWER__MODEL", "words")
        yield service


def check_told(told: str) -> None:
    assert told.startswith("On the first [1]. The moon is [?].")
    assert "[1] LEASE (" in told and "lease.txt" in told
    assert "1 of 2 sentences cite no passage." in told and "Written by words." in told


def test_without_a_server(home: Path, chat: Chat) -> None:
    check_told(longleaf(home, "answer", QUESTION))
    answer = json.loads(longleaf(home, "answer", QUESTION, "--json", "--max-sources", "1"))
    assert answer["state"] == "answered" and len(answer["sources"]) == 1
    chat.script("Rent?</think>On the first [1].")
    assert "On the first [1]." in longleaf(home, "answer", QUESTION)
    chat.script({"tool_calls": [{"index": 0}]})
    told = longleaf(home, "answer", QUESTION)
    assert "No whole answer: " in told and "[1] LEASE (" in told


def test_with_a_server(home: Path, chat: Chat) -> None:
    runtime = open_runtime(load_settings({"home": home}).settings, follow=True)
    try:
        with served_app(create_app(runtime)) as url, announced(home, url):
            check_told(longleaf(home, "answer", QUESTION))
            answer = json.loads(longleaf(home, "answer", QUESTION, "--json"))
            assert answer["unsupported_citations"] == [9]
            told = longleaf(home, "answer", " ", expect=1)
            assert "an answer needs a question" in told
    finally:
        runtime.close()


def test_nobody_set_up(home: Path) -> None:
    told = longleaf(home, "answer", QUESTION, expect=1)
    assert "answer.url" in told


def test_settings_that_make_no_sense(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGLEAF_ANSWER__MODEL", "words")
    assert "answer.url is not" in longleaf(home, "answer", QUESTION, expect=1)
    monkeypatch.setenv("LONGLEAF_ANSWER__URL", "http://127.0.0.1:1/?key=secret")
    told = longleaf(home, "answer", QUESTION, expect=1)
    assert "secret" not in told and "answer.url" in told
    monkeypatch.setenv("LONGLEAF_ANSWER__URL", "http://127.0.0.1:1")
    monkeypatch.delenv("LONGLEAF_ANSWER__MODEL")
    assert "answer.model is not" in longleaf(home, "answer", QUESTION, expect=1)
    monkeypatch.setenv("LONGLEAF_ANSWER__MODEL", "words")
    report = json.loads(longleaf(home, "doctor", "--json", expect=1))  # nobody is there
    (answers,) = [each for each in report["findings"] if each["subject"] == "answers"]
    assert (
        "words at http://127.0.0.1:1/v1" in answers["fact"] and "are sent there" in answers["fact"]
    )
