"""Late-interaction checkpoints: against the paper's recipe, sentence-transformers and PyLate."""

from __future__ import annotations

import copy
import shutil
import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.indexer.colberts import (
    DIM,
    SENTENCES,
    Backbone,
    build_native,
    build_pylate,
    build_stanford,
)

from longleaf.core.errors import ConfigError
from longleaf.core.protocols import DistantEmbedder, TokenPlaces, TwoModels
from longleaf.core.types import EmbedInput
from longleaf.indexer.colbert.layout import Layout
from longleaf.indexer.embed_late import LateTokens, pair, stated_late_files
from longleaf.indexer.models import quiet_loading
from longleaf.reranker.maxsim import maxsim
from longleaf.reranker.qwen3.check import PROBES

if TYPE_CHECKING:
    from longleaf.indexer.embed import MiniLMEmbedder

STEP = 1 / 127
QUERIES = ("Explain gravity", "Who pays for repairs of the roof?")
TEXTS = tuple(probe.relevant for probe in PROBES)
RESIDUALS = (
    {
        "out_features": 40,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.GELU",
        "use_residual": True,
    },
    {"out_features": 40, "use_residual": True},
    {"out_features": 24, "activation_function": "torch.nn.modules.activation.Tanh"},
)
"""A stack as some ModernBERT checkpoints have: residuals with and without a matrix of their own."""


def _native(folder: Path, backbone: Backbone = "bert", **expansion: Any) -> Path:
    return build_native(
        folder / "native", build_pylate(folder / "pylate", backbone=backbone), **expansion
    )


