"""Rerank services for tests: each dialect over real HTTP, with a reader that counts words.

What they take and answer is written from the services' documents and clients, and not from our
table: a field that they do not know is refused, so that a typing mistake of ours shows.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.remote.servers import Answer

from longleaf.reranker.qwen3.check import PROBES

_PROMPT = re.compile(
    r"<\|im_start\|>system\nJudge whether .* \"yes\" or \"no\"\.<\|im_end\|>\n<\|im_start\|>user\n"
    r"<Instruct>: (?P<instruction>.*)\n<Query>: (?P<query>.*)\n<Document>: (?P<text>.*)"
    r"<\|im_end\|>\n<\|im_start\|>assistant\n<think>\n\n</think>\n\n",
    re.DOTALL,
)
_PROBES = {each.query for each in PROBES}
DEFAULT = "Given a web search query, retrieve relevant passages that answer the query"

Scored = list[tuple[int, Any]]


def words(text: str) -> list[str]:
    """In lower case, without the shortest."""
    return [word for word in re.findall(r"\w+", text.lower()) if len(word) > 2]


def overlap(query: str, text: str, instruction: str = DEFAULT) -> float:
    """The query's words in the text, by its length: 0 to 1. An instruction moves it a little."""
    wanted, found = set(words(query)), words(text)
    hits = sum(word in wanted for word in found)
    return (hits + 0.01) / (len(found) + 5.0) * (1.0 + len(instruction) / 1000.0) / 2.0


def nonsense(query: str, text: str, instruction: str = DEFAULT) -> float:
    """What a model without its template gives: a number that depends on the text, and nothing."""
    return int(hashlib.sha256(f"{query}|{text}".encode()).hexdigest()[:8], 16) / 16**8


@dataclass(slots=True)
class Asked:
    """A request as the service understood it."""

    query: str
    texts: list[str]
    instruction: str = DEFAULT
    most_tokens: int | None = None
    may_cut: bool = False


_NOISE = itertools.cycle([0.3, -0.4, 0.9, -0.8, 0.1, -0.5, 0.6, -1.0])


