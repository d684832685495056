"""Any sentence-transformers model, tried on tiny random ones built here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from longleaf.core.types import EmbedInput
from longleaf.indexer.embed_any import SentenceTransformerEmbedder
from longleaf.indexer.models import quiet_loading
from longleaf.indexer.sequence import joined_prefix

TEXT = "the licensee shall pay the fee before the term ends and may renew the lease"
PROMPTS = {"query": "find: ", "document": "read: "}


def build_model(folder: Path, hidden: int, prompts: dict[str, str]) -> Path:
    """A random two-layer BERT with a WordPiece vocabulary, as a sentence-transformers folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.:,"]
    pieces = [*special, *letters, *(f"##{c}" for c in letters), *TEXT.split()]
    vocabulary = {piece: n for n, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )
    torch.manual_seed(3)
    bert = BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=hidden,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
    )
    with quiet_loading():
        bert.save_pretrained(folder / "bert")
        fast.save_pretrained(folder / "bert")
        # A plain BERT folder becomes a model with mean pooling.
        model = SentenceTransformer(str(folder / "bert"), prompts=prompts, device="cpu")
        model.save(str(folder / "model"))
    return folder / "model"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("small"), 32, PROMPTS)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("wide"), 160, {})


@pytest.fixture(scope="module")
def embedder(small: Path) -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(str(small), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def reference(small: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    with quiet_loading():
        return SentenceTransformer(str(small), device="cpu")


def test_dense_uses_the_models_prompts(
    embedder: SentenceTransformerEmbedder, reference: Any
) -> None:
    inputs = [EmbedInput("", TEXT), EmbedInput("lease", "the term"), EmbedInput("", "fee")]
    strings = [joined_prefix(item.prefix) + item.text for item in inputs]
    want = reference.encode(strings, prompt="read: ", normalize_embeddings=True)
    got = np.stack([vectors.dense for vectors in embedder.embed_passages(inputs)])
    assert got == pytest.approx(want, abs=1e-5)
    query = reference.encode("fee", prompt="find: ", normalize_embeddings=True)
    assert embedder.embed_query("fee").dense == pytest.approx(query, abs=1e-5)


def test_an_instruction_replaces_the_query_prompt(
    embedder: SentenceTransformerEmbedder, reference: Any
) -> None:
    assert embedder.takes_instruction
    want = reference.encode("fee", prompt="find the clause: ", normalize_embeddings=True)
    got = embedder.embed_query("fee", instruction="find the clause:").dense
    assert got == pytest.approx(want, abs=1e-5)


def test_an_instruct_prompt_keeps_its_form(tmp_path: Path) -> None:
    prompts = {"query": "Instruct: find the fee\nQuery:"}
    embedder = SentenceTransformerEmbedder(
        str(build_model(tmp_path, 32, prompts)), dtype="float32", device="cpu"
    )
    plain = embedder.embed_query("term")
    same = embedder.embed_query("term", instruction="find the fee")
    other = embedder.embed_query("term", instruction="pay the lease")
    assert same.dense == pytest.approx(plain.dense, abs=1e-6)
    assert float(other.dense @ plain.dense) < 0.9999


def test_tokens_leave_out_prompt_prefix_overlap_and_special_tokens(
    embedder: SentenceTransformerEmbedder,
) -> None:
    whole, tail, with_prefix = embedder.embed_passages(
        [
            EmbedInput("lease", TEXT),
            EmbedInput("lease", TEXT, overlap_chars=TEXT.index("before")),
            EmbedInput("lease", TEXT, keep_prefix=True),
        ]
    )
    assert embedder.token_dim == 32
    assert whole.token_codes.shape == (15, 32)
    assert np.array_equal(tail.token_codes, whole.token_codes[6:])
    assert (with_prefix.prefix_tokens, len(with_prefix.token_codes)) == (2, 17)
    assert embedder.embed_query("pay the fee").tokens.shape == (3, 32)


def test_codes_times_query_tokens_is_the_cosine(tmp_path: Path) -> None:
    model = build_model(tmp_path, 32, {})
    embedder = SentenceTransformerEmbedder(str(model), dtype="float32", device="cpu")
    assert not embedder.takes_instruction
    (passage,) = embedder.embed_passages([EmbedInput("", TEXT)])
    scores = passage.token_codes.astype(np.float32) @ embedder.embed_query(TEXT).tokens.T
    assert np.diag(scores) == pytest.approx(1, abs=0.02)


def test_surrounding_white_space_shifts_no_token(embedder: SentenceTransformerEmbedder) -> None:
    plain, spaced = embedder.embed_passages(
        [
            EmbedInput("", "the fee the term", overlap_chars=8),
            EmbedInput("", " \n the fee the term \n", overlap_chars=11),
        ]
    )
    assert len(plain.token_codes) == 2
    assert np.array_equal(plain.token_codes, spaced.token_codes)


def test_tokens_stand_where_their_vectors_come_from(
    embedder: SentenceTransformerEmbedder, wide: Path
) -> None:
    inputs = [
        EmbedInput("lease", TEXT, overlap_chars=TEXT.index("before"), keep_prefix=True),
        EmbedInput("", " \n the fee the term \n", overlap_chars=11),
        EmbedInput("", TEXT * 60),
    ]
    for item, vectors, places in zip(
        inputs, embedder.embed_passages(inputs), embedder.token_places(inputs), strict=True
    ):
        assert len(places) == len(vectors.token_codes) - vectors.prefix_tokens > 0
        assert all(start < end <= len(item.text) for start, end in places)
        assert not any(
            item.text[start:end] != item.text[start:end].strip() for start, end in places
        )
    [_, spaced, _] = embedder.token_places(inputs)
    assert "".join(inputs[1].text[start:end] for start, end in spaced) == "theterm"
    assert SentenceTransformerEmbedder(str(wide)).token_places(inputs[:1]) == [[]]


def test_the_prefix_gives_way_and_cuts_are_counted(embedder: SentenceTransformerEmbedder) -> None:
    """64 tokens take [CLS], [SEP], five of the prompt's and 57 of the text."""
    roomy, full, over = embedder.embed_passages(
        [
            EmbedInput(" ".join(["lease"] * 60), " ".join(["fee"] * count), keep_prefix=True)
            for count in (40, 57, 70)
        ]
    )
    assert (roomy.truncated_tokens, len(roomy.token_codes) - roomy.prefix_tokens) == (0, 40)
    assert 10 <= roomy.prefix_tokens <= 17
    assert (full.truncated_tokens, full.prefix_tokens, len(full.token_codes)) == (0, 0, 57)
    assert (over.truncated_tokens, over.prefix_tokens, len(over.token_codes)) == (13, 0, 57)


def test_a_wide_model_gives_no_tokens_and_says_why(wide: Path) -> None:
    embedder = SentenceTransformerEmbedder(str(wide), dtype="float32", device="cpu")
    assert embedder.token_dim == 0
    assert "160 dimensions" in embedder.without_tokens_because
    (passage,) = embedder.embed_passages([EmbedInput("", TEXT)])
    assert passage.token_codes.shape == (0, 0)
    assert embedder.embed_query("fee").tokens.shape == (0, 0)


def test_a_projection_file_makes_a_wide_model_small(wide: Path, tmp_path: Path) -> None:
    file = tmp_path / "projection.safetensors"
    save_file(
        {"matrix": np.eye(160, 16, dtype=np.float32), "scale": np.full(16, 1 / 127, np.float32)},
        file,
    )
    embedder = SentenceTransformerEmbedder(
        str(wide), dtype="float32", device="cpu", projection_file=file
    )
    (passage,) = embedder.embed_passages([EmbedInput("", TEXT)])
    assert embedder.token_dim == 16
    assert passage.token_codes.shape == (15, 16)


def test_the_fingerprint_follows_what_vectors_depend_on(small: Path, wide: Path) -> None:
    def fingerprint(model: Path, **settings: Any) -> str:
        return SentenceTransformerEmbedder(str(model), device="cpu", **settings).fingerprint

    base = fingerprint(small, dtype="float32")
    assert fingerprint(small, dtype="bfloat16") == base
    assert fingerprint(small, max_tokens=32) != base
    assert fingerprint(wide) != base
