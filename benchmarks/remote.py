"""What reading elsewhere costs beside reading: the same CrossEncoder here and behind a real server.

    python benchmarks/remote.py

The model is a tiny one that is made here, so that the way shows and not the model. The server is a
process of its own on this machine; a network adds its own time to every request.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.remote.longleaf import sensible_cross_encoder  # noqa: E402
from tests.reranker.tiny import query_of, reading_input  # noqa: E402

from longleaf.core.budget import Budget  # noqa: E402
from longleaf.core.protocols import Reranker  # noqa: E402
from longleaf.reranker.crossencoder import CrossEncoderReranker  # noqa: E402
from longleaf.reranker.remote import RemoteReranker  # noqa: E402

CANDIDATES = 32
ROUNDS = 3
WORDS = "the tenant shall repair the roof within thirty days of a written notice "


def main() -> None:
    inputs = [reading_input(rank, [f"{WORDS}{rank}"], "Lease") for rank in range(1, CANDIDATES + 1)]
    query = query_of("who repairs the roof")
    with tempfile.TemporaryDirectory() as scratch:
        model = sensible_cross_encoder(Path(scratch) / "model")
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "longleaf.api.cli", "serve", "--port", "0", "--json",
             "--home", f"{scratch}/home"],
            env={**os.environ, "LONGLEAF_RERANKER__KIND": "cross-encoder",
                 "LONGLEAF_RERANKER__MODEL": model, "LONGLEAF_SERVER__WORKER": "false"},
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None
        try:
            remote = RemoteReranker(json.loads(child.stdout.readline())["url"])
            here = CrossEncoderReranker(model, device="cpu")

            def read(reranker: Reranker) -> Callable[[], int]:
                return lambda: len(list(reranker.read(query, inputs, Budget())))

            times = {"here": timed(read(here)), "elsewhere": timed(read(remote))}
        finally:
            child.send_signal(signal.SIGINT)
            child.wait()
    told = {name: {"median_ms": statistics.median(each), "least_ms": min(each)}
            for name, each in times.items()}  # fmt: skip
    print(json.dumps({"candidates": CANDIDATES, **told}, indent=2))


def timed(work: Callable[[], int]) -> list[float]:
    """Milliseconds of each round; the first is thrown away."""
    found = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        assert work() == CANDIDATES
        found.append((time.perf_counter() - started) * 1000.0)
    return found[1:]


if __name__ == "__main__":
    main()
