"""Tiny Qwen3 models with random weights, and what Hugging Face's code says of each pair alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.reranker.qwen3.reader import Qwen3Reranker

VOCABULARY = 320


def build(
    folder: Path,
    *,
    heads: int = 4,
    kv_heads: int = 2,
    tied: bool = True,
    layers: int = 3,
    seed: int = 0,
    **config: Any,
) -> Any:
    """A `Qwen3ForCausalLM` in float32 with norms that are not 1, saved to `folder`."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 32,
        "max_position_embeddings": 40_960,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": tied,
    }
    model = Qwen3ForCausalLM(Qwen3Config(**(shape | config))).float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
            else:
                weight.normal_(std=0.15)
    model.save_pretrained(folder, safe_serialization=True)
    return model


def reference(
    model: Any, prefix: Sequence[int], documents: Sequence[Sequence[int]], yes: int, no: int
) -> NDArray[np.float64]:
    """logit(yes) - logit(no), pair by pair, by the library."""
    import torch

    found = []
    with torch.inference_mode():
        for document in documents:
            ids = torch.tensor([[int(each) for each in (*prefix, *document)]])
            logits = model(input_ids=ids, use_cache=False).logits[0, -1].double()
            found.append(float(logits[yes] - logits[no]))
    return np.array(found)


def random_ids(seed: int, *lengths: int) -> list[NDArray[np.uint32]]:
    """Sequences of random token ids."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCABULARY, length).astype(np.uint32) for length in lengths]


CORPUS = (
    "yes no yes no the tenant pays the rent on the first day of each month, yes or no? "
    "Judge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no". system user assistant\n'
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
    "<Query>: who pays for repairs?\n<Document>: The landlord keeps the roof in repair § 12(b).\n"
) * 20


def qwen_tokenizer() -> Any:
    """A byte-level BPE with Qwen's splitting rule and its control tokens, trained on CORPUS."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        trainers,
    )

    split = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(
        [AddedToken("<think>", special=False), AddedToken("</think>", special=False)]
    )
    return tokenizer


def train(folder: Path) -> None:
    """A tiny model that has learned the check's probes, saved to `folder` with its tokenizer."""
    import torch

    from longleaf.reranker.instructions import instruction_text
    from longleaf.reranker.qwen3.check import PROBES
    from longleaf.reranker.qwen3.template import Template

    tokenizer = qwen_tokenizer()
    template = Template(tokenizer, 4_096)
    model = build(folder, layers=2, vocab_size=tokenizer.get_vocab_size(), seed=3)
    rows, labels = [], []
    for probe in PROBES:
        prefix = template.prefix(instruction_text(None), probe.query)
        for text, label in ((probe.relevant, 1.0), (probe.irrelevant, 0.0)):
            ids = [*prefix.ids, *template.document("", text), *template.suffix]
            rows.append([int(each) for each in ids])
            labels.append(label)
    longest = max(map(len, rows))
    # Padded in front, as the library's own code for this model does.
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    wanted = torch.tensor(labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(400):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, -1]
        difference = logits[:, template.yes_id] - logits[:, template.no_id]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(difference, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if float(loss.detach()) < 0.02:
            break
    model.eval().save_pretrained(folder, safe_serialization=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def tiny_folder(folder: Path) -> Path:
    """A random-weight model with its tokenizer, as `reranker.model` takes it."""
    tokenizer = qwen_tokenizer()
    build(folder, layers=2, vocab_size=tokenizer.get_vocab_size(), seed=5)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def frozen_reranker(folder: Path) -> Qwen3Reranker:
    """A tiny model that reads a text at a time and for whose queue no time passes."""
    import torch

    from longleaf.reranker.qwen3.attention import EagerAttention
    from longleaf.reranker.qwen3.engine import Engine
    from longleaf.reranker.qwen3.model import Qwen3Scorer
    from longleaf.reranker.qwen3.plan import CostModel, Limits
    from longleaf.reranker.qwen3.reader import Qwen3Reranker, TextScorer
    from longleaf.reranker.qwen3.template import Template
    from longleaf.reranker.qwen3.weights import load_weights

    template = Template(qwen_tokenizer(), 1_024)
    weights = load_weights(
        tiny_folder(folder), template.yes_id, template.no_id, dtype=torch.float32, device="cpu"
    )
    engine = Engine(
        Qwen3Scorer(weights, EagerAttention()),
        Limits(batch_items=1),
        CostModel(0.0, 0.0, 0.0),
        clock=lambda: 0.0,
    )
    return Qwen3Reranker(TextScorer(template, engine), "qwen3/1 tiny")
