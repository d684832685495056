"""What all clients' tests ask, and rerankers that do what a service does on a bad day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from longleaf.core.budget import Budget
from longleaf.core.errors import Overloaded
from longleaf.core.protocols import ReaderQuery
from longleaf.core.types import DocumentLimits, Reading, ReadingInput

ROOF = "The landlord repairs the roof."
RENT = "The tenant pays the rent on the first day of each month."
FEVER = "Paracetamol lowered the temperature of children within two hours."
TEXTS = [FEVER, RENT, ROOF]
QUESTION = "who repairs the roof?"
BEST = TEXTS.index(ROOF)


class _Reads:
    """A reranker whose scores are the texts' lengths."""

    name = "lengths"
    fingerprint = "lengths/1"
    takes_instruction = True
    reads_text = True
    first_stage_weight = 0.0
    document_limits = DocumentLimits(documents=None, tokens=None, beside=True)
    document_weight = 1.0
    min_score: float | None = None
    default_instruction: str | None = None

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        for item in inputs:
            yield self.reading(item)

    def reading(self, item: ReadingInput) -> Reading:
        tokens = item.document_tokens
        return Reading(item.rank, float(len(item.passages[0].text)), item.depth, tokens, tokens)


class Busy(_Reads):
    """More waits than it can do."""

    def read(self, *_: Any) -> Iterator[Reading]:
        raise Overloaded("1,000 texts wait already.", "Try again later.", retry_after_seconds=3)


class Cutting(_Reads):
    """Reads no more than five tokens of a text, and hears the instruction."""

    heard: str | None = None
    seen: Sequence[str] = ()
    was_bulk = False

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        self.heard, self.was_bulk = query.instruction, query.is_bulk
        self.seen = [item.passages[0].text for item in inputs]
        for item in inputs:
            cut = max(0, item.document_tokens - 5)
            yield replace(
                self.reading(item), tokens_read=item.document_tokens - cut, truncated_tokens=cut
            )


class Late(_Reads):
    """Reads so many texts and is too late for the others."""

    def __init__(self, most: int) -> None:
        self.most = most

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        for item in inputs[: self.most]:
            yield self.reading(item)
        budget.stop("deadline reached")
