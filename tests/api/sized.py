"""A model that costs nothing: real passages and tokens, vectors from a hash of the words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from longleaf.api import wire
from longleaf.core.config import Settings
from longleaf.core.types import EmbedInput, PassageVectors, QueryVectors
from longleaf.indexer import models

DIM, TOKEN_DIM = 16, 8


class HashEmbedder:
    """`core.protocols.Embedder`; starts in milliseconds, so that a killed process may have one."""

    fingerprint, name, dim, token_dim = "hash-1", "hash", DIM, TOKEN_DIM
    dtype, dtype_reason, without_tokens_because = "float32", "there is no model", ""
    languages: frozenset[str] | None = None
    takes_instruction = False

    def __init__(self) -> None:
        self.tokenizer = Tokenizer.from_file(str(models.bundled_minilm() / "tokenizer.json"))
        self.tokenizer_id = "t"

    def embed_passages(self, inputs: Iterable[EmbedInput]) -> Iterator[PassageVectors]:
        for each in inputs:
            tokens = np.stack([_vector(word, TOKEN_DIM) for word in each.text.split()] or [])
            codes = np.round(tokens * 127).astype(np.int8)
            yield PassageVectors(_mean(each.text), codes)

    def embed_query(self, text: str, instruction: str | None = None) -> QueryVectors:
        tokens = np.stack([_vector(word, TOKEN_DIM) for word in text.split()])
        return QueryVectors(_mean(text), (tokens / 127).astype(np.float32))


@cache
def _vector(word: str, dim: int) -> Any:
    seed = int.from_bytes(hashlib.sha256(word.lower().encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).normal(size=dim).astype(np.float32)
    return vector / np.linalg.norm(vector)


def _mean(text: str) -> Any:
    total = np.sum([_vector(word, DIM) for word in text.split()], axis=0)
    return (total / np.linalg.norm(total)).astype(np.float32)


def use() -> None:
    """Have `wire` load this model in place of any other, in this process."""
    embedder: Any = HashEmbedder()

    def load(settings: Settings, _reasons: dict[str, str]) -> tuple[Any, Any]:
        return embedder, wire.open_chunker(settings, embedder)

    wire.open_models = load
