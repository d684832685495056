"""The numbers that Word shows before paragraphs and does not store: "4.2", "(a)", "Article IV".

Word keeps how a list counts (an abstract list), which lists there are (each names an abstract one
and may start levels anew), and for each paragraph its list and level. Lists of one abstract list
count on together, as in Word; a list that overrides a start does so once, where it first appears.
A level above that was skipped begins at its start, so a first "1.1" needs no "1" and the next on
top is "2" (Tika's testWORD_override_list_numbering.docx has typed beside each number what Word
shows). Not known: the numbers of LISTNUM and AUTONUM, which are fields and not lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from longleaf.indexer.parsers.docx_numerals import numeral, padded
from longleaf.indexer.parsers.docx_parts import (
    WORD,
    Parts,
    attribute,
    child,
    forget,
    is_on,
    local_name,
    number,
    qualified,
    value_of,
)
from longleaf.indexer.parsers.docx_styles import MAX_LEVEL, ListPlace, Styles
from longleaf.indexer.parsers.docx_symbols import BULLET, UNKNOWN, as_unicode

if TYPE_CHECKING:
    from lxml.etree import _Element

NO_LIST = "0"
"""The list id that takes a paragraph out of its style's list."""

_PLACEHOLDER = re.compile(r"%([1-9])")
_LINE_BREAKS = re.compile(r"[\r\n]+")
_MAX_LABEL_CHARS = 200
_WITHOUT_NUMBER = ("none", "bullet")
_HOLLOW_BULLET = "◦"  # Word's own second level writes it as the letter o
_SEPARATORS = {"nothing": "", "space": " ", "tab": " "}


@dataclass(frozen=True, slots=True)
class Level:
    """How one level of a list counts and what it shows: "%1.%2" stands for levels 0 and 1."""

    start: int = 1
    number_format: str = "decimal"
    pattern: str = ""
    text: str = ""
    separator: str = " "
    restart_after: int | None = None  # 0: never; n: after a paragraph of the first n levels
    style_id: str = ""
    all_decimal: bool = False  # legal numbering: "1.2" below "Article I"
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class _List:
    """One `w:num`: its abstract list and what it does otherwise."""

    abstract_id: str
    starts: Mapping[int, int]
    levels: Mapping[int, Level]


@dataclass(slots=True)
class _Abstract:
    levels: dict[int, Level] = field(default_factory=dict)
    style_link: str | None = None
    counters: dict[int, int | None] = field(default_factory=dict)


_DEFAULT = Level()


