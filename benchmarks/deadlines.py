"""Whether a search keeps its deadline, with a reranker that takes 20 ms a document.

The real second stage over a real catalog of 100 documents; only the reranker is slowed: it sleeps
before each document and then lets `late` read it. For each deadline the time in the second stage
is compared with what is allowed: the deadline and a tenth of it, or one document (as long as that
takes here: the slept time and the reading), whichever is more, in 99 of 100 searches; and every
answer that was cut short must say so, with the same number as its readings.

    python benchmarks/deadlines.py --requests 500 --deadlines 50 200 1000
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from benchmarks.depth_cost import DOCUMENTS, fill, opened
from benchmarks.latency import _queries

from longleaf.api.search import SearchRequest
from longleaf.core.budget import Budget
from longleaf.core.config import load_settings
from longleaf.core.protocols import ReaderQuery, Reranker
from longleaf.core.types import DepthChoice, Reading, ReadingInput
from longleaf.reranker.read import AUTO_DOCUMENTS

UNIT_MS = 20.0


class Slowed:
    """Another reranker, `UNIT_MS` later for each document."""

    def __init__(self, reranker: Reranker) -> None:
        self._reranker = reranker
        self.name = reranker.name
        self.fingerprint = reranker.fingerprint
        self.takes_instruction = reranker.takes_instruction
        self.reads_text = reranker.reads_text
        self.first_stage_weight = reranker.first_stage_weight
        self.document_limits = reranker.document_limits
        self.document_weight = reranker.document_weight
        self.min_score = reranker.min_score
        self.default_instruction = reranker.default_instruction
        self.units_ms: list[float] = []

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        for each in inputs:
            if budget.begin_unit() is not None:
                return
            started = time.perf_counter()
            time.sleep(UNIT_MS / 1000.0)
            readings = list(self._reranker.read(query, [each], Budget()))
            self.units_ms.append((time.perf_counter() - started) * 1000.0)
            yield from readings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--deadlines", type=float, nargs="+", default=[50.0, 200.0, 1000.0])
    parser.add_argument("--depth", choices=("passage", "document", "auto"), default="auto")
    given = parser.parse_args()
    depth: DepthChoice = given.depth
    home = Path(tempfile.mkdtemp(prefix="longleaf-deadlines-"))
    wrong = 0
    try:
        settings = load_settings({"home": home, "indexer.keep_originals": False}, {}).settings
        fill(settings, 2_000)
        runtime = opened(settings)
        reranker = runtime.engine.reranker
        assert reranker is not None
        slowed = runtime.engine.reranker = Slowed(reranker)
        queries = _queries(50)
        most_whole = reranker.document_limits.documents or AUTO_DOCUMENTS
        print("| deadline ms | p50 ms | p99 ms | most ms | allowed | late | read p50 | not told |")
        print("|---|---|---|---|---|---|---|---|")
        for deadline in given.deadlines:
            times, read, untold = [], [], 0
            for number in range(given.requests):
                request = SearchRequest(
                    queries[number % len(queries)], plain=True, deadline_ms=deadline, depth=depth
                )
                result = runtime.engine.run(request).reading
                times.append(result.elapsed_ms)
                read.append(result.reranked_count)
                reasons = " ".join(each.reason for each in result.degraded)
                if result.reranked_count < DOCUMENTS:
                    untold += f"read {result.reranked_count} of {DOCUMENTS} cand" not in reasons
                elif depth != "passage" and result.whole_count < most_whole:
                    untold += f"read {result.whole_count} of {most_whole} docu" not in reasons
            unit_ms = float(np.percentile(slowed.units_ms, 95))
            allowed = deadline + max(deadline * 0.1, unit_ms)
            late = sum(ms > allowed for ms in times)
            wrong += late > given.requests // 100 or untold > 0
            p50, p99 = np.percentile(times, [50, 99])
            print(
                f"| {deadline:.0f} | {p50:.1f} | {p99:.1f} | {max(times):.1f} | {allowed:.1f} "
                f"| {late} of {given.requests} | {np.median(read):.0f} | {untold} |",
                flush=True,
            )
        runtime.close()
    finally:
        shutil.rmtree(home)
    print("OK" if not wrong else f"FAIL: {wrong} deadlines")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
