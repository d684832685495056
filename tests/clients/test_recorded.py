"""RECORDED shapes: servers of which no client package is run here.

Each model below says what a client of that server reads, after the public source that is named with
it; the answers here must be exactly that. No answer of such a server itself was compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter
from tests.clients.texts import BEST, QUESTION, RENT, ROOF, TEXTS, Busy, Cutting, Late
from tests.remote.longleaf import reading_for_others


class _Exactly(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class JinaText(_Exactly):
    text: str


class JinaItem(_Exactly):
    """Jina's API: its published request and response examples (no public source)."""

    index: int
    relevance_score: float
    document: JinaText | None = None


class JinaUsage(_Exactly):
    total_tokens: int
    prompt_tokens: int


class JinaAnswer(_Exactly):
    id: str
    model: str
    usage: JinaUsage
    results: list[JinaItem]


class TeiRank(_Exactly):
    """huggingface/text-embeddings-inference, router/src/http/types.rs at 265deb2."""

    index: int
    score: float
    text: str | None = None


class TeiError(_Exactly):
    """The same, router/src/lib.rs at 009f067 and router/src/http/server.rs at bc0fa32."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


class VllmDocument(_Exactly):
    """vllm-project/vllm, vllm/entrypoints/pooling/scoring/protocol.py at 5315868."""

    text: str | None
    multi_modal: None


class VllmItem(_Exactly):
    index: int
    document: VllmDocument
    relevance_score: float


class Usage(_Exactly):
    prompt_tokens: int
    total_tokens: int


class VllmAnswer(_Exactly):
    id: str
    model: str
    usage: Usage
    results: list[VllmItem]


class VllmScore(_Exactly):
    index: int
    object: Literal["score"]
    score: float


class VllmScores(_Exactly):
    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[VllmScore]
    usage: Usage


class ErrorInside(_Exactly):
    message: str
    type: str
    param: str | None
    code: int


class ErrorOutside(_Exactly):
    error: ErrorInside


class SglangItem(_Exactly):
    """sgl-project/sglang, python/sglang/srt/entrypoints/openai/serving_rerank.py at d245e9b."""

    score: float
    document: str | None = None
    index: int
    meta_info: dict[str, Any]


class SglangError(_Exactly):
    object: Literal["error"]
    message: str
    type: str
    param: None
    code: int


class InfinityItem(_Exactly):
    """michaelfeil/infinity, infinity_emb/fastapi_schemas/pymodels.py (RerankInput with `results`)
    and errors.py at e203c2a."""

    relevance_score: float
    index: int
    document: str | None = None


class InfinityAnswer(_Exactly):
    object: Literal["rerank"]
    results: list[InfinityItem]
    model: str
    usage: Usage
    id: str
    created: int


class FlatAnswer(_Exactly):
    """Model Studio's published example of `reranks` (no public source)."""

    object: Literal["list"]
    results: list[JinaItem]
    model: str
    id: str
    usage: dict[Literal["total_tokens"], int]


class FlatError(_Exactly):
    code: str
    message: str
    request_id: str


DOCUMENTS = {"query": QUESTION, "documents": TEXTS}
FLAT = "/compatible-api/v1/reranks"
LONG = "The landlord repairs the roof, the walls, the windows and the doors of the house."


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with reading_for_others(tmp_path_factory.mktemp("home")) as url:
        yield url


def ask(url: str, path: str, body: Any, status: int = 200) -> Any:
    response = httpx.post(url + path, json=body)
    assert response.status_code == status, response.text
    return response.json()


def part(text: str) -> dict[str, Any]:
    """A text as vLLM's content parts."""
    return {"content": [{"type": "text", "text": text}]}