class Refusal(Exception):
    """An error of the service's, with its status and body."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.answer = Answer(body, status)


class RerankServer:
    """`say` of `servers.served`. `most_tokens`: words of query and text that its model takes.

    `change` spoils scores (a list of (index, score)), `spoil` a whole answer, `says` is said
    instead of any answer, `sleeps` in seconds comes before each answer but those to the probes of
    a start. `has_template`: a vLLM that was started with the model's chat template. `jitter`: what
    scores of a GPU are apart, asked twice.
    """

    def __init__(
        self,
        dialect: str,
        *,
        most_tokens: int = 100_000,
        most_documents: int = 1_000,
        has_template: bool = True,
        takes_instruction: bool = True,
        refuses_instruction: bool = False,
        jitter: float = 0.0,
    ) -> None:
        self.dialect = dialect
        self.most_tokens = most_tokens
        self.most_documents = most_documents
        self.has_template = has_template
        self.takes_instruction = takes_instruction
        self.refuses_instruction = refuses_instruction
        self.change: Callable[[Scored], Scored] = lambda scored: scored
        self.spoil: Callable[[Any], Any] = lambda answer: answer
        self.says: Answer | None = None
        self.sleeps = 0.0
        self.jitter = jitter
        self.model_named = "m"
        self.asked: list[Asked] = []
        """Without those of a start."""

    def __call__(self, path: str, body: Any) -> Answer:
        if body is None:
            return self._about(path)
        try:
            asked = _DIALECTS[self.dialect].read(self, path, body)
            if self.refuses_instruction and re.search(r'"instruct(ion)?"', json.dumps(body)):
                raise Refusal(400, {"message": "this model takes no instruction"})
            is_probe = asked.query in _PROBES
            if not is_probe:
                self.asked.append(asked)
                time.sleep(self.sleeps)
            if self.says is not None:
                return self.says
            right = self._scored(asked)
            noisy = [(place, score + self.jitter * next(_NOISE)) for place, score in right]
            scored = self.change(noisy)
        except Refusal as refusal:
            return refusal.answer
        tokens = sum(len(asked.query.split()) + len(text.split()) for text in asked.texts)
        return Answer(self.spoil(_DIALECTS[self.dialect].write(self, asked, scored, tokens)))

    def _scored(self, asked: Asked) -> Scored:
        if len(asked.texts) > self.most_documents:
            raise Refusal(413, {"error": "batch size is too large", "error_type": "Validation"})
        found: Scored = []
        read = overlap if self.has_template else nonsense
        instruction = asked.instruction if self.takes_instruction else DEFAULT
        for place, text in enumerate(asked.texts):
            room = self.most_tokens - len(asked.query.split())
            if asked.most_tokens is not None:
                room = min(room, asked.most_tokens)
            spaced = text.split()
            if len(spaced) > room:
                if not asked.may_cut:
                    raise Refusal(*_DIALECTS[self.dialect].too_long)
                text = " ".join(spaced[:room])
            found.append((place, read(asked.query, text, instruction)))
        return sorted(found, key=lambda each: -each[1])

    def _about(self, path: str) -> Answer:
        if self.dialect == "tei" and path == "/info":
            said = {
                "model_id": "m",
                "max_input_length": self.most_tokens,
                "max_client_batch_size": self.most_documents,
            }
            return Answer(said)
        if self.dialect.startswith("vllm") and path == "/v1/models":
            return Answer({"data": [{"id": "m", "max_model_len": self.most_tokens}]})
        return Answer({"detail": "Not Found"}, 404)


def _fields(body: Any, needed: Sequence[str], others: Sequence[str] = ()) -> None:
    unknown = body.keys() - {*needed, *others}
    missing = set(needed) - body.keys()
    if unknown or missing:
        raise Refusal(422, {"message": f"unknown {sorted(unknown)}, missing {sorted(missing)}"})


def _at(path: str, expected: str) -> None:
    if path != expected:
        raise Refusal(404, {"detail": "Not Found"})


def _read_cohere(_: RerankServer, path: str, body: Any) -> Asked:
    _at(path, "/v2/rerank")
    _fields(body, ("model", "query", "documents"), ("top_n", "max_tokens_per_doc", "priority"))
    most = body.get("max_tokens_per_doc", 4096)
    return Asked(body["query"], body["documents"], most_tokens=most, may_cut=True)


def _read_jina(_: RerankServer, path: str, body: Any) -> Asked:
    _at(path, "/v1/rerank")
    _fields(body, ("model", "query", "documents"), ("top_n", "return_documents"))
    return Asked(body["query"], body["documents"], may_cut=True)


def _read_voyage(_: RerankServer, path: str, body: Any) -> Asked:
    _at(path, "/v1/rerank")
    _fields(body, ("model", "query", "documents"), ("top_k", "return_documents", "truncation"))
    return Asked(body["query"], body["documents"], may_cut=body.get("truncation", True))


def _read_tei(_: RerankServer, path: str, body: Any) -> Asked:
    _at(path, "/rerank")
    others = ("truncate", "truncation_direction", "raw_scores", "return_text")
    _fields(body, ("query", "texts"), others)
    assert body["raw_scores"] is True
    return Asked(body["query"], body["texts"], may_cut=body.get("truncate", False))


def _read_vllm(server: RerankServer, path: str, body: Any) -> Asked:
    _at(path, "/v1/rerank")
    _fields(body, ("query", "documents"), ("model", "top_n", "instruction"))
    return Asked(body["query"], body["documents"], body.get("instruction", DEFAULT))


def _read_vllm_score(server: RerankServer, path: str, body: Any) -> Asked:
    _at(path, "/score")
    _fields(body, ("text_1", "text_2"), ("model", "instruction"))
    return Asked(body["text_1"], body["text_2"], body.get("instruction", DEFAULT))


def _read_vllm_qwen3(server: RerankServer, path: str, body: Any) -> Asked:
    """A vLLM that was given no template joins the two and reads that; in the model's form it is
    as good as one with it."""
    _at(path, "/score")
    _fields(body, ("text_1", "text_2"), ("model",))
    parts = [_PROMPT.fullmatch(body["text_1"] + text) for text in body["text_2"]]
    if not all(parts):
        raise Refusal(400, {"message": "not in the model's form"})
    whole = [part for part in parts if part]
    return Asked(whole[0]["query"], [each["text"] for each in whole], whole[0]["instruction"])


def _read_sglang(_: RerankServer, path: str, body: Any) -> Asked:
    _at(path, "/v1/rerank")
    others = ("model", "instruct", "top_n", "return_documents")
    _fields(body, ("query", "documents"), others)
    return Asked(body["query"], body["documents"], body.get("instruct", DEFAULT))


def _read_infinity(_: RerankServer, path: str, body: Any) -> Asked:
    _at(path, "/rerank")
    others = ("model", "return_documents", "raw_scores", "top_n")
    _fields(body, ("query", "documents"), others)
    return Asked(body["query"], body["documents"], may_cut=True)


def _read_dashscope(_: RerankServer, path: str, body: Any) -> Asked:
    _at(path, "/api/v1/services/rerank/text-rerank/text-rerank")
    _fields(body, ("model", "input"), ("parameters",))
    _fields(body["input"], ("query", "documents"))
    parameters = body.get("parameters", {})
    _fields(parameters, (), ("return_documents", "top_n", "instruct"))
    return _of_model_studio(body["input"], parameters)


def _read_dashscope_flat(_: RerankServer, path: str, body: Any) -> Asked:
    _at(path, "/compatible-api/v1/reranks")
    _fields(body, ("model", "query", "documents"), ("top_n", "instruct"))
    return _of_model_studio(body, body)


def _of_model_studio(asked: Any, parameters: Any) -> Asked:
    query, documents = asked["query"], asked["documents"]
    tokens = len(query.split()) * len(documents) + sum(len(each.split()) for each in documents)
    if len(documents) > 500 or tokens > 120_000:
        raise Refusal(400, {"code": "InvalidParameter", "message": "Range of input length"})
    instruction = parameters.get("instruct", DEFAULT)
    return Asked(query, documents, instruction, most_tokens=4_000, may_cut=True)


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _relevance(scored: Scored) -> list[dict[str, Any]]:
    return [{"index": place, "relevance_score": score} for place, score in scored]


def _scores(scored: Scored, **more: Any) -> list[dict[str, Any]]:
    return [{"index": place, "score": score, **more} for place, score in scored]


def _write_cohere(_: RerankServer, asked: Asked, scored: Scored, tokens: int) -> Any:
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    return {"id": "1", "results": _relevance(scored), "meta": meta}


def _write_results(server: RerankServer, asked: Asked, scored: Scored, tokens: int) -> Any:
    results = _relevance(scored)
    if server.dialect == "vllm":
        results = [{**each, "document": {"text": "...", "multi_modal": None}} for each in results]
    return {"model": server.model_named, "usage": _usage(tokens), "results": results}


def _write_voyage(server: RerankServer, asked: Asked, scored: Scored, tokens: int) -> Any:
    return {
        "object": "list",
        "data": _relevance(scored),
        "model": server.model_named,
        "usage": {"total_tokens": tokens},
    }


def _write_tei(_: RerankServer, asked: Asked, scored: Scored, tokens: int) -> Any:
    # Logits: any growing function of the scores.
    return _scores([(place, 8.0 * score - 2.0) for place, score in scored])


def _write_vllm_score(server: RerankServer, asked: Asked, scored: Scored, tokens: int) -> Any:
    return {
        "id": "score-1",
        "object": "list",
        "model": server.model_named,
        "data": sorted(_scores(scored, object="score"), key=lambda each: str(each["index"])),
        "usage": _usage(tokens),
    }


def _write_sglang(_: RerankServer, asked: Asked, scored: Scored, tokens: int) -> Any:
    return _scores(scored, document=None, meta_info=None)


def _write_dashscope(_: RerankServer, asked: Asked, scored: Scored, tokens: int) -> Any:
    usage = {"total_tokens": tokens}
    return {"request_id": "1", "output": {"results": _relevance(scored)}, "usage": usage}


@dataclass(frozen=True, slots=True)
class _Dialect:
    read: Callable[[RerankServer, str, Any], Asked]
    write: Callable[[RerankServer, Asked, Scored, int], Any]
    too_long: tuple[int, Any] = (400, {"message": "nobody is told"})


_DIALECTS = {
    "cohere": _Dialect(_read_cohere, _write_cohere),
    "jina": _Dialect(_read_jina, _write_results),
    "voyage": _Dialect(
        _read_voyage,
        _write_voyage,
        (400, {"detail": "The example exceeds the context length of the model."}),
    ),
    "tei": _Dialect(
        _read_tei,
        _write_tei,
        (413, {"error": "`inputs` must have less than 9 tokens.", "error_type": "Validation"}),
    ),
    **{
        name: _Dialect(
            read,
            write,
            (400, {"error": {"message": "This model's maximum context length is 9 tokens."}}),
        )
        for name, read, write in (
            ("vllm", _read_vllm, _write_results),
            ("vllm-score", _read_vllm_score, _write_vllm_score),
            ("vllm-qwen3", _read_vllm_qwen3, _write_vllm_score),
        )
    },
    "sglang": _Dialect(
        _read_sglang,
        _write_sglang,
        (400, {"message": "The input (9 tokens) is longer than the model's context length."}),
    ),
    "infinity": _Dialect(_read_infinity, _write_results),
    "llama.cpp": _Dialect(
        _read_vllm,
        _write_results,
        (500, {"error": {"code": 500, "message": "input (9 tokens) is too large to process."}}),
    ),
    "dashscope": _Dialect(_read_dashscope, _write_dashscope),
    "dashscope-flat": _Dialect(_read_dashscope_flat, _write_results),
}
DIALECTS = sorted(_DIALECTS)
