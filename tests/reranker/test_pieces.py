"""A candidate as texts: what two passages share is there once."""

from __future__ import annotations

from longleaf.core.types import PassageText, ReadingInput
from longleaf.reranker.pieces import pieces_of


def test_a_whole_document_is_its_text_and_what_passages_share_is_there_once() -> None:
    text = "alpha beta gamma. delta epsilon.\n\nzeta eta theta. iota kappa"

    def passage(number: int, start: int, end: int) -> PassageText:
        words = text[start:end]
        return PassageText(number, number, start, end, None, None, (), len(words.split()), words)

    spans = [(0, 17), (10, 32), (34, 49), (49, 54), (55, 60)]
    passages = tuple(passage(n, *span) for n, span in enumerate(spans))
    [whole] = pieces_of(ReadingInput(1, "t", 9, 0, passages, "document"))
    assert whole.text == text
    [part] = pieces_of(ReadingInput(1, "t", 9, 0, (passages[0], passages[-1]), "document"))
    assert part.text == "alpha beta gamma.\n\nkappa"
    assert pieces_of(ReadingInput(1, "t", 9, 0, passages)) == passages
