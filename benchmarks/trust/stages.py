"""Goal 16: each stage of a search slow, failing or standing still in turn, with a deadline.

The app as it is served, with real stages; a wrapper around one of them at a time waits before each
call, raises, or waits until the fault is over. Demanded: a reply within the limit and a tenth, what
the first stage usually takes, and five slow calls. The limit is that of reading
(`rerank.deadline_ms`) or of a stage that stands (`serving.stage_seconds`). Whatever is missing is
told in `degraded`, or the reply is an error that names the stage; and once the fault is over, a
search is whole again. Stages that are services elsewhere have limits of their own
(`embedder.query_timeout_seconds`, `reranker.timeout_seconds`, `answer.timeout_seconds`), which
tests/api/test_remote.py and tests/api/test_answering.py look at.

    python -m benchmarks.trust.stages --searches 20
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.trust import common

DEADLINE_MS, STAGE_MS, SLOW_SECONDS, RECOVERY_SECONDS = 500.0, 1000.0, 0.1, 10.0
DOCUMENTS = 100
STAGES = ("embedder", "index", "catalog", "reranker")
FAULTS = ("slow", "failing", "stalled")
CALLS = {
    "embedder": ("embed_query",),
    "index": ("search_dense", "search_bm25", "score_dense"),
    "catalog": ("candidate_heads", "hydrate"),
    "reranker": ("read",),
}


class Faulty:
    """`inner`, whose `calls` are slow, fail, or wait for `let_go`."""

    def __init__(self, inner: Any, calls: tuple[str, ...], fault: str, let_go: Any) -> None:
        self._inner, self._calls, self._fault, self._let_go = inner, calls, fault, let_go

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._calls:
            return found

        def call(*arguments: Any, **more: Any) -> Any:
            if self._fault == "failing":
                raise OSError("a fault of the measurement")
            if self._fault == "slow":
                time.sleep(SLOW_SECONDS)
            else:
                self._let_go.wait()
            return found(*arguments, **more)

        return call


def one(client: Any) -> tuple[float, str]:
    """(Milliseconds, what came): "whole", what is said to be missing, an error's code, "SILENT"."""
    body = {"query": "the rent", "rerank": {"deadline_ms": DEADLINE_MS}}
    began = time.perf_counter()
    reply = client.post("/v1/search", json=body)
    took_ms = (time.perf_counter() - began) * 1000.0
    said = reply.json()
    if reply.status_code != 200:
        return took_ms, f"{reply.status_code} {said['code']}: {said['detail']}"
    if said["degraded"]:
        return took_ms, "; ".join(f"{each['stage']}: {each['reason']}" for each in said["degraded"])
    read = said["reranked_count"]
    return took_ms, "whole" if read == DOCUMENTS else f"SILENT: {read} read"


def main() -> int:
    given = common.options(__doc__ or "", searches=20)
    wrong: list[str] = []
    told: list[str] = []
    with common.scratch() as folder:
        common.put(folder / "home", list(range(DOCUMENTS)), 6)
        with _served(folder / "home") as (client, engine):
            usual = max(one(client)[0] for _ in range(given.searches))
            for stage in STAGES:
                for fault in FAULTS:
                    slowest, what, after = _under(client, engine, stage, fault)
                    limit_ms = STAGE_MS if fault == "stalled" else DEADLINE_MS
                    allowed = usual + 1.1 * max(limit_ms, DEADLINE_MS) + 5_000.0 * SLOW_SECONDS
                    line = f"{stage} {fault}: {slowest:.0f} ms, {what}"
                    told.append(line)
                    common.log(line)
                    if slowest > allowed or "SILENT" in what or after != "whole":
                        wrong.append(f"{line}; allowed {allowed:.0f} ms; afterwards {after}")
    silent = sum("SILENT" in line for line in told)
    figure = (
        f"{len(told) - len(wrong)} of {len(told)} faults answered within {DEADLINE_MS:.0f} ms of "
        f"reading or {STAGE_MS:.0f} ms of standing and a tenth, beside what a search takes "
        f"({usual:.0f} ms), and whole afterwards; {silent} silent"
    )
    outcome = common.Outcome(16, "stages", figure, not wrong, wrong)
    return common.finish(outcome, as_json=given.json)


def _under(client: Any, engine: Any, stage: str, fault: str) -> tuple[float, str, str]:
    """Five searches under the fault: the slowest's milliseconds and reply; and a search's reply
    within ten seconds of its end."""
    let_go = threading.Event()
    real = getattr(engine, stage)
    setattr(engine, stage, Faulty(real, CALLS[stage], fault, let_go))
    try:
        slowest, what = max(one(client) for _ in range(5))
    finally:
        let_go.set()
        setattr(engine, stage, real)
    end = time.monotonic() + RECOVERY_SECONDS
    while (after := one(client)[1]) != "whole" and time.monotonic() < end:
        time.sleep(0.1)
    return slowest, what, after


@contextlib.contextmanager
def _served(home: Path) -> Iterator[tuple[Any, Any]]:
    """A client of the app, and the engine behind it."""
    from fastapi.testclient import TestClient

    from longleaf.api import wire
    from longleaf.api.app import create_app
    from longleaf.core.logs import configure

    configure(level=logging.CRITICAL)
    flags = {"reranker.cached_readings": 0, "serving.stage_seconds": STAGE_MS / 1000.0}
    runtime = wire.open_runtime(common.settings_of(home, **flags), follow=False)
    try:
        with TestClient(create_app(runtime), base_url="http://127.0.0.1") as client:
            yield client, runtime.engine
    finally:
        runtime.close()


if __name__ == "__main__":
    raise SystemExit(main())
