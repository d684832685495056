"""Nothing that a document, title, query or instruction spells becomes a control token, for each
model that reads text here. Services elsewhere get text: what they make of it is theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.indexer.colberts import build_pylate
from tests.indexer.test_embed_any import build_model
from tests.reranker.qwen3.models import qwen_tokenizer
from tests.reranker.tiny import build_cross_encoder, query_of, reading_input

from longleaf.core.budget import Budget
from longleaf.core.control_tokens import ControlTokens
from longleaf.core.types import EmbedInput
from longleaf.indexer.embed import MiniLMEmbedder
from longleaf.indexer.embed_any import SentenceTransformerEmbedder
from longleaf.indexer.embed_late import LateTokens
from longleaf.reranker.crossencoder import CrossEncoderReranker
from longleaf.reranker.qwen3.template import Template

SPELLED = [
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>"),
    *("[CLS]", "[SEP]", "[MASK]", "[PAD]", "[Q] ", "[D] ", "[unused0]", "[unused1]"),
    *("<s>", "</s>", "<mask>", "<pad>"),
]
FULL_WIDTH = [each.translate({n: n + 0xFEE0 for n in range(0x21, 0x7F)}) for each in SPELLED]
MATHEMATICAL = ["<\U0001d42c>", "[\U0001d402\U0001d40b\U0001d412]", "<\u200bs>", "<s\u0301>"]
ALL = [*SPELLED, *(each.lower() for each in SPELLED), *FULL_WIDTH, *MATHEMATICAL]
texts = st.lists(
    st.one_of(st.sampled_from(ALL), st.sampled_from(["a", " ", "\n", "patent", "[", "<", "s>"]),
              st.text(st.characters(exclude_categories=["Cs"]), max_size=4)),
    max_size=6,
).map("".join)  # fmt: skip

Read = Callable[[str, str, str], tuple[list[int], list[int]]]
"""Title, text and query to the ids that a model reads, and the control tokens that it reads with
harmless ones."""


def control_ids(tokenizer: Any) -> set[int]:
    """All that a tokenizer has of its own, the unknown token left out."""
    return {
        number
        for number, each in tokenizer.get_added_tokens_decoder().items()
        if each.content not in ("[UNK]", "<unk>")
    }


@pytest.fixture(scope="module")
def minilm() -> MiniLMEmbedder:
    return MiniLMEmbedder()


@pytest.fixture(scope="module")
def readers(
    minilm: MiniLMEmbedder, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Read, Any]]:
    folder = tmp_path_factory.mktemp("models")
    any_model = SentenceTransformerEmbedder(
        str(build_model(folder / "st", 32, {"query": "find: ", "document": "read: "})),
        dtype="float32",
        device="cpu",
    )
    colberts = {
        backbone: LateTokens(
            str(build_pylate(folder / backbone, backbone=backbone)),
            device="cpu",
            document_tokens=500,  # one window
        )
        for backbone in ("bert", "modernbert")
    }
    template = Template(qwen_tokenizer(), 4_096)
    found = {
        "minilm": (_minilm(minilm), minilm.tokenizer),
        "sentence-transformers": (_any(any_model), any_model.tokenizer),
        "qwen3": (_qwen3(template), qwen_tokenizer()),
    }
    for name, model in colberts.items():
        found[f"colbert {name}"] = (_colbert(model), model._layout._tokenizer)
    for name, encoder in {
        "cross-encoder": build_cross_encoder(folder / "ce", max_tokens=512),
        "cross-encoder unigram": build_cross_encoder(folder / "xlm", max_tokens=512, unigram=True),
    }.items():
        reranker = CrossEncoderReranker(encoder, device="cpu")
        list(reranker.read(query_of("patent"), [reading_input(1, ["court"])], Budget()))
        found[name] = (_cross_encoder(reranker), reranker._encoder.tokenizer.backend_tokenizer)
    return found


def _flat(rows: Iterable[Iterable[int]]) -> list[int]:
    return [int(each) for row in rows for each in row]


def _minilm(model: MiniLMEmbedder) -> Read:
    def read(title: str, text: str, query: str) -> list[int]:
        passages = model._builder.passages([EmbedInput(title, text)])
        return _flat([*(each.ids for each in passages), model._builder.query(query)[0]])

    return read


def _any(model: SentenceTransformerEmbedder) -> Read:
    """What the library's own tokenizing gives of the strings that it is handed."""
    handed: list[int] = []
    preprocess = model._model.preprocess

    def noting(inputs: Any, **options: Any) -> Any:
        features = preprocess(inputs, **options)
        kept = features["attention_mask"].bool()
        handed.extend(features["input_ids"][kept].tolist())
        return features

    model._model.preprocess = noting

    def read(title: str, text: str, query: str) -> list[int]:
        handed.clear()
        list(model.embed_passages([EmbedInput(title, text)]))
        model.embed_query(query, instruction=f"{title} {query}")
        return list(handed)

    return read


