"""Small real things to read with: a store of token vectors, a cross-encoder, a clock."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longleaf.core import waiting
from longleaf.core.ids import point_id
from longleaf.core.protocols import ReaderQuery
from longleaf.core.types import Candidate, PassageText, QueryVectors, ReadingInput

DIM = 32
WORDS = [
    "claim",
    "patent",
    "grant",
    "licence",
    "court",
    "appeal",
    "treaty",
    "lease",
    "tenant",
    "notice",
    "gene",
    "cell",
    "protein",
]


class StoredTokens:
    """A TokenVectorReader over a dictionary: passage id -> (codes (n, DIM) int8, title tokens)."""

    def __init__(self) -> None:
        self.codes: dict[int, tuple[np.ndarray, int]] = {}
        self.calls = 0

    def token_vectors(
        self, passage_ids: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.calls += 1
        empty = (np.zeros((0, DIM), np.int8), 0)
        stored = [self.codes.get(passage_id, empty) for passage_id in passage_ids]
        codes = np.concatenate([codes for codes, _ in stored] or [empty[0]])
        starts = np.cumsum([0, *(len(codes) for codes, _ in stored)])
        return codes, starts.astype(np.int64), np.array([p for _, p in stored], np.int64)


class TickingClock:
    """Seconds that pass only when told to, or by `tick_ms` each time somebody looks."""

    def __init__(self, tick_ms: float = 0.0) -> None:
        self.now_ms = 0.0
        self.tick_ms = tick_ms

    def __call__(self) -> float:
        now = self.now_ms
        self.now_ms += self.tick_ms
        return now / 1000.0


def word_vectors(words: Iterable[str]) -> np.ndarray:
    """(n, DIM) float32, unit length: the same word is the same vector everywhere."""
    rows = [np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIM) for word in words]
    array = np.array(rows, np.float32).reshape(-1, DIM)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def word_codes(text: str) -> np.ndarray:
    """(n_words, DIM) int8."""
    return np.rint(word_vectors(text.split()) * 127).astype(np.int8)


def query_of(text: str, instruction: str | None = None) -> ReaderQuery:
    tokens = word_vectors(text.split())
    return ReaderQuery(text, instruction, QueryVectors(tokens[0], tokens / np.float32(127)))


def reading_input(
    rank: int, passages: Sequence[str], title: str = "", *, store: StoredTokens | None = None
) -> ReadingInput:
    """A candidate whose document is exactly its passages; its token vectors go into `store`."""
    hydrated = []
    position = 0
    for ordinal, text in enumerate(passages):
        hydrated.append(
            PassageText(
                point_id=point_id(rank, ordinal),
                passage_id=rank * 100 + ordinal,
                start_char=position,
                end_char=position + len(text),
                first_page=None,
                last_page=None,
                headings=(),
                token_count=len(text.split()),
                text=text,
            )
        )
        position += len(text) + 1
        if store is not None:
            prefix = title if ordinal == 0 else ""
            codes = word_codes(f"{prefix} {text}")
            store.codes[rank * 100 + ordinal] = (codes, len(prefix.split()))
    return ReadingInput(
        rank=rank,
        title=title,
        document_tokens=sum(p.token_count for p in hydrated),
        first_passage_id=rank * 100,
        passages=tuple(hydrated),
    )


def library(count: int, store: StoredTokens, seed: int = 0) -> list[ReadingInput]:
    """`count` candidates of 1-3 passages of 3-12 words."""
    rng = np.random.default_rng(seed)
    return [
        reading_input(
            rank,
            [" ".join(rng.choice(WORDS, rng.integers(3, 13))) for _ in range(rng.integers(1, 4))],
            title=" ".join(rng.choice(WORDS, 2)),
            store=store,
        )
        for rank in range(1, count + 1)
    ]


def candidate(rank: int, score: float) -> Candidate:
    return Candidate(document_id=1000 - rank, revision_id=rank, rank=rank, score=score, passages=())


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """On a busy machine two threads wait for each other: 28 s for a test that takes 1 s alone.

    Threads of `core.waiting` that rest since other tests keep the count they began with, and a sum
    by two threads differs in its last bits: others stand in for them meanwhile.
    """
    import torch

    before, resting = torch.get_num_threads(), waiting._THREADS
    torch.set_num_threads(1)
    waiting._THREADS = waiting._Threads()
    try:
        yield
    finally:
        waiting._THREADS = resting
        torch.set_num_threads(before)


def build_cross_encoder(
    folder: Path,
    *,
    outputs: int = 1,
    max_tokens: int = 48,
    safetensors: bool = True,
    unigram: bool = False,
) -> str:
    """A random two-layer BERT that spells words letter by letter, saved as users save theirs.

    `unigram`: with a tokenizer of XLM-R's kind.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = _unigram_tokenizer(max_tokens) if unigram else _bert_tokenizer(max_tokens)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(7)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=max_tokens,
            num_labels=outputs,
            initializer_range=0.5,  # so that scores of different texts lie well apart
        )
    )
    model.save_pretrained(folder)
    if not safetensors:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return str(folder)


def _unigram_tokenizer(max_tokens: int) -> Any:
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz<>/|[]_0"
    own = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [(each, 0.0) for each in own]
    pieces += [(mark + each, -5.0) for each in letters for mark in ("", "\u2581")]
    tokenizer = Tokenizer(models.Unigram([*pieces, ("\u2581", -6.0)], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token=AddedToken("<mask>", lstrip=True),
        model_max_length=max_tokens,
    )


def _bert_tokenizer(max_tokens: int) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *("##" + letter for letter in letters)]
    vocabulary = {word: number for number, word in enumerate([*words, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=max_tokens,
    )