SHAPES: list[tuple[str, dict[str, Any], Any]] = [
    ("/v1/rerank", {**DOCUMENTS, "model": "jina-reranker-v2-base-multilingual"}, JinaAnswer),
    ("/v1/rerank", {**DOCUMENTS, "model": "BAAI/bge-reranker-v2-m3", "top_n": 2}, JinaAnswer),
    ("/v1/rerank", {**DOCUMENTS, "return_documents": False, "model": "jina"}, JinaAnswer),
    ("/rerank", {"query": QUESTION, "texts": TEXTS}, list[TeiRank]),
    ("/rerank", {"query": QUESTION, "texts": TEXTS, "return_text": True}, list[TeiRank]),
    ("/rerank", DOCUMENTS, VllmAnswer),
    ("/v1/rerank", {**DOCUMENTS, "truncate_prompt_tokens": -1}, VllmAnswer),
    ("/v2/rerank", {**DOCUMENTS, "use_activation": True}, VllmAnswer),
    ("/score", {"text_1": QUESTION, "text_2": TEXTS}, VllmScores),
    ("/v1/score", {"queries": [QUESTION] * 3, "documents": TEXTS}, VllmScores),
    ("/score", {"queries": QUESTION, "items": ROOF}, VllmScores),
    (
        "/score",
        {"text_1": part(QUESTION), "text_2": [TEXTS[0], part(RENT), part(ROOF)]},
        VllmScores,
    ),
    ("/score", {"data_1": [QUESTION], "data_2": TEXTS}, VllmScores),
    ("/as/sglang/v1/rerank", DOCUMENTS, list[SglangItem]),
    ("/as/sglang/v1/rerank", {**DOCUMENTS, "return_documents": False}, list[SglangItem]),
    ("/rerank", {**DOCUMENTS, "return_documents": True}, InfinityAnswer),
    ("/v1/rerank", {**DOCUMENTS, "raw_scores": True, "top_n": 1}, InfinityAnswer),
    (FLAT, {**DOCUMENTS, "model": "qwen3-rerank", "top_n": 2}, FlatAnswer),
    (FLAT, {**DOCUMENTS, "model": "qwen3-rerank", "return_documents": True}, FlatAnswer),
]


@pytest.mark.parametrize(("path", "body", "shape"), SHAPES)
def test_answers_have_the_recorded_shape(
    url: str, path: str, body: dict[str, Any], shape: Any
) -> None:
    answer = ask(url, path, body)
    read: Any = TypeAdapter(shape).validate_python(answer)
    items = read if isinstance(read, list) else getattr(read, "results", None) or read.data
    assert items[0].index == (0 if shape is VllmScores else BEST)
    top_n = body.get("top_n")
    scores = [getattr(each, "score", None) or each.relevance_score for each in items]
    assert len(items) == (top_n or (1 if body.get("items") else 3))
    if shape is VllmScores:
        assert [each.index for each in items] == list(range(len(items)))
        assert max(scores) == scores[-1] > 0.6
    else:
        assert scores == sorted(scores, reverse=True)


def test_documents_come_back_as_each_has_them(url: str) -> None:
    jina = ask(url, "/v1/rerank", {**DOCUMENTS, "model": "jina-reranker-v3"})["results"]
    assert jina[0]["document"] == {"text": ROOF}
    without = ask(url, "/v1/rerank", {**DOCUMENTS, "model": "jina", "return_documents": False})
    assert "document" not in without["results"][0]
    assert ask(url, "/rerank", {"query": QUESTION, "texts": TEXTS})[0].keys() == {"index", "score"}
    infinity = ask(url, "/rerank", {**DOCUMENTS, "return_documents": True})["results"]
    assert infinity[0]["document"] == ROOF
    assert ask(url, "/as/infinity/rerank", DOCUMENTS)["results"][0]["document"] is None
    sglang = ask(url, "/as/sglang/v1/rerank", DOCUMENTS)
    assert sglang[0]["document"] == ROOF
    parts = {"content": [{"type": "text", "text": "The landlord"}, {"type": "text", "text": "x"}]}
    vllm = ask(url, "/rerank", {"query": QUESTION, "documents": [parts]})["results"]
    assert vllm[0]["document"]["text"] == "The landlord\nx"


