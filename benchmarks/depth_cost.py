"""What reading whole documents with `late` costs: 100 candidates of 2,000 to 80,000 tokens.

Each size is a catalog of 100 documents, all of them candidates of every query. SYNTHETIC: texts are
real ones joined until they are long enough and cut by the real chunker, vectors are made as in
latency.py. Times are those of the second stage in the real search (choosing what to read, fetching
it, scoring): warm after a few queries, cold with a new process's maps and the files' pages put out
of the cache before each query. Bytes are the token vectors of what was read.

    python benchmarks/depth_cost.py --tokens 2000 10000 32000 80000
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmarks.latency import COLLECTION, _documents, _Pool, _queries, _write

from longleaf.api import wire
from longleaf.api.search import SearchRequest
from longleaf.core.config import Settings, load_settings
from longleaf.core.types import DepthChoice, Document

DOCUMENTS = 100
CHARS_PER_TOKEN = 5
DEPTHS: tuple[DepthChoice, ...] = ("passage", "document")


def long_documents(tokens: int) -> Iterator[Document]:
    """Documents of about so many tokens: real texts, one after the other."""
    texts: list[str] = []
    for document in _documents():
        texts.append(document.text)
        if sum(map(len, texts)) >= tokens * CHARS_PER_TOKEN:
            whole = "\n\n".join(texts)[: tokens * CHARS_PER_TOKEN]
            yield replace(document, text=whole, pages=(), sections=(), regions=(), layout=None)
            texts = []


def fill(settings: Settings, tokens: int) -> tuple[int, int]:
    """(passages, tokens) in all."""
    parts = wire.open_write_side(settings)
    passages = counted = 0
    try:
        parts.catalog.create_collection(COLLECTION)
        pool = _Pool(parts)
        for number, document in zip(range(DOCUMENTS), long_documents(tokens), strict=False):
            titled = replace(document, title=f"{document.title} {number}")
            cut = parts.chunker.chunk(titled)
            parts.catalog.commit(parts.generation, [_write(number, titled, cut, pool.vectors(cut))])
            passages += len(cut)
            counted += sum(passage.token_count for passage in cut)
    finally:
        parts.close()
    return passages, counted


def ask(
    runtime: wire.Runtime, queries: Sequence[str], depth: DepthChoice
) -> tuple[list[float], int]:
    """(milliseconds of the second stage, tokens read by the last query)."""
    times, read = [], 0
    for query in queries:
        answer = runtime.engine.run(SearchRequest(query, plain=True, depth=depth))
        assert answer.reading.reranked_count == DOCUMENTS, answer.reading.degraded
        times.append(answer.timings_ms["hydrate"] + answer.timings_ms["rerank"])
        told = [*answer.reading.readings, *answer.reading.earlier]
        read = sum(reading.tokens_read for reading in told if reading)
    return times, read


def forget(folder: Path) -> None:
    """Put the files' pages out of the cache, as after a restart of the machine."""
    os.sync()
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def opened(settings: Settings) -> wire.Runtime:
    runtime = wire.open_runtime(settings, follow=False)
    runtime.follower.catch_up()
    return runtime


def measure(home: Path, tokens: int, queries: list[str], cold: int) -> None:
    flags = {"home": home, "indexer.keep_originals": False}
    settings = load_settings(flags, {}).settings
    passages, counted = fill(settings, tokens)
    runtime = opened(settings)
    dim = runtime.engine.generation.token_dim
    warm = {}
    for depth in DEPTHS:
        ask(runtime, queries[:5], depth)
        warm[depth] = ask(runtime, queries, depth)
    runtime.close()
    for depth in DEPTHS:
        cold_ms = []
        for query in queries[:cold]:
            runtime = opened(settings)
            runtime.engine.embedder.embed_query(query)  # the model's own start is not meant
            forget(home / "token-vectors")
            cold_ms += ask(runtime, [query], depth)[0]
            runtime.close()
        times, read = warm[depth]
        p50, p95 = np.percentile(times, [50, 95])
        size = f"{counted // DOCUMENTS:,} | {passages // DOCUMENTS}"
        print(
            f"| {size} | {depth} | {p50:.0f} | {p95:.0f} "
            f"| {np.median(cold_ms):.0f} | {read:,} | {read * dim / 1e6:.1f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2_000, 10_000, 32_000, 80_000])
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--cold", type=int, default=5)
    given = parser.parse_args()
    print(
        "| tokens a document | passages | depth | warm p50 ms | p95 ms | cold ms | tokens read "
        "| MB read |\n|---|---|---|---|---|---|---|---|"
    )
    for tokens in given.tokens:
        home = Path(tempfile.mkdtemp(prefix="longleaf-depth-"))
        try:
            measure(home, tokens, _queries(given.queries), given.cold)
        finally:
            shutil.rmtree(home)


if __name__ == "__main__":
    main()
