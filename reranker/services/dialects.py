"""What each rerank service speaks, as one table: where it is asked, with what, what comes back.

Pure: it builds bodies and names fields, and asks nobody. Limits are the services' documented ones
in the model's own tokens; a setting may lower or raise them, and what a server says of itself goes
before the table (`About`). A service that would cut in silence is told to refuse where it can be;
for the others `cuts_silently` is set, and probing looks how much they read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from longleaf.reranker.instructions import instruction_text
from longleaf.reranker.qwen3.template import TAIL, question_part
from longleaf.reranker.services.service import About, Limits, Question, Service

_CONTROL = re.compile(r"<(?=\|\w+\|>|/?(?:think|tool_call|tool_response)>)")


def _with(body: dict[str, Any], **more: str | None) -> dict[str, Any]:
    """`body` and those of `more` that say anything."""
    return body | {name: value for name, value in more.items() if value}


def _cohere(question: Question, texts: Sequence[str]) -> dict[str, Any]:
    return {
        "model": question.model,
        "query": question.text,
        "documents": list(texts),
        "max_tokens_per_doc": question.item_tokens,  # unsaid, it cuts at 4,096
    }


def _jina(question: Question, texts: Sequence[str]) -> dict[str, Any]:
    return {
        "model": question.model,
        "query": question.text,
        "documents": list(texts),
        "return_documents": False,
    }


def _voyage(question: Question, texts: Sequence[str]) -> dict[str, Any]:
    return _jina(question, texts) | {"truncation": False}


def _tei(question: Question, texts: Sequence[str]) -> dict[str, Any]:
    return {
        "query": question.text,
        "texts": list(texts),
        "truncate": False,
        "raw_scores": True,  # which tie less than their sigmoids
        "return_text": False,
    }


def _vllm(question: Question, texts: Sequence[str]) -> dict[str, Any]:
    return _with(
        {"query": question.text, "documents": list(texts)},
        model=question.model,
        instruction=question.instruction,
    )


def _vllm_score(question: Question, texts: Sequence[str]) -> dict[str, Any]:
    return _with(
        {"text_1": question.text, "text_2": list(texts)},
        model=question.model,
        instruction=question.instruction,
    )


def _vllm_qwen3(question: Question, texts: Sequence[str]) -> dict[str, Any]:
    """Query and text in the model's own form: joined, as vLLM joins them where it was given no
    template, they are `template.whole_prompt`."""
    words = question.instruction or instruction_text(None)
    asked = question_part(_letters(words), _letters(question.text))
    return _with(
        {"text_1": asked, "text_2": [f" {_letters(text)}{TAIL}" for text in texts]},
        model=question.model,
    )


def _letters(text: str) -> str:
    """What somebody wrote, without control tokens: a space parts what the server would take for
    one."""
    return _CONTROL.sub("< ", text)


def _sglang(question: Question, texts: Sequence[str]) -> dict[str, Any]:
    return _with(
        {"query": question.text, "documents": list(texts), "return_documents": False},
        model=question.model,
        instruct=question.instruction,
    )


def _infinity(question: Question, texts: Sequence[str]) -> dict[str, Any]:
    return _with(
        {"query": question.text, "documents": list(texts), "return_documents": False},
        model=question.model,
    )


def _dashscope(question: Question, texts: Sequence[str]) -> dict[str, Any]:
    return {
        "model": question.model,
        "input": {"query": question.text, "documents": list(texts)},
        "parameters": _with({"return_documents": False}, instruct=question.instruction),
    }


def _dashscope_flat(question: Question, texts: Sequence[str]) -> dict[str, Any]:
    return _with(
        {"model": question.model, "query": question.text, "documents": list(texts)},
        instruct=question.instruction,
    )


def _of_tei(told: Any, _model: str) -> Mapping[str, int]:
    return {
        "item_tokens": int(told["max_input_length"]),
        "request_documents": int(told["max_client_batch_size"]),
    }


def _of_vllm(told: Any, model: str) -> Mapping[str, int]:
    served = [each for each in told["data"] if model in ("", each["id"])]
    return {"item_tokens": int(served[0]["max_model_len"])}


_VLLM = Limits(request_documents=64, item_tokens=8_192)
_SAYS_ITS_LENGTH = About("/v1/models", _of_vllm)
_MODEL_STUDIO = Limits(
    request_documents=100,  # it takes 500
    item_tokens=4_000,
    request_tokens=120_000,
    query_tokens=4_000,
    counts_query=False,
)

SERVICES: Mapping[str, Service] = {
    each.name: each
    for each in (
        Service(
            "cohere",
            "/v2/rerank",
            _cohere,
            ("results",),
            "relevance_score",
            # It takes 10,000 documents, counts hundreds as one unit, and 32,000 tokens with v4.
            Limits(request_documents=100, item_tokens=4_096, query_tokens=2_048),
            needs_model=True,
            cuts_silently=True,
        ),
        Service(
            "jina",
            "/v1/rerank",
            _jina,
            ("results",),
            "relevance_score",
            Limits(request_documents=64, item_tokens=1_024),
            needs_model=True,
            cuts_silently=True,
        ),
        Service(
            "voyage",
            "/v1/rerank",
            _voyage,
            ("data",),
            "relevance_score",
            # It takes 1,000 documents.
            Limits(
                request_documents=100,
                item_tokens=32_000,
                request_tokens=600_000,
                query_tokens=8_000,
            ),
            needs_model=True,
        ),
        Service(
            "tei",
            "/rerank",
            _tei,
            (),
            "score",
            Limits(request_documents=32, item_tokens=512),
            meaning="logit",
            about=About("/info", _of_tei),
        ),
        Service(
            "vllm",
            "/v1/rerank",
            _vllm,
            ("results",),
            "relevance_score",
            _VLLM,
            meaning="probability",
            takes_instruction=True,
            about=_SAYS_ITS_LENGTH,
        ),
        Service(
            "vllm-score",
            "/score",
            _vllm_score,
            ("data",),
            "score",
            _VLLM,
            meaning="probability",
            takes_instruction=True,
            about=_SAYS_ITS_LENGTH,
        ),
        Service(
            "vllm-qwen3",
            "/score",
            _vllm_qwen3,
            ("data",),
            "score",
            _VLLM,
            meaning="probability",
            takes_instruction=True,
            about=_SAYS_ITS_LENGTH,
        ),
        Service(
            "sglang",
            "/v1/rerank",
            _sglang,
            (),
            "score",
            Limits(request_documents=64, item_tokens=8_192),
            takes_instruction=True,
        ),
        Service(
            "infinity",
            "/rerank",
            _infinity,
            ("results",),
            "relevance_score",
            Limits(request_documents=64, item_tokens=512),
            meaning="probability",
            cuts_silently=True,
        ),
        Service(
            "llama.cpp",
            "/v1/rerank",
            _vllm,
            ("results",),
            "relevance_score",
            # Its physical batch (--ubatch-size) bounds a text, and is 512 unless told otherwise.
            Limits(request_documents=32, item_tokens=512),
            takes_instruction=True,
        ),
        Service(
            "dashscope",
            "/api/v1/services/rerank/text-rerank/text-rerank",
            _dashscope,
            ("output", "results"),
            "relevance_score",
            _MODEL_STUDIO,
            takes_instruction=True,
            needs_model=True,
            cuts_silently=True,
        ),
        Service(
            "dashscope-flat",
            "/compatible-api/v1/reranks",
            _dashscope_flat,
            ("results",),
            "relevance_score",
            _MODEL_STUDIO,
            takes_instruction=True,
            needs_model=True,
            cuts_silently=True,
        ),
    )
}
"""By the name of the dialect; all of `core.reranker_settings.DIALECTS` but longleaf."""