@pytest.mark.parametrize(
    ("path", "body", "status", "shape", "said"),
    [
        ("/rerank", {"query": QUESTION, "texts": []}, 400, TeiError, "Empty"),
        ("/rerank", {"query": QUESTION, "texts": 7}, 422, TeiError, "texts"),
        ("/rerank", {"query": QUESTION}, 422, TeiError, "vllm (needs documents, query)"),
        ("/rerank", {"query": " ", "texts": TEXTS}, 422, TeiError, "empty"),
        ("/rerank", {**DOCUMENTS, "texts": TEXTS}, 422, TeiError, "texts: tei"),
        ("/rerank", {"query": QUESTION, "texts": ["x"] * 1001}, 413, TeiError, "1,000"),
        ("/rerank", {**DOCUMENTS, "top_n": "x"}, 400, ErrorOutside, "top_n"),
        ("/rerank", {**DOCUMENTS, "instruction": "x"}, 400, ErrorOutside, "no instruction"),
        ("/rerank", {**DOCUMENTS, "chat_template_kwargs": {"a": 1}}, 400, ErrorOutside, "template"),
        ("/rerank", {"query": "x", "documents": [{"image": "x"}]}, 400, ErrorOutside, "only text"),
        ("/score", {}, 400, ErrorOutside, "text_1"),
        ("/score", {"text_1": ["a", "b"], "text_2": ["x", "y", "z"]}, 400, ErrorOutside, "pairs"),
        ("/score", {"text_1": "a", "text_2": ["x", " "]}, 400, ErrorOutside, "1"),
        ("/score", {"text_1": "a", "text_2": ["x"] * 1001}, 400, ErrorOutside, "1,000"),
        ("/v1/rerank", {**DOCUMENTS, "instruct": "x"}, 400, SglangError, "no instruction"),
        ("/as/sglang/v1/rerank", {"query": "a", "documents": [" "]}, 400, SglangError, "empty"),
        ("/as/infinity/rerank", {**DOCUMENTS, "query": " "}, 400, ErrorOutside, "empty"),
        (FLAT, {**DOCUMENTS, "model": "m", "top_n": 0}, 400, FlatError, "InvalidParameter"),
        (FLAT, DOCUMENTS, 400, FlatError, "model"),
    ],
)
def test_errors_have_the_recorded_shape(
    url: str, path: str, body: Any, status: int, shape: Any, said: str
) -> None:
    answer = ask(url, path, body, status)
    read = shape.model_validate(answer)
    assert said in str(answer)
    if shape is ErrorOutside:
        assert read.error.code == status


def test_validation_errors_of_infinity_and_jina_are_details(url: str) -> None:
    detail = ask(url, "/as/infinity/rerank", {"query": 5, "documents": []}, 422)["detail"]
    assert {each["loc"][1] for each in detail} == {"query", "documents"}
    assert all(each.keys() == {"loc", "msg", "type"} for each in detail)
    said = ask(url, "/v1/rerank", {**DOCUMENTS, "model": "jina-x", "top_n": 0}, 422)
    assert said.keys() == {"detail"} and "top_n" in said["detail"]


def test_what_is_longer_than_is_read(tmp_path: Path) -> None:
    cutting = Cutting()
    with reading_for_others(tmp_path, cutting) as url:
        tei = {"query": QUESTION, "texts": [ROOF, LONG]}
        error = TeiError.model_validate(ask(url, "/rerank", tei, 413))
        assert error.error_type == "Validation" and "texts[0]" in error.error
        left = {**tei, "truncate": True, "truncation_direction": "Left"}
        assert "direction" in ask(url, "/rerank", left, 413)["error"]
        response = httpx.post(f"{url}/rerank", json={**tei, "truncate": True})
        assert response.status_code == 200
        assert response.headers["x-longleaf-truncated"] == "0=1,1=13"
        short = {"query": QUESTION, "texts": ["the roof"], "truncation_direction": "left"}
        assert len(ask(url, "/rerank", short)) == 1

        vllm = {"query": QUESTION, "documents": [LONG]}
        assert "truncate_prompt_tokens" in str(ask(url, "/rerank", vllm, 400))
        for more in ({"truncate_prompt_tokens": -1}, {"max_tokens_per_doc": 3}):
            ask(url, "/rerank", {**vllm, **more})
        ask(url, "/rerank", {**vllm, "truncate_prompt_tokens": 9})
        assert cutting.seen == ["The landlord repairs the"]  # five of the nine are the query's
        left = {**vllm, "truncate_prompt_tokens": -1, "truncation_side": "left"}
        assert "truncation_side" in str(ask(url, "/rerank", left, 400))
        queried = httpx.post(f"{url}/rerank", json={**vllm, "max_tokens_per_query": 2})
        assert "query=3" in queried.headers["x-longleaf-truncated"]

        meta = ask(url, "/as/sglang/v1/rerank", {"query": QUESTION, "documents": [LONG]})[0]
        assert meta["meta_info"]["truncated_tokens"] == 13


