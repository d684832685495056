"""Whose body is it, and nothing that anybody sends makes the server fail."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.api.conftest import Client
from tests.reranker.tiny import build_cross_encoder, one_torch_thread

from longleaf.api.app import create_app
from longleaf.api.http.dialects import dashscope
from longleaf.api.http.dialects.places import PLACES, Place, choose, names, places_at, say_at
from longleaf.api.http.guard import MAX_BODY_BYTES, RERANK_BODY_BYTES
from longleaf.api.wire import Runtime
from longleaf.core.errors import InvalidRequest, NotFound
from longleaf.core.protocols import Reranker
from longleaf.reranker.crossencoder import CrossEncoderReranker

V1, V2, PLAIN = "/v1/rerank", "/v2/rerank", "/rerank"
MODELS = [None, "", "late", "jina-reranker-v3", "rerank-v3.5", "rerank-2.5-lite", "BAAI/bge", 7]
ASKED = {"query": "q", "documents": ["d"]}


# --- whose body it is --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "dialect"),
    [
        # What each needs and no more.
        (V1, ASKED, "longleaf"),
        (V1, {**ASKED, "model": None}, "longleaf"),
        (V1, {**ASKED, "model": "cross-encoder"}, "longleaf"),
        (V1, {**ASKED, "model": "remote:qwen3"}, "longleaf"),
        (V1, {**ASKED, "model": "BAAI/bge-reranker-v2-m3"}, "jina"),
        # To vLLM 0 is all of them, to the others a mistake.
        (V1, {**ASKED, "model": "BAAI/bge-reranker-v2-m3", "top_n": 0}, "vllm"),
        (V1, {**ASKED, "top_n": 0}, "vllm"),
        (V1, {**ASKED, "top_n": False}, "longleaf"),
        (V1, {**ASKED, "model": "jina-reranker-v3", "top_n": 0}, "jina"),
        (V1, {**ASKED, "model": "m", "top_n": 0, "return_documents": True}, "jina"),
        (V2, {**ASKED, "model": "m", "top_n": 0}, "vllm"),
        (V2, {**ASKED, "model": "rerank-v3.5", "top_n": 0}, "cohere"),
        (V1, {**ASKED, "model": "jina-reranker-v2-base-multilingual"}, "jina"),
        (V1, {**ASKED, "model": "rerank-english-v3.0"}, "cohere"),
        (V1, {**ASKED, "model": "cohere/rerank-v3.5"}, "cohere"),
        (V1, {**ASKED, "model": "rerank-2"}, "voyage"),
        (V1, {**ASKED, "model": "rerank-lite-1"}, "voyage"),
        (V2, {**ASKED, "model": "anything"}, "cohere"),
        (V2, ASKED, "vllm"),
        (PLAIN, {"query": "q", "texts": ["d"]}, "tei"),
        (PLAIN, ASKED, "vllm"),
        ("/score", {}, "vllm"),
        # A key that says it.
        (V1, {**ASKED, "deadline_ms": 5}, "longleaf"),
        (V1, {**ASKED, "priority": "bulk", "deadline_ms": 5.0}, "longleaf"),
        (V1, {**ASKED, "model": "x", "top_k": None, "truncation": True}, "voyage"),
        (V1, {**ASKED, "model": "late", "top_k": 3}, "voyage"),
        (V1, {**ASKED, "rank_fields": ["text"]}, "cohere"),
        (V1, {**ASKED, "raw_scores": False}, "infinity"),
        (V1, {**ASKED, "instruct": "x"}, "sglang"),
        (V1, {**ASKED, "use_activation": False}, "vllm"),
        (V1, {**ASKED, "model": "x", "instruction": "y"}, "jina"),
        (V2, {**ASKED, "model": "x", "truncate_prompt_tokens": -1}, "vllm"),
        (PLAIN, {**ASKED, "return_documents": True}, "infinity"),
        (PLAIN, {"query": "q", "texts": ["d"], "top_n": 3, "model": "x"}, "tei"),
        # Without a name: objects that only one reads.
        (V1, {**ASKED, "documents": ["d", {"text": "a"}]}, "longleaf"),
        (V1, {**ASKED, "documents": ["d", {"text": "a", "title": "b"}]}, "longleaf"),
        (V1, {**ASKED, "documents": ["d", {"text": "a", "author": "b"}]}, "cohere"),
        (V1, {**ASKED, "documents": [{"text": "a", "n": 1}], "return_documents": True}, "cohere"),
        (V1, {**ASKED, "documents": [{"content": [{"text": "a"}]}]}, "vllm"),
        (V1, {**ASKED, "documents": [{"passages": [{"text": "a"}], "tilte": ""}]}, "longleaf"),
        (V1, {**ASKED, "documents": [{"tilte": "a"}]}, "longleaf"),
        (V1, {**ASKED, "documents": [{"text": "a", "b": 1}, {"content": []}]}, "longleaf"),
        (V1, {**ASKED, "model": "late", "documents": [{"text": "a", "b": 1}]}, "longleaf"),
        (V1, {**ASKED, "model": "jina-x", "documents": [{"text": "a", "b": 1}]}, "jina"),
        # An empty name is none.
        (V1, {**ASKED, "model": ""}, "longleaf"),
        (V1, {**ASKED, "model": "", "top_n": 0}, "vllm"),
        (V2, {**ASKED, "model": ""}, "vllm"),
        # Keys that nobody here knows decide nothing.
        (V1, {**ASKED, "model": "x", "verbose": True}, "jina"),
    ],
)
def test_a_body_says_whose_it_is(path: str, body: dict[str, Any], dialect: str) -> None:
    assert choose(PLACES[path], body).name == dialect


@pytest.mark.parametrize(
    "headers",
    [
        {"user-agent": "cohere/7.3.1"},
        {"x-fern-sdk-name": "cohere", "user-agent": "python-httpx/0.28"},
        {"x-fern-sdk-name": "cohere-ai"},
        {"x-fern-sdk-name": "com.cohere.fern:api-sdk"},
        {"x-fern-sdk-name": "github.com/cohere-ai/cohere-go/v2"},
    ],
)
def test_makers_clients_say_whose_a_body_is_where_its_keys_do_not(headers: dict[str, str]) -> None:
    def name(path: str, body: dict[str, Any]) -> str:
        return choose(PLACES[path], body, headers).name

    assert name(V1, ASKED) == name(V1, {**ASKED, "model": "late"}) == "cohere"
    assert name(V1, {**ASKED, "model": "m", "top_n": 0}) == name(V2, {**ASKED, "model": "m"})
    assert name(V1, {**ASKED, "instruct": "x"}) == "sglang"
    assert name(V2, ASKED) == "vllm"  # Cohere's needs a model there
    other = {each: f"not-{said}" for each, said in headers.items()}
    assert choose(PLACES[V1], ASKED, other).name == "longleaf"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (V1, {}, "voyage (needs documents, model, query)"),
        (V1, {"query": "q", "texts": []}, "jina (needs"),
        (V1, {**ASKED, "model": "x", "top_k": 1, "top_n": 1}, "top_k: voyage"),
        (V1, {**ASKED, "rank_fields": ["a"], "instruct": "x"}, "rank_fields: cohere"),
        (PLAIN, {**ASKED, "texts": ["d"]}, "texts: tei"),
        (V2, {**ASKED, "model": "x", "relevant_spans": {}, "softmax": True}, "softmax: vllm"),
    ],
)
def test_a_body_of_nobody_or_of_two_is_told_who_lives_here(
    path: str, body: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        choose(PLACES[path], body)
    assert said in str(error.value)
    assert all(each.dialect.name in str(error.value) for each in PLACES[path])


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, Place, dict[str, Any]]:
    """A path, a dialect there, and a body of keys that it knows, with all that it needs."""
    path = draw(st.sampled_from(sorted(PLACES)))
    place = draw(st.sampled_from(list(PLACES[path])))
    keys = place.required | draw(st.sets(st.sampled_from(sorted(place.known))))
    body: dict[str, Any] = dict.fromkeys(keys, "x")
    if "model" in body:
        models = [each for each in MODELS if each or "model" not in place.required]
        body["model"] = draw(st.sampled_from(models))  # null and "" are a key left out
    return path, place, body


@given(bodies())
def test_no_key_is_ignored_that_another_dialect_here_knows(
    drawn: tuple[str, Place, dict[str, Any]],
) -> None:
    path, place, body = drawn
    # Its own keys can never contradict each other, so somebody takes it: this dialect, or one that
    # knows all of its keys as well.
    chosen = choose(PLACES[path], body)
    (there,) = (each for each in PLACES[path] if each.dialect is chosen)
    assert set(body) & place.known <= there.known
    # And under its own name it is always its.
    own = choose([each for each in PLACES[path] if each.dialect.name == place.dialect.name], body)
    assert own is place.dialect


@pytest.mark.parametrize("path", sorted(PLACES))
def test_all_keys_of_a_dialect_together_are_its_own(path: str) -> None:
    for place in PLACES[path]:
        body = {**dict.fromkeys(place.known, "x"), "model": "x"}
        if place.dialect.name == "longleaf":
            body["model"] = "late"
        assert choose(PLACES[path], body) is place.dialect


def test_names_and_places() -> None:
    assert names() == [
        "cohere", "dashscope", "infinity", "jina", "longleaf", "sglang", "tei", "vllm", "voyage",
    ]  # fmt: skip
    with pytest.raises(NotFound, match="tei"):
        places_at(V1, "tei")
    assert say_at(V1) is None and say_at("/as/tei/v1/rerank") is None
    assert say_at("/as/tei/rerank") is say_at("/rerank") is not None


# --- over HTTP ---------------------------------------------------------------------------------


PATHS = [*PLACES, "/v1/embeddings", "/v1/vector_stores/law/search", "/as/sglang/v1/rerank"]
KEYS = sorted(
    {key for here in PLACES.values() for each in here for key in each.known}
    | {"input", "encoding_format", "dimensions", "filters", "ranking_options", "type", "key"}
    | {"value", "max_num_results", "ranker", "score_threshold", "text", "passages", "mode"}
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["", " ", "\ud800", "\x00", "late", "left", "eq", "and", "base64", 10**400])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "query": st.just("roof") | VALUES,
        "documents": st.just(["the roof", "", "rent"]) | VALUES,
        "texts": st.just(["the roof"]) | VALUES,
        "model": st.sampled_from(["m", "late", "rerank-v3.5"]) | VALUES,
        "input": st.just("roof") | st.just({"query": "roof", "documents": ["x"]}) | VALUES,
        **{key: VALUES for key in KEYS if key not in {"query", "documents", "texts", "model"}},
    },
)


@pytest.mark.parametrize("path", PATHS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=VALUES | LIKELY)
@example(body={"query": "roof", "documents": ["x"], "top_n": 10**400})
@example(body={"query": "roof", "filters": {"type": "eq", "key": "a", "value": math.nan}})
def test_no_json_makes_the_server_fail(client: Client, path: str, body: Any) -> None:
    sent = json.dumps(body).encode()
    response = client.post(path, content=sent, headers={"content-type": "application/json"})
    assert response.status_code < 500, response.text
    response.json()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "sent",
    [
        b"", b"{", b"\xff\xfe", b'"\xed\xa0\x80"', b"[" * 100_000, b'{"query":' * 50_000,
        b'{"top_n": ' + b"9" * 5000 + b"}", b"null", b'{"query": "a"} {}',
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(client: Client, path: str, sent: bytes) -> None:
    response = client.post(path, content=sent)
    assert response.status_code in (400, 422), response.text
    response.json()


HALF = json.loads('"roof \\ud800"')
DEEP: Any = ["x"]
for _ in range(800):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (V1, {"query": HALF, "documents": [{"text": HALF}], "model": "jina"}, 200),
        (V1, {"query": HALF, "documents": [{"text": HALF, "n": 7}], "rank_fields": ["text"]}, 200),
        (V1, {"query": "q", "documents": [{"text": 7, "x": None}], "max_chunks_per_doc": 1}, 200),
        (V1, {"query": "q", "documents": [{"text": DEEP}], "rank_fields": ["text"]}, 400),
        (V1, {"query": "q", "documents": [{"text": "x", "y": DEEP}], "rank_fields": ["y"]}, 400),
        (V1, {"query": "q", "documents": [{"text": "x"}], "rank_fields": ["text", "y"]}, 200),
        (PLAIN, {"query": {"content": [{"text": HALF}]}, "documents": [{"text": HALF}]}, 200),
        (PLAIN, {"query": {"text": "q" * 20_001}, "documents": ["x"]}, 400),
        (PLAIN, {**ASKED, "chat_template_kwargs": {"instruction": HALF * 400}}, 400),
        (PLAIN, {**ASKED, "chat_template_kwargs": {"enable_thinking": True}}, 400),
        ("/as/sglang/v1/rerank", {"query": [{"text": HALF}], "documents": [[{"text": HALF}]]}, 200),
        ("/as/sglang/v1/rerank", {"query": [{"image_url": "x"}], "documents": ["x"]}, 400),
    ],
)
def test_objects_are_read_as_carefully_as_texts(
    client: Client, path: str, body: dict[str, Any], status: int
) -> None:
    sent = {**body, "return_documents": True} if path == V1 else body
    response = client.post(path, content=json.dumps(sent))
    assert response.status_code == status, response.text
    response.json()


SCORED = {"text_1": "roof", "text_2": "roof"}


@pytest.mark.parametrize(
    ("path", "body", "nulls"),
    [
        (V1, {**ASKED, "model": "rerank-v3.5"},
         ("top_n", "rank_fields", "return_documents", "max_chunks_per_doc")),
        (V1, {**ASKED, "model": "m"}, ("top_n", "return_documents", "instruction")),
        (V1, {**ASKED, "model": "m"}, ("raw_scores", "top_n")),
        (V1, ASKED, ("instruct", "top_n", "return_documents", "model")),
        (V2, {**ASKED, "model": "m"},
         ("top_n", "max_tokens_per_doc", "relevant_spans", "priority")),
        (PLAIN, {"query": "q", "texts": ["d"]},
         ("truncate", "truncation_direction", "raw_scores", "return_text")),
        (PLAIN, ASKED, ("top_n", "priority", "max_tokens_per_query", "use_activation")),
        ("/score", SCORED, ("priority", "max_tokens_per_doc", "queries")),
        (dashscope.FLAT_PATH, {**ASKED, "model": "m"}, ("top_n", "return_documents", "instruct")),
        ("/v1/embeddings", {"model": "m", "input": "roof"},
         ("encoding_format", "dimensions", "user", "input_type")),
        ("/v1/vector_stores/law/search", {"query": "roof"},
         ("filters", "max_num_results", "ranking_options", "rewrite_query")),
        ("/v1/vector_stores/law/search", {"query": "q", "ranking_options": {"ranker": None}}, ()),
        (dashscope.NATIVE_PATH,
         {"model": "m", "input": ASKED, "parameters": {"top_n": None, "return_documents": None}},
         ("other",)),
    ],
)  # fmt: skip
def test_what_is_null_was_left_out(
    client: Client, path: str, body: dict[str, Any], nulls: tuple[str, ...]
) -> None:
    response = client.post(path, json=body | dict.fromkeys(nulls))
    assert response.status_code == 200, response.text


def test_an_empty_model_name_is_none(client: Client) -> None:
    for path in (V1, V2, PLAIN, "/as/vllm/v1/rerank", "/as/longleaf/v1/rerank"):
        response = client.post(path, json={**ASKED, "model": ""})
        assert response.status_code == 200, response.text
    assert client.post("/score", json={**SCORED, "model": ""}).status_code == 200
    refused = client.post("/as/cohere/v2/rerank", json={**ASKED, "model": ""})
    assert refused.status_code == 400 and "model: Field required" in refused.json()["message"]


def test_a_required_key_that_is_null_is_missing(client: Client) -> None:
    plain = {**ASKED, "model": None}
    assert client.post(V1, json=plain).headers["x-longleaf-dialect"] == "longleaf"
    assert client.post(V2, json=plain).headers["x-longleaf-dialect"] == "vllm"
    refused = client.post("/as/cohere/v2/rerank", json=plain)
    assert refused.status_code == 400 and "model: Field required" in refused.json()["message"]


def test_too_many_texts_are_too_large_to_tei(client: Client) -> None:
    refused = client.post(PLAIN, json={"query": "q", "texts": ["x"] * 1001})
    assert refused.status_code == 413
    assert refused.json()["error_type"] == "Validation" and "1,001 texts" in refused.json()["error"]


def test_bodies_have_their_limits(client: Client) -> None:
    large = {"query": "q", "texts": ["x" * (MAX_BODY_BYTES + 1)]}
    assert client.post("/as/tei/rerank", json=large).status_code == 200
    for path in ("/rerank", "/as/tei/rerank"):
        refused = client.post(path, json={"query": "q", "texts": ["x" * RERANK_BODY_BYTES]})
        assert refused.status_code == 413
        assert refused.json()["error_type"] == "Validation"
    search = {"query": "q" * (MAX_BODY_BYTES + 1)}
    refused = client.post("/v1/vector_stores/law/search", json=search)
    assert refused.status_code == 400 and "larger than" in refused.json()["error"]["message"]


def test_refusals_before_the_body_have_the_form_of_the_path(client: Client) -> None:
    foreign = client.post("/v2/rerank", json={}, headers={"origin": "http://elsewhere.example"})
    assert foreign.status_code == 403 and "other sites" in foreign.json()["message"]
    assert client.get("/v2/rerank").json()["message"].startswith("/v2/rerank does not take GET")
    own = client.post("/v1/rerank", json={}, headers={"origin": "http://elsewhere.example"})
    assert own.headers["content-type"] == "application/problem+json"
    nobody = client.post("/as/somebody/v1/rerank", json={})
    assert nobody.status_code == 404 and "sglang" in nobody.json()["hint"]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reranker]:
    with one_torch_thread():
        folder = tmp_path_factory.mktemp("cross-encoder")
        yield CrossEncoderReranker(build_cross_encoder(folder), device="cpu")


def test_logits_become_0_to_1_and_raw_scores_stay(
    runtime: Runtime, cross_encoder: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.engine, "reranker", cross_encoder)
    client = Client(create_app(runtime))
    texts = ["patent licence", "court appeal lease", "gene cell"]
    answered = client.post(V1, json={"query": "claim", "documents": texts})
    assert answered.headers["x-longleaf-score"] == "raw"
    own = answered.json()["results"]
    raw = {each["index"]: each["score"] for each in own}
    assert min(raw.values()) < 0 < max(raw.values())

    def scores(
        path: str, body: dict[str, Any], key: str, kind: str = "sigmoid"
    ) -> dict[int, float]:
        response = client.post(path, json={"query": "claim", **body})
        assert response.headers["x-longleaf-score"] == kind
        answer = response.json()
        results = answer if isinstance(answer, list) else answer["results"]
        assert [each["index"] for each in results] == [each["index"] for each in own]
        return {each["index"]: each[key] for each in results}

    mapped = {place: 1 / (1 + math.exp(-score)) for place, score in raw.items()}
    tei, documents = {"texts": texts}, {"documents": texts}
    assert scores(PLAIN, tei, "score") == pytest.approx(mapped)
    assert scores(PLAIN, {**tei, "raw_scores": True}, "score", "raw") == raw
    assert scores(PLAIN, documents, "relevance_score") == pytest.approx(mapped)
    no_activation = {**documents, "use_activation": False}
    assert scores(PLAIN, no_activation, "relevance_score", "raw") == raw
    pairs = {"text_1": "claim", "text_2": texts}
    kinds = [
        client.post("/score", json={**pairs, **more}).headers["x-longleaf-score"]
        for more in ({}, {"softmax": True}, {"activation": False})
    ]
    assert kinds == ["sigmoid", "sigmoid", "raw"]
    infinity = {**documents, "raw_scores": True}
    assert scores(PLAIN, infinity, "relevance_score", "raw") == raw
    cohere = {**documents, "model": "rerank-v3.5"}
    assert scores(V2, cohere, "relevance_score") == pytest.approx(mapped)


def test_a_server_that_reads_nothing_says_so_in_each_form(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.engine, "reranker", None)
    client = Client(create_app(runtime))
    tei = client.post(PLAIN, json={"query": "q", "texts": ["x"]})
    assert (tei.status_code, tei.json()["error_type"]) == (424, "Backend")
    cohere = client.post(V2, json={**ASKED, "model": "m"})
    assert cohere.status_code == 404 and "reranker.kind" in cohere.json()["message"]
