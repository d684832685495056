"""`qwen3`: Qwen3-Reranker reads each candidate's passages, with an instruction and the title.

It joins the template (strings to ids), the engine (ids to logits) and the readings that the second
stage asks for. A document is as good as its best passage. Scores are logit differences, which never
tie where probabilities do; the probability is told beside them. Equal texts of one query are scored
once. Ids that indexing has stored are used; what has none is tokenized here. It knows no GPU.

A text longer than the model takes is read as overlapping windows; the best one's score counts, or
their mean where that is set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from longleaf.core.budget import GIVEN_UP
from longleaf.core.scores import sigmoid
from longleaf.core.types import DocumentLimits, ReaderLoad, Reading
from longleaf.reranker.instructions import instruction_text
from longleaf.reranker.pieces import affordable, passage_tokens, pieces_of
from longleaf.reranker.qwen3.template import Prefix, Template, document_parts, windows
from longleaf.reranker.qwen3.tickets import DEADLINE, OUT_OF_MEMORY, Priority

if TYPE_CHECKING:
    from longleaf.core.budget import Budget
    from longleaf.core.protocols import ReaderQuery
    from longleaf.core.types import PassageText, ReadingInput
    from longleaf.reranker.qwen3.engine import Engine
    from longleaf.reranker.qwen3.template import TokenIds

_PREFIX_ROOM = 256
"""For the form, an instruction and a query of some length."""
WINDOW_OVERLAP_TOKENS = 512
"""What two windows of a long text share: an argument of a page that one of them would cut."""

_WHY = {
    DEADLINE: "the deadline would have passed",
    OUT_OF_MEMORY: "a document is too long for the GPU's memory",
}


WindowScore = Literal["best", "mean"]
_OF_WINDOWS: dict[WindowScore, Callable[[Sequence[float]], float]] = {"best": max, "mean": mean}


class StoredIds(Protocol):
    """Passages' token ids by passage id, as `stored.PassageTokenizer` makes them; what a template
    of this fingerprint has not made is left out."""

    def reader_ids(self, tokenizer: str, passage_ids: Sequence[int]) -> dict[int, TokenIds]: ...


def probability(logit: float) -> float:
    """sigmoid(logit(yes) - logit(no)): what the model card calls the score."""
    return sigmoid(logit)


@dataclass(frozen=True, slots=True)
class TextScore:
    """What a text's windows say together; most have one. `tokens_read` counts a token once."""

    place: int
    logit: float
    windows: int
    tokens_read: int


def _never() -> bool:
    return False


