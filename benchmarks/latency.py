"""How long a two-stage search takes, and what 100,000 passages cost in memory and disk.

One client, warm, queries one after another: query encoding + retrieval + `late` over the
candidates' passages, through `SearchEngine.search` (the function behind API and page). Every size
but the smallest is SYNTHETIC, and says so: texts are real (the documents beside the repository, cut
by the real chunker, repeated as often as needed), dense vectors are real ones plus noise, token
vectors are slices of real ones, so that no size waits hours for a model. `--passages 5000` embeds
for real.

    python benchmarks/latency.py --passages 5000 100000 --queries 300
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from longleaf.api import wire
from longleaf.api.search import SearchRequest
from longleaf.core.catalog import ContentWrite, DocumentWrite, content_digest
from longleaf.core.config import Settings, load_settings
from longleaf.core.types import Document, EmbedInput, PassageVectors, Scope
from longleaf.indexer.parsers import parser_for

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TEXTS = (
    "scifact",
    "documents/plos",
    "documents/dc_laws",
    "documents/dc_code_sections",
    "documents/nist_800_63_3",
    "covid_qa",
)
COLLECTION = "bench"
POOL_PASSAGES = 2_000
NOISE = 0.03


def main() -> None:
    options = _options()
    results = []
    for passages in options.passages:
        home = Path(options.home or tempfile.mkdtemp(prefix="longleaf-bench-"))
        try:
            results.append(measure(home / str(passages), passages, options))
        finally:
            if options.home is None:
                shutil.rmtree(home)
    if options.json:
        print(json.dumps(results, indent=2))


def measure(home: Path, passages: int, options: argparse.Namespace) -> dict[str, Any]:
    """Fill a data folder to `passages`, then time the queries."""
    settings = load_settings({"home": home, "indexer.keep_originals": False}, {}).settings
    synthetic = passages > 5_000
    filled = fill(settings, passages, synthetic=synthetic)
    runtime = wire.open_runtime(settings, follow=False)
    try:
        started = time.perf_counter()
        runtime.follower.catch_up()
        runtime.engine.index.optimize()
        follow_s = time.perf_counter() - started
        queries = _queries(options.queries)
        stages: dict[str, list[float]] = {}
        for number, query in enumerate(itertools.chain(queries[:20], queries)):
            answer = runtime.engine.search(SearchRequest(query, plain=True))
            if number >= 20:
                for stage, ms in answer.timings_ms.items():
                    stages.setdefault(stage, []).append(ms)
        count = runtime.engine.index.passage_count()
    finally:
        runtime.close()
    disk = {part.name: _bytes(part) for part in sorted(home.iterdir())}
    figures = {
        "passages": count,
        "documents": filled["documents"],
        "synthetic": synthetic,
        "queries": len(queries),
        "p50_ms": {stage: _percentile(ms, 50) for stage, ms in stages.items()},
        "p95_ms": {stage: _percentile(ms, 95) for stage, ms in stages.items()},
        "fill_s": filled["seconds"],
        "follow_s": round(follow_s, 1),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "anonymous_mb": _anonymous_mb(),
        "disk_mb": {name: round(size / 1e6, 1) for name, size in disk.items()},
        "mean_tokens": filled["mean_tokens"],
    }
    _show(figures)
    return figures


def fill(settings: Settings, passages: int, *, synthetic: bool) -> dict[str, Any]:
    """Put documents until there are `passages` passages."""
    started = time.perf_counter()
    parts = wire.open_write_side(settings)
    tokens = made = documents = 0
    try:
        if parts.catalog.count(Scope.all()).passages:
            raise SystemExit(f"{settings.home} holds something already; choose an empty --home")
        parts.catalog.create_collection(COLLECTION)
        pool = _Pool(parts) if synthetic else None
        batch: list[DocumentWrite] = []
        waiting = 0
        for number, document in enumerate(_documents()):
            cut = parts.chunker.chunk(document)
            if not cut or made + len(cut) > passages * 1.01:
                if made >= passages * 0.99:
                    break
                continue
            vectors = pool.vectors(cut) if pool else _embed(parts, document, cut)
            batch.append(_write(number, document, cut, vectors))
            waiting += len(cut)
            made += len(cut)
            documents += 1
            tokens += sum(passage.token_count for passage in cut)
            if waiting >= 2_000:
                parts.catalog.commit(parts.generation, batch)
                batch, waiting = [], 0
        parts.catalog.commit(parts.generation, batch)
    finally:
        parts.close()
    seconds = round(time.perf_counter() - started, 1)
    return {"documents": documents, "seconds": seconds, "mean_tokens": round(tokens / made, 1)}


def _embed(parts: wire.WriteSide, document: Document, cut: Any) -> tuple[PassageVectors, ...]:
    from longleaf.indexer.prepare import embed_inputs

    return tuple(parts.embedder.embed_passages(embed_inputs(document, cut)))


class _Pool:
    """Real vectors to make synthetic ones from."""

    def __init__(self, parts: wire.WriteSide) -> None:
        texts = []
        for document in _documents():
            texts += [
                EmbedInput(document.title, document.text[p.start_char : p.end_char])
                for p in parts.chunker.chunk(document)[:4]
            ]
            if len(texts) >= POOL_PASSAGES:
                break
        found = list(parts.embedder.embed_passages(texts))
        self.dense = np.stack([vector.dense for vector in found])
        self.codes = np.concatenate([vector.token_codes for vector in found])
        self.rng = np.random.default_rng(20)

    def vectors(self, cut: Any) -> tuple[PassageVectors, ...]:
        made = []
        for passage in cut:
            noise = self.rng.normal(scale=NOISE, size=self.dense.shape[1])
            dense = self.dense[self.rng.integers(len(self.dense))] + noise
            dense = (dense / np.linalg.norm(dense)).astype(np.float32)
            begin = int(self.rng.integers(len(self.codes) - passage.token_count))
            codes = self.codes[begin : begin + passage.token_count]
            made.append(PassageVectors(dense, codes, min(8, len(codes)) * (passage.ordinal == 0)))
        return tuple(made)


def _documents() -> Iterator[Document]:
    """Real documents, over and over; a repetition gets another title, so it is another content."""
    for turn in itertools.count():
        for folder in TEXTS:
            corpus = DATA / folder / "corpus.jsonl"
            data = corpus.read_bytes()
            for item in parser_for(corpus.name, data).parse(data, corpus.name):
                if isinstance(item, Document):
                    yield replace(item, title=f"{item.title} ({turn})") if turn else item


def _write(
    number: int, document: Document, cut: Any, vectors: tuple[PassageVectors, ...]
) -> DocumentWrite:
    digest = content_digest(document)
    content = ContentWrite(digest, document, cut, vectors)
    return DocumentWrite(
        COLLECTION,
        str(number),
        digest,
        {},
        (),
        "bench",
        "text/plain",
        None,
        "en",
        (),
        None,
        content,
    )


def _queries(count: int) -> list[str]:
    lines = (DATA / "scifact" / "queries.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines[:count]]


def _percentile(values: list[float], percent: int) -> float:
    return round(float(np.percentile(values, percent)), 2)


def _bytes(path: Path) -> int:
    """Allocated bytes: a preallocated, empty log file costs nothing."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_blocks * 512 for file in files if file.is_file())


def _anonymous_mb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) // 1024
    return 0


def _show(figures: dict[str, Any]) -> None:
    kind = "SYNTHETIC vectors" if figures["synthetic"] else "real vectors"
    print(f"\n{figures['passages']:,} passages in {figures['documents']:,} documents ({kind})")
    for stage, p50 in figures["p50_ms"].items():
        print(f"  {stage:<8} p50 {p50:>8.2f} ms   p95 {figures['p95_ms'][stage]:>8.2f} ms")
    print(
        f"  peak RSS {figures['peak_rss_mb']} MB (anonymous now {figures['anonymous_mb']} MB); "
        f"disk MB {figures['disk_mb']}; filled in {figures['fill_s']} s, "
        f"index made in {figures['follow_s']} s",
        flush=True,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--passages", type=int, nargs="+", default=[5_000, 100_000])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--home", help="keep the data folders here")
    parser.add_argument("--json", action="store_true")
    if not DATA.is_dir():
        print("The folder ../shared/data is not here: nothing to measure with.", file=sys.stderr)
        raise SystemExit(2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
