"""One model, many callers: a queue that fills batches with whoever waits.

Callers submit a query's prefix and its documents' token ids and take scores as they come. One
thread runs the model: interactive requests before bulk ones, in turns within each, and every batch
is filled up with documents of other requests while there is room. A request with a deadline has a
batch begun only if the cost model says that it will end in time. Nothing is dropped: what was not
scored is told with the reason. Beyond `waiting_tokens` a request is refused at once (429), because
a queue that grows without end answers nobody. Out of memory halves the batches and goes on; an
error of the device itself ends the engine, visibly. It knows no text, no template and no catalog.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from longleaf.core.errors import ModelUnavailable, Overloaded
from longleaf.reranker.qwen3 import plan
from longleaf.reranker.qwen3.flops import forward_flops
from longleaf.reranker.qwen3.packing import pack_rows
from longleaf.reranker.qwen3.plan import Batch, CostModel, Item, Limits
from longleaf.reranker.qwen3.tickets import DEADLINE, OUT_OF_MEMORY, Priority, Score, Ticket

if TYPE_CHECKING:
    from longleaf.reranker.qwen3.fit import Scorer
    from longleaf.reranker.qwen3.template import TokenIds

_log = structlog.get_logger(__name__)

_CLOSED = "The reranker is closed."


@dataclass(slots=True)
class _Waiting:
    ticket: Ticket
    batches: deque[Batch]
    priority: Priority
    until: float | None
    turn: int
    since: float
    under_way: int = 0
    has_begun: bool = False

    @property
    def prefix_tokens(self) -> int:
        return len(self.ticket.prefix)

    @property
    def tokens(self) -> int:
        return sum(batch.tokens for batch in self.batches)


@dataclass(slots=True)
class _Chosen:
    """A forward pass: parts of one request or of several."""

    parts: list[tuple[_Waiting, Batch]] = field(default_factory=list)

    @property
    def alone(self) -> bool:
        return len(self.parts) == 1 and self.parts[0][1].alone

    @property
    def tokens(self) -> int:
        return sum(waiting.prefix_tokens + batch.tokens for waiting, batch in self.parts)

    @property
    def item_count(self) -> int:
        return sum(len(batch.items) for _, batch in self.parts)


@dataclass(slots=True)
class EngineStats:
    """What the engine has done since it started.

    `busy_seconds` is time in the forward pass, `queue_seconds` what requests waited for their first
    one. `tokens` counts a shared prefix once.
    """

    requests: int = 0
    refused: int = 0
    batches: int = 0
    documents: int = 0
    tokens: int = 0
    flops: int = 0
    busy_seconds: float = 0.0
    queue_seconds: float = 0.0
    out_of_memory: int = 0


class Engine:
    """Owns the model's thread. Thread-safe; `close` ends it."""

    def __init__(
        self,
        scorer: Scorer,
        limits: Limits,
        cost: CostModel,
        *,
        waiting_tokens: int = 4_000_000,
        matmul_flops_per_second: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scorer = scorer
        self.limits = limits
        self.cost = cost
        self.stats = EngineStats()
        self.matmul_flops_per_second = matmul_flops_per_second
        self.failure: str | None = None
        self._waiting_tokens = waiting_tokens
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._turns = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="longleaf-qwen3", daemon=True)
        self._thread.start()

    def submit(
        self,
        prefix: TokenIds,
        documents: Sequence[TokenIds],
        *,
        priority: Priority = Priority.INTERACTIVE,
        within_seconds: float | None = None,
        given_up: Callable[[], bool] | None = None,
    ) -> Ticket:
        """Have `documents` (suffix included) scored behind `prefix`.

        `given_up` ends the ticket's iteration while it waits: whoever takes it then cancels it.
        Raises Overloaded when too much waits already, ModelUnavailable when the engine has ended.
        """
        items = [Item(place, len(document)) for place, document in enumerate(documents)]
        now = self._clock()
        until = None if within_seconds is None else now + within_seconds
        ticket = Ticket(prefix, documents, until, self._clock, self._too_late, given_up)
        with self._changed:
            if self.failure is not None or self._closing:
                raise ModelUnavailable(self.failure or _CLOSED, "Restart the server.")
            tokens = sum(item.tokens for item in items)
            # What comes after this one in turn does not keep it out.
            before = [each for each in self._waiting if each.priority <= priority]
            queued = sum(each.tokens for each in before)
            if queued and queued + tokens > self._waiting_tokens:
                self.stats.refused += 1
                raise Overloaded(
                    f"{queued:,} tokens wait to be read already.",
                    "Try again later, or with fewer or shorter documents.",
                    retry_after_seconds=self._seconds_of(queued),
                )
            if not items:
                ticket.put(None)
                return ticket
            if within_seconds is None:
                batches = plan.pack(items, len(prefix), self.limits)
            else:
                batches = plan.pack_for_deadline(
                    items, len(prefix), self.limits, self.cost, within_seconds * 1000.0
                )
            self._turns += 1
            self.stats.requests += 1
            self._waiting.append(
                _Waiting(ticket, deque(batches), priority, until, self._turns, now)
            )
            self._changed.notify()
        return ticket

    def waiting(self) -> tuple[int, int]:
        """(requests, tokens) that wait for a forward pass."""
        with self._changed:
            return len(self._waiting), sum(waiting.tokens for waiting in self._waiting)

    @property
    def utilisation(self) -> float:
        """Arithmetic done while busy, as a share of what this device's matrix products can do."""
        able = self.stats.busy_seconds * self.matmul_flops_per_second
        return self.stats.flops / able if able else 0.0

    def close(self) -> None:
        """End after the batch under way; who still waits is told."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        if self.failure is None:
            self.failure = _CLOSED

    def _seconds_of(self, tokens: int) -> float:
        return max(1.0, self.cost.per_token_ms * tokens / 1000.0)

    # --- the model's thread --------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (chosen := self._wait_for_work()) is not None:
                self._compute(chosen)
        except BaseException as error:
            _log.exception("qwen3.engine_ended")
            self.failure = f"The reranker's device failed: {error}"
        finally:
            self._end_all()

    def _end_all(self) -> None:
        with self._changed:
            why = self.failure or _CLOSED
            self._closing = True
            left, self._waiting = self._waiting, []
        for waiting in left:
            waiting.ticket.put(ModelUnavailable(why, "Restart the server."))

    def _wait_for_work(self) -> _Chosen | None:
        with self._changed:
            while True:
                if self._closing:
                    return None
                chosen = self._choose()
                if chosen.parts:
                    return chosen
                self._changed.wait()

    def _choose(self) -> _Chosen:
        """The next forward pass; requests that cannot have any are ended on the way."""
        chosen = _Chosen()
        for waiting in sorted(self._waiting, key=lambda each: (each.priority, each.turn)):
            if waiting.ticket.cancelled:
                waiting.batches.clear()
                self._settle(waiting)
                continue
            if not waiting.batches:
                continue
            batch = waiting.batches[0]
            if chosen.parts and not self._has_room(chosen, waiting, batch):
                continue
            if not self._in_time([*chosen.parts, (waiting, batch)]):
                if not chosen.parts:  # beside others it may be late, and in time by itself
                    self._give_up(waiting, DEADLINE)
                continue
            waiting.batches.popleft()
            waiting.under_way += 1
            self._turns += 1
            waiting.turn = self._turns
            chosen.parts.append((waiting, batch))
            if batch.alone:
                break
        return chosen

    def _has_room(self, chosen: _Chosen, waiting: _Waiting, batch: Batch) -> bool:
        tokens = chosen.tokens + waiting.prefix_tokens + batch.tokens
        items = chosen.item_count + len(batch.items)
        fits = tokens <= self.limits.batch_tokens and items <= self.limits.batch_items
        return fits and not batch.alone

    def _in_time(self, parts: Sequence[tuple[_Waiting, Batch]]) -> bool:
        """Whether one pass of these ends before the first of their deadlines."""
        deadlines = [waiting.until for waiting, _ in parts if waiting.until is not None]
        if not deadlines:
            return True
        estimate_ms = self.cost.estimate_pass_ms([(b, w.prefix_tokens) for w, b in parts])
        return self._clock() + estimate_ms / 1000.0 <= min(deadlines)

    def _too_late(self, ticket: Ticket) -> None:
        """A request's deadline has passed: only what is under way is still waited for."""
        with self._changed:
            for waiting in self._waiting:
                if waiting.ticket is ticket:
                    self._give_up(waiting, DEADLINE)
                    return

    def _give_up(self, waiting: _Waiting, reason: str) -> None:
        for batch in waiting.batches:
            waiting.ticket.unscored.update((item.place, reason) for item in batch.items)
        waiting.batches.clear()
        self._settle(waiting)

    def _settle(self, waiting: _Waiting) -> None:
        """Tell a request that all it will get has come."""
        if not waiting.batches and not waiting.under_way and waiting in self._waiting:
            self._waiting.remove(waiting)
            waiting.ticket.put(None)

    def _compute(self, chosen: _Chosen) -> None:
        import torch

        started = self._clock()
        logits: list[float] | None = None
        with suppress(torch.OutOfMemoryError):
            logits = self._forward(chosen)
        # Out here nothing holds the failed pass's tensors any more.
        if logits is None:
            self._after_out_of_memory(chosen)
            return
        elapsed = self._clock() - started
        self._count(chosen, started, elapsed)
        with self._changed:
            at = 0
            for waiting, batch in chosen.parts:
                own = logits[at : at + len(batch.items)]
                at += len(own)
                scores = zip(batch.items, own, strict=True)
                waiting.ticket.put(tuple(Score(item.place, logit) for item, logit in scores))
                waiting.under_way -= 1
                self._settle(waiting)

    def _forward(self, chosen: _Chosen) -> list[float]:
        import torch

        groups = [
            (waiting.ticket.prefix, [waiting.ticket.documents[item.place] for item in batch.items])
            for waiting, batch in chosen.parts
        ]
        with torch.inference_mode():
            batch = self.scorer.batch(pack_rows(groups))
            found: Any = self.scorer.score(batch, alone=chosen.alone).cpu().tolist()
        logits: list[float] = found
        return logits

    def _after_out_of_memory(self, chosen: _Chosen) -> None:
        """Pack what did not fit into half, or give up a single document that does not."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        with self._changed:
            self.stats.out_of_memory += 1
            single = len(chosen.parts) == 1 and len(chosen.parts[0][1].items) == 1
            if not single:
                self.limits = self.limits.halved(chosen.tokens)
                self._pack_again()
            for waiting, batch in chosen.parts:
                waiting.under_way -= 1
                if single:
                    place = batch.items[0].place
                    waiting.ticket.unscored[place] = OUT_OF_MEMORY
                else:
                    smaller = plan.pack_in_order(batch.items, waiting.prefix_tokens, self.limits)
                    waiting.batches.extendleft(reversed(list(smaller)))
                self._settle(waiting)
        _log.warning("qwen3.out_of_memory", batch_tokens=self.limits.batch_tokens)

    def _pack_again(self) -> None:
        """Batches that wait were packed under larger limits: each would fail in its turn."""
        for waiting in self._waiting:
            room = self.limits.batch_tokens - waiting.prefix_tokens
            if any(len(batch.items) > 1 and batch.tokens > room for batch in waiting.batches):
                items = [item for batch in waiting.batches for item in batch.items]
                packed = plan.pack_in_order(items, waiting.prefix_tokens, self.limits)
                waiting.batches = deque(packed)

    def _count(self, chosen: _Chosen, started: float, elapsed: float) -> None:
        stats = self.stats
        lengths = [
            (waiting.prefix_tokens, [item.tokens for item in batch.items])
            for waiting, batch in chosen.parts
        ]
        stats.batches += 1
        stats.documents += sum(len(documents) for _, documents in lengths)
        stats.tokens += sum(prefix + sum(documents) for prefix, documents in lengths)
        stats.flops += forward_flops(self.scorer.weights.shape, lengths)
        stats.busy_seconds += elapsed
        for waiting, _ in chosen.parts:
            if not waiting.has_begun:
                waiting.has_begun = True
                stats.queue_seconds += started - waiting.since
