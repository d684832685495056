"""Qwen3-Embedding's form: last token, an instruction for queries, shorter vectors. Tiny, random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.reranker.qwen3.models import build, qwen_tokenizer

from longleaf.api import wire
from longleaf.core.config import load_settings
from longleaf.core.errors import ConfigError
from longleaf.core.types import EmbedInput
from longleaf.indexer.embed_any import SentenceTransformerEmbedder
from longleaf.indexer.models import quiet_loading

TASK = "Given a web search query, retrieve relevant passages that answer the query"
QUERY_PROMPT = f"Instruct: {TASK}\nQuery:"
TEXTS = (
    "The landlord keeps the roof in repair.",
    "Rent is due on the first day of each month, § 12(b).",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the form of Qwen/Qwen3-Embedding-0.6B: modules, prompts, tokenizer rules."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    place = tmp_path_factory.mktemp("qwen3-embedding")
    tokenizer = qwen_tokenizer()
    end = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)]
    )
    build(place / "plain", layers=2, vocab_size=tokenizer.get_vocab_size(), seed=5)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        padding_side="left",
        model_max_length=512,
    )
    with quiet_loading():
        fast.save_pretrained(place / "plain")
        transformer = modules.Transformer(str(place / "plain"))
        pooling = modules.Pooling(64, pooling_mode="lasttoken")
        model = SentenceTransformer(
            modules=[transformer, pooling, modules.Normalize()],
            prompts={"query": QUERY_PROMPT, "document": ""},
            device="cpu",
        )
        model.save(str(place / "model"))
    return place / "model"


def by_the_model_card(folder: Path, texts: list[str]) -> Any:
    """The model card's own code: the last token's state of each text alone, at unit length."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    with quiet_loading():
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        model = AutoModel.from_pretrained(folder).float().eval()
    found = []
    with torch.inference_mode():
        for text in texts:
            states = model(**tokenizer([text], return_tensors="pt")).last_hidden_state
            found.append(torch.nn.functional.normalize(states[0, -1], dim=0).numpy())
    return np.array(found)


def test_vectors_are_the_model_cards(folder: Path) -> None:
    embedder = SentenceTransformerEmbedder(str(folder), dtype="float32", device="cpu")
    # Batched by length and padded in front, yet each as if alone.
    made = [
        each.dense for each in embedder.embed_passages([EmbedInput("", text) for text in TEXTS])
    ]
    assert np.allclose(made, by_the_model_card(folder, list(TEXTS)), atol=1e-5)
    asked = "who repairs the roof?"
    (expected,) = by_the_model_card(folder, [f"{QUERY_PROMPT}{asked}"])
    assert np.allclose(embedder.embed_query(asked).dense, expected, atol=1e-5)
    (other,) = by_the_model_card(folder, [f"Instruct: Find statutes\nQuery:{asked}"])
    assert np.allclose(embedder.embed_query(asked, "Find statutes").dense, other, atol=1e-5)
    # 64 dimensions are few enough to store, so `late` reads this model's tokens as well.
    assert embedder.token_dim == 64 and embedder.without_tokens_because == ""


def test_shorter_vectors_are_the_first_dimensions_at_unit_length(folder: Path) -> None:
    whole = SentenceTransformerEmbedder(str(folder), dtype="float32", device="cpu")
    short = SentenceTransformerEmbedder(str(folder), dtype="float32", device="cpu", dimensions=16)
    assert short.dim == 16 and short.fingerprint != whole.fingerprint
    for of_query in (True, False):
        long, made = (
            each.embed_query("rent").dense
            if of_query
            else next(iter(each.embed_passages([EmbedInput("", TEXTS[0])]))).dense
            for each in (whole, short)
        )
        assert np.allclose(made, long[:16] / np.linalg.norm(long[:16]), atol=1e-5)


def test_dimensions_that_a_model_has_not_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="64 dimensions"):
        SentenceTransformerEmbedder(str(folder), device="cpu", dimensions=65)
    flags = {"home": tmp_path, "embedder.dimensions": 128}
    with pytest.raises(ConfigError, match="shorter vectors"):
        wire.open_models(load_settings(flags, {}).settings, {})
    flags |= {"embedder.model": str(folder), "embedder.dimensions": 16}
    embedder, _ = wire.open_models(load_settings(flags, {}).settings, {})
    assert embedder.dim == 16
