"""What a mail says: all its texts in the order they stand, and one of those that say the same.

Only the sides of a `multipart/alternative` are said to say the same. Of these the plain text is
taken, because it has no navigation and no hidden words; where it has fewer than half as many words
as the HTML it is a stub ("your mail program shows no HTML"), and the HTML is taken. Mail programs
keep to what alternatives promise or do not, so the words are compared: where more than a quarter
of what is left out stands nowhere in what is taken, a warning says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from longleaf.core.errors import NoTextFound, Rejected
from longleaf.core.protocols import ParseContext
from longleaf.core.types import Rejection, Section
from longleaf.indexer.parsers.html import HtmlParser

_STUB_PART = 0.5  # of the HTML's words: plain text with fewer is not taken
_MISSING_PART = 0.25  # of the words left out: what more of them are missing is told
_GAP = "\n\n"

_CJK = "\u3040-\u30ff\u3400-\u9fff"  # written without spaces: each character counts as a word
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_ADDRESS = re.compile(r"\b[a-z]{2,10}://\S+|\bmailto:\S+", re.IGNORECASE)
"""Plain text spells out the links that HTML hides; they are no words of either."""


@dataclass(frozen=True, slots=True)
class Words:
    """One text as it came: `plain`, an `html` page, or the bytes of a file called `name`."""

    plain: str = ""
    html: str = ""
    other: bytes = b""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """Sides that say the same, each of one text or more."""

    sides: tuple[tuple[BodyPart, ...], ...]


BodyPart: TypeAlias = Words | Choice


@dataclass(frozen=True, slots=True)
class Body:
    """Texts as they read. `is_plain`: none of them was anything but plain text."""

    text: str = ""
    sections: tuple[Section, ...] = ()
    warnings: tuple[str, ...] = ()
    is_plain: bool = True


def read_body(parts: Sequence[BodyPart], name: str, context: ParseContext) -> Body:
    """The texts of a mail called `name`, joined in order. Never raises for what they hold."""
    text = ""
    sections: list[Section] = []
    warnings: list[str] = []
    is_plain = True
    for part in parts:
        if isinstance(part, Choice):
            found = _chosen([read_body(side, name, context) for side in part.sides])
        else:
            found = _read(part, name, context)
        warnings += found.warnings
        if not found.text:
            continue
        text += _GAP if text else ""
        sections += (
            replace(
                each, start_char=each.start_char + len(text), end_char=each.end_char + len(text)
            )
            for each in found.sections
        )
        text += found.text
        is_plain = is_plain and found.is_plain
    return Body(text, tuple(sections), tuple(dict.fromkeys(warnings)), is_plain)


def _read(words: Words, name: str, context: ParseContext) -> Body:
    """One text; an empty one, with a warning, where it cannot be read."""
    from longleaf.indexer.parsers import parser_for  # it imports this module

    if not words.html and not words.other:
        return Body(words.plain.strip())
    try:
        if words.html:
            # A byte order mark outweighs what the page declares: the mail has decoded it already.
            page = next(HtmlParser().parse(words.html.encode("utf-8-sig"), name))
        else:
            page = next(parser_for(words.name, words.other).parse(words.other, words.name, context))
    except NoTextFound as failure:
        # A page of pictures is common, and those are counted by whoever made the mail of it.
        failed = () if words.html else (f"its text cannot be read: {failure}",)
        return Body(warnings=failed, is_plain=False)
    except (Rejected, StopIteration) as failure:
        return Body(warnings=(f"its text cannot be read: {failure}",), is_plain=False)
    if isinstance(page, Rejection):
        return Body(warnings=(f"its text cannot be read: {page.detail}",), is_plain=False)
    return Body(page.text, page.sections, page.warnings, is_plain=False)


def _chosen(sides: Sequence[Body]) -> Body:
    """The side to take, with a warning for what only another one says."""
    words = {id(side): _words(side.text) for side in sides}

    def fullest(of: Sequence[Body]) -> Body | None:
        return max(of, key=lambda side: len(words[id(side)]), default=None)

    plain = fullest([side for side in sides if side.is_plain and side.text])
    rich = fullest([side for side in sides if not side.is_plain and side.text])
    failed = tuple(note for side in sides if not side.text for note in side.warnings)
    taken = plain or rich
    if taken is None:
        return Body(warnings=failed)
    if plain and rich and len(words[id(plain)]) < _STUB_PART * len(words[id(rich)]):
        taken = rich
    said = set(words[id(taken)])
    notes = []
    for side in sides:
        own = set(words[id(side)])
        missing = len(own - said)
        if missing > _MISSING_PART * len(own):
            left_out, kept = ("plain", "HTML") if side.is_plain else ("HTML", "plain")
            if side.is_plain == taken.is_plain:
                left_out, kept = "second", "first"
            notes.append(
                f"its {left_out} text was left out for its {kept} text, "
                f"which lacks {missing:,} of {len(own):,} words"
            )
    return replace(taken, warnings=(*taken.warnings, *failed, *notes))


def _words(text: str) -> list[str]:
    return _WORD.findall(_ADDRESS.sub(" ", text).casefold())