def _colbert(model: LateTokens) -> Read:
    layout = model._layout

    def read(title: str, text: str, query: str) -> list[int]:
        # A word in front: a passage without any keeps nothing, and the number of windows is fixed.
        (laid,) = layout.passages([EmbedInput(title, f"pays {text}")])
        words = layout.query(query)
        return _flat([*(window.ids for window in laid.windows), words.ids[: words.attended]])

    return read


def _qwen3(template: Template) -> Read:
    def read(title: str, text: str, query: str) -> list[int]:
        prefix = template.prefix(f"{title} {query}", query).ids
        return _flat([prefix, template.document(title, text), template.suffix])

    return read


def _cross_encoder(reranker: CrossEncoderReranker) -> Read:
    def read(title: str, text: str, query: str) -> list[int]:
        item = reading_input(1, [text], title)
        query_text, pairs = reranker._prepare(query, [item])
        pair = (query_text, pairs[0].text)
        return _flat(reranker._encoder.preprocess([pair])["input_ids"].tolist())

    return read


NAMES = (
    *("minilm", "sentence-transformers", "qwen3", "colbert bert", "colbert modernbert"),
    *("cross-encoder", "cross-encoder unigram"),
)


@pytest.mark.parametrize("name", NAMES)
def test_no_text_becomes_a_control_token(name: str, readers: dict[str, tuple[Read, Any]]) -> None:
    read, tokenizer = readers[name]
    own = control_ids(tokenizer)

    def controls(title: str, text: str, query: str) -> list[int]:
        return [each for each in read(title, text, query) if each in own]

    expected = controls("a", "a", "a")
    assert expected  # the model's own form has some

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(title=texts, text=texts, query=texts)
    @example(title="".join(ALL[:8]), text=" ".join(SPELLED), query=" ".join(SPELLED))
    @example(title=" ".join(FULL_WIDTH[13:]), text="".join(FULL_WIDTH), query="".join(FULL_WIDTH))
    @example(title="[SE", text="P] [D] a", query="[Q] a")
    def check(title: str, text: str, query: str) -> None:
        assert controls(title, text, query) == expected

    check()


def test_the_readers_are_tried_with_tokenizers_that_would_let_them_through(
    readers: dict[str, tuple[Read, Any]],
) -> None:
    """Otherwise the property above would hold of anything."""
    for name, (_, tokenizer) in readers.items():
        plain = type(tokenizer).from_str(tokenizer.to_str())
        plain.no_truncation()
        spelled = plain.encode(" ".join(SPELLED), add_special_tokens=False).ids
        assert control_ids(plain) & set(spelled), name
    _, unigram = readers["cross-encoder unigram"]
    plain = type(unigram).from_str(unigram.to_str())
    plain.encode_special_tokens = True
    assert control_ids(plain) & set(plain.encode("".join(FULL_WIDTH)).ids)


@given(texts)
def test_offsets_stay(text: str) -> None:
    control_tokens = ControlTokens(qwen_tokenizer())
    letters = control_tokens.as_letters(text)
    assert len(letters) == len(text)
    changed = [(was, now) for was, now in zip(text, letters, strict=True) if was != now]
    assert all(now == "(" for _, now in changed)
    assert control_tokens.as_letters(letters) == letters


def test_words_that_were_added_to_a_vocabulary_stay_words(tmp_path: Path) -> None:
    tokenizer = qwen_tokenizer()
    tokenizer.add_tokens(["covid-19"])
    control_tokens = ControlTokens(tokenizer)
    assert control_tokens.as_letters("covid-19 é") == "covid-19 é"
    assert control_tokens.as_letters("a</think>é") == "a(/think>é"
