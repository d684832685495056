"""What a paragraph's or a run's style says of it: heading rank, numbering, hidden, role.

Built-in styles keep their English names in every language version of Word; other programs write
translated names, so the usual ones are known here. A style inherits from the one it is based on.
Knows no formatting: how a heading looks is not asked, only what it says it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longleaf.core.types import Role
from longleaf.indexer.parsers.docx_parts import (
    WORD,
    Parts,
    attribute,
    child,
    forget,
    is_on,
    number,
    qualified,
    value_of,
)

if TYPE_CHECKING:
    from lxml.etree import _Element

MAX_LEVEL = 8  # levels count from 0
_BODY_TEXT = 9  # the outline level that says "no heading"
_MAX_BASED_ON = 50

_HEADING = re.compile(
    r"(?:heading|überschrift|titre|título|titulo|titolo|kop|rubrik|overskrift|otsikko|nagłówek|"
    r"nadpis|címsor|заголовок|başlık|επικεφαλίδα|标题|標題|見出し|제목)\s*([1-9])(?:\s+char)?",
    re.IGNORECASE,
)
_CONTENTS = re.compile(r"toc \d|toc heading|table of (?:figures|authorities)|toa heading", re.I)
_REFERENCES = re.compile(r"bibliography", re.IGNORECASE)
_TITLE = re.compile(r"title|titel|titre|título|titolo|标题|標題|表題", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ListPlace:
    """Which list a paragraph is in. `level` None: the level that is linked to `style_id`."""

    num_id: str
    level: int | None
    style_id: str = ""


@dataclass(frozen=True, slots=True)
class Style:
    """A style with everything that it inherits. `rank` 0 is no heading, 1 the highest."""

    name: str = ""
    rank: int = 0
    hidden: bool = False
    list_place: ListPlace | None = None
    role: Role = Role.BODY
    is_title: bool = False


@dataclass(frozen=True, slots=True)
class _Written:
    """A style as the file has it; None where it leaves something to the one it is based on."""

    name: str
    based_on: str | None
    outline_level: int | None
    hidden: bool | None
    num_id: str | None
    level: int | None


_PLAIN = Style()


class Styles:
    """The styles of one document by their ids."""

    def __init__(self, parts: Parts | None = None, part: str | None = None) -> None:
        self._written: dict[str, _Written] = {}
        self._known: dict[str, Style] = {}
        self._default_id = ""
        if parts is not None and part is not None:
            for _, element in parts.events(part, qualified(WORD, ("style",))):
                self._add(element)
                forget(element)

    def _add(self, element: _Element) -> None:
        style_id = attribute(element, "styleId") or ""
        if attribute(element, "type") == "paragraph" and (
            attribute(element, "default") in ("1", "true", "on")
        ):
            self._default_id = style_id
        properties = child(element, "pPr")
        vanish = child(element, "rPr", "vanish")
        numbering = child(properties, "numPr")
        self._written[style_id] = _Written(
            name=value_of(element, "name") or style_id,
            based_on=value_of(element, "basedOn"),
            outline_level=number(value_of(properties, "outlineLvl"), high=_BODY_TEXT),
            hidden=None if vanish is None else is_on(vanish),
            num_id=value_of(numbering, "numId"),
            level=number(value_of(numbering, "ilvl"), high=MAX_LEVEL),
        )

    def of(self, style_id: str | None) -> Style:
        """The style called so, the default paragraph style for None; plain where unknown."""
        style_id = self._default_id if style_id is None else style_id
        known = self._known.get(style_id)
        if known is None:
            known = self._known[style_id] = self._resolve(style_id)
        return known

    def num_id_of(self, style_id: str) -> str | None:
        """The list that a numbering style stands for."""
        place = self.of(style_id).list_place
        return None if place is None else place.num_id

    def _resolve(self, style_id: str) -> Style:
        chain = list(self._chain(style_id))
        if not chain:
            # A document without styles, or one that names a built-in style it does not hold.
            return Style(style_id, _rank_of_name(re.sub(r"(?<=\D)(?=\d$)", " ", style_id)))
        written = [each for _, each in chain]
        name = written[0].name
        outline = _first(each.outline_level for each in written)
        rank = next((rank for each in written if (rank := _rank_of_name(each.name))), 0)
        if outline is not None:
            rank = 0 if outline == _BODY_TEXT else outline + 1
        return Style(
            name=name,
            rank=rank,
            hidden=bool(_first(each.hidden for each in written)),
            list_place=_list_place(chain),
            role=_role(name),
            is_title=_TITLE.fullmatch(name) is not None,
        )

    def _chain(self, style_id: str | None) -> Iterator[tuple[str, _Written]]:
        seen: set[str] = set()
        while style_id is not None and style_id not in seen and len(seen) < _MAX_BASED_ON:
            seen.add(style_id)
            written = self._written.get(style_id)
            if written is None:
                return
            yield style_id, written
            style_id = written.based_on


def _list_place(chain: list[tuple[str, _Written]]) -> ListPlace | None:
    for style_id, written in chain:
        if written.num_id is not None:
            level = _first(each.level for _, each in chain)
            return ListPlace(written.num_id, level, style_id)
    return None


def _rank_of_name(name: str) -> int:
    match = _HEADING.fullmatch(name)
    return 0 if match is None else int(match[1])


def _role(name: str) -> Role:
    if _CONTENTS.fullmatch(name) is not None:
        return Role.CONTENTS
    return Role.REFERENCES if _REFERENCES.fullmatch(name) is not None else Role.BODY


def _first(values: Iterable[int | None]) -> int | None:
    return next((value for value in values if value is not None), None)
