"""Evaluations beside a server's searches: one at a time, in a thread of its process.

It asks the engine that answers searches, so it needs no index of its own; others' readings go
first. It knows no web. Trade-off: what was found is kept in memory, the newest few, and a restart
forgets them and ends the one under way; judgements are in the catalog, so that asking again gives
the same answer. A run is minutes, and a table with a migration would be for little.
"""

from __future__ import annotations

import copy
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import structlog

from longleaf.api.evaluate.engine import EngineUnderTest
from longleaf.api.evaluate.feedback import FeedbackQueries, feedback_queries, nothing_tells
from longleaf.api.evaluate.report import EvalReport
from longleaf.api.evaluate.run import EvalOptions, StagedResult, evaluate
from longleaf.api.wire import Runtime
from longleaf.core.errors import Conflict, LongleafError, NotFound
from longleaf.core.types import Scope
from longleaf.reranker.cache import uncached

KEPT = 10
"""Evaluations that are remembered."""
_LOST = "No evaluation of that name is known here; a server forgets them when it is stopped."

_log = structlog.get_logger(__name__)


class EvaluationState(StrEnum):
    """Where an evaluation is; `running` is the only one that changes."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation as it was at one moment. `error` and `hint` say why it failed.

    `scope`: whose judgements and documents it is of; `read_by` is None without a second stage.
    """

    id: str
    collection: str
    scope: Scope
    relevant_from: int
    judged_only: bool
    queries_total: int
    started_at: float
    embedder: str
    read_by: str | None
    depth: str
    queries_done: int = 0
    state: EvaluationState = EvaluationState.RUNNING
    cancelling: bool = False
    finished_at: float | None = None
    error: str = ""
    hint: str = ""
    report: EvalReport | None = None


class _Cancelled(Exception):
    pass


class Evaluations:
    """Those of one server. Thread-safe."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Evaluation] = OrderedDict()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(
        self, scope: Scope, collection: str, relevant_from: int = 1, *, judged_only: bool = True
    ) -> Evaluation:
        """Begin one. Raises Conflict where one is under way, InvalidRequest where no judgement
        tells stages apart, NotFound for a collection that is not there."""
        catalog = self._runtime.catalog
        catalog.collection_languages(scope, [collection])
        judgements = catalog.judgements.found(scope, [collection])
        queries = feedback_queries(collection, judgements, relevant_from, judged_only=judged_only)
        if not queries.queries:
            raise nothing_tells(collection)
        engine = self._runtime.engine
        begun = Evaluation(
            id=uuid.uuid4().hex,
            collection=collection,
            scope=scope,
            relevant_from=relevant_from,
            judged_only=judged_only,
            queries_total=len(queries.queries),
            started_at=time.time(),
            embedder=engine.embedder.name,
            read_by=engine.reranker.name if engine.reranker else None,
            depth=engine.depth,
        )
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise Conflict(
                    "An evaluation is under way, and there is one at a time.",
                    "Wait for it, or cancel it.",
                )
            self._stop = threading.Event()
            self._known[begun.id] = begun
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            self._thread = threading.Thread(
                target=self._run, args=(begun, queries, self._stop), name="evaluation", daemon=True
            )
            self._thread.start()
        return begun

    def newest(self, scope: Scope) -> list[Evaluation]:
        """Those that the scope may see, newest first."""
        with self._lock:
            known = list(self._known.values())
        return [each for each in reversed(known) if _may_see(scope, each)]

    def get(self, evaluation_id: str, scope: Scope) -> Evaluation:
        """One of them. Raises NotFound."""
        with self._lock:
            found = self._known.get(evaluation_id)
        if found is None or not _may_see(scope, found):
            raise NotFound(_LOST, "Start another: the judgements are kept.")
        return found

    def cancel(self, evaluation_id: str, scope: Scope) -> Evaluation:
        """Ask one to stop, which it does before its next query; nothing happens to one that has
        ended. Raises NotFound."""
        found = self.get(evaluation_id, scope)
        with self._lock:
            found = self._known.get(evaluation_id, found)
            if found.state is EvaluationState.RUNNING:
                found = self._known[evaluation_id] = replace(found, cancelling=True)
                self._stop.set()
        return found

    def close(self) -> None:
        """Stop the one under way and wait until it lets go of the engine."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self, begun: Evaluation, queries: FeedbackQueries, stop: threading.Event) -> None:
        try:
            report = self._asked(begun, queries, stop)
        except _Cancelled:
            self._end(begun.id, state=EvaluationState.CANCELLED)
        except LongleafError as error:
            failed = EvaluationState.FAILED
            self._end(begun.id, state=failed, error=error.message, hint=error.hint)
        except Exception:
            _log.exception("evaluation.failed", collection=begun.collection)
            self._end(
                begun.id,
                state=EvaluationState.FAILED,
                error="The server failed; it is not your fault.",
                hint="The log names the cause.",
            )
        else:
            self._end(begun.id, state=EvaluationState.DONE, report=report)

    def _asked(
        self, begun: Evaluation, queries: FeedbackQueries, stop: threading.Event
    ) -> EvalReport:
        live = self._runtime.engine
        engine = copy.copy(live)
        if engine.reranker is not None:
            # Each stage is to be timed as it works, and not as it remembers.
            engine.reranker = uncached(engine.reranker)
        staged = _Held(
            self._runtime,
            collection=begun.collection,
            engine=engine,
            scope=begun.scope,
            given_up=stop.is_set,
        )

        def look(done: int, _total: int) -> None:
            if stop.is_set():
                raise _Cancelled
            if self._runtime.engine is not live:
                raise Conflict(
                    "The documents were embedded anew meanwhile: half of the queries would be "
                    "answered by one model and half by another.",
                    "Start again.",
                )
            self._put(begun.id, queries_done=done)

        options = EvalOptions(relevant_from=begun.relevant_from, judged_only=begun.judged_only)
        return evaluate(queries, staged, options, look)

    def _end(self, evaluation_id: str, **changes: object) -> None:
        self._put(evaluation_id, finished_at=time.time(), cancelling=False, **changes)

    def _put(self, evaluation_id: str, **changes: object) -> None:
        with self._lock:
            known = self._known.get(evaluation_id)
            if known is not None:
                self._known[evaluation_id] = replace(known, **changes)  # type: ignore[arg-type]


class _Held(EngineUnderTest):
    """No generation is closed while it asks a query."""

    def __init__(self, runtime: Runtime, **options: Any) -> None:
        super().__init__(runtime, spans=False, plain=False, **options)
        self._runtime = runtime

    def search(self, query_text: str) -> StagedResult:
        """See `run.StagedSearch`."""
        with self._runtime.answering():
            return super().search(query_text)


def _may_see(scope: Scope, evaluation: Evaluation) -> bool:
    """Whoever may see all, or just what it was made of: its queries are of those judgements."""
    return scope in (Scope.all(), evaluation.scope)
