"""Which passages of a document are read where not all of them can be.

Numbers only: it looks at no text, and knows no model and no query.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from longleaf.core.types import PassageText


def choose(
    token_counts: Sequence[int], ranked: Sequence[int], limit: int | None, *, beside: bool
) -> list[int]:
    """Places of the passages to read, in the document's order, of at most `limit` tokens.

    `ranked`: places by what they say about the query, best first; places that are not in it come
    last, in order. The whole document where it fits; else from the best on what still fits, each
    with its neighbours first where `beside` is set (the one after it, then the one before). At
    least one passage, however long it is.
    """
    if limit is None or sum(token_counts) <= limit:
        return list(range(len(token_counts)))
    chosen: set[int] = set()
    left = limit
    for place in _in_turn(len(token_counts), ranked, beside):
        if place in chosen:
            continue
        if token_counts[place] <= left:
            chosen.add(place)
            left -= token_counts[place]
        elif not chosen:
            return [place]
    return sorted(chosen)


def _in_turn(count: int, ranked: Sequence[int], beside: bool) -> Iterator[int]:
    for place in ranked:
        yield place
        if beside:
            yield from (near for near in (place + 1, place - 1) if 0 <= near < count)
    yield from range(count)


def own_tokens(passages: Sequence[PassageText]) -> list[int]:
    """Token counts in the order given, what an earlier passage of the text also holds left out.

    Overlap is known in characters, so its tokens are the same share of the passage's.
    """
    own = [0] * len(passages)
    covered_to = 0
    for index in sorted(range(len(passages)), key=lambda i: passages[i].start_char):
        passage = passages[index]
        length = max(1, passage.end_char - passage.start_char)
        fresh = max(0, passage.end_char - max(passage.start_char, covered_to))
        own[index] = round(passage.token_count * fresh / length)
        covered_to = max(covered_to, passage.end_char)
    return own
