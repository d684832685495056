"""FAISS against edge: search times, recall, memory, and how fast passages go in.

Each index is filled and asked in a process of its own, from a copy of a data folder's catalog
(`--home` is only read), by one thread. Dense queries are stored vectors with noise (cosine to the
original about 0.8); word queries are eight words of a stored passage. Recall is against numpy over
all vectors in 32 bits. Memory is anonymous memory (RssAnon): mapped files are not in it.

    python benchmarks/faiss_index.py --home /tmp/h100k --passages 10000
    python benchmarks/faiss_index.py --home /tmp/h100k --bulk 500000
    python benchmarks/faiss_index.py --gpu --passages 1000000 10000000

`--bulk` repeats the folder's texts and vectors, each time with noise of its own on the vectors.
`--gpu` needs faiss-gpu and a GPU: SYNTHETIC clustered vectors, flat, against the exact answer of
the CPU for a sample of the queries.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from longleaf.core.catalog import Catalog
from longleaf.core.filters import Range
from longleaf.core.ids import point_id
from longleaf.core.protocols import IndexEntry, IndexFilter, LexicalQuery
from longleaf.core.types import Scope
from longleaf.retriever.index.edge import EdgeIndex
from longleaf.retriever.index.faiss import FaissIndex
from longleaf.retriever.index.faiss_dense import DenseRows
from longleaf.retriever.index.faiss_documents import Documents
from longleaf.retriever.index.faiss_gpu import on_gpus
from longleaf.retriever.index.faiss_library import choose, load_faiss
from longleaf.retriever.index.faiss_postings import from_rows
from longleaf.retriever.index.faiss_search import search_dense
from longleaf.retriever.index.faiss_segment import Segment, new_name, unit
from longleaf.retriever.index.faiss_tidy import MAX_ROWS
from longleaf.retriever.index.faiss_view import Live, View

DEPTH = 100
PUT_PASSAGES = 2048
FLUSH_DOCUMENTS = 2000
NOISE = 0.75
GPU_DIM = 384
THREADS = 32
OPENERS: dict[str, Callable[..., Any]] = {"edge": EdgeIndex.open, "faiss": FaissIndex.open}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--home", type=Path, help="a data folder; its catalog is copied")
    options.add_argument("--passages", type=int, nargs="*", default=[10_000])
    options.add_argument("--bulk", type=int, default=0, help="only load this many passages")
    options.add_argument("--queries", type=int, default=200, help="at least 50")
    options.add_argument("--index", choices=OPENERS, nargs="*", default=list(OPENERS))
    options.add_argument("--lists", type=int, default=0, help="FAISS: inverted lists")
    options.add_argument("--probes", type=int, default=64)
    options.add_argument("--gpu", action="store_true")
    options.add_argument("--child", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.gpu:
        return max(on_gpu(count, chosen.queries) for count in chosen.passages)
    if chosen.child:
        tell(measure(chosen.child, chosen))
        return 0
    if chosen.home is None:
        options.error("--home names the data folder to take passages from")
    with tempfile.TemporaryDirectory(prefix="longleaf-faiss-") as scratch:
        copy = Path(scratch)
        shutil.copy(chosen.home / "catalog.sqlite3", copy)
        for name in chosen.index:
            command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
            subprocess.run([*command, "--home", str(copy)], check=True)
    return 0


def tell(figures: dict[str, Any]) -> None:
    """One line of JSON."""
    print(json.dumps(figures), flush=True)


def measure(name: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Fill one index and ask it."""
    catalog = Catalog(chosen.home)
    wanted = chosen.bulk or chosen.passages[0]
    figures: dict[str, Any] = {"index": name}
    settings = {"lists": chosen.lists, "probes": chosen.probes} if name == "faiss" else {}
    folder = chosen.home / name
    base_mb = anonymous_mb()
    vectors: dict[int, Any] = {}
    texts: list[str] = []
    generation = catalog.live_generation()
    assert generation is not None, "the data folder has no passages"
    index = OPENERS[name](folder, generation.dim, generation.fingerprint, **settings)
    putting = 0.0
    with Peak() as peak:
        count = documents = 0
        for batch in batches(entries(catalog, wanted)):
            started = time.perf_counter()
            index.put(batch)
            documents += len(batch)
            if documents >= FLUSH_DOCUMENTS:
                index.flush(0)
                documents = 0
            putting += time.perf_counter() - started
            for entry in batch:
                for passage in entry.passages:
                    count += 1
                    if not chosen.bulk:
                        vectors[passage.point_id] = passage.dense.astype(np.float16)
                        if len(texts) < chosen.queries:
                            texts.append(passage.text)
        started = time.perf_counter()
        index.flush(1)
        putting += time.perf_counter() - started
    figures |= {
        "passages": index.passage_count(),
        "passages_per_second": round(count / putting),
        "peak_mb_while_filling": round(peak.most_mb - base_mb),
    }
    started = time.perf_counter()
    with Peak() as peak:
        index.optimize()
    figures["optimize_seconds"] = round(time.perf_counter() - started, 1)
    figures["peak_mb_while_optimizing"] = round(peak.most_mb - base_mb)
    index.close()
    catalog.close()
    before_mb = anonymous_mb()
    started = time.perf_counter()
    index = OPENERS[name](folder, generation.dim, generation.fingerprint, **settings)
    figures["open_seconds"] = round(time.perf_counter() - started, 2)
    if not chosen.bulk:
        figures |= asked(index, vectors, texts, chosen.queries, names(chosen.home))
    figures["mb_open"] = round(anonymous_mb() - before_mb)
    index.close()
    size = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    return figures | {"disk_mb": round(size / 1e6), "flush_one_ms": flush_one(name, folder, chosen)}


