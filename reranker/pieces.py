"""What of a candidate goes through a model that reads text: its pieces, and how many a budget pays.

Texts and counts; it knows no model and no tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longleaf.core.budget import Budget
    from longleaf.core.types import PassageText, ReadingInput


def pieces_of(item: ReadingInput) -> tuple[PassageText, ...]:
    """What gets a score: each passage, or the document as one text."""
    if item.depth == "passage" or not item.passages:
        return item.passages
    return (replace(item.passages[0], text=joined(item.passages)),)


def joined(passages: Sequence[PassageText]) -> str:
    """Passages of one document, in its order, as one text.

    What two passages both hold is there once. The white space between them is not exactly the
    document's: one character becomes a space, more of it, or text that is left out, an empty line.
    """
    text = passages[0].text
    for before, passage in pairwise(passages):
        gap = passage.start_char - before.end_char
        text += ("" if gap <= 0 else " " if gap == 1 else "\n\n") + passage.text[max(0, -gap) :]
    return text


def affordable(inputs: Sequence[ReadingInput], budget: Budget) -> Sequence[ReadingInput]:
    """The first inputs that the token budget pays for; at least one while there is any left."""
    readable = [item for item in inputs if item.passages]
    if budget.spent() is not None:
        return []
    if budget.max_tokens is None:
        return readable
    left = budget.max_tokens - budget.tokens_used
    for count, item in enumerate(readable, start=1):
        left -= passage_tokens(item)
        if left <= 0:
            return readable[:count]
    return readable


def passage_tokens(item: ReadingInput) -> int:
    """As the embedder counts; overlaps of its passages once, so far as that can be known."""
    return min(sum(passage.token_count for passage in item.passages), item.document_tokens)
