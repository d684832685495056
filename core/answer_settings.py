"""Settings of answers in words: which chat service writes them, and how much it is sent.

Part of the tree in `config`, which reads it. Nothing is sent anywhere until `answer.url` is set,
and then only when somebody asks for an answer.
"""

from __future__ import annotations

from pydantic import Field

from longleaf.core.store_settings import SECRET, Section


class AnswerSettings(Section):
    """Who writes answers from the passages that were found (docs/answers.md)."""

    url: str = Field(
        "",
        description="A service with OpenAI's /v1/chat/completions, http(s)://HOST:PORT (or with "
        "/v1, or another path). Question and passages of an answer go there. Empty: no answers.",
    )
    model: str = Field("", description="What the service calls its model.")
    api_key: str = Field(
        "", repr=False, json_schema_extra=SECRET, description="The service's key, if it wants one."
    )
    timeout_seconds: float = Field(
        120.0,
        gt=0,
        le=3600,
        description="Longest that an answer may take in all, search and waiting in line included; "
        "what was written by then is kept and said to be cut.",
    )
    max_sources: int = Field(
        10, ge=1, le=50, description="Passages that are sent with one question."
    )
    max_tokens_context: int = Field(
        2_500,
        ge=64,
        le=1_000_000,
        description="Tokens of passages that are sent (the embedding model's; other models count "
        "differently). Instructions (260), the lines around each passage (45) and the answer come "
        "on top; some servers cut what does not fit their context, and say nothing.",
    )
    max_answer_tokens: int = Field(
        800,
        ge=16,
        le=100_000,
        description="Tokens that the model may write, its reasoning included; an answer that ends "
        "there says that it was cut.",
    )
    temperature: float = Field(
        0.0, ge=0, le=2, description="0: the likeliest words, so that answers differ least."
    )
    concurrent: int = Field(
        8, ge=1, le=256, description="Answers that are written at once; others wait in line."
    )
