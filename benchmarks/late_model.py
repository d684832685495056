"""What a late-interaction checkpoint costs beside the embedder, before anybody embeds with it.

`windows`: passages of the default size, their titles in front, read by models whose documents have
128 to 512 tokens: how many take more than one window, and how much more is read for it (markers
and titles again). Counted in BERT's WordPiece, which most such models have. `speed`: random weights
at true sizes, BERT-base and ModernBERT-base with a projection to 128: loading, a query, passages of
a 512-passage window. `codes`: what rounding to the scale 1/127 does to MaxSim, on real vectors (the
bundled model's, of 128 dimensions).

    python -m benchmarks.late_model windows --passages 1000
    python -m benchmarks.late_model speed --passages 48
    python -m benchmarks.late_model codes --passages 300
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.chunking import DATA
from tests.indexer.colberts import build_pylate, random_weights

from longleaf.core.types import Document, EmbedInput
from longleaf.indexer.chunk import PassageChunker
from longleaf.indexer.colbert.checkpoint import Checkpoint, Side
from longleaf.indexer.colbert.layout import Layout
from longleaf.indexer.embed import MiniLMEmbedder
from longleaf.indexer.embed_late import LateTokens
from longleaf.indexer.models import quiet_loading
from longleaf.indexer.prepare import embed_inputs
from longleaf.indexer.projection import identity, unit_rows
from longleaf.indexer.quantize import quantize

LENGTHS = (128, 180, 220, 300, 512)


def passages(embedder: MiniLMEmbedder, collection: str, most: int) -> list[EmbedInput]:
    """Of a collection's documents, cut as they are by default."""
    chunker = PassageChunker(embedder.tokenizer, embedder.tokenizer_id)
    found: list[EmbedInput] = []
    with (DATA / collection / "corpus.jsonl").open(encoding="utf-8") as lines:
        for line in islice(lines, most):
            each = json.loads(line)
            document = Document(each["text"], each.get("title", ""))
            found += embed_inputs(document, chunker.chunk(document))
            if len(found) >= most:
                break
    return found[:most]


def windows(embedder: MiniLMEmbedder, most: int) -> None:
    """How passages of the default size fit the documents of smaller models."""
    for collection in ("covid_qa", "scifact"):
        inputs = passages(embedder, collection, most)
        for length in LENGTHS:
            layout = Layout(embedder.tokenizer, _wordpiece(length), positions=512, mask_id=103)
            laid = layout.passages(inputs)
            counts = [len(each.windows) for each in laid]
            read = sum(len(window.ids) for each in laid for window in each.windows)
            kept = sum(len(each.places) for each in laid)
            several = sum(count > 1 for count in counts) / len(counts)
            print(
                f"{collection:10} {len(inputs)} passages, documents of {length}: "
                f"{several:6.1%} in several windows, {np.mean(counts):.2f} windows a passage, "
                f"{read / len(inputs):.0f} tokens read and {kept / len(inputs):.0f} kept a passage"
            )


def _wordpiece(length: int) -> Checkpoint:
    """A ColBERTv2 as far as lengths go."""
    side = Side("[unused0]", "", False)
    punctuation = tuple("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    return Checkpoint(
        "stanford", Path(), (), side, side, 32, length, True, False, None, punctuation, False
    )


def speed(embedder: MiniLMEmbedder, threads: int, count: int) -> None:
    """Models of true sizes with random weights, beside the bundled one."""
    import torch

    torch.set_num_threads(threads)
    inputs = passages(embedder, "scifact", count)
    _time("bundled MiniLM", embedder, inputs)
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("bert", "modernbert"):
            folder = _true_size(Path(scratch) / name, name)
            started = time.perf_counter()
            model = LateTokens(str(folder), dtype="auto", document_tokens=300)
            loading = time.perf_counter() - started
            _time(f"{name}-base, {model.dtype}, loaded in {loading:.1f} s", model, inputs)


def _true_size(folder: Path, name: str) -> Path:
    """A tiny checkpoint whose backbone is made anew at the size of BERT-base or ModernBERT-base."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

    build_pylate(folder, backbone="bert" if name == "bert" else "modernbert", query_length=32)
    torch.manual_seed(1)
    made: Any = BertModel(BertConfig()) if name == "bert" else ModernBertModel(ModernBertConfig())
    with quiet_loading():
        made.save_pretrained(folder)
    weight = random_weights(np.random.default_rng(1), (128, 768), 768**-0.5)
    save_file({"linear.weight": weight}, folder / "1_Dense" / "model.safetensors")
    return folder


def _time(name: str, model: Any, inputs: list[EmbedInput]) -> None:
    model.embed_query("warm")
    times = []
    for _ in range(15):
        started = time.perf_counter()
        model.embed_query("Does aspirin lower the risk of a second stroke in old patients?")
        times.append(1000 * (time.perf_counter() - started))
    started = time.perf_counter()
    tokens = sum(len(each.token_codes) for each in model.embed_passages(inputs))
    seconds = time.perf_counter() - started
    print(
        f"{name}: query {statistics.median(times):.0f} ms, {len(inputs) / seconds:.1f} passages/s "
        f"({tokens / len(inputs):.0f} vectors a passage)"
    )


def codes(embedder: MiniLMEmbedder, count: int) -> None:
    """MaxSim of exact unit vectors against that of their codes, and how orders change."""
    inputs = passages(embedder, "scifact", count)
    lines = (DATA / "scifact" / "queries.jsonl").read_text("utf-8").splitlines()[:50]
    layout = embedder._builder.passages(inputs)
    exact = []
    for item in layout:
        _, projected = embedder._forward([item.ids], [item.kept])
        exact.append(unit_rows(projected))
    scale = identity(128).scale
    rounded = [quantize(each, scale).astype(np.float32) * scale for each in exact]
    off, swaps = [], []
    for line in lines:
        ids, _ = embedder._builder.query(json.loads(line)["text"])
        tokens = unit_rows(embedder._forward_query(ids)[1])
        was, now = (
            np.array([(each @ tokens.T).max(axis=0).mean() for each in vectors])
            for vectors in (exact, rounded)
        )
        off.append(now - was)
        swaps.append(len(set(np.argsort(-was)[:10]) - set(np.argsort(-now)[:10])))
    errors = [
        (a_rounded @ b.T - a @ b.T).ravel()
        for a_rounded, a, b in zip(rounded[:50], exact[:50], exact[50:100], strict=True)
    ]
    print(
        f"{len(inputs)} passages, {len(lines)} queries: a cosine is off by "
        f"{np.std(np.concatenate(errors)):.4f}, a score by {np.std(off):.5f} (standard "
        f"deviation; mean {np.mean(off):+.5f}); of the ten best {np.mean(swaps):.2f} are others"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Costs of a late-interaction checkpoint.")
    parser.add_argument("what", choices=["windows", "speed", "codes"])
    parser.add_argument("--passages", type=int, default=2_000)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    embedder = MiniLMEmbedder()
    if asked.what == "windows":
        windows(embedder, asked.passages)
    elif asked.what == "speed":
        speed(embedder, asked.threads, asked.passages)
    else:
        codes(embedder, asked.passages)


if __name__ == "__main__":
    main()
