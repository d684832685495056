"""What HTTP adds to reading: POST /v1/rerank with 100 short texts, beside the model alone.

Three ways to the same scores of the same model in the same process, in turn: the request over the
wire (a client on loopback, its JSON included), the engine call that the route makes (cutting,
counting), and the reranker on texts that are laid out already. Told are medians, the median of the
differences of neighbours (a busy machine moves both), and the same in CPU time of the process,
which a busy machine moves less.

Reading takes seconds on a small machine and its noise more than what is looked for, so there is a
third kind, `instant`: a reranker that answers at once. Its wire time is the overhead itself.

    python -m benchmarks.rerank_overhead --kind instant --rounds 200
    python -m benchmarks.rerank_overhead --rounds 30
    python -m benchmarks.rerank_overhead --kind cross-encoder --model FOLDER
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from benchmarks.latency import _queries

from longleaf.api.app import create_app
from longleaf.api.given import GivenDocument, GivenTexts
from longleaf.api.reading import reader_of_texts
from longleaf.api.wire import Runtime, open_runtime
from longleaf.core.budget import Budget
from longleaf.core.config import load_settings
from longleaf.core.protocols import ReaderQuery
from longleaf.core.types import DocumentLimits, PassageText, Reading, ReadingInput

TEXTS = 100
_WARM_ROUNDS = 3


class Instant:
    """Reads nothing, at once; laid out for as `late` is, in passages."""

    name = fingerprint = "instant"
    takes_instruction = False
    reads_text = True
    first_stage_weight = document_weight = 0.0
    document_limits = DocumentLimits(documents=None, tokens=None, beside=False)
    min_score = default_instruction = None

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        for item in inputs:
            tokens = item.document_tokens
            scores = tuple((each.point_id, 0.5) for each in item.passages)
            yield Reading(item.rank, 1.0 / item.rank, item.depth, tokens, tokens, scores)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--kind", choices=("late", "cross-encoder", "instant"), default="late")
    parser.add_argument("--model", default="", help="folder of a CrossEncoder")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="longleaf-overhead-"))
    try:
        is_instant = given.kind == "instant"
        kind = "late" if is_instant else given.kind
        flags = {"home": home, "reranker.kind": kind, "reranker.model": given.model}
        runtime = open_runtime(load_settings(flags, {}).settings, follow=False)
        try:
            if is_instant:
                runtime.engine.reranker = Instant()
            texts = _queries(TEXTS)
            with _served(runtime) as (app, port):
                ways = _ways(runtime, app, port, "which licence ends when I sue?", texts)
                _tell(given.kind, _measured(ways, given.rounds))
        finally:
            runtime.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


def _ways(
    runtime: Runtime, app: Any, port: int, query: str, texts: Sequence[str]
) -> dict[str, Callable[[], int]]:
    """Each returns how many texts it has read."""
    body = json.dumps({"query": query, "documents": list(texts)}).encode()
    connection = HTTPConnection("127.0.0.1", port)
    engine = runtime.engine
    reader = reader_of_texts(engine.reranker, engine.embedder)
    inputs = _laid_out(engine.embedder, texts)

    def wire() -> int:
        connection.request("POST", "/v1/rerank", body, {"content-type": "application/json"})
        return len(json.loads(connection.getresponse().read())["results"])

    def call() -> int:
        asked = GivenTexts(query, [GivenDocument(each) for each in texts])
        return len(app.state.service.text_reading.read(engine, asked).readings)

    def model() -> int:
        return len(list(reader.read(ReaderQuery(query, None, None), inputs, Budget())))

    return {"wire": wire, "engine": call, "model": model}


def _laid_out(embedder: Any, texts: Sequence[str]) -> list[ReadingInput]:
    """One passage for each, as the engine makes of a short text."""
    made = []
    for rank, text in enumerate(texts, start=1):
        tokens = len(embedder.tokenizer.encode(text, add_special_tokens=False).ids)
        passage = PassageText(-rank, -rank, 0, len(text), None, None, (), tokens, text)
        made.append(ReadingInput(rank, "", tokens, -rank, (passage,)))
    return made


def _measured(
    ways: dict[str, Callable[[], int]], rounds: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Milliseconds of each way, round by round: by the clock, and of CPU."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways}
    names = list(ways)
    for turn in range(rounds + _WARM_ROUNDS):
        for place in range(len(names)):  # none always goes first
            name = names[(turn + place) % len(names)]
            cpu, clock = time.process_time(), time.perf_counter()
            read = ways[name]()
            took = (time.perf_counter() - clock) * 1000.0, (time.process_time() - cpu) * 1000.0
            assert read == TEXTS, f"{name} read {read} texts"
            if turn >= _WARM_ROUNDS:
                found[name][0].append(took[0])
                found[name][1].append(took[1])
    return found


def _tell(kind: str, found: dict[str, tuple[list[float], list[float]]]) -> None:
    for place, what in enumerate(("clock", "CPU")):
        ms = {name: np.array(each[place]) for name, each in found.items()}
        medians = ", ".join(f"{name} {np.median(each):.1f} ms" for name, each in ms.items())
        over_engine = np.median(ms["wire"] - ms["engine"])
        over_model = np.median(ms["wire"] - ms["model"])
        print(
            f"{kind}, {TEXTS} texts, {what}: {medians}; wire over engine {over_engine:+.1f} ms, "
            f"over model {over_model:+.1f} ms (medians of differences)"
        )


@contextmanager
def _served(runtime: Runtime) -> Iterator[tuple[Any, int]]:
    app = create_app(runtime)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_keep_alive=600))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield app, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    raise SystemExit(main())
