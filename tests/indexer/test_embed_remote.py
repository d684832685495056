"""Embedding elsewhere: the vectors are those of here, and nonsense is refused by name."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.remote.openai import Embeddings
from tests.remote.servers import Answer, Server, served

from longleaf.core.errors import (
    ConfigError,
    LongleafError,
    ModelUnavailable,
    RemoteRefused,
    RemoteUnavailable,
)
from longleaf.core.types import EmbedInput, PassageVectors
from longleaf.indexer.embed_remote import PROBE, RemoteEmbedder

if TYPE_CHECKING:
    from longleaf.indexer.embed import MiniLMEmbedder

INPUTS = [
    EmbedInput("Lease. Repairs", "The landlord repairs the roof.", keep_prefix=True),
    EmbedInput("", "  Force majeure suspends the obligation to pay. "),
    EmbedInput("Trial", "Serum IL-6 was raised in patients with severe asthma " * 3, 20),
    EmbedInput("A title", "half of a pair \ud800 and Größe, 契約"),
    EmbedInput("What ends?", "x"),
]


@pytest.fixture
def service(minilm: MiniLMEmbedder) -> Embeddings:
    return Embeddings(minilm)


@pytest.fixture
def server(service: Embeddings) -> Iterator[Server]:
    with served(service) as opened:
        yield opened


Make = Callable[..., RemoteEmbedder]


@pytest.fixture
def make(server: Server) -> Iterator[Make]:
    made: list[RemoteEmbedder] = []

    def open_one(**options: Any) -> RemoteEmbedder:
        options = {"model": "mini", "sleep": lambda _: None, **options}
        embedder = RemoteEmbedder(server.url, **options)
        made.append(embedder)
        return embedder

    yield open_one
    for each in made:
        each.close()


def embedded(embedder: Any, inputs: list[EmbedInput] = INPUTS) -> list[PassageVectors]:
    return list(embedder.embed_passages(iter(inputs)))


@pytest.mark.parametrize("only_floats", [False, True])
def test_the_vectors_are_those_of_the_model(
    make: Make, minilm: MiniLMEmbedder, service: Embeddings, only_floats: bool
) -> None:
    service.only_floats = only_floats
    remote = make(request_texts=2)
    here, there = embedded(minilm), embedded(remote)
    for mine, theirs in zip(here, there, strict=True):
        assert float(mine.dense @ theirs.dense) > 0.9999
        assert np.linalg.norm(theirs.dense) == pytest.approx(1.0, abs=1e-6)
        assert theirs.dense.dtype == np.float32 and theirs.dense.shape == (384,)
        assert theirs.token_codes.shape == (0, 0) and theirs.truncated_tokens == 0
    query = remote.embed_query(" who repairs the roof? ")
    assert float(query.dense @ minilm.embed_query("who repairs the roof?").dense) > 0.9999
    assert query.tokens.shape == (0, 0)
    assert (remote.dim, remote.token_dim, remote.takes_instruction) == (384, 0, False)
    assert remote.name == "mini" and "mini at http" in remote.where


def test_requests_hold_so_many_texts_and_one_is_made_at_the_start(
    make: Make, server: Server
) -> None:
    remote = make(request_texts=2)
    assert [body["input"] for _, body in server.asked] == [[PROBE]]
    embedded(remote)
    assert [len(body["input"]) for _, body in server.asked] == [1, 2, 2, 1]
    assert {body["encoding_format"] for _, body in server.asked} == {"base64"}
    assert len(server.connections) == 1


def test_prompts_stand_in_front_and_an_instruction_takes_their_place(
    make: Make, service: Embeddings
) -> None:
    remote = make(query_prompt="Instruct: Find laws\nQuery:", passage_prompt="passage: ")
    assert remote.takes_instruction
    service.texts.clear()
    embedded(remote, INPUTS[:1])
    remote.embed_query("roof")
    remote.embed_query("roof", "Find leases")
    assert service.texts == [
        "passage: Lease. Repairs. The landlord repairs the roof.",
        "Instruct: Find laws\nQuery:roof",
        "Instruct: Find leases\nQuery:roof",
    ]


def test_a_long_prefix_gives_way_to_48_tokens(make: Make, service: Embeddings) -> None:
    remote = make()
    service.texts.clear()
    embedded(remote, [EmbedInput("roof " * 100, "The text.")])
    assert service.texts == ["roof " * 48 + "The text."]


def test_the_fingerprint_covers_what_a_vector_is_and_nothing_else(
    make: Make, minilm: MiniLMEmbedder, service: Embeddings, tmp_path: Path
) -> None:
    first = make().fingerprint
    assert make(request_texts=3, timeout_seconds=5, api_key="k").fingerprint == first
    others = [
        make(query_prompt="query: ").fingerprint,
        make(passage_prompt="query: ").fingerprint,
        make(dimensions=128).fingerprint,
    ]
    service.model = "mini-2"
    others.append(make(model="mini-2").fingerprint)
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text(minilm.tokenizer_file.read_text() + "\n")
    others.append(make(model="mini-2", tokenizer_file=tmp_path).fingerprint)
    assert len({first, *others}) == 6
    with served(Embeddings(minilm)) as elsewhere:
        assert RemoteEmbedder(elsewhere.url + "/v1/embeddings", "mini").fingerprint == first


def test_dimensions_are_asked_for_and_checked(make: Make, service: Embeddings) -> None:
    short = make(dimensions=128)
    assert short.dim == 128
    assert np.linalg.norm(short.embed_query("roof").dense) == pytest.approx(1.0, abs=1e-6)

    def ignores(answer: dict[str, Any]) -> dict[str, Any]:
        whole = np.ones(384, "<f4").tobytes()
        return {**answer, "data": [{"index": 0, "embedding": base64.b64encode(whole).decode()}]}

    service.change = ignores
    with pytest.raises(ConfigError, match=r"384 dimensions .* not the 128"):
        make(dimensions=128)


def test_shuffled_answers_are_put_in_order(make: Make, service: Embeddings) -> None:
    remote = make()
    straight = embedded(remote)
    service.change = lambda answer: {**answer, "data": answer["data"][::-1]}
    for one, other in zip(straight, embedded(remote), strict=True):
        assert float(one.dense @ other.dense) > 0.99999


def _data(change: Callable[[list[Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda answer: {**answer, "data": change(answer["data"])}


def _vector(values: Any) -> Callable[[dict[str, Any]], Any]:
    return _data(lambda data: [{**data[0], "embedding": values}, *data[1:]])


NONSENSE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "too few": (_data(lambda data: data[1:]), "5 texts and answered for 4"),
    "too many": (_data(lambda data: [*data, data[0]]), "5 texts and answered for 6"),
    "one twice": (_data(lambda data: [data[0], *data[:4]]), "5 texts and answered"),
    "no index": (_data(lambda data: [{"embedding": d["embedding"]} for d in data]), "answered"),
    "true as index": (_data(lambda d: [d[0], {**d[1], "index": True}, *d[2:]]), "answered"),
    "no data": (lambda _: {"object": "list"}, "no list of embeddings"),
    "a list": (lambda answer: answer["data"], "no list of embeddings"),
    "words": (_data(lambda data: ["a"] * len(data)), "no list of embeddings"),
    "nan": (_vector([float("nan")] * 384), "not made of finite numbers"),
    "infinite": (_vector([1e999] * 384), "not made of finite numbers"),
    "zero": (_vector([0.0] * 384), "zero everywhere"),
    "nothing": (_vector([]), "not made of finite numbers"),
    "other dims": (_vector([1.0] * 12), "different dimensions"),
    "strings": (_vector(["1"] * 384), "neither base64 nor a list of numbers"),
    "null": (_vector(None), "neither base64 nor a list of numbers"),
    "not base64": (_vector("%%%"), "cannot be read"),
    "half a float": (_vector("AAAA"), "cannot be read"),
    "another model": (lambda answer: {**answer, "model": "maxi"}, "the model 'maxi' now"),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_refused(make: Make, service: Embeddings, kind: str) -> None:
    remote = make()
    service.change, told = NONSENSE[kind]
    with pytest.raises(RemoteRefused, match=told) as raised:
        embedded(remote)
    assert "roof" not in str(raised.value)


def test_all_vectors_of_other_dimensions_are_refused_later(make: Make, service: Embeddings) -> None:
    remote = make()
    service.change = _data(lambda data: [{**each, "embedding": [1.0, 2.0]} for each in data])
    with pytest.raises(RemoteRefused, match="384 dimensions and have 2 now"):
        embedded(remote)


def test_huge_numbers_keep_their_direction(make: Make, service: Embeddings) -> None:
    remote = make()
    service.change = _vector([3e200, 4e200, *[0.0] * 382])
    (found,) = embedded(remote, INPUTS[:1])
    assert found.dense[:3].tolist() == pytest.approx([0.6, 0.8, 0.0])


def test_what_is_too_long_is_halved_and_counted(
    make: Make, service: Embeddings, minilm: MiniLMEmbedder
) -> None:
    remote = make(passage_prompt="passage: ")
    service.most_chars = 400
    long = "The tenant pays the rent. " * 40  # 1,040 characters, 240 tokens
    found = embedded(remote, [INPUTS[0], EmbedInput("Lease", long), INPUTS[1]])
    assert [each.truncated_tokens for each in found][::2] == [0, 0]
    sent = max(service.texts, key=len)
    assert sent.startswith("passage: Lease. The tenant pays") and len(sent) <= 400
    kept = len(minilm.tokenizer.encode(sent[len("passage: Lease. ") :], add_special_tokens=False))
    assert found[1].truncated_tokens == 240 - kept > 100
    query = remote.embed_query(long)
    assert 0 < query.truncated_tokens < 240


def test_what_is_refused_however_short_is_an_error(make: Make, service: Embeddings) -> None:
    remote = make()
    service.most_chars = 0
    with pytest.raises(RemoteRefused, match="status 400") as raised:
        remote.embed_query("The tenant pays the rent. " * 40)
    assert "tenant" not in str(raised.value)


def test_cuts_in_silence_are_warned_of_once(
    make: Make, service: Embeddings, caplog: pytest.LogCaptureFixture
) -> None:
    remote = make()
    service.change = lambda answer: {**answer, "usage": {"prompt_tokens": 20}}
    with caplog.at_level(logging.WARNING):
        embedded(remote)
        embedded(remote)
    (record,) = caplog.records
    assert "read 20 tokens of about" in record.getMessage()
    assert "roof" not in record.getMessage()


def test_one_cut_token_shows_where_the_tokenizer_is_the_models(
    make: Make, service: Embeddings, caplog: pytest.LogCaptureFixture, minilm: MiniLMEmbedder
) -> None:
    remote = make(tokenizer_file=minilm.tokenizer_file)

    def one_less(answer: dict[str, Any]) -> dict[str, Any]:
        read = answer["usage"]["prompt_tokens"]
        return {**answer, "usage": {"prompt_tokens": read - 1}}

    service.change = one_less
    with caplog.at_level(logging.WARNING):
        embedded(remote)
    assert len(caplog.records) == 1


def test_a_query_waits_no_longer_than_it_may(make: Make, service: Embeddings) -> None:
    waits: list[float] = []
    remote = make(query_timeout_seconds=5.0, sleep=waits.append)
    service.says = Answer(status=429, headers={"Retry-After": "59"})
    with pytest.raises(RemoteUnavailable):
        remote.embed_query("roof")
    assert waits == []


def test_no_warning_where_all_was_read(
    make: Make, caplog: pytest.LogCaptureFixture, minilm: MiniLMEmbedder
) -> None:
    with caplog.at_level(logging.WARNING):
        embedded(make())
        embedded(make(tokenizer_file=minilm.tokenizer_file))
    assert caplog.records == []


@pytest.mark.parametrize(
    "says",
    [Answer(status=500), Answer({}, 401), Answer({}, 404), Answer(b"nonsense"), Answer([])],
)
def test_a_service_that_does_not_embed_is_told_at_the_start(
    make: Make, service: Embeddings, says: Answer
) -> None:
    service.says = says
    with pytest.raises(LongleafError) as raised:
        make(api_key="sk-secret")
    assert "127.0.0.1" in raised.value.message and "sk-secret" not in str(raised.value)


def test_a_service_that_is_started_again_loses_nothing(make: Make, service: Embeddings) -> None:
    remote = make(request_texts=1)
    failures = iter([True, True, True, False, False, True, False])

    def now_and_then(path: str, body: Any) -> Answer:
        return Answer(status=503) if next(failures, False) else service(path, body)

    with served(now_and_then) as flaky:
        remote._distant.url = flaky.url + "/v1"
        assert len(embedded(remote)) == len(INPUTS)
        assert len(flaky.asked) == len(INPUTS) + 4
        remote.close()


def test_a_tokenizer_that_is_none_is_told(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"embedder\.tokenizer"):
        make(tokenizer_file=tmp_path)
