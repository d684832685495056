"""The bundled embedder against sentence-transformers, and its token vectors against a slow path."""

from __future__ import annotations

import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longleaf.core.errors import ConfigError
from longleaf.core.types import EmbedInput
from longleaf.indexer import models
from longleaf.indexer.embed import MiniLMEmbedder, choose_dtype
from longleaf.indexer.projection import MINILM_PROJECTION, load_projection
from longleaf.indexer.quantize import dequantize
from longleaf.indexer.sequence import joined_prefix, plan_batches

CLAUSES = [
    "The licensee shall not assign this agreement (§ 12(b)(iii)) without prior written consent.",
    "IL-6 levels were elevated, e.g. in Fig. 2; p < 0.05.",
    "Termination.",
    "Naïve T cells in the São Paulo cohort — n = 41 — did not respond to β-blockade. " * 3,
    "If any patent claim is asserted, the patent grant ends as of the date of filing.",
]
INPUTS = [
    EmbedInput(prefix=prefix, text=text)
    for prefix, text in itertools.product(
        ("", "Apache License. 3. Grant of Patent License"), CLAUSES
    )
]


@pytest.fixture(scope="module")
def embedder() -> MiniLMEmbedder:
    return MiniLMEmbedder(dtype="float32", weigh_query_tokens=False)


@pytest.fixture(scope="module")
def reference() -> Any:
    from sentence_transformers import SentenceTransformer

    with models.quiet_loading():
        return SentenceTransformer(
            str(models.bundled_minilm()), device="cpu", model_kwargs={"dtype": "float32"}
        )


def words(count: int) -> str:
    """Text of exactly `count` MiniLM tokens."""
    return " ".join(["law"] * count)


@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.9999), ("bfloat16", 0.999)])
def test_dense_is_what_sentence_transformers_gives(
    reference: Any, dtype: Any, least: float
) -> None:
    ours = MiniLMEmbedder(dtype=dtype)
    strings = [joined_prefix(item.prefix) + item.text for item in INPUTS]
    expected = reference.encode(strings, normalize_embeddings=True)
    vectors = list(ours.embed_passages(INPUTS))
    for got, want in zip(vectors, expected, strict=True):
        assert got.dense.dtype == np.float32
        assert got.dense.shape == (384,)
        assert np.linalg.norm(got.dense) == pytest.approx(1, abs=1e-5)
        assert float(got.dense @ want) >= least
    query = ours.embed_query("which licences end my patent grant?")
    want = reference.encode("which licences end my patent grant?", normalize_embeddings=True)
    assert float(query.dense @ want) >= least


def test_token_vectors_are_the_projected_last_layer(
    embedder: MiniLMEmbedder, reference: Any
) -> None:
    """Slow path: sentence-transformers' token embeddings one string at a time, projected here."""
    projection = load_projection(MINILM_PROJECTION, 384)
    for item, got in zip(INPUTS, embedder.embed_passages(INPUTS), strict=True):
        hidden = reference.encode(
            joined_prefix(item.prefix) + item.text, output_value="token_embeddings"
        ).numpy()
        skipped = len(
            reference.tokenizer(joined_prefix(item.prefix), add_special_tokens=False)["input_ids"]
        )
        want = projection.apply(hidden[1 + skipped : -1])
        have = dequantize(got.token_codes, projection.scale)
        assert got.token_codes.dtype == np.int8
        assert have.shape == want.shape
        cosines = (have * want).sum(axis=1) / np.linalg.norm(have, axis=1)
        assert cosines.min() >= 0.999


def test_any_window_and_batch_gives_the_same_in_input_order(embedder: MiniLMEmbedder) -> None:
    cramped = MiniLMEmbedder(dtype="float32", window_passages=3, batch_tokens=1)
    for one, other in zip(
        embedder.embed_passages(INPUTS), cramped.embed_passages(INPUTS), strict=True
    ):
        assert float(one.dense @ other.dense) >= 0.99999
        assert one.token_codes.shape == other.token_codes.shape
        difference = one.token_codes.astype(int) - other.token_codes.astype(int)
        assert np.abs(difference).max() <= 1


