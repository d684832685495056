"""How long an event loop stands still while its server's index takes in new passages.

A 1 ms heartbeat runs in the loop, four threads search, and SYNTHETIC passages (random vectors and
words) go into an empty index: once with the shard and its follower in this process, once in the
index process. Then what a call costs on each side, one after another, on the same index.

    python benchmarks/stall.py --passages 20000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from longleaf.core.catalog import Catalog, ContentWrite, DocumentWrite, Generation, content_digest
from longleaf.core.protocols import IndexFilter, LexicalQuery, PassageIndex
from longleaf.core.types import Document, Passage, PassageVectors
from longleaf.retriever.follow import Follower, FollowerThread, Following
from longleaf.retriever.index.edge import EdgeIndex
from longleaf.retriever.index.process import IndexProcess

DIM, PASSAGES_PER_DOCUMENT, WORDS_PER_PASSAGE = 384, 10, 120
SEARCHERS, LIMIT, FLUSH_DOCUMENTS, CALLS = 4, 200, 200, 300
ALL = IndexFilter(("bench",))
BEAT_SECONDS = 0.001


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--passages", type=int, default=20_000)
    options.add_argument("--pause-ms", type=float, default=20.0, help="between two searches")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="longleaf-stall-") as scratch:
        home = Path(scratch)
        catalog = Catalog(home)
        generation = fill(catalog, chosen.passages)
        _tell("load", {"load_1min": round(os.getloadavg()[0], 2), "cores": os.cpu_count()})

        index = EdgeIndex.open(home / "here", DIM, generation.fingerprint)
        follower = Follower(catalog, index, generation, "here", FLUSH_DOCUMENTS)
        thread = FollowerThread(follower)
        _tell("in this process", asyncio.run(watch(index, follower, thread.start, chosen.pause_ms)))
        thread.stop()
        calls_here = call_times(index)
        index.close()

        process = IndexProcess.open(catalog, generation, home / "there", FLUSH_DOCUMENTS)
        measured = asyncio.run(watch(process, process, lambda: None, chosen.pause_ms))
        assert process.passage_count() == chosen.passages
        _tell("index process", {**measured, **memory(process.child_pid)})
        calls_there = call_times(process)
        process.close()
        for name, here in calls_here.items():
            there = calls_there[name]
            _tell(name, {"here_p50_ms": here, "process_p50_ms": there, "more": there - here})
        catalog.close()


def fill(catalog: Catalog, passages: int) -> Generation:
    """Commit that many synthetic passages."""
    catalog.create_collection("bench")
    generation = catalog.open_generation("c", "e", "synthetic", DIM, 0)
    numbers = np.random.default_rng(1)
    vocabulary = np.array([f"word{number}" for number in range(20_000)])
    writes: list[DocumentWrite] = []
    for number in range(passages // PASSAGES_PER_DOCUMENT):
        # Zipf-like: a few words are everywhere, most are rare.
        drawn = (numbers.random(PASSAGES_PER_DOCUMENT * WORDS_PER_PASSAGE) ** 3) * len(vocabulary)
        parts = vocabulary[drawn.astype(int)].reshape(PASSAGES_PER_DOCUMENT, -1)
        texts = [" ".join(part) + "\n" for part in parts]
        ends = np.cumsum([len(text) for text in texts]).tolist()
        vectors = numbers.normal(size=(PASSAGES_PER_DOCUMENT, DIM)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        document = Document("".join(texts), f"Document {number}")
        spans = zip([0, *ends], ends, strict=False)
        content = ContentWrite(
            content_digest(document),
            document,
            tuple(Passage(n, *span, WORDS_PER_PASSAGE) for n, span in enumerate(spans)),
            tuple(PassageVectors(vector, np.zeros((0, 0), np.int8)) for vector in vectors),
        )
        key = str(number)
        writes.append(
            DocumentWrite(
                "bench", key, content.digest, {}, (), key, "text/plain", None, "en", (), None,
                content,
            )
        )  # fmt: skip
        if len(writes) == 100:
            catalog.commit(generation, writes)
            writes = []
    catalog.commit(generation, writes)
    return generation


@dataclass
class Searchers:
    """Threads that search until told to stop."""

    index: PassageIndex
    pause_ms: float
    times_ms: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, seed: int) -> None:
        numbers = np.random.default_rng(seed)
        while not self.stop.is_set():
            # A request waits from when it arrives, not from when its thread gets to run.
            due = time.perf_counter() + self.pause_ms / 1000.0
            self.stop.wait(self.pause_ms / 1000.0)
            self.index.search_dense(_vector(numbers), ALL, LIMIT)
            self.index.search_bm25(_words(numbers), ALL, LIMIT)
            self.times_ms.append((time.perf_counter() - due) * 1000.0)


async def watch(
    index: PassageIndex, follower: Following, start: Callable[[], None], pause_ms: float
) -> dict[str, Any]:
    """How late the heartbeat was, and how long searches took, until the index has followed."""
    searchers = Searchers(index, pause_ms)
    threads = [threading.Thread(target=searchers.run, args=(n,)) for n in range(SEARCHERS)]
    for thread in threads:
        thread.start()
    begun = time.perf_counter()
    start()
    late_ms = []
    asked = begun
    while True:
        beat = time.perf_counter()
        await asyncio.sleep(BEAT_SECONDS)
        now = time.perf_counter()
        late_ms.append((now - beat - BEAT_SECONDS) * 1000.0)
        if now - asked > 0.2:
            asked = now
            if await asyncio.to_thread(follower.lag) == 0:
                break
    seconds = time.perf_counter() - begun
    searchers.stop.set()
    for thread in threads:
        thread.join()
    return {
        "ingest_s": seconds,
        "stall_p50_ms": np.percentile(late_ms, 50),
        "stall_p99_ms": np.percentile(late_ms, 99),
        "stall_max_ms": max(late_ms),
        "beats_over_50_ms": sum(each > 50.0 for each in late_ms),
        "searches": len(searchers.times_ms),
        "search_p50_ms": np.percentile(searchers.times_ms, 50),
        "search_p99_ms": np.percentile(searchers.times_ms, 99),
    }


def call_times(index: PassageIndex) -> dict[str, float]:
    """Median milliseconds of each kind of call, one caller, warm."""
    numbers = np.random.default_rng(9)
    points = index.scroll(ALL, LIMIT)
    calls: dict[str, Callable[[], object]] = {
        "scroll 1": lambda: index.scroll(ALL, 1),
        "search_dense 200": lambda: index.search_dense(_vector(numbers), ALL, LIMIT),
        "search_bm25 200": lambda: index.search_bm25(_words(numbers), ALL, LIMIT),
        "score_dense 200": lambda: index.score_dense(_vector(numbers), points),
    }
    found = {}
    for name, call in calls.items():
        times = []
        for _ in range(CALLS):
            started = time.perf_counter()
            call()
            times.append((time.perf_counter() - started) * 1000.0)
        found[name] = float(np.median(times[CALLS // 10 :]))
    return found


def memory(pid: int | None) -> dict[str, float]:
    """Anonymous and file-backed resident megabytes of a process (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    names = {"child_anonymous_mb": "RssAnon", "child_mapped_mb": "RssFile"}
    return {name: int(status[field].split()[0]) / 1024 for name, field in names.items()}


def _vector(numbers: np.random.Generator) -> Any:
    vector = numbers.normal(size=DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def _words(numbers: np.random.Generator) -> LexicalQuery:
    drawn = (numbers.random(6) ** 3 * 20_000).astype(int)
    return LexicalQuery(" ".join(f"word{number}" for number in drawn), "english")


def _tell(what: str, values: dict[str, Any]) -> None:
    shown = {k: round(float(v), 2) if isinstance(v, float) else v for k, v in values.items()}
    print(f"{what}: {json.dumps(shown)}", flush=True)


if __name__ == "__main__":
    main()