def test_instructions_reach_the_model_and_priority_the_queue(tmp_path: Path) -> None:
    cutting = Cutting()
    with reading_for_others(tmp_path, cutting) as url:
        short = {"query": QUESTION, "documents": ["the roof"]}
        asked: list[tuple[str, dict[str, Any]]] = [
            ("/v1/rerank", {**short, "instruct": "words"}),
            ("/rerank", {**short, "instruction": "words"}),
            ("/rerank", {**short, "chat_template_kwargs": {"instruction": "words"}}),
            ("/v1/rerank", {**short, "instruction": "words", "model": "jina"}),
            (FLAT, {**short, "model": "m", "instruct": "words"}),
        ]
        for path, body in asked:
            cutting.heard = None
            ask(url, path, body)
            assert cutting.heard == "words", path
        ask(url, "/rerank", {**short, "priority": 5})
        assert cutting.was_bulk


@pytest.mark.parametrize(
    ("path", "body", "shape"),
    [
        ("/rerank", {"query": QUESTION, "texts": TEXTS}, TeiError),
        ("/rerank", DOCUMENTS, ErrorOutside),
        ("/score", {"text_1": QUESTION, "text_2": TEXTS}, ErrorOutside),
        ("/as/sglang/v1/rerank", DOCUMENTS, SglangError),
        (FLAT, {**DOCUMENTS, "model": "m"}, FlatError),
    ],
)
def test_overload_is_said_in_each_form(
    busy_url: str, path: str, body: dict[str, Any], shape: Any
) -> None:
    response = httpx.post(busy_url + path, json=body)
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")
    assert "1,000 texts wait" in str(shape.model_validate(response.json()))


@pytest.fixture(scope="module")
def busy_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with reading_for_others(tmp_path_factory.mktemp("busy"), Busy()) as url:
        yield url


def test_what_was_not_read_is_told_and_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    with reading_for_others(tmp_path, Late(2)) as url:
        response = httpx.post(f"{url}/rerank", json={"query": QUESTION, "texts": [*TEXTS, " "]})
        assert [each["index"] for each in response.json()] == [0, 1]
        assert response.headers["x-longleaf-unread"] == (
            "2,3: deadline reached; nothing in it to read"
        )
        scores = httpx.post(f"{url}/score", json={"text_1": QUESTION, "text_2": TEXTS})
        assert scores.status_code == 429 and "1 of 3 texts" in scores.text
        pairs = {"text_1": [QUESTION] * 3, "text_2": TEXTS}
        assert len(ask(url, "/score", pairs)["data"]) == 3
        empty = httpx.post(f"{url}/rerank", json={"query": QUESTION, "texts": ["", " "]})
        assert empty.status_code == 422 and "0,1" in empty.text
    with reading_for_others(tmp_path / "none", Late(0)) as url:
        nothing = httpx.post(f"{url}/rerank", json={"query": QUESTION, "texts": TEXTS})
        assert nothing.status_code == 429 and "reranker.deadline_ms" in nothing.text
        own = ask(url, "/v1/rerank", DOCUMENTS)
        assert own["results"] == [] and len(own["unread"]) == 3
