"""Whole documents over HTTP: what is read, what is told of it, and which passages decide."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from tests.api.conftest import Client, wait_until_followed

from longleaf.api.app import create_app
from longleaf.api.cli.explaining import print_explanation
from longleaf.api.cli.searching import print_answer
from longleaf.api.http.search import answer_search
from longleaf.api.wire import Runtime, open_runtime
from longleaf.core.catalog import ReadingDefaults
from longleaf.core.config import load_settings
from longleaf.core.errors import InvalidRequest
from longleaf.core.types import DocumentLimits
from longleaf.reranker.late import MINILM_MIN_SCORE

FILLER = (
    "The parties met in the autumn and spoke about the weather of that year, of roads and of "
    "bridges, and about the price of grain in paragraph {n} of the minutes."
)
ANSWER = "Serum ferritin fell by a third after the second infusion of iron."
QUERY = "did serum ferritin fall after the infusion of iron?"


def long_text(paragraphs: int, answer_at: int) -> str:
    lines = [FILLER.format(n=n) for n in range(paragraphs)]
    lines[answer_at] = ANSWER
    return "\n\n".join(lines)


TEXTS = {
    "minutes.txt": long_text(60, 41),
    "trial.txt": f"A trial\n\n{ANSWER} It rose again.\n",
    "weather.txt": FILLER.format(n=0),
}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    flags = {"home": tmp_path_factory.mktemp("home"), "chunker.target_tokens": 48}
    opened = open_runtime(load_settings(flags, {}).settings, follow=True)
    try:
        opened.catalog.create_collection("papers")
        for name, text in TEXTS.items():
            opened.indexer.index_bytes("papers", "english", text.encode(), name, key=name)
        wait_until_followed(opened)
        yield opened
    finally:
        opened.close()


@pytest.fixture
def client(runtime: Runtime) -> Client:
    return Client(create_app(runtime))


def test_passages_are_read_unless_more_is_asked_for(client: Client) -> None:
    answer = client.search(QUERY, passages_per_document=1)
    by_key = {hit["key"]: hit["reading"] for hit in answer["hits"]}
    assert answer["whole_count"] == 0
    assert all(reading["depth"] == "passage" for reading in by_key.values())
    assert by_key["minutes.txt"]["tokens_read"] < by_key["minutes.txt"]["tokens_total"] / 5


@pytest.mark.parametrize("depth", ["document", "auto"])
def test_whole_documents_are_read_and_told(client: Client, depth: str) -> None:
    answer = client.search(QUERY, passages_per_document=1, rerank={"depth": depth})
    assert answer["whole_count"] == answer["reranked_count"] == 3 and answer["degraded"] == []
    for hit in answer["hits"]:
        reading = hit["reading"]
        assert reading["depth"] == "document"
        assert reading["tokens_read"] == reading["tokens_total"]
        best = hit["passages"][0]
        text = TEXTS[hit["key"]]
        assert text[best["start_char"] : best["end_char"]] == best["text"]
        assert best["scores"]["reading"] is not None
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True)
    deciding = next(h for h in answer["hits"] if h["key"] == "minutes.txt")["passages"][0]
    assert ANSWER in deciding["text"]


def test_of_a_document_that_is_too_long_the_nearest_passages_are_read(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = DocumentLimits(documents=20, tokens=200, beside=False)
    monkeypatch.setattr(runtime.engine.reranker, "document_limits", few, raising=False)
    answer = client.search(QUERY, passages_per_document=1, rerank={"depth": "document"})
    minutes = next(hit for hit in answer["hits"] if hit["key"] == "minutes.txt")
    assert 0 < minutes["reading"]["tokens_read"] <= 200 < minutes["reading"]["tokens_total"]
    assert ANSWER in minutes["passages"][0]["text"]
    short = [hit["reading"] for hit in answer["hits"] if hit["key"] != "minutes.txt"]
    assert all(reading["tokens_read"] == reading["tokens_total"] for reading in short)


def test_a_passage_that_only_the_whole_document_gave_has_no_scores_of_the_first_stage(
    client: Client,
) -> None:
    """BM25 alone finds a paragraph by its number; reading the document finds the answer."""
    body = {"passages_per_document": 1, "rerank": {"depth": "document"}}
    answer = client.search("ferritin grain", **body)
    shown = [hit["passages"][0]["scores"] for hit in answer["hits"]]
    assert all(scores["reading"] is not None for scores in shown)
    for scores in shown:
        if scores["fused"] is None:
            assert scores["bm25"] is None and scores["dense_rank"] is None
    listed = client.search("grain paragraph 7", **body)["hits"]
    assert listed and all(len(hit["passages"]) == 1 for hit in listed)


def test_tokens_bound_what_is_read_and_it_is_said(client: Client) -> None:
    answer = client.search(QUERY, rerank={"depth": "auto", "max_tokens": 1})
    assert answer["reranked_count"] < answer["found_count"] and answer["whole_count"] == 0
    assert any("token budget reached" in each["reason"] for each in answer["degraded"])


def test_only_the_first_candidates_are_read(client: Client) -> None:
    answer = client.search(QUERY, rerank={"candidates": 2})
    assert answer["reranked_count"] == 2 and answer["found_count"] == 3
    assert answer["degraded"] == [], "nothing is missing that was asked for"
    assert [hit["reading"] is not None for hit in answer["hits"]] == [True, True, False]
    assert answer["hits"][2]["first_stage"]["rank"] == 3
    whole = client.search(QUERY, rerank={"candidates": 2, "depth": "document"})
    assert whole["whole_count"] == 2


def test_another_reranker_than_there_is_is_an_error(client: Client) -> None:
    assert client.search(QUERY, rerank={"model": "late"})["reranker"] == "late"
    body = {"query": QUERY, "rerank": {"model": "qwen3"}}
    response = client.post("/v1/search", json=body)
    assert response.status_code == 400 and "is late, not qwen3" in response.json()["detail"]


def test_a_reranker_that_takes_no_instruction_says_so(client: Client) -> None:
    answer = client.search(QUERY, rerank={"instruction": "scientific-claims"})
    assert "late takes no instruction: it read without one." in answer["warnings"]
    assert not any("instruction" in each for each in client.search(QUERY)["warnings"])


def test_passages_ranked_for_themselves_have_no_whole(client: Client) -> None:
    answer = client.search(QUERY, group="none", rerank={"depth": "document"})
    assert answer["whole_count"] == 0 and answer["hits"]
    assert any("group none" in each for each in answer["warnings"])


def test_the_setting_is_the_default(tmp_path: Path, runtime: Runtime) -> None:
    engine = runtime.engine
    before = engine.depth
    engine.depth = "document"
    try:
        client = Client(create_app(runtime))
        assert client.search(QUERY)["whole_count"] == 3
        assert client.search(QUERY, rerank={"depth": "passage"})["whole_count"] == 0
        assert client.search(QUERY, rerank=False)["whole_count"] == 0
    finally:
        engine.depth = before
    settings = load_settings({"home": tmp_path}, {"LONGLEAF_RERANKER__DEPTH": "auto"}).settings
    assert settings.reranker.depth == "auto"


# --- explain -------------------------------------------------------------------------------------


@pytest.fixture
def papers(client: Client) -> Iterator[Client]:
    yield client
    client.request("PATCH", "/v1/collections/papers", json={"rerank": {}})


def test_a_collection_says_how_it_is_read(papers: Client) -> None:
    change = {"rerank": {"depth": "document", "max_tokens": 900_000}}
    told = papers.request("PATCH", "/v1/collections/papers", json=change).json()
    assert told["rerank"] == {
        "depth": "document", "candidates": None, "deadline_ms": None, "max_tokens": 900_000,
    }  # fmt: skip
    assert papers.search(QUERY)["whole_count"] == 3
    # What a search says comes first.
    assert papers.search(QUERY, rerank={"depth": "passage"})["whole_count"] == 0
    # A part is left as it is by changes that do not name it, and replaced as a whole.
    papers.request("PATCH", "/v1/collections/papers", json={"description": "of 1921"})
    assert papers.search(QUERY)["whole_count"] == 3
    papers.request("PATCH", "/v1/collections/papers", json={"rerank": {"candidates": 1}})
    answer = papers.search(QUERY)
    assert answer["whole_count"] == 0 and answer["reranked_count"] == 1
    with pytest.raises(InvalidRequest, match="deadline_ms"):
        ReadingDefaults(deadline_ms=math.inf)
    for values in ({"depth": "deep"}, {"candidates": 1001}, {"max_tokens": 0}):
        with pytest.raises(InvalidRequest):
            ReadingDefaults(**values)
    for bad in ({"depth": "deep"}, {"candidates": 0}, {"deadline_ms": 0}, {"model": "late"}):
        response = papers.request("PATCH", "/v1/collections/papers", json={"rerank": bad})
        assert response.status_code == 422, bad


def test_collections_that_say_it_differently_are_not_followed_and_it_is_told(
    papers: Client, runtime: Runtime
) -> None:
    made = {"name": "minutes", "rerank": {"depth": "auto", "deadline_ms": 60_000}}
    assert papers.post("/v1/collections", json=made).json()["rerank"]["depth"] == "auto"
    text = TEXTS["weather.txt"].encode()
    runtime.indexer.index_bytes("minutes", "english", text, "w.txt", key="w")
    wait_until_followed(runtime)
    try:
        assert papers.search(QUERY, collections=["minutes"])["whole_count"] == 1
        both = papers.search(QUERY)
        assert both["whole_count"] == 0
        told = [each for each in both["warnings"] if "say differently" in each]
        assert len(told) == 2 and "what is read of a candidate" in told[0]
        # Nothing is said about it where nothing is read, or the search says it.
        assert not papers.search(QUERY, rerank=False)["warnings"]
        said = {"depth": "passage", "deadline_ms": 9_000}
        assert not papers.search(QUERY, rerank=said)["warnings"]
    finally:
        assert papers.delete("/v1/collections/minutes").status_code == 200
        wait_until_followed(runtime)


def test_an_explanation_adds_up(client: Client, runtime: Runtime) -> None:
    body = {"passages_per_document": 2, "rerank": {"depth": "auto"}}
    plain = client.search(QUERY, **body)
    answer = client.search(QUERY, explain=True, **body)
    assert plain["explain"] is None
    assert [hit["score"] for hit in answer["hits"]] == [hit["score"] for hit in plain["hits"]]
    told = answer["explain"]
    assert told["embedder_fingerprint"] == runtime.embedder.fingerprint
    assert told["reranker_fingerprint"] == runtime.engine.reranker.fingerprint  # type: ignore[union-attr]
    assert told["depth"] == "auto" and told["fusion"] == "zscore"
    assert told["instruction"] is None and told["instruction_sha256"] is None
    assert told["counts"]["union_passages"] > 3
    for hit, without in zip(answer["hits"], plain["hits"], strict=True):
        assert hit["reading"]["depth"] == "document" and hit["earlier"]["depth"] == "passage"
        assert hit["earlier"]["tokens_read"] <= hit["reading"]["tokens_read"]
        assert without["earlier"] is None
        assert all(passage["normalised"] is None for passage in without["passages"])
        for passage in hit["passages"]:
            normal, scores = passage["normalised"], passage["scores"]
            if scores["fused"] is not None and passage["role"] == "body":
                expected = normal["dense"] + told["weight_bm25"] * normal["bm25"]
                assert scores["fused"] == pytest.approx(expected, abs=1e-9)


def test_an_explanation_without_a_second_stage_or_z_scores(client: Client) -> None:
    answer = client.search(QUERY, explain=True, rerank=False, fusion="rrf")
    told = answer["explain"]
    assert told["reranker_fingerprint"] is None and told["depth"] is None
    assert told["fusion"] == "rrf"
    for hit in answer["hits"]:
        assert hit["reading"] is None and hit["earlier"] is None
        assert all(p["normalised"] == {"dense": None, "bm25": None} for p in hit["passages"])


def test_a_link_explains_and_reads_as_deep(client: Client) -> None:
    params = {"q": QUERY, "explain": "true", "depth": "document"}
    linked = client.get("/v1/search", params=params).json()
    posted = client.search(QUERY, explain=True, rerank={"depth": "document"})
    assert linked["hits"] == posted["hits"] and linked["explain"] == posted["explain"]


def test_the_command_prints_a_table(runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    body = {"query": QUERY, "explain": True, "passages_per_document": 1}
    for rerank in ({"depth": "document"}, {"enabled": False}):
        answer = answer_search(runtime, {**body, "rerank": rerank})
        answer["hits"][0]["passages"][0]["scores"] |= {"dense": None, "bm25": None}
        print_answer(answer)
        print_explanation(answer, Console(width=200))
    printed = capsys.readouterr().out
    assert "How the scores came about" in printed and "whole document: read" in printed
    assert "z(reading) + 2 z(first stage)" in printed and "Depth document." in printed
    assert runtime.embedder.fingerprint[:30] in printed.replace("\n", "")
    assert printed.count("Instruction: none") == 2


# --- nothing good --------------------------------------------------------------------------------


def test_a_question_about_something_else_finds_nothing_good(client: Client) -> None:
    answer = client.search("how do submarines navigate below polar ice?", min_score="calibrated")
    assert answer["hits"] == [] and answer["found_count"] == 0
    assert answer["below_min_count"] == 3 and answer["min_score"] == MINILM_MIN_SCORE
    assert any(each.startswith("Nothing good was found: of 3") for each in answer["warnings"])
    good = client.search(QUERY, min_score="calibrated")
    assert good["hits"] and good["below_min_count"] + good["found_count"] == 3
    assert all(hit["reading"]["score"] >= MINILM_MIN_SCORE for hit in good["hits"])
    assert not any("Nothing good" in each for each in good["warnings"])


def test_a_minimum_is_about_passages_at_every_depth_and_off_by_default(client: Client) -> None:
    plain = client.search(QUERY)
    assert plain["min_score"] is None and plain["below_min_count"] == 0
    middle = sorted(hit["reading"]["score"] for hit in plain["hits"])[1]
    kept = {}
    for depth in ("passage", "document"):
        body = {"min_score": middle, "rerank": {"depth": depth}}
        answer = client.search(QUERY, **body)
        kept[depth] = {hit["key"] for hit in answer["hits"]}
        assert answer["found_count"] == 2 and answer["below_min_count"] == 1
    assert kept["passage"] == kept["document"]
    first = client.search(QUERY, min_score=middle, limit=1)
    rest = client.search(QUERY, min_score=middle, limit=5, offset=1)
    assert [hit["rank"] for hit in (*first["hits"], *rest["hits"])] == [1, 2]


def test_what_no_reranker_has_read_has_no_score_to_ask_for(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"query": QUERY, "min_score": 0.5, "rerank": False}
    assert client.post("/v1/search", json=body).status_code == 400
    listed = client.search("", filter={"field": "title", "prefix": ""}, min_score="calibrated")
    assert listed["min_score"] == MINILM_MIN_SCORE and listed["below_min_count"] == 0
    assert "min_score was not applied: nothing was read." in listed["warnings"]
    late = client.search(QUERY, min_score=0.0, rerank={"deadline_ms": 1e-6})
    assert late["hits"] and late["below_min_count"] == 0
    assert "min_score was not applied: nothing was read." in late["warnings"]
    monkeypatch.setattr(runtime.engine.reranker, "min_score", None)
    response = client.post("/v1/search", json={"query": QUERY, "min_score": "calibrated"})
    assert response.status_code == 400 and "calibrated" in response.json()["detail"]


def test_a_version_that_scores_well_is_found_behind_one_that_does_not(runtime: Runtime) -> None:
    """Good ones are told first, and only then put behind each other."""
    client = Client(create_app(runtime))
    runtime.catalog.create_collection("copies")
    text = long_text(60, 59)
    for name in ("a.txt", "b.txt"):
        data = f"{text}\n\nThis copy is {name}.".encode()
        runtime.indexer.index_bytes("copies", "english", data, name, key=name)
    runtime.follower.catch_up()
    wait_until_followed(runtime)
    body = {"collections": ["copies"], "collapse": True}
    both = client.search("the price of grain", **body)
    assert len(both["hits"]) == 1 and len(both["hits"][0]["versions"]) == 1
    plain = client.search("the price of grain", collections=["copies"])
    scores = sorted(hit["reading"]["score"] for hit in plain["hits"])
    between = (scores[0] + scores[1]) / 2 if scores[0] < scores[1] else scores[1]
    answer = client.search("the price of grain", min_score=between, **body)
    shown = len(answer["hits"]) + sum(len(hit["versions"]) for hit in answer["hits"])
    assert answer["hits"] and shown + answer["below_min_count"] == 2
    assert client.delete("/v1/collections/copies").status_code == 200
    wait_until_followed(runtime)


def test_the_page_offers_it_and_says_what_it_left_out(client: Client) -> None:
    offered = client.get("/").text
    assert "Only what scores well" in offered
    asked = "/?q=how+do+submarines+navigate+below+polar+ice%3F"
    nothing = client.get(f"{asked}&good=on").text
    assert "Nothing good was found" in nothing
    assert "3 documents scored too low" in re.sub("<[^>]*>", "", nothing)
    assert asked in nothing, "the way to see them nevertheless"
    assert "Nothing good was found" not in client.get(asked).text
    some = client.get("/?q=serum+ferritin+iron&good=on").text
    assert "left out" in some and "good=on" not in some.split("show all")[0].rsplit("href", 1)[1]