class TextScorer:
    """Scores texts for one query: windows, duplicates and the suffix are its affair."""

    def __init__(
        self, template: Template, engine: Engine, window_score: WindowScore = "best"
    ) -> None:
        self.template = template
        self._engine = engine
        self._of_windows = _OF_WINDOWS[window_score]

    @property
    def failure(self) -> str | None:
        """Why nothing will be scored any more, or None."""
        return self._engine.failure

    def load(self, tokenize_seconds: float = 0.0) -> ReaderLoad:
        """What the engine has done; `tokenize_seconds`: what the caller spent before asking it."""
        stats = self._engine.stats
        waiting_requests, waiting_tokens = self._engine.waiting()
        return ReaderLoad(
            waiting_requests=waiting_requests,
            waiting_tokens=waiting_tokens,
            requests=stats.requests,
            refused=stats.refused,
            passes=stats.batches,
            documents=stats.documents,
            tokens=stats.tokens,
            out_of_memory=stats.out_of_memory,
            queue_seconds=stats.queue_seconds,
            tokenize_seconds=tokenize_seconds,
            busy_seconds=stats.busy_seconds,
            utilisation=self._engine.utilisation,
        )

    def close(self) -> None:
        self._engine.close()

    def score(
        self,
        prefix: Prefix,
        texts: Sequence[TokenIds],
        within_seconds: float | None = None,
        *,
        is_over: Callable[[], bool] = _never,
        unscored: set[str] | None = None,
        priority: Priority = Priority.INTERACTIVE,
        given_up: Callable[[], bool] | None = None,
    ) -> Iterator[TextScore]:
        """Scores of `texts` (without suffix) as they come.

        `is_over` is asked after each forward pass, `given_up` while they wait for one. Why texts
        have no score is added to `unscored`. Raises Overloaded and ModelUnavailable as the engine
        does. Ending the iteration early gives the rest back to the queue.
        """
        room = self.template.room(prefix)
        units: dict[bytes, int] = {}
        documents: list[TokenIds] = []
        users: list[list[int]] = []  # unit -> places, as often as they have it
        waiting: list[int] = []  # place -> how many windows it has
        for place, text in enumerate(texts):
            spans = windows(len(text), room, min(WINDOW_OVERLAP_TOKENS, room // 4))
            for start, end in spans:
                ids = np.concatenate([text[start:end], self.template.suffix])
                unit = units.setdefault(ids.tobytes(), len(documents))
                if unit == len(documents):
                    documents.append(ids)
                    users.append([])
                users[unit].append(place)
            waiting.append(len(spans))
        found: list[list[float]] = [[] for _ in texts]
        ticket = self._engine.submit(
            prefix.ids,
            documents,
            priority=priority,
            within_seconds=within_seconds,
            given_up=given_up,
        )
        try:
            for scores in ticket.passes():
                for unit, logit in scores:
                    for place in users[unit]:
                        found[place].append(logit)
                        if len(found[place]) == waiting[place]:
                            whole = self._of_windows(found[place])
                            yield TextScore(place, whole, waiting[place], len(texts[place]))
                if is_over():
                    return
        finally:
            ticket.cancel()
            if unscored is not None:
                unscored.update(ticket.unscored.values())


class Qwen3Reranker:
    """`core.protocols.Reranker` on an engine. `first_stage_weight` and `document_weight` are
    unmeasured (no weights were at hand): the model alone decides, and passages and the whole count
    alike. Thread-safe."""

    name = "qwen3"
    takes_instruction = True
    reads_text = True
    document_weight = 1.0
    min_score: float | None = None

    def __init__(
        self,
        scorer: TextScorer,
        fingerprint: str,
        *,
        stored: StoredIds | None = None,
        first_stage_weight: float = 0.0,
        default_instruction: str | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.first_stage_weight = first_stage_weight
        self._scorer = scorer
        self._stored = stored
        self.default_instruction = default_instruction
        self._tokenize_seconds = 0.0
        # The embedder's count is not this tokenizer's: what it takes for a token may be two here,
        # so a document that fits by its count is read in windows where it does not fit by ours.
        room = scorer.template.max_pair_tokens - _PREFIX_ROOM
        self.document_limits = DocumentLimits(documents=None, tokens=max(room, 1), beside=True)
        self._counting = threading.Lock()

    @property
    def failure(self) -> str | None:
        """Why it will never read again, or None while it can."""
        return self._scorer.failure

    def load(self) -> ReaderLoad:
        """See core.protocols.QueuedReranker."""
        return self._scorer.load(self._tokenize_seconds)

    def close(self) -> None:
        """End the queue and let go of the device's thread."""
        self._scorer.close()

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        """See core.protocols.Reranker."""
        instruction = instruction_text(query.instruction or self.default_instruction)
        started = time.perf_counter()
        prefix = self._scorer.template.prefix(instruction, query.text)
        inputs = affordable(inputs, budget)
        if not inputs:
            return
        owned = [pieces_of(item) for item in inputs]
        flat = [(item, piece) for item, own in zip(inputs, owned, strict=True) for piece in own]
        texts = self._ids(flat)
        with self._counting:
            self._tokenize_seconds += time.perf_counter() - started
        owner = [n for n, own in enumerate(owned) for _ in own]
        found: list[dict[int, float]] = [{} for _ in inputs]
        pieces = [1] * len(inputs)
        left_ms = budget.left_ms()
        within = None if left_ms is None else max(left_ms, 0.0) / 1000.0
        unscored: set[str] = set()
        scores = self._scorer.score(
            prefix,
            texts,
            within,
            is_over=lambda: budget.spent() in (DEADLINE, GIVEN_UP),
            unscored=unscored,
            priority=Priority.BULK if query.is_bulk else Priority.INTERACTIVE,
            given_up=budget.nobody_waits,
        )
        for scored in scores:
            number = owner[scored.place]
            _, passage = flat[scored.place]
            found[number][passage.point_id] = scored.logit
            pieces[number] = max(pieces[number], scored.windows)
            if len(found[number]) == len(owned[number]):
                reading = _reading(inputs[number], found[number], pieces[number])
                budget.use(reading.tokens_read)
                yield reading
        if unscored:
            budget.stop(" and ".join(_WHY[each] for each in sorted(unscored)))

    def _ids(self, flat: Sequence[tuple[ReadingInput, PassageText]]) -> list[TokenIds]:
        """Ids of title and text of every piece, stored ones taken, the others made.

        (A whole document's are made: its passages' ids one after the other are not its ids.)
        """
        template = self._scorer.template
        known: dict[int, TokenIds] = {}
        if self._stored is not None:
            asked = [each.passage_id for item, each in flat if item.depth == "passage"]
            known = self._stored.reader_ids(template.fingerprint, asked)
        parts = [document_parts(item.title, passage.text) for item, passage in flat]
        heads = {head: np.zeros(0, np.uint32) for head, _ in parts}
        made = template.encode_documents(list(heads))
        heads.update(zip(heads, made, strict=True))
        missing = [
            n
            for n, (item, passage) in enumerate(flat)
            if item.depth == "document" or passage.passage_id not in known
        ]
        bodies = dict(
            zip(
                missing,
                template.encode_documents([parts[place][1] for place in missing]),
                strict=True,
            )
        )
        return [
            np.concatenate(
                [
                    heads[parts[place][0]],
                    bodies[place] if place in bodies else known[passage.passage_id],
                ]
            )
            for place, (_, passage) in enumerate(flat)
        ]


def _reading(item: ReadingInput, scores: dict[int, float], pieces: int) -> Reading:
    best = max(scores.values())
    return Reading(
        rank=item.rank,
        score=best,
        depth=item.depth,
        tokens_read=passage_tokens(item),
        tokens_total=item.document_tokens,
        passage_scores=tuple((p.point_id, scores[p.point_id]) for p in item.passages)
        if item.depth == "passage"
        else (),
        probability=probability(best),
        windows=pieces,
    )
