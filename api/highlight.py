"""Which words of a passage a reader should see marked: the query's own, and its phrases.

A word is marked when it equals a query word or shares its stem (all but the ending), compared
case-folded. The little words of its language are not marked. Offsets are characters in the
document.
"""

from __future__ import annotations

import functools
import re

from longleaf.core.language import detect
from longleaf.core.language_words import LITTLE_WORDS
from longleaf.core.types import PassageText

_WORD = re.compile(r"\w+(?:[-'’./:]\w+)*")
_QUESTION_WORDS = frozenset({"how", "what", "when", "where", "why", "who", "does", "did", "i"})
_SHORTEST_STEM = 4


@functools.lru_cache(maxsize=64)
def _little_words(language: str) -> frozenset[str]:
    lists = (script.get(language, "") for script in LITTLE_WORDS.values())
    return frozenset(" ".join(lists).split()) | _QUESTION_WORDS


def highlight_spans(
    passage: PassageText, query_text: str, phrases: tuple[str, ...] = ()
) -> tuple[tuple[int, int], ...]:
    """Spans of `passage` to mark, as (start_char, end_char) in the document, ordered, disjoint."""
    unmarked = _little_words(detect(f"{query_text} {passage.text}") or "en")
    stems = {
        _stem(word)
        for word in (match.group().casefold() for match in _WORD.finditer(query_text))
        if word not in unmarked
    }
    spans = [
        match.span()
        for match in _WORD.finditer(passage.text)
        if _stem(match.group().casefold()) in stems
    ]
    for phrase in phrases:
        words = [re.escape(word) for word in phrase.split()]
        if words:
            pattern = re.compile(r"\s+".join(words), re.IGNORECASE)
            spans += [match.span() for match in pattern.finditer(passage.text)]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple((passage.start_char + start, passage.start_char + end) for start, end in merged)


def _stem(word: str) -> str:
    for ending in ("ations", "ation", "ings", "ing", "ies", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word
