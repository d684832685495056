"""What a model writes, as it comes: text, citations, and thoughts that are not shown.

Pieces come in any length: "[", "1", "]" are one citation. What could still become a citation or a
tag is held back until it is one or cannot be, at most `_MOST_CHARS`; so the parts are the same
however the text was cut. A citation is a known number or it is marked as unknown: no reader ever
sees a number that no source has. Pure; it knows numbers, no sources.

Some servers leave out the `<think>` that their template has written already: a `</think>` without
one says that all before it was thought, and `Restart` takes it back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

UNKNOWN = "[?]"
"""Stands where the model cited what it was not given."""

_MOST_CHARS = 64
_MOST_RANGE = 20
_OPENER = re.compile(r"[\[【]")
CITATION = re.compile(
    r"[\[【][^\S\n]*(?:sources?[^\S\n]*)?\^?(?P<first>\d{1,3})"
    r"(?P<more>(?:[^\S\n]*(?:,|;|&|and|-|–|—)[^\S\n]*(?:source[^\S\n]*)?\^?\d{1,3})*)"
    r"[^\S\n]*(?:†[^\[\]【】\n]*)?[\]】]",
    re.IGNORECASE,
)
"""[1], [1, 2], [2-4], [Source 1], [^1], 【1†p. 3】. Four digits are a year: [2019] UKSC 5."""
_STEP = re.compile(
    r"(?P<joint>,|;|&|and|-|–|—)[^\S\n]*(?:source[^\S\n]*)?\^?(?P<number>\d{1,3})", re.IGNORECASE
)
_OPEN_CITATION = re.compile(r"[\[【][^\[\]【】\n]*")
_BEGIN_TAGS = ("<think>", "<thinking>", "<reasoning>")
_END_TAGS = ("</think>", "</thinking>", "</reasoning>")
_LONGEST_TAG = max(map(len, _END_TAGS))


@dataclass(frozen=True, slots=True)
class Text:
    """What is shown as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Citation:
    """One or more numbers in one pair of brackets: those of sources, and the others."""

    numbers: tuple[int, ...]
    unknown: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """As it is shown: [1][3], and [?] for what no source has."""
        return "".join(f"[{each}]" for each in self.numbers) + UNKNOWN * bool(self.unknown)


@dataclass(frozen=True, slots=True)
class Restart:
    """All before this was thought and not said."""

    text = ""


Part = Text | Citation | Restart


class _Thoughts:
    """Takes out what stands between tags, before anybody looks for citations: what is left on both
    sides of a thought is one text."""

    def __init__(self) -> None:
        self.chars = 0
        self._waiting = ""
        self._is_thinking = False

    def without(self, piece: str, *, is_end: bool) -> Iterator[str | Restart]:
        """What is said and no thought, as far as it is certain."""
        self._waiting += piece
        while self._waiting:
            place = self._waiting.find("<")
            if place != 0:
                said = self._take(place if place > 0 else len(self._waiting))
            elif tag := self._tag():
                self._take(len(tag))
                if tag in _END_TAGS and not self._is_thinking:
                    yield Restart()
                self._is_thinking = tag in _BEGIN_TAGS
                continue
            elif self._may_be_tag() and not is_end:
                return
            else:
                said = self._take(1)
            if self._is_thinking:
                self.chars += len(said)
            else:
                yield said

    def _take(self, count: int) -> str:
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    def _tag(self) -> str:
        begin = self._waiting[:_LONGEST_TAG].lower()
        return next((tag for tag in _BEGIN_TAGS + _END_TAGS if begin.startswith(tag)), "")

    def _may_be_tag(self) -> bool:
        begin = self._waiting[:_LONGEST_TAG].lower()
        return any(tag.startswith(begin) for tag in _BEGIN_TAGS + _END_TAGS)


class Splitter:
    """Text in pieces to parts. White space at both ends of the whole is left out."""

    def __init__(self, known: Collection[int]) -> None:
        self._known = frozenset(known)
        self._thoughts = _Thoughts()
        self._waiting = ""
        self._spaces = ""
        self._has_begun = False

    @property
    def thought_chars(self) -> int:
        """Of thoughts that came between tags."""
        return self._thoughts.chars

    def feed(self, piece: str) -> list[Part]:
        """The parts that are certain now."""
        return list(self._parts(self._thoughts.without(piece, is_end=False), is_end=False))

    def end(self) -> list[Part]:
        """The rest; what was held back is text."""
        return list(self._parts(self._thoughts.without("", is_end=True), is_end=True))

    def _parts(self, said: Iterable[str | Restart], *, is_end: bool) -> Iterator[Part]:
        for each in said:
            if isinstance(each, Restart):
                self._waiting, self._spaces, self._has_begun = "", "", False
                yield each
            else:
                self._waiting += each
                yield from self._certain(is_end=False)
        if is_end:
            yield from self._certain(is_end=True)

    def _certain(self, *, is_end: bool) -> Iterator[Part]:
        while self._waiting:
            place = _OPENER.search(self._waiting)
            if place is None:
                yield from self._said(self._take(len(self._waiting)))
                return
            if place.start():
                yield from self._said(self._take(place.start()))
            found = CITATION.match(self._waiting)
            if found and found.end() <= _MOST_CHARS:
                self._take(found.end())
                yield from self._cited(found)
                continue
            begun = _OPEN_CITATION.match(self._waiting)
            assert begun is not None
            if begun.end() == len(self._waiting) < _MOST_CHARS and not is_end:
                return
            yield from self._said(self._take(1))

    def _take(self, count: int) -> str:
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    def _said(self, text: str) -> Iterator[Part]:
        """Text without white space at the beginning, and at the end only once more follows."""
        if not self._has_begun:
            text = text.lstrip()
        kept = text.rstrip()
        if kept:
            yield Text(self._spaces + kept)
            self._has_begun, self._spaces = True, text[len(kept) :]
        else:
            self._spaces += text

    def _cited(self, found: re.Match[str]) -> Iterator[Part]:
        numbers = [int(found["first"])]
        for step in _STEP.finditer(found["more"]):
            number = int(step["number"])
            is_range = step["joint"] in "-–—" and 0 < number - numbers[-1] <= _MOST_RANGE
            numbers += range(numbers[-1] + 1, number + 1) if is_range else [number]
        different = tuple(dict.fromkeys(numbers))
        if self._spaces:
            yield Text(self._spaces)
        self._has_begun, self._spaces = True, ""
        yield Citation(
            tuple(each for each in different if each in self._known),
            tuple(each for each in different if each not in self._known),
        )


def joined(parts: list[Part]) -> list[Part]:
    """The parts as a whole: what a `Restart` takes back is gone, and neighbouring texts are one."""
    kept: list[Part] = []
    for part in parts:
        if isinstance(part, Restart):
            kept = []
        elif isinstance(part, Text) and kept and isinstance(kept[-1], Text):
            kept[-1] = Text(kept[-1].text + part.text)
        else:
            kept.append(part)
    return kept
