"""Akoma Ntoso (LegalDocML) and its like (USLM, DC Code): laws and judgments with their numbers.

Whatever has a `num` or a `heading` is a level of the law, however it is called. Its number stands
in the text as it is printed; its section's title is how one cites it, so that "§ 12(b)(iii)" is
there to be found though the page only says "(iii)". Law quoted inside an amending act is text, no
section. Footnotes and tables of contents are regions. Left out: the `meta` block, except what is
metadata.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from longleaf.core.types import MetaValue, Role
from longleaf.indexer.parsers.blocks import PARAGRAPH, Blocks
from longleaf.indexer.parsers.sections import shorten
from longleaf.indexer.parsers.xml_generic import BlockReader
from longleaf.indexer.parsers.xml_tree import Entities, local, words

if TYPE_CHECKING:
    from lxml.etree import _Element

_NAMESPACES = ("akomantoso", "legaldocml", "uslm", "dc-library")
_CONTENTS = frozenset(("toc", "tableofcontents"))
_QUOTED = frozenset(("quotedstructure", "embeddedstructure", "quotedcontent"))
_NOTES = frozenset(("authorialnote", "footnote"))
_OWN = frozenset(("num", "heading", "subheading"))
_LOOKED_AT = 4
"""Of an element's children: a level's number and heading come first."""

_CITED = {"section": "§", "article": "Article", "rule": "Rule", "regulation": "Regulation"}
_BARE = re.compile(r"\(?\s*(?P<number>\d+[a-z]{0,3}(?:[.-]\d+[a-z]?)*|[a-z]{1,5})\s*[.)]*", re.I)
_ENDS = re.compile(r"[\s.:—–-]+$")


@dataclass(frozen=True, slots=True)
class _Level:
    """An open level: its element, the children that were its heading, how one cites it."""

    element: _Element
    own: tuple[_Element, ...]
    cited: str


def is_law(root: _Element) -> bool:
    """Whether the file is in one of these vocabularies, or has levels like them."""
    namespace = str(root.tag).lower().rpartition("}")[0]
    if local(root) == "akomantoso" or any(each in namespace for each in _NAMESPACES):
        return True
    return root.find(".//{*}num") is not None and root.find(".//{*}heading") is not None


class LawReader(BlockReader):
    """Writes a statute or a judgment into `out`."""

    def __init__(self, out: Blocks, entities: Entities) -> None:
        super().__init__(out, entities)
        self.found: dict[str, str] = {}
        self._levels: list[_Level] = []
        self._quoted = 0
        self._notes: dict[str, _Element] = {}
        self._first_heading = ""

    @property
    def title(self) -> str:
        """The best that the file says of its name."""
        found = self.found
        return (
            found.get("title")
            or found.get("doctitle")
            or found.get("shorttitle")
            or (self._first_heading)
        )

    def begin(self, element: _Element, tag: str) -> bool:
        """See `BlockReader`."""
        if tag == "meta":
            self._read_meta(element)
            return False
        if tag in _OWN and self._levels and element in self._levels[-1].own:
            return False
        if tag in _CONTENTS:
            self.out.open_region(Role.CONTENTS)
        elif tag in _QUOTED:
            self._quoted += 1
            if quote := element.get("startQuote"):
                self.out.text(quote)
                self.out.glue(0)
        elif tag in _NOTES:
            return self.note(element, element.get("marker", ""))
        elif tag == "noteref":
            self._call(element)
            return False
        else:
            self._note_field(element, tag)
            self._open_level(element, tag)
        return True

    def end(self, element: _Element, tag: str) -> None:
        """See `BlockReader`."""
        if self._levels and self._levels[-1].element is element:
            self._levels.pop()
            self.out.unglue()
        if tag in _CONTENTS:
            self.out.close_region()
        elif tag in _QUOTED:
            self._quoted -= 1
            if quote := element.get("endQuote"):
                self.out.glue(0)
                self.out.text(quote)

    def finish(self) -> None:
        """Write the notes that nothing called."""
        for element in self._notes.values():
            self.out.gap(PARAGRAPH)
            self.note(element)

    # --- levels --------------------------------------------------------------------------------

    def _open_level(self, element: _Element, tag: str) -> None:
        first = [each for each in islice(element, _LOOKED_AT) if isinstance(each.tag, str)]
        own = {local(each): each for each in reversed(first) if local(each) in _OWN}
        if not own:
            return
        number = words(own.get("num"), self.entities, _is_note)
        heading = " ".join(
            part
            for part in (words(own.get(kind), self.entities, _is_note) for kind in _OWN - {"num"})
            if part
        )
        above = self._levels[-1].cited if self._levels else ""
        cited = "" if self._quoted else _citation(above, tag, number)
        self._levels.append(_Level(element, tuple(own.values()), cited))
        line = " ".join(part for part in (number, heading) if part)
        if not line:
            return
        self.out.gap(PARAGRAPH)
        if not self._quoted and (heading or cited):
            title = f"{cited} {heading}".strip() if cited and above else line
            self.out.mark(title, len(self._levels))
            self._first_heading = self._first_heading or (line if heading else "")
        self.out.text(line)
        for part in own.values():
            for note in part.iter(*(f"{{*}}{name}" for name in ("authorialNote", "footnote"))):
                self.note(note, note.get("marker", ""))
        if heading:
            self.out.gap(PARAGRAPH)
        else:
            self.out.glue()

    # --- notes and metadata --------------------------------------------------------------------

    def _call(self, element: _Element) -> None:
        marker = element.get("marker", "")
        # A note that another note calls is left for the end: a chain of them would nest.
        called = "" if self.out.in_note else element.get("href", "").lstrip("#")
        note = self._notes.pop(called, None)
        if note is not None:
            self.note(note, marker)
        elif marker:
            self.out.text(f"[{marker}]")

    def _note_field(self, element: _Element, tag: str) -> None:
        field = _FIELDS.get(tag)
        if field is None or field in self.found:
            return
        value = element.get("date") if tag == "docdate" else None
        value = value or words(element, self.entities, _is_note)
        if value:
            self.found[field] = value

    def _read_meta(self, meta: _Element) -> None:
        for element in meta.iter("{*}*"):
            tag = local(element)
            identity = element.get("{http://www.w3.org/XML/1998/namespace}id") or element.get(
                "eId", element.get("id", "")
            )
            if tag == "note" and identity:
                self._notes[identity] = element
            attribute = _META.get(tag)
            if attribute is None:
                continue
            name, field = attribute
            value = element.get(name, "") if name else words(element, self.entities)
            if value and field not in self.found:
                self.found[field] = value


_FIELDS = {
    "doctitle": "doctitle",
    "shorttitle": "shorttitle",
    "docketnumber": "docket",
    "courttype": "court",
    "neutralcitation": "citation",
    "docnumber": "number",
    "docdate": "date",
}
_META = {
    "frbrdate": ("date", "date"),
    "frbrlanguage": ("language", "language"),
    "frbrcountry": ("value", "jurisdiction"),
    "frbralias": ("value", "title"),
    "title": ("", "title"),
    "language": ("", "language"),
    "publisher": ("", "publisher"),
}


def _is_note(_element: _Element, tag: str) -> bool:
    return tag in _NOTES or tag == "noteref"


def _citation(above: str, tag: str, number: str) -> str:
    """How one cites a level below `above`, "" outside sections and articles."""
    number = _ENDS.sub("", number)
    if not number:
        return above
    bare = _BARE.fullmatch(number)
    if above:
        return f"{above}({bare['number']})" if bare is not None else f"{above} {number}"
    sign = _CITED.get(tag)
    if sign is None:
        return ""
    return f"{sign} {bare['number']}" if bare is not None and not number.startswith("(") else number


def read_law(
    root: _Element, entities: Entities, out: Blocks
) -> tuple[str, dict[str, MetaValue], tuple[str, ...]]:
    """(title, metadata, warnings) of a law file, its text written into `out`."""
    reader = LawReader(out, entities)
    reader.read(root)
    reader.finish()
    metadata: dict[str, MetaValue] = {
        field: value
        for field, value in reader.found.items()
        if field not in ("title", "doctitle", "shorttitle")
    }
    known = any(each in str(root.tag).lower() for each in _NAMESPACES)
    note = f"XML of an unknown vocabulary ({local(root)[:40]}): read as a law by its numbers"
    return shorten(reader.title, 300), metadata, () if known else (note,)
