"""The parts of an Office Open XML package, their relationships, and their XML as events.

Both of the standard's sets of names are read, transitional and strict. XML is streamed and each
element forgotten by whoever takes it, so a part of 100 MB needs no tree of a gigabyte. Nothing is
fetched: relationships that lead out of the package are known by their words only. A document type
declaration, which the standard forbids and only attacks use, is refused.
"""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longleaf.core.errors import Rejected, RejectReason
from longleaf.indexer.parsers.zipped import Package, resolve

if TYPE_CHECKING:
    from lxml.etree import _Element

WORD = (
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "http://purl.oclc.org/ooxml/wordprocessingml/main",
)
RELATIONS = (
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    "http://purl.oclc.org/ooxml/officeDocument/relationships",
)
_PACKAGE_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"

_NUMBER = re.compile(r"\s*([+-]?\d{1,9})\s*")
_OFF = frozenset(("0", "false", "off", "none"))
_USUAL_MAIN = "word/document.xml"


@functools.cache
def word_tags(name: str) -> tuple[str, ...]:
    """The tags of Word's element `name`, one for each set of names."""
    return tuple(f"{{{space}}}{name}" for space in WORD)


_OF_CELLS = word_tags("tcPr") + word_tags("trPr")


def qualified(namespaces: Collection[str], names: Collection[str]) -> dict[str, str]:
    """Tags as lxml writes them, each with its name without the namespace."""
    return {f"{{{space}}}{name}": name for space in namespaces for name in names}


def local_name(element: _Element) -> str:
    """The element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def attribute(element: _Element, name: str, namespaces: Collection[str] = WORD) -> str | None:
    """The attribute `name` in any of the namespaces."""
    for space in namespaces:
        if (value := element.get(f"{{{space}}}{name}")) is not None:
            return value
    return None


def child(element: _Element | None, *path: str) -> _Element | None:
    """The first child called so in Word's names, its first child, and so on."""
    for name in path:
        if element is None:
            return None
        element = next(element.iterchildren(*word_tags(name)), None)
    return element


def value_of(element: _Element | None, *path: str) -> str | None:
    """The `w:val` of the child at `path`."""
    found = child(element, *path)
    return None if found is None else attribute(found, "val")


def is_on(switch: _Element | None) -> bool:
    """Whether an on/off element is there and not switched off."""
    return switch is not None and is_on_value(attribute(switch, "val") or "on")


def is_on_value(written: str | None) -> bool:
    """Whether an on/off attribute is there and not off."""
    return written is not None and written not in _OFF


def number(text: str | None, low: int = 0, high: int = 2**31 - 1) -> int | None:
    """`text` as an integer; None where it is none or out of bounds."""
    match = _NUMBER.fullmatch(text or "")
    value = None if match is None else int(match[1])
    return value if value is not None and low <= value <= high else None


def forget(element: _Element) -> None:
    """Free what an element held, and what stood before it, once it is read.

    But for the properties of the cell or row that it stands in, which are read last.
    """
    element.clear()
    parent = element.getparent()
    while parent is not None and (before := element.getprevious()) is not None:
        if before.tag in _OF_CELLS:
            break
        parent.remove(before)


@dataclass(frozen=True, slots=True)
class Relation:
    """`kind` is the last word of its type ("styles", "header"); `target` None if outside."""

    kind: str
    target: str | None


class Parts:
    """The package by its relationships. Raises `Rejected` as `Package` does, and for no Word."""

    def __init__(self, data: bytes, name: str) -> None:
        self.package = Package(data, name)
        self._name = name
        self._relations: dict[str, Mapping[str, Relation]] = {}
        self.main = self._find_main()

    def _find_main(self) -> str:
        stated = self.related("", "officeDocument")
        main = stated or self.package.find(_USUAL_MAIN)
        if main is None:
            raise Rejected(
                RejectReason.MALFORMED,
                f"{self._name} is a package without a Word document in it.",
            )
        return main

    def relations(self, part: str) -> Mapping[str, Relation]:
        """The relationships of `part` ("" for the package's own) by their ids."""
        if (known := self._relations.get(part)) is not None:
            return known
        folder, file = posixpath.split(part)
        entry = self.package.find(posixpath.join(folder, "_rels", f"{file}.rels"))
        found: dict[str, Relation] = {}
        if entry is not None:
            for _, element in self.events(entry, (f"{{{_PACKAGE_RELATIONS}}}Relationship",)):
                kind = element.get("Type", "").rpartition("/")[2]
                target = element.get("Target", "").partition("#")[0]
                inside = element.get("TargetMode") != "External"
                where = resolve(part, target) if inside and target else None
                entry_name = None if where is None else self.package.find(where)
                found.setdefault(element.get("Id", ""), Relation(kind, entry_name))
                forget(element)
        self._relations[part] = found
        return found

    def related(self, part: str, kind: str) -> str | None:
        """The first part that `part` has a relationship of this kind to."""
        targets = (each.target for each in self.relations(part).values() if each.kind == kind)
        return next((target for target in targets if target is not None), None)

    def events(
        self, part: str, tags: Collection[str], kinds: tuple[str, ...] = ("end",)
    ) -> Iterator[tuple[str, _Element]]:
        """The starts and ends of the elements with these tags, in order.

        Raises `Rejected` (MALFORMED) for XML that is none, or that declares a document type.
        """
        from lxml import etree

        with self.package.open(part) as stream:
            reader = etree.iterparse(
                stream,
                events=kinds,
                tag=tuple(tags),
                resolve_entities=False,
                no_network=True,
                load_dtd=False,
                remove_comments=True,
                remove_pis=True,
                huge_tree=False,
            )
            checked = False
            try:
                for event, element in reader:
                    if not checked and element.getroottree().docinfo.internalDTD is not None:
                        raise self._bad_xml(part, "it declares a document type")
                    checked = True
                    yield event, element
            except etree.XMLSyntaxError as failure:
                raise self._bad_xml(part, str(failure)) from failure

    def _bad_xml(self, part: str, how: str) -> Rejected:
        return Rejected(
            RejectReason.MALFORMED, f"{self._name}: {part} in it cannot be read as XML ({how})."
        )
