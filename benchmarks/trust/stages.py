"""Goal 16: each stage of a search slow, failing or standing still in turn, with a deadline.

Real stages in one process; a wrapper around one of them at a time waits before each call, or
raises. Demanded: an answer, or an error, within the deadline (of reading, `rerank.deadline_ms`) and
a tenth, what the first stage usually takes, and five slow calls; and whatever is missing told in
`degraded`. Stages that are services elsewhere have limits of their own
(`embedder.query_timeout_seconds`, `reranker.timeout_seconds`, `answer.timeout_seconds`), which
tests/api/test_remote.py and tests/api/test_answering.py look at.

    python -m benchmarks.trust.stages --searches 20
"""

from __future__ import annotations

import threading
import time
from typing import Any

from benchmarks.trust import common

DEADLINE_MS, SLOW_SECONDS, GIVE_UP_SECONDS = 500.0, 0.1, 3.0
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


def one(engine: Any, expected_read: int) -> tuple[float, str]:
    """(Milliseconds, what came): an answer in words, an error's name, or "nothing"."""
    from longleaf.api.search import SearchRequest

    said: list[str] = []

    def ask() -> None:
        request = SearchRequest("the rent", common.everyone(), deadline_ms=DEADLINE_MS)
        try:
            answer = engine.search(request)
        except Exception as error:
            said.append(f"error {type(error).__name__}")
            return
        reasons = "; ".join(f"{each.stage}: {each.reason}" for each in answer.degraded)
        whole = answer.reranked_count == expected_read
        said.append(reasons or ("whole" if whole else "SILENT"))

    began = time.perf_counter()
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(GIVE_UP_SECONDS)
    return (time.perf_counter() - began) * 1000.0, said[0] if said else "nothing"


def main() -> int:
    given = common.options(__doc__ or "", searches=20)
    wrong: list[str] = []
    told: list[str] = []
    silent = 0
    with common.scratch() as folder:
        common.put(folder / "home", list(range(100)), 6)
        engine, close = _opened(folder / "home")
        read = engine.search(_plain()).reranked_count
        usual = max(one(engine, read)[0] for _ in range(given.searches))
        for stage in STAGES:
            for fault in FAULTS:
                let_go = threading.Event()
                real = getattr(engine, stage)
                setattr(engine, stage, Faulty(real, CALLS[stage], fault, let_go))
                found = [one(engine, read) for _ in range(1 if fault == "stalled" else 5)]
                let_go.set()
                setattr(engine, stage, real)
                slowest, what = max(found)
                allowed = usual + 1.1 * DEADLINE_MS + (5_000.0 * SLOW_SECONDS)
                silent += sum(each == "SILENT" for _, each in found)
                line = f"{stage} {fault}: {slowest:.0f} ms, {what}"
                told.append(line)
                common.log(line)
                if slowest > allowed or what in ("nothing", "SILENT"):
                    wrong.append(line)
        close()
    figure = (
        f"{len(told) - len(wrong)} of {len(told)} faults answered within {DEADLINE_MS:.0f} ms and "
        f"a tenth of reading beside what the first stage takes ({usual:.0f} ms); {silent} silent"
    )
    outcome = common.Outcome(16, "stages", figure, not wrong, wrong)
    return common.finish(outcome, as_json=given.json)


def _plain() -> Any:
    from longleaf.api.search import SearchRequest

    return SearchRequest("the rent", common.everyone())


def _opened(home: Any) -> tuple[Any, Any]:
    from longleaf.api import wire
    from longleaf.core.logs import configure

    configure()
    settings = common.settings_of(home, **{"reranker.cached_readings": 0})
    runtime = wire.open_runtime(settings, follow=False)
    return runtime.engine, runtime.close


if __name__ == "__main__":
    raise SystemExit(main())
