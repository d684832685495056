"""Tiny late-interaction checkpoints, saved in the layouts in which real ones are published.

The weights are random, from numpy, so that they are the same with every version of torch. A token's
own vector outweighs its position and what layers add: equal words have similar vectors, so such a
model ranks by words and passes for one that makes sense.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from longleaf.indexer.models import quiet_loading
from longleaf.reranker.qwen3.check import PROBES

Backbone = Literal["bert", "modernbert"]
SENTENCES = (
    *(text for probe in PROBES for text in (probe.query, probe.relevant, probe.irrelevant)),
    "The tenant shall pay the rent on the first day of each month; the deposit is returned.",
    "Force majeure suspends the obligation to pay, see § 12(b)(iii) of the lease.",
)
DIM = 32
MARKERS = ("[Q] ", "[D] ")
ALIKE = (
    # What fills a query up finds the document's marker everywhere, and so decides nothing.
    ("[MASK]", "[unused0]", "[unused1]", *MARKERS),
    ("pays", "expense", "tenant"),
    ("repairs", "repair"),
    ("medicine", "paracetamol"),
    ("lowers", "lowered"),
    ("child", "children"),
)
"""Of equal meaning to a tiny model: these have one vector."""
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]


def build_pylate(
    folder: Path,
    *,
    backbone: Backbone = "bert",
    hidden: int = 64,
    dense: Sequence[dict[str, Any]] = ({},),
    subfolder: str = "",
    safetensors: bool = True,
    seed: int = 5,
    positions: int = 512,
    **config: Any,
) -> Path:
    """A folder as PyLate 1.x writes it. `dense`: of each projection what differs from (hidden,
    DIM), no bias, Identity; `config`: what differs in config_sentence_transformers.json.

    `subfolder`: where the transformer lies ("0_Transformer" in some)."""
    from safetensors.torch import save_file

    tokenizer = build_tokenizer(backbone, MARKERS)
    save_backbone(folder / subfolder, backbone, tokenizer, hidden, seed, positions)
    modules = [("", subfolder, "sentence_transformers.models.Transformer")]
    width = hidden
    rng = np.random.default_rng(seed)
    for number, changes in enumerate(dense, start=1):
        told = {
            "in_features": width,
            "out_features": DIM,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
            "use_residual": False,
            **changes,
        }
        width, shape = told["out_features"], (told["out_features"], told["in_features"])
        weights = {"linear.weight": random_weights(rng, shape, shape[1] ** -0.5)}
        if told["bias"]:
            weights["linear.bias"] = random_weights(rng, shape[:1], 0.1)
        if told["use_residual"] and shape[0] != shape[1]:
            weights["residual.weight"] = random_weights(rng, shape, shape[1] ** -0.5)
        where = folder / f"{number}_Dense"
        where.mkdir()
        (where / "config.json").write_text(json.dumps(told))
        save_file(weights, where / ("model.safetensors" if safetensors else "pytorch_model.bin"))
        modules.append((str(number), where.name, "pylate.models.Dense.Dense"))
    _write_modules(folder, modules)
    told = {
        "model_type": "ColBERT",
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "MaxSim",
        "query_prefix": MARKERS[0],
        "document_prefix": MARKERS[1],
        "query_length": 16,
        "document_length": 48,
        "attend_to_expansion_tokens": False,
        "skiplist_words": list(string.punctuation),
        "do_query_expansion": True,
        **config,
    }
    (folder / "config_sentence_transformers.json").write_text(json.dumps(told))
    return folder


def build_stanford(folder: Path, *, hidden: int = 64, **metadata: Any) -> Path:
    """A folder as the ColBERT of stanford-futuredata writes it: one file with all weights, the
    projection as `linear.weight`, and artifact.metadata."""
    from safetensors.torch import load_file, save_file

    tokenizer = build_tokenizer("bert", ())
    save_backbone(folder, "bert", tokenizer, hidden, 6, 512)
    weights = {f"bert.{name}": each for name, each in load_file(folder / _WEIGHTS).items()}
    weights["linear.weight"] = random_weights(np.random.default_rng(6), (DIM, hidden), hidden**-0.5)
    save_file(weights, folder / _WEIGHTS, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}))
    told = {
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "query_maxlen": 16,
        "doc_maxlen": 48,
        "mask_punctuation": True,
        "attend_to_mask_tokens": False,
        **metadata,
    }
    (folder / "artifact.metadata").write_text(json.dumps(told))
    return folder


def build_native(folder: Path, source: Path, **expansion: Any) -> Path:
    """`source` as sentence-transformers 6 saves it, with another query expansion if asked."""
    from sentence_transformers import MultiVectorEncoder

    with quiet_loading():
        model = MultiVectorEncoder(str(source), device="cpu")
        if expansion:
            model[0].query_expansion = {**model[0].query_expansion, **expansion}
        model.save_pretrained(str(folder), create_model_card=False)
    return folder


_WEIGHTS = "model.safetensors"


def build_tokenizer(backbone: Backbone, markers: Sequence[str]) -> Any:
    """WordPiece as BERT's with the words of `SENTENCES`, or byte-level BPE as ModernBERT's."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    if backbone == "bert":
        letters = [*string.ascii_lowercase, *string.digits, *string.punctuation, "§"]
        words = re.findall(r"[a-z]+", " ".join(SENTENCES).lower())
        pieces = [*_SPECIAL, *letters, *(f"##{each}" for each in letters), *words]
        vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        # Words that follow a space are one token, built letter by letter; others are letters.
        merges = {}
        for word in re.findall(r"[A-Za-z]+", " ".join(SENTENCES)):
            for end in range(1, len(word) + 1):
                merges[("Ġ" + word[: end - 1], word[end - 1])] = None
        pieces = [*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
        pieces += [left + right for left, right in merges]
        vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
        tokenizer = Tokenizer(models.BPE(vocabulary, list(merges)))
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
    )
    fast.add_tokens(list(markers))
    return fast


def save_backbone(
    folder: Path, backbone: Backbone, tokenizer: Any, hidden: int, seed: int, positions: int
) -> None:
    """Two layers; with ModernBERT the first sees everything, the second 8 tokens on each side."""
    import torch
    from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

    common = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": positions,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model: Any
    if backbone == "bert":
        model = BertModel(BertConfig(**common))
    else:
        model = ModernBertModel(
            ModernBertConfig(
                **common,
                local_attention=16,
                global_attn_every_n_layers=2,
                cls_token_id=2,
                sep_token_id=3,
                bos_token_id=2,
                eos_token_id=3,
            )
        )
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weights in sorted(model.named_parameters()):
            if "norm" not in name.lower():
                own = "word_embeddings" in name or "tok_embeddings" in name
                weights.copy_(random_weights(rng, weights.shape, 1.0 if own else 0.05))
        table = model.get_input_embeddings().weight
        for group in ALIKE:
            spelt = [begun + word for word in group for begun in ("", "Ġ")]
            numbers = [tokenizer.backend_tokenizer.token_to_id(word) for word in spelt]
            known = sorted({number for number in numbers if number is not None})
            table[known] = table[known[0]].clone()
    with quiet_loading():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": positions - 1, "do_lower_case": False})
    )


def random_weights(rng: np.random.Generator, shape: Sequence[int], deviation: float) -> Any:
    import torch

    return torch.from_numpy(rng.normal(0.0, deviation, tuple(shape)).astype(np.float32))


def _write_modules(folder: Path, modules: Sequence[tuple[str, str, str]]) -> None:
    told = [
        {"idx": number, "name": name or "0", "path": path, "type": kind}
        for number, (name, path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(told))