def names(home: Path) -> IndexFilter:
    """A filter that lets every collection through."""
    with closing(Catalog(home)) as catalog:
        return IndexFilter(tuple(catalog.collection_languages(Scope.all(), None)))


def asked(
    index: Any, vectors: dict[int, Any], texts: Sequence[str], queries: int, everywhere: IndexFilter
) -> dict[str, Any]:
    """Times and recall of both sides, of a narrow filter, and of the scores of 200 points."""
    points = np.array(list(vectors), np.int64)
    matrix = np.stack(list(vectors.values())).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    random = np.random.default_rng(1)
    start = matrix[random.integers(0, len(matrix), queries)]
    noise = random.normal(size=start.shape)
    noise *= NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
    vectors_asked = (start + noise).astype(np.float32)
    vectors_asked /= np.linalg.norm(vectors_asked, axis=1, keepdims=True)
    found = 0.0
    for vector in vectors_asked:
        scores = matrix @ vector
        depth = min(DEPTH, len(points))
        least = np.partition(scores, len(scores) - depth)[len(scores) - depth] - 1e-5
        good = set(points[scores >= least].tolist())
        hits = index.search_dense(vector, everywhere, DEPTH)
        found += sum(hit.point_id in good for hit in hits) / depth
    lexical = [
        LexicalQuery(" ".join(random.permutation(text.split())[:8]), "english") for text in texts
    ]
    given = points[random.integers(0, len(points), 200)].tolist()
    pairs = [" ".join(text.split()[3:5]) for text in texts]
    phrases = [replace(everywhere, phrases=(pair,)) for pair in pairs]
    without = [replace(everywhere, excluded=(pair,)) for pair in pairs]
    return {
        "recall": round(found / queries, 4),
        "dense": times(lambda n: index.search_dense(vectors_asked[n], everywhere, DEPTH), queries),
        "bm25": times(lambda n: index.search_bm25(lexical[n], everywhere, DEPTH), len(lexical)),
        "score_dense": times(lambda n: index.score_dense(vectors_asked[n], given), queries),
        "score_bm25": times(
            lambda n: index.score_bm25(lexical[n], everywhere, given), len(lexical)
        ),
        "phrase": times(lambda n: index.search_dense(vectors_asked[n], phrases[n], DEPTH), 50),
        "excluded": times(lambda n: index.search_dense(vectors_asked[n], without[n], DEPTH), 50),
    }


def times(ask: Callable[[int], object], count: int) -> dict[str, float]:
    """p50 and p95 in milliseconds."""
    taken = []
    for number in range(count):
        started = time.perf_counter()
        ask(number)
        taken.append((time.perf_counter() - started) * 1000)
    return {
        "p50_ms": round(float(np.percentile(taken, 50)), 2),
        "p95_ms": round(float(np.percentile(taken, 95)), 2),
    }


def flush_one(name: str, folder: Path, chosen: argparse.Namespace) -> dict[str, float]:
    """One document of one passage, put and flushed, as a server does for an upload."""
    with closing(Catalog(chosen.home)) as catalog:
        generation = catalog.live_generation()
        assert generation is not None
        first = next(entries(catalog, 1))
        index = OPENERS[name](folder, generation.dim, generation.fingerprint)

        def put(number: int) -> None:
            revision = 2**30 + number
            passage = replace(first.passages[0], point_id=point_id(revision, 0))
            new = replace(first, document_id=revision, revision_id=revision, passages=(passage,))
            index.put([new])
            index.flush(2 + number)

        taken = times(put, 20)
        index.close()
    return taken


def entries(catalog: Catalog, wanted: int) -> Iterator[IndexEntry]:
    """At least `wanted` passages: the catalog's, and again with noise and other ids until then."""
    generation = catalog.live_generation()
    assert generation is not None
    random = np.random.default_rng(7)
    document_ids, _ = catalog.all_document_ids()
    count, turn = 0, 0
    while True:
        for begin in range(0, len(document_ids), 200):
            for entry in catalog.index_entries(document_ids[begin : begin + 200], generation):
                if count >= wanted:
                    return
                count += len(entry.passages)
                yield entry if turn == 0 else again(entry, turn, random)
        turn += 1


