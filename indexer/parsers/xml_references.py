"""Bibliography entries that are given in fields, as a line that can be read; pure.

An entry that has its own punctuation is left to be read as running text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from longleaf.indexer.parsers.xml_front import person
from longleaf.indexer.parsers.xml_tree import Entities, children, local, words

if TYPE_CHECKING:
    from lxml.etree import _Element

_PEOPLE = ("name", "string-name", "collab", "anonymous", "etal")
_PUNCTUATION = re.compile(r"[^\W_]|[.,;:()]")
_IN_ORDER = ("chapter-title", "article-title", "data-title", "trans-title", "part-title", "source")
_PLACED = frozenset(
    ("year", "volume", "issue", "fpage", "lpage", "elocation-id", "edition", "page-range")
)


def reference_text(citation: _Element, entities: Entities) -> str:
    """A citation element in one line; "" where it is written out with punctuation already."""
    between = [citation.text, *(child.tail for child in citation)]
    inside = children(citation)
    if not inside or any(text and _PUNCTUATION.search(text) for text in between):
        return ""
    people: list[str] = []
    found: dict[str, list[str]] = {}
    for child in inside:
        tag = local(child)
        if tag == "person-group":
            people += _people(children(child, *_PEOPLE), entities)
            continue
        if tag in _PEOPLE:
            people += _people([child], entities)
            continue
        text = words(child, entities)
        if tag == "pub-id" and text:
            text = f"{child.get('pub-id-type', 'id')}:{text}"
        if text:
            found.setdefault(tag, []).append(text)
    return _line(people, found)


def _people(elements: list[_Element], entities: Entities) -> list[str]:
    named = [
        "et al." if local(each) == "etal" else person(each, entities, family_first=True)
        for each in elements
    ]
    return [name for name in named if name]


def _line(people: list[str], found: dict[str, list[str]]) -> str:
    def first(tag: str) -> str:
        return found.get(tag, [""])[0]

    year = f"({first('year')})" if first("year") else ""
    parts = [" ".join(part for part in (", ".join(people), year) if part)]
    for tag in _IN_ORDER:
        parts += found.get(tag, [])
    volume = first("volume") + (f"({first('issue')})" if first("issue") else "")
    start = first("fpage") or first("elocation-id") or first("page-range")
    pages = f"{start}–{first('lpage')}" if first("lpage") and start != first("lpage") else start
    parts.append(": ".join(part for part in (volume, pages) if part))
    if first("edition"):
        parts.append(f"{first('edition')} edition")
    for tag, texts in found.items():
        if tag not in _IN_ORDER and tag not in _PLACED:
            parts += texts
    return " ".join(_ended(part) for part in parts if part)


def _ended(part: str) -> str:
    return part if part[-1] in ".?!)" else f"{part}."