def test_reads_no_further_ahead_than_one_window() -> None:
    embedder = MiniLMEmbedder(dtype="float32", window_passages=4)
    taken = itertools.count()
    endless = (EmbedInput("", f"clause {next(taken)}") for _ in itertools.repeat(None))
    vectors = embedder.embed_passages(endless)
    next(vectors)
    assert next(taken) == 4


def test_no_threads_begin_with_a_second_embedder(
    embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generation is opened while others search, and their threads would keep one core."""
    monkeypatch.setattr("torch.set_num_threads", None)
    second = MiniLMEmbedder(dtype="float32")
    assert second.embed_query("court").dense @ embedder.embed_query("court").dense > 0.99999


def test_overlap_and_prefix_tokens_count_once(embedder: MiniLMEmbedder) -> None:
    text = "The term shall be five years. It renews each year."
    whole, tail, kept_prefix = embedder.embed_passages(
        [
            EmbedInput("Lease", text),
            EmbedInput("Lease", text, overlap_chars=text.index("It renews")),
            EmbedInput("Lease", text, keep_prefix=True),
        ]
    )
    assert (len(whole.token_codes), whole.prefix_tokens) == (13, 0)
    assert np.array_equal(tail.token_codes, whole.token_codes[-6:])
    assert np.array_equal(tail.dense, whole.dense)
    assert (len(kept_prefix.token_codes), kept_prefix.prefix_tokens) == (15, 2)
    assert np.array_equal(kept_prefix.token_codes[2:], whole.token_codes)


def test_a_token_across_the_end_of_the_overlap_is_kept(embedder: MiniLMEmbedder) -> None:
    (vectors,) = embedder.embed_passages([EmbedInput("", "law court law", overlap_chars=6)])
    assert len(vectors.token_codes) == 2


@pytest.mark.parametrize(
    ("text_tokens", "prefix_kept", "truncated"),
    [(200, 48, 0), (230, 24, 0), (254, 0, 0), (300, 0, 46)],
)
def test_the_prefix_gives_way_before_the_text_and_cuts_are_counted(
    embedder: MiniLMEmbedder, text_tokens: int, prefix_kept: int, truncated: int
) -> None:
    (vectors,) = embedder.embed_passages(
        [EmbedInput(words(60), words(text_tokens), keep_prefix=True)]
    )
    assert vectors.prefix_tokens == prefix_kept
    assert vectors.truncated_tokens == truncated
    assert len(vectors.token_codes) == min(text_tokens, 254) + prefix_kept


def test_a_shrunken_prefix_ends_at_a_word(embedder: MiniLMEmbedder) -> None:
    """47 words, then one word of several tokens of which only the first would fit."""
    (vectors,) = embedder.embed_passages(
        [EmbedInput(words(47) + " immunohistochemistry", "law", keep_prefix=True)]
    )
    assert vectors.prefix_tokens == 47


@pytest.mark.parametrize("text", ["", "   \n", "\x00", "\ud800 law", "😀" * 10, "ﷺ\u200b"])
def test_strange_text_gives_finite_vectors(embedder: MiniLMEmbedder, text: str) -> None:
    (vectors,) = embedder.embed_passages([EmbedInput(text, text, keep_prefix=True)])
    query = embedder.embed_query(text)
    assert np.isfinite(vectors.dense).all()
    assert np.isfinite(query.dense).all()
    assert np.isfinite(query.tokens).all()
    assert vectors.token_codes.shape[1] == query.tokens.shape[1] == embedder.token_dim == 128


def test_codes_times_query_tokens_is_the_cosine(embedder: MiniLMEmbedder) -> None:
    """The same string as passage and as query: each token is its own nearest, at cosine one."""
    text = "The patent grant ends when the licensee sues."
    (passage,) = embedder.embed_passages([EmbedInput("", text)])
    query = embedder.embed_query(text)
    scores = passage.token_codes.astype(np.float32) @ query.tokens[1:-1].T
    assert np.diag(scores) == pytest.approx(1, abs=0.005)
    assert scores.argmax(axis=0).tolist() == list(range(len(scores)))
    assert scores.max() <= 1.01


def test_weighed_query_tokens_keep_their_directions_and_average_one(
    embedder: MiniLMEmbedder,
) -> None:
    weighed = MiniLMEmbedder(dtype="float32", weigh_query_tokens=True)
    assert weighed.fingerprint == embedder.fingerprint
    scale = load_projection(MINILM_PROJECTION, 384).scale
    plain = embedder.embed_query("when does the patent grant end?").tokens / scale
    tokens = weighed.embed_query("when does the patent grant end?").tokens / scale
    lengths = np.linalg.norm(tokens, axis=1)
    assert lengths.mean() == pytest.approx(1, abs=1e-4)
    assert lengths.std() > 0.05
    assert tokens / lengths[:, None] == pytest.approx(plain, abs=1e-4)


def test_queries_from_many_threads_equal_queries_one_by_one(embedder: MiniLMEmbedder) -> None:
    queries = [f"{clause} {n}" for clause in CLAUSES for n in range(4)]
    alone = [embedder.embed_query(query) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(embedder.embed_query, queries))
    for one, other in zip(alone, together, strict=True):
        assert np.allclose(one.dense, other.dense, atol=1e-5)
        assert np.allclose(one.tokens, other.tokens, atol=1e-5)


def test_a_long_query_is_cut_and_not_refused(embedder: MiniLMEmbedder) -> None:
    assert embedder.embed_query(words(400)).tokens.shape == (256, 128)


def test_the_fingerprint_ignores_dtype_and_batching(embedder: MiniLMEmbedder) -> None:
    other = MiniLMEmbedder(dtype="bfloat16", window_passages=7)
    assert other.fingerprint == embedder.fingerprint
    assert (other.dtype, other.dtype_reason) == ("bfloat16", "set by embedder.dtype")


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ConfigError, match="auto, float32, bfloat16 or float16"):
        choose_dtype("int3")


def test_the_shipped_projection_is_orthonormal_and_says_how_it_was_made() -> None:
    from safetensors import safe_open

    projection = load_projection(MINILM_PROJECTION, 384)
    assert projection.matrix.T @ projection.matrix == pytest.approx(np.eye(128), abs=1e-4)
    assert (projection.scale > 0).all()
    with safe_open(MINILM_PROJECTION, framework="numpy") as file:
        assert {"method", "text", "licences", "seed", "weights_sha256"} <= set(file.metadata())


def test_a_projection_for_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="takes 384 dimensions, the model gives 768"):
        load_projection(MINILM_PROJECTION, 768)


def test_a_missing_projection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_projection(tmp_path / "none.safetensors", 384)


def test_batches_hold_every_position_once_within_the_limit() -> None:
    lengths = [int(n) for n in np.random.default_rng(5).integers(2, 257, 500)]
    batches = plan_batches(lengths, max_batch_tokens=2000)
    assert sorted(n for batch in batches for n in batch) == list(range(500))
    for batch in batches:
        assert len(batch) * max(lengths[n] for n in batch) <= 2000
    assert plan_batches([900], max_batch_tokens=100) == [[0]]


def test_importing_the_module_imports_no_torch() -> None:
    import subprocess

    code = (
        "import sys, longleaf.indexer.embed, longleaf.indexer.embed_any;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "False"


def test_a_query_that_is_too_long_says_how_many_tokens_were_left_out(
    minilm: MiniLMEmbedder,
) -> None:
    assert minilm.embed_query("short words").truncated_tokens == 0
    assert minilm.embed_query("word " * 300).truncated_tokens == 300 - (minilm.max_tokens - 2)


def test_special_tokens_in_a_document_are_only_letters(minilm: MiniLMEmbedder) -> None:
    around = minilm.tokenizer.encode("").ids
    inside = minilm.tokenizer.encode("a [SEP] b [CLS] [PAD]", add_special_tokens=False).ids
    assert not set(around) & set(inside)