def again(entry: IndexEntry, turn: int, random: np.random.Generator) -> IndexEntry:
    """The document under other ids, its vectors a little elsewhere."""
    revision = entry.revision_id + turn * 2**24
    passages = []
    for ordinal, passage in enumerate(entry.passages):
        noise = random.normal(size=passage.dense.shape, scale=0.01)
        dense = (passage.dense + noise).astype(np.float32)
        dense /= np.linalg.norm(dense)
        passages.append(replace(passage, point_id=point_id(revision, ordinal), dense=dense))
    document_id = entry.document_id + turn * 2**24
    return replace(entry, document_id=document_id, revision_id=revision, passages=tuple(passages))


def batches(every: Iterator[IndexEntry]) -> Iterator[list[IndexEntry]]:
    """As the follower hands them to an index."""
    batch: list[IndexEntry] = []
    passages = 0
    for entry in every:
        batch.append(entry)
        passages += len(entry.passages)
        if passages >= PUT_PASSAGES:
            yield batch
            batch, passages = [], 0
    if batch:
        yield batch


def anonymous_mb() -> float:
    """What this process holds that is in no file."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1000


def on_gpu(passages: int, queries: int) -> int:
    """Exact search of SYNTHETIC vectors on the first GPU, as the index does it; 1 when an answer
    differs from the CPU's."""
    faiss = load_faiss()
    devices = choose(faiss, "0")
    random = np.random.default_rng(1)
    centres = random.normal(size=(2000, GPU_DIM)).astype(np.float32)
    with ThreadPoolExecutor() as threads:
        made = threads.map(
            lambda first: synthetic(first, min(MAX_ROWS, passages - first), centres),
            range(0, passages, MAX_ROWS),
        )
        lives = [Live.whole(segment) for segment in made]
    before_mb = gpu_mb()
    gpus = on_gpus(faiss, devices.gpus, GPU_DIM)
    started = time.perf_counter()
    gpus.take([live.segment for live in lives])
    filled_seconds = time.perf_counter() - started
    noisy = centres[random.integers(0, len(centres), queries)]
    noisy = noisy + 0.7 * random.normal(size=noisy.shape).astype(np.float32)
    asked = [unit(each) for each in noisy.astype(np.float32)]
    all_of_them = IndexFilter(("synthetic",))
    half = replace(all_of_them, where=Range("part", lt=0.5))
    narrow = replace(all_of_them, where=Range("part", lt=0.02))
    on, off = View(tuple(lives), gpus), View(tuple(lives))
    figures: dict[str, Any] = {
        "gpu": devices.reason,
        "failure": gpus.failure,
        "passages": passages,
        "dim": GPU_DIM,
        "vectors_mb": round(passages * GPU_DIM * 2 / 1e6),
        "gpu_mb": gpu_mb() - before_mb,
        "host_mb": round(anonymous_mb()),
        "fill_seconds": round(filled_seconds, 1),
    }
    wrong = 0
    for name, within in (("all", all_of_them), ("half", half), ("narrow", narrow)):
        search_dense(on, asked[0], within, DEPTH)  # the first one makes the filter's masks
        figures[name] = times(lambda n: search_dense(on, asked[n], within, DEPTH), queries)  # noqa: B023
        for query in asked[:10]:
            wrong += search_dense(on, query, within, DEPTH) != search_dense(
                off, query, within, DEPTH
            )
    started = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        every = list(threads.map(lambda query: search_dense(on, query, all_of_them, DEPTH), asked))
    seconds = time.perf_counter() - started
    figures[f"searches_a_second_of_{THREADS}_threads"] = round(len(every) / seconds)
    figures["cpu_all"] = times(lambda n: search_dense(off, asked[n], all_of_them, DEPTH), 5)
    tell({**figures, "answers_other_than_the_cpus": wrong})
    return 1 if wrong or gpus.failure else 0


def gpu_mb() -> int:
    """What is taken on the first GPU, by everybody."""
    command = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return round(int(told) * 2**20 / 1e6)


def synthetic(first: int, rows: int, centres: Any) -> Segment:
    """A segment of clustered vectors without words, one document of it all."""
    random = np.random.default_rng([1, first])
    vectors = random.standard_normal((rows, centres.shape[1]), np.float32)
    vectors *= 0.7
    vectors += centres[random.integers(0, len(centres), rows)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    number = first // MAX_ROWS
    entry = IndexEntry(
        number, number, str(number), "synthetic", "", "", "", "", "none", (), (),
        {"part": float(random.random())},
    )  # fmt: skip
    empty = from_rows([], [])
    return Segment(
        new_name(),
        np.arange(first, first + rows),
        np.zeros(rows, np.int32),
        Documents.of([entry]),
        DenseRows.of(vectors.astype(np.float16)),
        empty,
        replace(empty, weights=None),
        np.empty(0, np.uint8),
        np.zeros(rows, np.int64),
    )


class Peak:
    """The most anonymous memory while it is entered, looked at every 20 ms."""

    def __enter__(self) -> Peak:
        self.most_mb = anonymous_mb()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.most_mb = max(self.most_mb, anonymous_mb())


if __name__ == "__main__":
    sys.exit(main())