CHECKPOINTS: dict[str, Callable[[Path], Path]] = {
    "pylate": build_pylate,
    "pylate modernbert": lambda folder: build_pylate(folder, backbone="modernbert"),
    "pylate with a stack": lambda folder: build_pylate(folder, dense=RESIDUALS),
    "pylate in a folder": lambda folder: build_pylate(folder, subfolder="0_Transformer"),
    "pylate attending": lambda folder: build_pylate(folder, attend_to_expansion_tokens=True),
    "pylate unfilled": lambda folder: build_pylate(folder, do_query_expansion=False),
    "pylate without a skiplist": lambda folder: build_pylate(folder, skiplist_words=[]),
    "pylate with prompts": lambda folder: build_pylate(
        folder,
        backbone="modernbert",
        query_length=40,
        prompts={"query": "[Q] the fever: ", "document": "[D] the roof: "},
    ),
    "native": _native,
    "native modernbert": lambda folder: _native(folder, "modernbert", strategy="min"),
    "native attending": lambda folder: _native(folder, attend=True, length=20, token="[SEP]"),
    "stanford": build_stanford,
    "stanford with punctuation": lambda folder: build_stanford(
        folder, mask_punctuation=False, attend_to_mask_tokens=True, query_maxlen=24
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_vectors_are_those_of_sentence_transformers(tmp_path: Path, name: str) -> None:
    folder = CHECKPOINTS[name](tmp_path)
    from sentence_transformers import MultiVectorEncoder

    with quiet_loading():
        reference = MultiVectorEncoder(str(folder), device="cpu")
    model = LateTokens(str(folder), dtype="float32", device="cpu")
    for query in QUERIES:
        want = reference.encode_query([query], convert_to_numpy=True)[0]
        assert model.embed_query(query).tokens / STEP == pytest.approx(want, abs=1e-6)
    wanted = reference.encode_document(list(TEXTS), convert_to_numpy=True)
    made = list(model.embed_passages([EmbedInput("", text) for text in TEXTS]))
    for one, want in zip(made, wanted, strict=True):
        assert one.token_codes.dtype == np.int8 and one.truncated_tokens == 0
        assert one.token_codes * STEP == pytest.approx(want, abs=STEP / 2 + 1e-6)
        assert one.dense.shape == (0,)


@pytest.mark.parametrize(
    ("build", "lengths", "scores"),
    [
        (
            CHECKPOINTS["pylate"],
            [9, 31, 18, 14],
            [[14.4214, 15.2412, 14.5405, 14.5941], [11.3423, 13.0823, 13.0765, 11.7848]],
        ),
        (
            CHECKPOINTS["pylate modernbert"],
            [11, 37, 20, 15],
            [[10.9442, 12.3638, 11.0743, 11.747], [10.2958, 11.5433, 12.6789, 9.632]],
        ),
        (
            CHECKPOINTS["stanford"],
            [9, 31, 18, 14],
            [[14.5504, 15.2692, 14.4639, 14.8469], [11.9264, 13.083, 13.5655, 11.5503]],
        ),
    ],
    ids=["pylate", "pylate modernbert", "stanford"],
)
def test_scores_are_those_of_pylate(
    tmp_path: Path, build: Callable[[Path], Path], lengths: list[int], scores: list[list[float]]
) -> None:
    """Made with PyLate 1.6.0 (sentence-transformers 5.3.0, transformers 5.3.0, torch 2.13.0) in a
    venv of its own, from these three folders: `ColBERT(folder, device="cpu")`, `encode` of QUERIES
    and TEXTS, and for each pair the sum over query tokens of the best product."""
    model = LateTokens(str(build(tmp_path)), dtype="float32", device="cpu")
    made = list(model.embed_passages([EmbedInput("", text) for text in TEXTS]))
    assert [len(each.token_codes) for each in made] == lengths
    for query, wanted in zip(QUERIES, scores, strict=True):
        asked = model.embed_query(query).tokens
        got = [maxsim(each.token_codes, asked) * len(asked) for each in made]
        # 16 query tokens, each off by at most half a step in 32 dimensions.
        assert got == pytest.approx(wanted, abs=0.05)


def test_vectors_are_those_of_the_papers_recipe(tmp_path: Path) -> None:
    """Khattab & Zaharia 2020, section 3.2: E_q = Normalize(CNN(BERT("[Q] q # # … #"))), E_d =
    Filter(Normalize(CNN(BERT("[D] d")))), the filter taking punctuation out."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    folder = build_pylate(tmp_path)
    with quiet_loading():
        bert, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    projection = load_file(folder / "1_Dense" / "model.safetensors")["linear.weight"]

    def vectors(ids: list[int], seen: int) -> np.ndarray:
        mask = torch.tensor([[1] * seen + [0] * (len(ids) - seen)])
        with torch.no_grad():
            states = bert(torch.tensor([ids]), attention_mask=mask).last_hidden_state[0]
        return torch.nn.functional.normalize(states @ projection.T, dim=1).numpy()

    text = "The deposit (rent) is returned; the tenant shall pay."
    cls, *words, sep = tokenizer(text)["input_ids"]
    ids = [cls, tokenizer.convert_tokens_to_ids("[D] "), *words, sep]
    kept = [n for n, i in enumerate(ids) if tokenizer.decode([i]) not in string.punctuation]
    assert len(kept) == len(ids) - 4
    model = LateTokens(str(folder), dtype="float32", device="cpu")
    [made] = model.embed_passages([EmbedInput("", text)])
    wanted = vectors(ids, len(ids))[kept]
    assert made.token_codes * STEP == pytest.approx(wanted, abs=STEP / 2 + 1e-6)

    cls, *words, sep = tokenizer("who pays the rent?")["input_ids"]
    ids = [cls, tokenizer.convert_tokens_to_ids("[Q] "), *words, sep]
    seen = len(ids)
    ids += [tokenizer.mask_token_id] * (16 - seen)
    got = model.embed_query("who pays the rent?").tokens / STEP
    assert got == pytest.approx(vectors(ids, seen), abs=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_pylate(tmp_path_factory.mktemp("short"))


@pytest.fixture(scope="module")
def short(folder: Path) -> LateTokens:
    return LateTokens(str(folder), dtype="float32", device="cpu")


WORDS = ["the", "tenant", "12(b)(iii)", "…", "é", "supercalifragilistic", "\n", ".", "§"]
LONG = " ".join(SENTENCES[-2:] * 6)


def test_a_text_longer_than_the_models_documents_is_read_in_windows(short: LateTokens) -> None:
    """Each window as the model would read it by itself, and every word once."""
    [made] = short.embed_passages([EmbedInput("", LONG)])
    [places] = short.token_places([EmbedInput("", LONG)])
    assert made.truncated_tokens == 0 and len(places) == len(made.token_codes)
    marks = [n for n, (start, end) in enumerate(places) if start == end]
    assert len(marks) % 3 == 0 and len(marks) >= 9, "[CLS], [D] and [SEP] of three windows or more"
    begins, ends = marks[0::3], marks[2::3]
    for begin, end in zip(begins, ends, strict=True):
        part = LONG[places[begin][0] : places[end][0]]
        [alone] = short.embed_passages([EmbedInput("", part)])
        got = made.token_codes[begin : end + 1].astype(int)
        assert got == pytest.approx(alone.token_codes.astype(int), abs=1)
    kept = "".join(LONG[start:end] for start, end in places)
    assert kept == "".join(each for each in LONG if each not in f"{string.punctuation} ")


@pytest.mark.parametrize("length", [128, 8192])
def test_variants_of_128_and_8192_tokens(tmp_path: Path, length: int) -> None:
    folder = build_pylate(
        tmp_path, backbone="modernbert", document_length=length, positions=8192, query_length=32
    )
    model = LateTokens(str(folder), dtype="float32", device="cpu")
    text = " ".join(SENTENCES * 8)
    item = EmbedInput("A lease", text, keep_prefix=True)
    [laid] = model._layout.passages([item])
    read = sum(len(window.ids) for window in laid.windows)
    assert model.document_tokens == length
    assert max(len(window.ids) for window in laid.windows) <= length
    assert (len(laid.windows) == 1) == (length == 8192)
    assert 1_500 < read < 8_192
    [made] = model.embed_passages([item])
    assert len(made.token_codes) - made.prefix_tokens == len(laid.places)
    assert laid.places[-1] == (len(text), len(text)), "read to its end"
    from sentence_transformers import MultiVectorEncoder

    if length == 8192:
        with quiet_loading():
            reference = MultiVectorEncoder(str(folder), device="cpu")
        want = reference.encode_document([text], convert_to_numpy=True)[0]
        [plain] = model.embed_passages([EmbedInput("", text)])
        assert plain.token_codes * STEP == pytest.approx(want, abs=STEP / 2 + 1e-5)


@given(
    st.lists(st.sampled_from(WORDS)),
    st.integers(0, 80),
    st.sampled_from(["", "A lease", "A lease › The rent of the first month and of each other"]),
    st.integers(21, 64),
)
def test_every_token_is_read_once_in_order_whatever_the_title(
    layouts: list[Layout], words: list[str], overlap_chars: int, title: str, length: int
) -> None:
    for layout in layouts:
        layout.document_tokens, layout._room = length, length - 3
        _check_layout(layout, " ".join(words).strip(), overlap_chars, title)


@pytest.fixture(scope="module")
def layouts(short: LateTokens, tmp_path_factory: pytest.TempPathFactory) -> list[Layout]:
    """Of WordPiece and of byte-level BPE."""
    folder = build_pylate(tmp_path_factory.mktemp("bytes"), backbone="modernbert")
    return [copy.copy(short._layout), LateTokens(str(folder), device="cpu")._layout]


def _check_layout(layout: Layout, text: str, overlap_chars: int, title: str) -> None:
    length = layout.document_tokens
    item = EmbedInput(title, text, min(overlap_chars, len(text)), keep_prefix=True)
    [laid] = layout.passages([item])
    whole = layout._tokenizer.encode(text, add_special_tokens=False)
    wanted = [
        span
        for number, span in zip(whole.ids, whole.offsets, strict=True)
        if span[1] > item.overlap_chars and number not in layout._skipped
    ]
    assert [span for span in laid.places if span[0] < span[1]] == wanted
    assert all(max(window.kept) < len(window.ids) <= length for window in laid.windows)
    assert sum(len(window.kept) for window in laid.windows) == laid.prefix_tokens + len(laid.places)
    [alone] = layout.passages([replace(item, prefix="")])
    assert alone.places == laid.places


def test_batched_equals_single(short: LateTokens) -> None:
    inputs = [EmbedInput("A lease", each, keep_prefix=n % 2 == 0) for n, each in
              enumerate([*SENTENCES, LONG, "", "  ", "...", "fee"])]  # fmt: skip
    together = list(short.embed_passages(inputs))
    for item, one in zip(inputs, together, strict=True):
        [alone] = short.embed_passages([item])
        assert one.prefix_tokens == alone.prefix_tokens
        assert one.token_codes.shape == alone.token_codes.shape
        assert one.token_codes.astype(int) == pytest.approx(alone.token_codes.astype(int), abs=1)
    assert [len(each.token_codes) for each in together[-4:-1]] == [0, 0, 0]


def test_title_and_overlap_count_once(short: LateTokens) -> None:
    text = "the tenant shall pay the rent on the first day"
    first, other, tail = short.embed_passages(
        [
            EmbedInput("the lease", text, keep_prefix=True),
            EmbedInput("the lease", text),
            EmbedInput("the lease", text, overlap_chars=text.index("on the")),
        ]
    )
    assert (first.prefix_tokens, other.prefix_tokens) == (2, 0)
    assert np.array_equal(first.token_codes[2:], other.token_codes)
    assert len(other.token_codes) == 10 + 3
    assert np.array_equal(tail.token_codes, other.token_codes[[0, 1, *range(8, 13)]])


def test_codes_times_query_is_the_cosine(short: LateTokens) -> None:
    text = "the tenant shall pay the rent"
    [made] = short.embed_passages([EmbedInput("", text)])
    codes = made.token_codes.astype(np.float32)
    assert np.linalg.norm(codes, axis=1) * STEP == pytest.approx(1, abs=0.02)
    tokens = short.embed_query(text).tokens
    assert np.linalg.norm(tokens, axis=1) / STEP == pytest.approx(1, abs=1e-5)
    assert np.diag(codes[2:8] @ tokens[2:8].T) == pytest.approx(1, abs=0.1), "equal words"


def test_a_long_query_is_read_whole_and_what_cannot_be_is_counted(short: LateTokens) -> None:
    assert short.query_tokens == 16
    assert len(short.embed_query("rent").tokens) == 16
    whole = short.embed_query("rent " * 100)
    assert (len(whole.tokens), whole.truncated_tokens) == (103, 0)
    cut = short.embed_query("rent " * 600)
    assert (len(cut.tokens), cut.truncated_tokens) == (512, 600 - 509)


def test_a_document_that_spells_the_models_tokens_means_letters(short: LateTokens) -> None:
    [made] = short.embed_passages([EmbedInput("", "pay [SEP] [MASK] rent")])
    [places] = short.token_places([EmbedInput("", "pay [SEP] [MASK] rent")])
    assert len(made.token_codes) == len(places) == 3 + 2 + 3 + 4, "letters, brackets skipped"


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 6},
        {"document_length": 40},
        {"query_length": 17},
        {"document_prefix": "[Q] "},
        {"skiplist_words": ["."]},
        {"attend_to_expansion_tokens": True},
        {"do_query_expansion": False},
        {"prompts": {"document": "the "}},
        {"dense": ({"activation_function": "torch.nn.modules.activation.Tanh"},)},
    ],
    ids=str,
)
def test_the_fingerprint_changes_with_what_decides_vectors(
    tmp_path: Path, folder: Path, short: LateTokens, change: dict[str, Any]
) -> None:
    other = build_pylate(tmp_path, **change)
    assert LateTokens(str(other), device="cpu").fingerprint != short.fingerprint
    assert stated_late_files(str(other)) != stated_late_files(str(folder))


def test_the_fingerprint_leaves_out_place_and_arithmetic(
    tmp_path: Path, folder: Path, short: LateTokens
) -> None:
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert LateTokens(str(moved), dtype="bfloat16").fingerprint == short.fingerprint
    assert stated_late_files(str(moved)) == stated_late_files(str(folder))
    assert stated_late_files("someone/colbert") is None
    longer = LateTokens(str(folder), document_tokens=64)
    assert longer.document_tokens == 64 and longer.fingerprint != short.fingerprint


def test_lengths_that_cannot_be_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="only 512 positions"):
        LateTokens(str(folder), document_tokens=513)
    with pytest.raises(ConfigError, match="leave no room"):
        LateTokens(str(folder), document_tokens=18)


def test_two_models_as_one_embedder(minilm: MiniLMEmbedder, short: LateTokens) -> None:
    both = pair(minilm, short)
    assert (both.dim, both.token_dim) == (384, DIM)
    assert isinstance(both, TwoModels) and isinstance(both, TokenPlaces)
    assert not isinstance(both, DistantEmbedder) and not isinstance(minilm, TwoModels)
    assert minilm.fingerprint in both.fingerprint and short.fingerprint in both.fingerprint
    assert (both.tokenizer_id, both.tokenizer) == (minilm.tokenizer_id, minilm.tokenizer)
    inputs = [EmbedInput("A lease", each, keep_prefix=True) for each in SENTENCES]
    for one, dense, tokens in zip(
        both.embed_passages(inputs),
        minilm.embed_passages(inputs),
        short.embed_passages(inputs),
        strict=True,
    ):
        assert np.array_equal(one.dense, dense.dense)
        assert np.array_equal(one.token_codes, tokens.token_codes)
        assert (one.prefix_tokens, one.truncated_tokens) == (tokens.prefix_tokens, 0)
    assert both.token_places(inputs) == short.token_places(inputs)
    [cut] = both.embed_passages([EmbedInput("", "rent " * 300)])
    assert cut.truncated_tokens == 300 - 254, "of the dense vector; its tokens are all there"
    assert len(cut.token_codes) > 300
    query = both.embed_query("rent " * 300)
    assert (len(query.tokens), query.truncated_tokens) == (303, 300 - 254)
    assert np.array_equal(query.dense, minilm.embed_query("rent " * 300).dense)


def test_a_distant_dense_model_is_waited_for(minilm: MiniLMEmbedder, short: LateTokens) -> None:
    class Distant:
        """The bundled model, as if it were elsewhere."""

        waits_elsewhere = True
        probe = np.ones(3, np.float32)

        def __getattr__(self, name: str) -> Any:
            return getattr(minilm, name)

    distant: Any = Distant()
    both = pair(distant, short)
    assert isinstance(both, DistantEmbedder)
    assert np.array_equal(both.probe, distant.probe)