class Numbering:
    """Counts the paragraphs of one document in reading order."""

    def __init__(self, styles: Styles, parts: Parts | None = None, part: str | None = None) -> None:
        self.unknown_formats: set[str] = set()
        self._styles = styles
        self._abstract: dict[str, _Abstract] = {}
        self._lists: dict[str, _List] = {}
        self._begun: set[str] = set()
        if parts is not None and part is not None:
            for _, element in parts.events(part, qualified(WORD, ("abstractNum", "num"))):
                if local_name(element) == "num":
                    self._add_list(element)
                elif (abstract_id := attribute(element, "abstractNumId")) is not None:
                    self._abstract.setdefault(abstract_id, _abstract(element))
                forget(element)

    def _add_list(self, element: _Element) -> None:
        starts: dict[int, int] = {}
        levels: dict[int, Level] = {}
        for override in element:
            at = number(attribute(override, "ilvl"), high=MAX_LEVEL)
            if local_name(override) != "lvlOverride" or at is None:
                continue
            start = number(value_of(override, "startOverride"))
            if start is not None:
                starts[at] = start
            if (own := child(override, "lvl")) is not None:
                levels[at] = _level(own)
        abstract_id = value_of(element, "abstractNumId") or ""
        self._lists.setdefault(
            attribute(element, "numId") or "", _List(abstract_id, starts, levels)
        )

    def label(self, place: ListPlace) -> str:
        """What stands before the next paragraph at `place`, white space behind it included.

        Counts. "" for a list that the document does not hold, and for a level that shows nothing.
        """
        held = self._lists.get(place.num_id)
        abstract = None if held is None else self._linked(held)
        if held is None or abstract is None:
            return ""
        at = self._level_of(place, held, abstract)
        self._begin(place.num_id, held, abstract)
        self._count(at, held, abstract)
        level = _level_at(at, held, abstract)
        if level.hidden:
            return ""
        text = level.text if level.number_format == "bullet" else self._fill(at, held, abstract)
        return f"{text[:_MAX_LABEL_CHARS]}{level.separator}" if text else ""

    def _linked(self, held: _List) -> _Abstract | None:
        """The abstract list itself, or the one that the list style it names stands for."""
        abstract = self._abstract.get(held.abstract_id)
        if abstract is None or abstract.style_link is None:
            return abstract
        linked = self._lists.get(self._styles.num_id_of(abstract.style_link) or "")
        return abstract if linked is None else self._abstract.get(linked.abstract_id, abstract)

    def _level_of(self, place: ListPlace, held: _List, abstract: _Abstract) -> int:
        if place.style_id:
            for levels in (held.levels, abstract.levels):
                for at, level in levels.items():
                    if level.style_id == place.style_id:
                        return at
        return place.level or 0

    def _begin(self, num_id: str, held: _List, abstract: _Abstract) -> None:
        if num_id not in self._begun:
            self._begun.add(num_id)
            abstract.counters.update(dict.fromkeys(held.starts))

    def _count(self, at: int, held: _List, abstract: _Abstract) -> None:
        for above in range(at):
            if abstract.counters.get(above) is None:
                abstract.counters[above] = _start(above, held, abstract)
        value = abstract.counters.get(at)
        abstract.counters[at] = _start(at, held, abstract) if value is None else value + 1
        for deeper in range(at + 1, MAX_LEVEL + 1):
            after = _level_at(deeper, held, abstract).restart_after
            if after is None or at < after:
                abstract.counters[deeper] = None

    def _fill(self, at: int, held: _List, abstract: _Abstract) -> str:
        own = _level_at(at, held, abstract)

        def value_at(match: re.Match[str]) -> str:
            shown = int(match[1]) - 1
            if shown > at:
                return ""
            value = abstract.counters.get(shown) or 0
            level = _level_at(shown, held, abstract)
            if level.number_format in _WITHOUT_NUMBER:
                return ""
            return str(value) if own.all_decimal else self._written(value, level)

        return _PLACEHOLDER.sub(value_at, own.text)

    def _written(self, value: int, level: Level) -> str:
        if level.number_format == "custom":
            written = padded(value, level.pattern)
        else:
            written = numeral(value, level.number_format)
        if written is None:
            self.unknown_formats.add(level.number_format)
        return str(value) if written is None else written


def _level_at(at: int, held: _List, abstract: _Abstract) -> Level:
    return held.levels.get(at) or abstract.levels.get(at) or _DEFAULT


def _start(at: int, held: _List, abstract: _Abstract) -> int:
    return held.starts.get(at, _level_at(at, held, abstract).start)


def _abstract(element: _Element) -> _Abstract:
    abstract = _Abstract(style_link=value_of(element, "numStyleLink"))
    for each in element:
        at = number(attribute(each, "ilvl"), high=MAX_LEVEL)
        if local_name(each) == "lvl" and at is not None:
            abstract.levels.setdefault(at, _level(each))
    return abstract


def _level(element: _Element) -> Level:
    number_format, pattern = _format(element)
    level = Level(
        start=number(value_of(element, "start")) or 0,
        number_format=number_format,
        pattern=pattern,
        text=_LINE_BREAKS.sub(" ", value_of(element, "lvlText") or ""),
        separator=_SEPARATORS.get(value_of(element, "suff") or "tab", " "),
        restart_after=number(value_of(element, "lvlRestart")),
        style_id=value_of(element, "pStyle") or "",
        all_decimal=is_on(child(element, "isLgl")),
        hidden=is_on(child(element, "rPr", "vanish")),
    )
    if number_format != "bullet":
        return level
    fonts = child(element, "rPr", "rFonts")
    font = None if fonts is None else attribute(fonts, "ascii")
    text = as_unicode(level.text, font)
    if child(element, "lvlPicBulletId") is not None or UNKNOWN in text:
        text = BULLET
    return replace(level, text=_HOLLOW_BULLET if text == "o" else text)


def _format(element: _Element) -> tuple[str, str]:
    """(`w:numFmt`, custom pattern). Newer formats stand in a choice with an older fallback."""
    found = child(element, "numFmt")
    if found is None:
        for each in element.iterdescendants():
            if each.tag in _NUMBER_FORMATS:
                found = each
                break
    if found is None:
        return "decimal", ""
    return attribute(found, "val") or "decimal", attribute(found, "format") or ""


_NUMBER_FORMATS = qualified(WORD, ("numFmt",))
