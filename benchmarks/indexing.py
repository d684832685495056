"""End to end against the pure model: how much of the embedding rate reaches the index?

One run over one JSONL of real documents: (a) parse and chunk them, then only embed the passages;
(b) the whole way, read to index: walk, read, parse, chunk, embed, commit, follow, flush. The model
is loaded before, documents are the same, (a) and (b) take turns.

    python benchmarks/indexing.py --documents 400 --rounds 2

Files are read in the sandbox; `--here` parses in this process instead, one file after another.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

from longleaf.api import wire
from longleaf.api.indexes.edge import EdgePlace
from longleaf.core.config import load_settings
from longleaf.core.types import Document
from longleaf.indexer.build import Indexer, Target
from longleaf.indexer.parsers import parser_for
from longleaf.indexer.parsers.here import ReadHere
from longleaf.indexer.prepare import embed_inputs
from longleaf.retriever.follow import Follower

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "data" / "scifact" / "corpus.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--here", action="store_true", help="without the sandbox")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="longleaf-bench-") as folder:
        figures = measure(
            Path(folder), options.corpus, options.documents, options.rounds, here=options.here
        )
    if options.json:
        print(json.dumps(figures))
    else:
        print(
            f"{figures['passages']} passages: embedding alone {figures['embed_per_s']:.1f}/s, "
            f"read to index {figures['end_to_end_per_s']:.1f}/s: {figures['share']:.0%} "
            f"(rounds: {', '.join(f'{share:.0%}' for share in figures['shares'])})"
        )


def measure(
    folder: Path, corpus: Path, documents: int, rounds: int, *, here: bool = False
) -> dict[str, object]:
    """Rates in passages a second; `share` is the median of the rounds' ratios."""
    part = folder / "part.jsonl"
    with corpus.open(encoding="utf-8") as lines:
        part.write_text("".join(itertools.islice(lines, documents)), "utf-8")
    settings = load_settings({"home": folder}, {}).settings
    models = wire.open_models(settings, {})
    embedder, chunker = models
    data = part.read_bytes()
    parsed = [
        item
        for item in parser_for(part.name, data).parse(data, part.name)
        if isinstance(item, Document)
    ]
    inputs = [each for d in parsed for each in embed_inputs(d, chunker.chunk(d))]
    list(embedder.embed_passages(inputs[:64]))
    alone, whole = [], []
    for number in range(rounds):
        started = time.perf_counter()
        count = sum(1 for _ in embedder.embed_passages(inputs))
        alone.append(count / (time.perf_counter() - started))
        whole.append(count / _end_to_end(folder / str(number), part, models, here=here))
    shares = [ours / pure for ours, pure in zip(whole, alone, strict=True)]
    return {
        "passages": len(inputs),
        "embed_per_s": statistics.median(alone),
        "end_to_end_per_s": statistics.median(whole),
        "share": statistics.median(shares),
        "shares": shares,
    }


def _end_to_end(
    home: Path, part: Path, models: tuple[wire.Embedder, wire.Chunker], *, here: bool
) -> float:
    """Seconds from reading the file to a flushed index, models loaded."""
    embedder, chunker = models
    settings = load_settings({"home": home}, {}).settings
    started = time.perf_counter()
    catalog = wire.open_catalog(settings)
    catalog.create_collection("bench")
    generation = catalog.open_generation(
        chunker.fingerprint, embedder.fingerprint, embedder.name, embedder.dim, embedder.token_dim
    )
    reader = ReadHere() if here else wire.open_reader(settings, catalog)
    target = Target(generation, chunker, embedder)
    indexer = Indexer(catalog, [target], reader, settings.indexer)
    indexer.index_paths("bench", "english", [part])
    index = EdgePlace(settings, catalog, generation).open_index()
    Follower(catalog, index, generation, "bench").catch_up()
    index.close()
    indexer.close()
    catalog.close()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
