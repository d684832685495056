"""OpenAI's `/v1/embeddings` on top of an embedder of ours, for a server in a test."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
from tests.remote.servers import Answer

from longleaf.core.protocols import Embedder
from longleaf.core.types import EmbedInput

Change = Callable[[dict[str, Any]], Any]


class Embeddings:
    """Answers as OpenAI does. `change` spoils an answer; `most_chars`: longer texts are refused."""

    def __init__(
        self,
        embedder: Embedder,
        *,
        model: str = "mini",
        most_chars: int = 1_000_000,
        only_floats: bool = False,
    ) -> None:
        self.embedder = embedder
        self.model = model
        self.most_chars = most_chars
        self.only_floats = only_floats
        self.change: Change = lambda answer: answer
        self.says: Answer | None = None
        self.texts: list[str] = []

    def __call__(self, path: str, body: Any) -> Answer:
        if self.says is not None:
            return self.says
        if path != "/v1/embeddings" or body["model"] != self.model:
            return Answer({"error": {"message": "no", "code": "model_not_found"}}, 404)
        if self.only_floats and body["encoding_format"] != "float":
            return Answer({"error": {"message": "encoding_format is not supported"}}, 400)
        texts: list[str] = body["input"]
        if max(map(len, texts)) > self.most_chars:
            message = f"This model's maximum context length is 100 tokens: {texts[0]}"
            return Answer({"error": {"message": message, "code": None}}, 400)
        self.texts += texts
        vectors = [
            each.dense
            for each in self.embedder.embed_passages(EmbedInput("", text) for text in texts)
        ]
        if "dimensions" in body:
            vectors = [each[: body["dimensions"]] for each in vectors]
        data = [
            {"object": "embedding", "index": n, "embedding": _written(each, body)}
            for n, each in enumerate(vectors)
        ]
        tokenizer: Any = self.embedder
        read = sum(len(tokenizer.tokenizer.encode(text).ids) for text in texts)
        answer = {
            "object": "list",
            "data": data,
            "model": self.model,
            "usage": {"prompt_tokens": read, "total_tokens": read},
        }
        return Answer(self.change(answer))


def _written(vector: np.ndarray, body: Any) -> Any:
    # Not of unit length: that is for the client to make.
    scaled = (vector * 3).astype("<f4")
    if body["encoding_format"] == "base64":
        return base64.b64encode(scaled.tobytes()).decode()
    return scaled.tolist()
