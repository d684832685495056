"""Latency of `late`: 100 candidates x 1-5 passages x 200 tokens, 1 and 2 threads, both arithmetics.

Run: python benchmarks/late.py [--rounds 50]. On a busy machine believe the CPU column. The token
vectors lie in memory, as one array: what a store adds to fetch them is not in these figures; they
are random, which changes no timing. Each thread count runs in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from longleaf.core.budget import Budget
from longleaf.core.ids import point_id
from longleaf.core.protocols import ReaderQuery
from longleaf.core.types import PassageText, QueryVectors, ReadingInput
from longleaf.reranker.late import LateInteraction
from longleaf.reranker.maxsim import Arithmetic, best_arithmetic

CANDIDATES = 100
PASSAGE_TOKENS = 200
TITLE_TOKENS = 12
QUERY_TOKENS = 16
DIM = 128
DOCUMENT_PASSAGES = 20
WARM_UP = 3


class InMemory:
    """Hands out the same random passage under every id."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._codes = rng.integers(-127, 128, (600 * PASSAGE_TOKENS, DIM), dtype=np.int8)

    def token_vectors(
        self, passage_ids: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        starts = np.arange(len(passage_ids) + 1, dtype=np.int64) * PASSAGE_TOKENS
        first = np.array([passage_id % DOCUMENT_PASSAGES == 0 for passage_id in passage_ids])
        return self._codes[: starts[-1]], starts, first * np.int64(TITLE_TOKENS)


def inputs_of(passages: int) -> list[ReadingInput]:
    """Every document's candidates are passages 1, 2, …: the title's passage is fetched besides."""
    return [
        ReadingInput(
            rank=rank,
            title="title",
            document_tokens=DOCUMENT_PASSAGES * PASSAGE_TOKENS,
            first_passage_id=rank * DOCUMENT_PASSAGES,
            passages=tuple(
                PassageText(
                    point_id=point_id(rank, ordinal),
                    passage_id=rank * DOCUMENT_PASSAGES + ordinal,
                    start_char=ordinal,
                    end_char=ordinal + 1,
                    first_page=None,
                    last_page=None,
                    headings=(),
                    token_count=PASSAGE_TOKENS,
                    text="",
                )
                for ordinal in range(1, passages + 1)
            ),
        )
        for rank in range(1, CANDIDATES + 1)
    ]


def measure(threads: int, arithmetic: Arithmetic, rounds: int) -> None:
    """One table row for each number of passages and each way to spend."""
    import torch

    torch.set_num_threads(threads)
    rng = np.random.default_rng(1)
    tokens = (rng.normal(size=(QUERY_TOKENS, DIM)) / 127).astype(np.float32)
    query = ReaderQuery("", None, QueryVectors(tokens[0], tokens))
    store = InMemory()
    for passages in range(1, 6):
        inputs = inputs_of(passages)
        for read_title, deadline_ms in ((True, None), (False, None), (True, 1e9)):
            late = LateInteraction(store, read_title=read_title, arithmetic=arithmetic)
            times_ms = []
            for _ in range(WARM_UP):
                list(late.read(query, inputs, Budget(deadline_ms)))
            cpu_started = time.process_time()
            for _ in range(rounds):
                started = time.perf_counter()
                count = sum(1 for _ in late.read(query, inputs, Budget(deadline_ms)))
                times_ms.append((time.perf_counter() - started) * 1000)
                assert count == CANDIDATES
            cpu_ms = (time.process_time() - cpu_started) * 1000 / rounds
            p50_ms, p95_ms = np.percentile(times_ms, [50, 95])
            print(
                f"| {threads} | {arithmetic.name} | {passages} | {'yes' if read_title else 'no'} "
                f"| {'yes' if deadline_ms else 'no'} "
                f"| {p50_ms:.1f} | {p95_ms:.1f} | {cpu_ms:.1f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    chosen = best_arithmetic()
    if arguments.threads:
        for arithmetic in dict.fromkeys([chosen, Arithmetic("float32", "asked for")]):
            measure(arguments.threads, arithmetic, arguments.rounds)
        return
    print(f"{platform.machine()}, {os.cpu_count()} CPUs; this machine uses {chosen}")
    print(
        "| threads | arithmetic | passages | title read | deadline set | p50 ms | p95 ms | CPU ms |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for threads in (1, 2):
        command = [sys.executable, __file__, "--rounds", str(arguments.rounds)]
        subprocess.run(
            [*command, "--threads", str(threads)],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"},
        )


if __name__ == "__main__":
    main()
