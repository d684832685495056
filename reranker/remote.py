"""`remote`: another Longleaf reads the candidates (its `POST /v1/rerank`), with its model and GPU.

Passages go there with title and headings, and come back as readings like those of a reranker here:
name, fingerprint, calibration and limits are that one's, asked for once at the start. It knows no
model. What is read, and how deep, is decided here; how long it may take, on both sides: the
deadline that is sent is what is left less what the way took before.

Documents go in requests of a few, so that a search which was given up, or is late, ends after the
one under way. What was read before an error is kept, and the error said. Trade-off: one request
after the other costs the way several times (`_REQUEST_DOCUMENTS`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from longleaf.core.distant import Distant
from longleaf.core.errors import ModelUnavailable, RemoteRefused, RemoteUnavailable
from longleaf.core.types import DocumentLimits, Reading
from longleaf.reranker.qwen3.check import PROBES
from longleaf.reranker.requests import (
    EndOfReading,
    by_place,
    exactly,
    number,
    read_in_requests,
    whole_number,
)

if TYPE_CHECKING:
    from longleaf.core.budget import Budget
    from longleaf.core.protocols import ReaderQuery
    from longleaf.core.types import ReadingInput

_PATH = "/v1/rerank"
_REQUEST_DOCUMENTS = 32
_START_TRIES = 5
"""About eight seconds: two servers are often started together."""
_TRIES = 2
_LEAST_MS = 20.0
"""No shorter deadline is sent: what the way takes differs by as much from one time to the next."""
_GRACE_SECONDS = 0.5
"""How long an answer is waited for behind the deadline, but never longer than the deadline itself:
there, a unit of work that was begun is ended."""
_BODY_EXTRA_BYTES = 64 * 1024
"""For all of a request but its documents."""
_FADING = 0.9
_LATE_THERE = "the deadline would have passed"
_MOST_PASSAGES = 16_384
"""In one request, where the other server does not say."""


@dataclass(frozen=True, slots=True)
class About:
    """What the other server says of its reranker, as `core.protocols.Reranker` has it."""

    model: str
    fingerprint: str
    takes_instruction: bool
    default_instruction: str | None
    first_stage_weight: float
    document_limits: DocumentLimits
    document_weight: float
    min_score: float | None
    max_documents: int
    max_passages: int
    max_body_bytes: int
    chosen: str

    @classmethod
    def of(cls, told: Any) -> About:
        """Raises ValueError, TypeError or KeyError for what another service would answer."""
        limits = told["document_limits"]
        return cls(
            model=_word(told["model"]),
            fingerprint=_word(told["fingerprint"]),
            takes_instruction=exactly(bool, told["takes_instruction"]),
            default_instruction=_or_none(str, told["default_instruction"]),
            first_stage_weight=number(told["first_stage_weight"]),
            document_limits=DocumentLimits(
                documents=_or_none(int, limits["documents"]),
                tokens=_or_none(int, limits["tokens"]),
                beside=exactly(bool, limits["beside"]),
            ),
            document_weight=number(told["document_weight"]),
            min_score=None if told["min_score"] is None else number(told["min_score"]),
            max_documents=max(1, exactly(int, told["max_documents"])),
            max_passages=max(1, exactly(int, told.get("max_passages", _MOST_PASSAGES))),
            max_body_bytes=max(2 * _BODY_EXTRA_BYTES, exactly(int, told["max_body_bytes"])),
            chosen=exactly(str, told["chosen"]),
        )


class RemoteReranker:
    """`core.protocols.DistantReranker`. Thread-safe; a reading is the other server's own.

    Asked at the start: what reads there, and whether it ranks sense above nonsense. Raises
    RemoteUnavailable where nobody answers, RemoteRefused where something else does, and
    ModelUnavailable where it reads nonsense. `first_stage_weight` and `instruction`: None takes the
    other server's. `least_ms`: see `_LEAST_MS`.
    """

    reads_text = True

    def __init__(
        self,
        url: str,
        *,
        api_key: str = "",
        timeout_seconds: float = 30.0,
        first_stage_weight: float | None = None,
        instruction: str | None = None,
        least_ms: float = _LEAST_MS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._distant = Distant(
            url, "reranker", api_key, timeout_seconds=timeout_seconds, sleep=sleep
        )
        self._least_ms = least_ms
        self._most_ms = 1000.0 * max(timeout_seconds - _GRACE_SECONDS, timeout_seconds / 2)
        self._too_slow = (
            f"{self._distant.url} reads no more in {timeout_seconds:g} s (reranker.timeout_seconds)"
        )
        self._way_ms = 0.0
        self._about = about = self._ask_about()
        self.name = f"remote:{about.model}"
        self.fingerprint = f"remote/1 {about.fingerprint}"
        self.takes_instruction = about.takes_instruction
        self.default_instruction = instruction or about.default_instruction
        self.first_stage_weight = (
            about.first_stage_weight if first_stage_weight is None else first_stage_weight
        )
        self.document_limits = about.document_limits
        self.document_weight = about.document_weight
        self.min_score = about.min_score
        self._require_sense()

    @property
    def trouble(self) -> str | None:
        """See core.protocols.DistantReranker."""
        return self._distant.trouble

    @property
    def where(self) -> str:
        """For people: who reads."""
        there = self._about.chosen or self._about.model
        return f"{self.name} at {self._distant.url} (texts and queries are sent there): {there}"

    def close(self) -> None:
        """Let go of the connections."""
        self._distant.close()

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        """See core.protocols.Reranker. The budget is asked before each request."""
        yield from read_in_requests(
            self._batches(inputs, budget),
            lambda batch: self._read(query, batch, budget),
            budget,
        )

    def _batches(
        self, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[list[tuple[ReadingInput, Any]]]:
        """Inputs with what is sent of them, so many as one request may hold."""
        room_bytes = self._about.max_body_bytes - _BODY_EXTRA_BYTES
        most = min(_REQUEST_DOCUMENTS, self._about.max_documents)
        batch: list[tuple[ReadingInput, Any]] = []
        batch_bytes = batch_passages = 0
        for item in inputs:
            if not item.passages:
                continue
            document = _document(item)
            size_bytes = len(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))
            if size_bytes > room_bytes:
                budget.stop(f"a document is larger than the {room_bytes:,} bytes that it takes")
                continue
            passages = len(item.passages)
            if passages > self._about.max_passages:
                budget.stop(f"a document has more passages than the {self._about.max_passages:,}")
                continue
            if batch and (
                len(batch) == most
                or batch_bytes + size_bytes > room_bytes
                or batch_passages + passages > self._about.max_passages
            ):
                yield batch
                batch, batch_bytes, batch_passages = [], 0, 0
            batch.append((item, document))
            batch_bytes += size_bytes
            batch_passages += passages
        if batch:
            yield batch

    def _read(
        self, query: ReaderQuery, batch: Sequence[tuple[ReadingInput, Any]], budget: Budget
    ) -> Iterator[Reading]:
        """Readings of a batch; raises EndOfReading where the other server ended for the time."""
        body: dict[str, Any] = {
            "query": query.text,
            "documents": [document for _, document in batch],
            "priority": "bulk" if query.is_bulk else "interactive",
        }
        if self.takes_instruction and (words := query.instruction or self.default_instruction):
            body["instruction"] = words
        if budget.max_tokens is not None:
            body["max_tokens"] = max(1, budget.max_tokens - budget.tokens_used)
        # Never longer than is waited for: what was read until then comes back.
        left_ms = self._most_ms
        if (until_deadline_ms := budget.left_ms()) is not None:
            left_ms = min(left_ms, until_deadline_ms)
        left_seconds = max(left_ms, self._least_ms) / 1000.0
        body["deadline_ms"] = max(left_ms - self._way_ms, self._least_ms)
        answer = self._ask(body, left_seconds + min(_GRACE_SECONDS, left_seconds), _TRIES)
        try:
            readings = [
                _reading(batch[place][0], result)
                for place, result in by_place(answer["results"], len(batch)).items()
            ]
            reasons = {exactly(str, each["reason"]) for each in answer["unread"]}
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise self._nonsense() from error
        yield from readings
        if any("deadline" in reason for reason in reasons):
            raise EndOfReading(_LATE_THERE if budget.deadline_ms is not None else self._too_slow)

    def _ask(self, body: Any, within_seconds: float | None, tries: int) -> Mapping[str, Any]:
        """An answer of the reranker that was there at the start, and note what the way took."""
        started = time.perf_counter()
        answer = self._distant.ask(
            "POST", _PATH, body,
            within_seconds=within_seconds, tries=tries, again_when_late=False,
        )  # fmt: skip
        took_ms = (time.perf_counter() - started) * 1000.0
        if not isinstance(answer, dict):
            raise self._nonsense()
        if answer.get("fingerprint") != self._about.fingerprint:
            raise RemoteRefused(
                f"{self._distant.url} reads with another model, or otherwise, than when this "
                "server was started: its scores would not compare.",
                "Start this server again.",
            )
        there_ms = answer.get("elapsed_ms")
        if isinstance(there_ms, int | float) and 0 <= there_ms <= took_ms:
            self._way_ms = max(took_ms - there_ms, _FADING * self._way_ms)
        return answer

    def _ask_about(self) -> About:
        told = self._distant.ask("GET", _PATH, tries=_START_TRIES, patient=True)
        try:
            return About.of(told)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RemoteRefused(
                f"{self._distant.url} is no Longleaf that reads for others: it does not say what "
                "it reads with.",
                "Set reranker.url to one of this version or later.",
            ) from error

    def _require_sense(self) -> None:
        """A wrong model looks just like a right one: see qwen3/check.py."""
        for probe in PROBES:
            body = {
                "query": probe.query,
                "documents": [probe.irrelevant, probe.relevant],
                "deadline_ms": self._most_ms,
            }
            answer = self._ask(body, None, _START_TRIES)
            self._require_read(answer)
            try:
                results = by_place(answer["results"], 2)
                irrelevant, relevant = (number(results[place]["score"]) for place in (0, 1))
            except (KeyError, TypeError, ValueError) as error:
                raise self._nonsense() from error
            if relevant <= irrelevant:
                raise ModelUnavailable(
                    f"{self._distant.url} ranks nonsense above sense: for {probe.query!r} it "
                    f"prefers {probe.irrelevant[:40]!r} ({irrelevant:.2f}) to "
                    f"{probe.relevant[:40]!r} ({relevant:.2f}).",
                    "Look at its reranker.model, or set reranker.kind to another one.",
                )

    def _require_read(self, answer: Mapping[str, Any]) -> None:
        unread = answer.get("unread")
        if isinstance(unread, list) and unread and isinstance(unread[0], dict):
            raise RemoteUnavailable(
                f"{self._distant.url} did not read a first question of two short texts: "
                f"{str(unread[0].get('reason'))[:100]}.",
                "Look whether it is still loading, or raise reranker.timeout_seconds.",
            )

    def _nonsense(self) -> RemoteRefused:
        return RemoteRefused(
            f"{self._distant.url} answered what makes no sense.",
            "Is it a Longleaf of this version? Look at reranker.url.",
        )


def _document(item: ReadingInput) -> dict[str, Any]:
    """What is sent of a candidate: its words, and what readings are counted by."""
    return {
        "title": item.title,
        "depth": item.depth,
        "token_count": item.document_tokens,
        "passages": [
            {
                "text": each.text,
                "headings": list(each.headings),
                "start_char": each.start_char,
                "token_count": each.token_count,
                "overlap_chars": each.overlap_chars,
            }
            for each in item.passages
        ],
    }


def _reading(item: ReadingInput, told: Any) -> Reading:
    scores = {exactly(int, place): number(score) for place, score in told["passage_scores"]}
    if not scores.keys() <= set(range(len(item.passages))):
        raise ValueError("a score of no passage")
    probability = told["probability"]
    return Reading(
        rank=item.rank,
        score=number(told["score"]),
        depth=item.depth,
        tokens_read=min(whole_number(told["tokens_read"]), item.document_tokens),
        tokens_total=item.document_tokens,
        passage_scores=tuple(
            (item.passages[place].point_id, score) for place, score in scores.items()
        ),
        truncated_tokens=whole_number(told["truncated_tokens"]),
        probability=None if probability is None else number(probability),
        windows=whole_number(told["windows"]),
    )


def _or_none(kind: type[Any], value: Any) -> Any:
    return None if value is None else exactly(kind, value)


def _word(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 1000:
        raise ValueError("not a name")
    return value
