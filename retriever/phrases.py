"""Whether a document's text holds all of some phrases and none of others.

A phrase is in a text when its words stand side by side, words being what words.py says they are,
so the index's pre-filter on passages and this check on whole documents mean the same: no regard to
case, line breaks, dashes, quotation marks or other punctuation, and only whole words ("art" is
not in "party", "§ 12(b)(iii)" is in "Section 12 (b)(iii)"). Reading words costs 24-50 ms for
1,000,000 characters (plain ASCII; with typographic characters), so a text is first asked for the
bare characters of each word, which is 3 to 90 times as fast.
"""

from __future__ import annotations

from collections.abc import Iterable

from longleaf.retriever.words import normalised, words


class PhraseRule:
    """All of `phrases` and none of `excluded`; a phrase without any word is ignored."""

    def __init__(self, phrases: Iterable[str], excluded: Iterable[str]) -> None:
        self._phrases = tuple(filter(None, map(_words_of, phrases)))
        self._excluded = tuple(filter(None, map(_words_of, excluded)))

    @property
    def trivial(self) -> bool:
        """Every text passes, so no text needs to be fetched."""
        return not self._phrases and not self._excluded

    def accepts(self, text: str) -> bool:
        """Whether a document with this text may be in the answer."""
        characters = normalised(text)
        if not all(_possible(phrase, characters) for phrase in self._phrases):
            return False
        suspects = [phrase for phrase in self._excluded if _possible(phrase, characters)]
        if not self._phrases and not suspects:
            return True
        line = f" {' '.join(words(text))} "
        return all(_held(phrase, line) for phrase in self._phrases) and not any(
            _held(phrase, line) for phrase in suspects
        )


def _words_of(phrase: str) -> tuple[str, ...]:
    return tuple(words(phrase))


def _possible(phrase: tuple[str, ...], characters: str) -> bool:
    return all(word in characters for word in phrase)


def _held(phrase: tuple[str, ...], line: str) -> bool:
    return f" {' '.join(phrase)} " in line
