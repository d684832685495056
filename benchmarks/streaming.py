"""How soon the first hits are there while a slow reranker reads, over HTTP at 100,000 passages.

The real server in this process, one client, warm; the catalog is latency.py's SYNTHETIC one, the
reranker is slowed to 20 ms a document as in deadlines.py. Prints when `first` and `answer` came.

    python benchmarks/streaming.py --passages 100000 --requests 50
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from benchmarks.deadlines import Slowed
from benchmarks.latency import _queries, fill

from longleaf.api import wire
from longleaf.api.app import create_app
from longleaf.core.config import load_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--home", type=Path, help="keep the data folder here, and use it again")
    given = parser.parse_args()
    home = given.home or Path(tempfile.mkdtemp(prefix="longleaf-streaming-"))
    try:
        settings = load_settings({"home": home, "indexer.keep_originals": False}, {}).settings
        if not (home / "catalog.sqlite3").exists():
            fill(settings, given.passages, synthetic=given.passages > 5_000)
        runtime = wire.open_runtime(settings, follow=False)
        runtime.follower.catch_up()
        runtime.engine.index.optimize()
        assert runtime.engine.reranker is not None
        runtime.engine.reranker = Slowed(runtime.engine.reranker)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = uvicorn.Config(create_app(runtime), port=port, log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        times: dict[str, list[float]] = {"first": [], "order": [], "answer": []}
        stages: dict[str, list[float]] = {}
        with httpx.Client(trust_env=False, timeout=60) as client:
            for number, query in enumerate([*_queries(5), *_queries(given.requests)]):
                seen, first = one(client, port, query)
                if number < 5:
                    continue
                for name, ms in seen.items():
                    times[name].append(ms)
                for stage, ms in first["timings_ms"].items():
                    stages.setdefault(stage, []).append(ms)
        for name, found in times.items():
            p50, p95 = np.percentile(found, [50, 95])
            print(f"{name}: p50 {p50:.0f} ms, p95 {p95:.0f} ms ({len(found)})")
        told = ", ".join(f"{stage} {np.median(found):.1f}" for stage, found in stages.items())
        print(f"of first, p50 ms by stage: {told}")
        server.should_exit = True
        thread.join()
        runtime.close()
    finally:
        if given.home is None:
            shutil.rmtree(home)


def one(client: httpx.Client, port: int, query: str) -> tuple[dict[str, float], dict[str, Any]]:
    """Event to the milliseconds after which it came first, and what the first one said."""
    body = {"query": query, "limit": 10}
    seen: dict[str, float] = {}
    first: dict[str, Any] = {}
    started = time.perf_counter()
    url = f"http://127.0.0.1:{port}/v1/search"
    headers = {"accept": "text/event-stream"}
    with client.stream("POST", url, json=body, headers=headers) as response:
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
                seen.setdefault(name, (time.perf_counter() - started) * 1000.0)
            elif line.startswith("data: ") and not first:
                first = json.loads(line.removeprefix("data: "))
    return seen, first


if __name__ == "__main__":
    main()
