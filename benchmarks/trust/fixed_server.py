"""A server whose second stage takes a fixed time, for measurements of what stands around it.

The catalog, the index, the routes and the lanes are real; the reranker sleeps `--unit-ms` before
each of `--units` parts and gives every candidate the score of its place. Product code has no such
reranker. It prints its URL as JSON when it is ready, and ends on SIGTERM as `longleaf serve` does.

    python -m benchmarks.trust.fixed_server HOME --units 10 --unit-ms 20
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.trust import common

from longleaf.core.budget import Budget
from longleaf.core.protocols import ReaderQuery
from longleaf.core.types import DocumentLimits, Reading, ReadingInput


class Fixed:
    """Sleeps, and reads in the order that it was given."""

    name, fingerprint, takes_instruction = "fixed", "fixed", False
    reads_text, first_stage_weight = False, 0.0
    document_limits, document_weight = DocumentLimits(0, None, beside=False), 0.0
    min_score: float | None = None
    default_instruction: str | None = None

    def __init__(self, units: int, unit_ms: float) -> None:
        self._units, self._unit_ms = units, unit_ms

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        part = max(1, -(-len(inputs) // self._units))
        for start in range(0, len(inputs), part):
            if budget.begin_unit() is not None:
                return
            time.sleep(self._unit_ms / 1000.0)
            for each in inputs[start : start + part]:
                yield Reading(each.rank, -float(each.rank), "passage", 1, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--documents", type=int, default=30)
    parser.add_argument("--units", type=int, default=10)
    parser.add_argument("--unit-ms", type=float, default=20.0)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    from longleaf.api import wire
    from longleaf.api.app import create_app
    from longleaf.api.http.draining import Draining
    from longleaf.api.http.server import make_server, settle
    from longleaf.core.logs import configure

    configure()  # standard output is for the URL
    flags: dict[str, Any] = {"reranker.cached_readings": 0}
    flags |= dict(each.split("=", 1) for each in given.set)
    settings = common.settings_of(given.home, **flags)
    runtime = wire.open_runtime(settings, follow=True)
    if not runtime.catalog.collection_languages(common.everyone(), None):
        runtime.catalog.create_collection(common.COLLECTION)
        for number in range(given.documents):
            data = common.text_of(number, 6).encode()
            name = f"{number}.txt"
            runtime.indexer.index_bytes(common.COLLECTION, "english", data, name, key=name)
    while runtime.follower.lag():
        time.sleep(0.05)
    runtime.engine.reranker = Fixed(given.units, given.unit_ms)
    draining = Draining(settings.serving.drain_seconds, settings.serving.shutdown_seconds)
    app = create_app(runtime, draining=draining)
    note = app.state.service.metrics.note_cut
    server = make_server(app, settings.serving, draining, note_cut=note, log_level="critical")
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    settle()
    try:
        server.run(sockets=[listener])
    finally:
        runtime.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
