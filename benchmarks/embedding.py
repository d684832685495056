"""Embedding speed: ours (dense and token vectors) against SentenceTransformer.encode defaults.

    python benchmarks/embedding.py --corpus ../shared/data/scifact/corpus.jsonl [--json]

The same passages, one process, alternating rounds, the fastest round of each counts (other work on
the machine only ever slows a round down). The defaults: float32, batches of 32, dense only. Also
prints what a single query takes, and the cosine between both dense vectors.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from longleaf.core.types import EmbedInput
from longleaf.indexer import models, sequence
from longleaf.indexer.embed import MiniLMEmbedder

PASSAGE_WORDS = 130
QUERY = "which licences end my patent grant if I sue?"


def passages(corpus: Path) -> Iterator[EmbedInput]:
    """Pieces of about 200 tokens with their document's title in front."""
    with corpus.open(encoding="utf-8") as lines:
        for line in lines:
            document = json.loads(line)
            words = document["text"].split()
            for start in range(0, len(words), PASSAGE_WORDS):
                text = " ".join(words[start : start + PASSAGE_WORDS])
                yield EmbedInput(document["title"], text, keep_prefix=start == 0)


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def query_ms(embed: Callable[[str], Any], repeats: int = 100) -> dict[str, float]:
    embed(QUERY)
    taken = [seconds(lambda: embed(QUERY)) * 1000 for _ in range(repeats)]
    return {"p50_ms": float(np.median(taken)), "p95_ms": float(np.quantile(taken, 0.95))}


def measure(corpus: Path, count: int, rounds: int, threads: int, dtype: Any) -> dict[str, Any]:
    from sentence_transformers import SentenceTransformer

    ours = MiniLMEmbedder(dtype=dtype, threads=threads)

    def token_count(text: str) -> int:
        return len(ours.tokenizer.encode(text).ids)

    # Where a string is too long, we shorten the title and they cut the text: no like for like.
    inputs = list(
        islice(
            (
                item
                for item in passages(corpus)
                if token_count(item.prefix) <= sequence.PREFIX_MAX_TOKENS
                and token_count(sequence.joined_prefix(item.prefix) + item.text) <= ours.max_tokens
            ),
            count,
        )
    )
    strings = [sequence.joined_prefix(item.prefix) + item.text for item in inputs]
    with models.quiet_loading():
        theirs = SentenceTransformer(str(models.bundled_minilm()), device="cpu")
    tokens = sum(token_count(text) for text in strings)
    list(ours.embed_passages(inputs[:32]))
    theirs.encode(strings[:32])
    times: dict[str, list[float]] = {"ours": [], "sentence_transformers": []}
    for _ in range(rounds):
        times["ours"].append(seconds(lambda: list(ours.embed_passages(inputs))))
        times["sentence_transformers"].append(seconds(lambda: theirs.encode(strings)))
    dense = np.stack([vectors.dense for vectors in ours.embed_passages(inputs)])
    cosines = (dense * theirs.encode(strings, normalize_embeddings=True)).sum(axis=1)
    report: dict[str, Any] = {
        "passages": len(inputs),
        "tokens": tokens,
        "threads": threads,
        "dtype": f"{ours.dtype} ({ours.dtype_reason})",
    }
    for name, taken in times.items():
        report[name] = {
            "passages_per_s": len(inputs) / min(taken),
            "tokens_per_s": tokens / min(taken),
            "all_rounds_s": [round(value, 2) for value in taken],
        }
    report["ratio"] = min(times["sentence_transformers"]) / min(times["ours"])
    report["cosine"] = {"min": float(cosines.min()), "mean": float(cosines.mean())}
    report["query"] = {
        "ours": query_ms(ours.embed_query),
        "sentence_transformers": query_ms(theirs.encode),
    }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="a corpus.jsonl")
    parser.add_argument("--passages", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--json", action="store_true", help="print JSON only")
    given = parser.parse_args()
    report = measure(given.corpus, given.passages, given.rounds, given.threads, given.dtype)
    if given.json:
        print(json.dumps(report, indent=1))
        return
    print(f"{report['passages']} passages, {report['tokens']} tokens, {report['dtype']}")
    for name in ("ours", "sentence_transformers"):
        speed, query = report[name], report["query"][name]
        print(
            f"{name:22} {speed['passages_per_s']:7.1f} passages/s {speed['tokens_per_s']:8.0f} "
            f"tokens/s   query p50 {query['p50_ms']:.1f} ms p95 {query['p95_ms']:.1f} ms"
        )
    print(f"ratio {report['ratio']:.2f}, least cosine {report['cosine']['min']:.5f}")


if __name__ == "__main__":
    main()
