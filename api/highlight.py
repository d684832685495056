"""Which words of a passage a reader should see marked: the query's own, and its phrases.

A word is marked when it equals a query word or shares its stem (all but the ending), compared
case-folded. The little words of its language are not marked. Offsets are characters in the
document.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from longleaf.core.language import detect
from longleaf.core.language_words import LITTLE_WORDS
from longleaf.core.types import PassageText

_WORD = re.compile(r"\w+(?:[-'’./:]\w+)*")
_UNFOLDED = re.compile("[\u00df\u0130\u0149\u017f\u01f0\u1e96-\u1e9a\u1e9e\u212a\ufb00-\ufb06]")
"""What case folding makes ASCII of: a word's beginning is not seen by the letters it shows."""

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
        self._beginnings: re.Pattern[str] | None = None
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
            self._beginnings = _beginnings(self._stems)
        spans = [
            match.span()
            for match in self._candidates(passage.text)
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

    def _candidates(self, text: str) -> Iterator[re.Match[str]]:
        """Words of `text` that may share a stem with the query's; all of them where in doubt.

        A word shares its beginning with its stem, so the others need no look.
        """
        if self._beginnings is None or (not text.isascii() and _UNFOLDED.search(text)):
            yield from _WORD.finditer(text)
            return
        for begin in self._beginnings.finditer(text):
            if (match := _WORD.match(text, begin.start())) is not None:
                yield match


def _beginnings(stems: frozenset[str]) -> re.Pattern[str] | None:
    """Where words begin with one of the stems; None where their letters are not ASCII."""
    if not all(stem.isascii() for stem in stems):
        return None
    if not stems:
        return re.compile(r"(?!)")
    stood = "|".join(map(re.escape, sorted(stems)))
    return re.compile(rf"(?<!\w)(?<!\w[-'’./:])(?:{stood})", re.IGNORECASE)


@functools.lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    for ending in ("ations", "ation", "ings", "ing", "ies", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word
