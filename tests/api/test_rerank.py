"""POST /v1/rerank: given texts are read as stored ones are, and what was not read is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from tests.api.conftest import Client
from tests.reranker.tiny import build_cross_encoder, one_torch_thread

from longleaf.api.app import create_app
from longleaf.api.http.guard import RERANK_BODY_BYTES
from longleaf.api.http.rerank_schemas import MAX_DOCUMENTS, RerankView
from longleaf.api.wire import Runtime
from longleaf.core.protocols import Reranker
from longleaf.reranker.cache import cached
from longleaf.reranker.crossencoder import CrossEncoderReranker

ROOF = "The landlord repairs the roof."
RENT = "The tenant pays the rent on the first day of each month."
FEVER = "Paracetamol lowered the temperature of children within two hours."
TEXTS = [FEVER, RENT, ROOF]
QUESTION = "who repairs the roof?"


def rerank(client: Client, documents: list[Any], status: int = 200, **options: Any) -> Any:
    body = {"query": QUESTION, "documents": documents, **options}
    response = client.post("/v1/rerank", json=body)
    assert response.status_code == status, response.text
    return response.json()


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reranker]:
    with one_torch_thread():
        folder = tmp_path_factory.mktemp("cross-encoder")
        yield CrossEncoderReranker(build_cross_encoder(folder), device="cpu")


@pytest.fixture
def reading(
    runtime: Runtime, cross_encoder: Reranker, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Client]:
    """The app with another reranker; the tiny CrossEncoder where none is given."""

    def with_one(reranker: Reranker | None = cross_encoder) -> Client:
        monkeypatch.setattr(runtime.engine, "reranker", reranker)
        return Client(create_app(runtime))

    return with_one


def test_texts_come_back_best_first_with_what_was_read(client: Client) -> None:
    answer = rerank(client, TEXTS, return_documents=True)
    assert answer["model"] == "late" and answer["unread"] == []
    assert answer["results"][0]["index"] == 2
    assert answer["results"][0]["document"] == {"text": ROOF}
    scores = [each["score"] for each in answer["results"]]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 3
    for each in answer["results"]:
        assert each["relevance_score"] == each["score"]
        assert each["tokens_read"] == each["tokens_total"] > 4 and each["truncated_tokens"] == 0
        assert (each["depth"], each["windows"], each["probability"]) == ("passage", 1, None)
    assert answer["usage"]["total_tokens"] == sum(r["tokens_read"] for r in answer["results"])
    assert answer["elapsed_ms"] > 0 and answer["id"]
    assert RerankView.model_validate(answer).model_dump(mode="json") == answer


def test_top_n_and_objects_with_text(client: Client) -> None:
    answer = rerank(client, [{"text": each} for each in TEXTS], top_n=1)
    (best,) = answer["results"]
    assert best["index"] == 2 and best["document"] is None and answer["unread"] == []
    titled = rerank(client, [{"text": RENT, "title": "Repairs of the roof"}, RENT])["results"]
    assert titled[0]["index"] == 0 and titled[0]["score"] > titled[1]["score"] + 0.05


def test_the_end_of_a_long_text_counts_as_its_beginning(client: Client) -> None:
    filler = f"{RENT} {FEVER} " * 40
    *both, without = rerank(client, [f"{ROOF} {filler}", f"{filler} {ROOF}", filler])["results"]
    assert without["index"] == 2
    first, last = both
    assert without["score"] + 0.1 < min(first["score"], last["score"])
    assert first["tokens_read"] == first["tokens_total"] > 900
    assert len(first["passage_scores"]) > 10
    # What is cut is told, and the end does not count then.
    cut = rerank(client, [f"{ROOF} {filler}", f"{filler} {ROOF}"], max_tokens_per_doc=50)
    assert [each["index"] for each in cut["results"]] == [0, 1]
    for each in cut["results"]:
        assert each["tokens_read"] == 50
        assert each["tokens_total"] == each["truncated_tokens"] + 50 > 900
    assert cut["results"][0]["score"] > cut["results"][1]["score"] + 0.1


def test_given_texts_score_as_the_same_stored_ones(client: Client, runtime: Runtime) -> None:
    found = client.search(QUESTION, collections=["law"], limit=20)
    stored = {hit["key"]: hit for hit in found["hits"]}
    passages = {}
    for key, hit in stored.items():
        listed = client.get(f"/v1/documents/{hit['document_id']}/passages").json()["passages"]
        passages[key] = {
            "title": hit["title"],
            "passages": [
                {name: each[name] for name in ("text", "headings", "start_char", "token_count")}
                for each in listed
            ],
        }
    answer = rerank(client, list(passages.values()))
    scores = {list(passages)[each["index"]]: each for each in answer["results"]}
    assert len(scores) >= 6
    for key, hit in stored.items():
        assert scores[key]["score"] == pytest.approx(hit["reading"]["score"], abs=0.002), key
        assert scores[key]["tokens_total"] == hit["reading"]["tokens_total"]


def test_a_cross_encoder_reads_what_it_is_given(
    reading: Callable[..., Client], cross_encoder: Reranker
) -> None:
    # With a cache around it: given texts have no ids to be kept under.
    client = reading(cached(cross_encoder, 100))
    one = rerank(client, ["patent licence", "court appeal lease"])
    other = rerank(client, ["court appeal lease", "gene cell"])
    score = (
        {r["index"]: r["score"] for r in one["results"]},
        {r["index"]: r["score"] for r in other["results"]},
    )
    assert score[0][1] == score[1][0]
    assert len({*score[0].values(), *score[1].values()}) == 3


def test_passages_are_read_one_by_one_and_the_best_counts(
    reading: Callable[..., Client],
) -> None:
    client = reading()
    words = ["patent licence", "court appeal", "gene cell"]
    alone = {r["index"]: r["score"] for r in rerank(client, words)["results"]}
    document = {"passages": [{"text": each} for each in words], "token_count": 900}
    (read,) = rerank(client, [document])["results"]
    assert read["passage_scores"] == [[n, alone[n]] for n in range(3)]
    assert read["score"] == max(alone.values())
    assert read["tokens_read"] == 6 and read["tokens_total"] == 900


def test_what_the_model_does_not_take_is_told(reading: Callable[..., Client]) -> None:
    document = {"passages": [{"text": "patent licence zzzzzzzzzz " * 6, "token_count": 100}]}
    (read,) = rerank(reading(), [document])["results"]
    assert read["truncated_tokens"] > 0
    assert read["tokens_read"] + read["truncated_tokens"] == 100


def test_the_reranker_that_answers_is_described(client: Client, runtime: Runtime) -> None:
    about = client.get("/v1/rerank").json()
    reranker = runtime.engine.reranker
    assert reranker is not None
    assert about["model"] == "late" and about["fingerprint"].startswith(reranker.fingerprint)
    # Whoever embeds the texts is a part of what they score.
    assert runtime.embedder.fingerprint in about["fingerprint"]
    assert rerank(client, TEXTS)["fingerprint"] == about["fingerprint"]
    assert about["min_score"] == reranker.min_score > 0  # type: ignore[operator]
    assert about["first_stage_weight"] == reranker.first_stage_weight
    assert about["document_limits"] == {"documents": 20, "tokens": 6_400, "beside": False}
    assert (about["max_documents"], about["max_body_bytes"]) == (MAX_DOCUMENTS, RERANK_BODY_BYTES)


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        ({"query": "  "}, 400, "empty"),
        ({"model": "qwen3"}, 400, "The reranker here is late"),
        ({"instruction": "Find laws"}, 400, "takes no instruction"),
        ({"documents": []}, 422, "documents"),
        ({"documents": ["x"] * (MAX_DOCUMENTS + 1)}, 422, "documents"),
        ({"documents": [{"title": "only"}]}, 422, "either text or passages"),
        ({"documents": [{"text": "x", "passages": [{"text": "x"}]}]}, 422, "either text or"),
        ({"documents": [{"text": "x", "depth": "document"}]}, 422, "are for passages"),
        ({"documents": [{"passages": []}]}, 422, "passages"),
        ({"documents": [7]}, 422, "documents"),
        ({"documents": [{"passages": [{}] * 16_385}]}, 422, "16,384"),
        ({"documents": [{"passages": [{}] * 9_000}] * 2}, 422, "18,000 passages are more"),
        ({"documents": [{"passages": [{}] * 9_000}]}, 422, "text"),
        ({"documents": None}, 400, "needs documents, query"),
        ({"top_n": -1}, 422, "top_n"),
        ({"top": 1}, 422, "unknown"),
        ({"deadline_ms": -1}, 422, "deadline_ms"),
        (
            {"documents": [{"passages": [{"text": "x"}]}], "max_tokens_per_doc": 5},
            400,
            "max_tokens_per_doc",
        ),
    ],
)
def test_what_makes_no_sense_is_a_problem(
    client: Client, options: dict[str, Any], status: int, told: str
) -> None:
    problem = rerank(client, **{"documents": TEXTS, "status": status, **options})
    assert told in json.dumps(problem)


def test_a_body_over_the_limit_is_refused_with_what_to_do(client: Client) -> None:
    problem = rerank(client, ["x" * RERANK_BODY_BYTES], 413)
    assert "fewer documents" in problem["hint"]
    # Larger than any other route takes.
    read = rerank(client, [{"passages": [{"text": "x" * 3_000_000, "token_count": 1}]}])
    assert read["results"][0]["truncated_tokens"] >= 0


def test_empty_and_unreadable_texts_are_listed(client: Client) -> None:
    answer = rerank(client, [ROOF, "", " \n ", "\u200b", {"passages": [{"text": " "}]}])
    assert [each["index"] for each in answer["results"]] == [0]
    assert answer["unread"] == [
        {"index": place, "reason": "nothing in it to read"} for place in (1, 2, 3, 4)
    ]


def test_half_a_surrogate_pair_is_read(client: Client) -> None:
    data = b'{"query": "roof \\ud800", "documents": ["the roof \\udfff", {"text": "\\ud800 rent"}]}'
    response = client.post("/v1/rerank", content=data, headers={"content-type": "application/json"})
    assert response.status_code == 200, response.text
    assert [each["index"] for each in response.json()["results"]] == [0, 1]


def test_a_deadline_and_a_token_budget_leave_the_rest_unread(
    reading: Callable[..., Client],
) -> None:
    client = reading()
    late = rerank(client, TEXTS * 100, deadline_ms=0.001)
    assert late["results"] == [] and len(late["unread"]) == 300
    assert {each["reason"] for each in late["unread"]} == {"deadline reached"}
    some = rerank(client, ["patent licence court"] * 5, max_tokens=5)
    assert [each["index"] for each in some["results"]] == [0, 1]
    assert {each["reason"] for each in some["unread"]} == {"token budget reached"}


def test_a_server_that_reads_nothing_says_so(reading: Callable[..., Client]) -> None:
    client = reading(None)
    assert "reranker.kind" in rerank(client, TEXTS, 404)["detail"]
    assert client.get("/v1/rerank").status_code == 404


def test_given_texts_never_take_what_is_stored_for_passages(
    reading: Callable[..., Client], cross_encoder: Reranker
) -> None:
    seen: list[int] = []

    class Spy:
        """Reads nothing, and looks at the ids."""

        def __getattr__(self, name: str) -> Any:
            return getattr(cross_encoder, name)

        def read(self, query: Any, inputs: Any, budget: Any) -> Iterator[Any]:
            seen.extend(p.passage_id for item in inputs for p in item.passages)
            return iter(())

    spy: Any = Spy()
    answer = rerank(reading(spy), [*TEXTS, {"passages": [{"text": "a"}, {"text": "b"}]}])
    assert len(seen) == len(set(seen)) == 5 and max(seen) < 0
    assert len(answer["unread"]) == 4


def test_many_ask_at_once_and_get_their_own(client: Client) -> None:
    expected = {n: rerank(client, [TEXTS[n]])["results"][0]["score"] for n in range(3)}

    async def ask(asking: httpx.AsyncClient, n: int) -> float:
        body = {"query": QUESTION, "documents": [TEXTS[n % 3]]}
        answer = (await asking.post("/v1/rerank", json=body)).json()
        return float(answer["results"][0]["score"])

    async def ask_all() -> list[float]:
        async with client.open() as asking:
            return await asyncio.gather(*(ask(asking, n) for n in range(9)))

    found = dict(enumerate(asyncio.run(ask_all())))
    assert found == {n: pytest.approx(expected[n % 3], abs=1e-6) for n in range(9)}
