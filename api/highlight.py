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


class Highlighter:
    """Marks one query's words in many passages."""

    def __init__(self, query_text: str, phrases: tuple[str, ...] = ()) -> None:
        self._words = {match.group().casefold() for match in _WORD.finditer(query_text)}
        self._query_text = query_text
        self._stems: frozenset[str] | None = None
        self._phrases = [
            re.compile(r"\s+".join(map(re.escape, phrase.split())), re.IGNORECASE)
            for phrase in phrases
            if phrase.strip()
        ]

    def spans(self, passage: PassageText) -> tuple[tuple[int, int], ...]:
        """What to mark, as (start_char, end_char) in the document, ordered and disjoint."""
        if self._stems is None:
            # A query alone is often too short to tell its language; with a passage it is not.
            language = detect(f"{self._query_text} {passage.text}") or "en"
            self._stems = frozenset(map(_stem, self._words - _little_words(language)))
        spans = [
            match.span()
            for match in _WORD.finditer(passage.text)
            if _stem(match.group().casefold()) in self._stems
        ]
        for phrase in self._phrases:
            spans += [match.span() for match in phrase.finditer(passage.text)]
        merged: list[tuple[int, int]] = []
        for start, end in sorted(spans):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        begin = passage.start_char
        return tuple((begin + start, begin + end) for start, end in merged)


@functools.lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    for ending in ("ations", "ation", "ings", "ing", "ies", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word
