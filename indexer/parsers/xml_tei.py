"""TEI: editions of texts, and the papers that GROBID makes of PDFs.

Title, authors, date and identifiers come from the header; the text is the front, the body and the
back, with heads as headings, tables as rows, verse line by line. Footnotes and bibliographies are
regions. Of an editor's alternatives one is read: the correction, the regular form, the
abbreviation. Left out: page and line numbers, running heads, facsimiles, stand-off annotation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from longleaf.core.types import MetaValue, Role
from longleaf.indexer.parsers.blocks import LINE, PARAGRAPH, Blocks
from longleaf.indexer.parsers.sections import shorten
from longleaf.indexer.parsers.xml_generic import BLOCKS, BlockReader
from longleaf.indexer.parsers.xml_tree import Entities, children, find, local, words

if TYPE_CHECKING:
    from lxml.etree import _Element

_SKIPPED = frozenset(
    (
        *("pb", "cb", "fw", "milestone", "graphic", "media", "facsimile", "sourcedoc", "standoff"),
        *("gap", "anchor", "listchange", "revisiondesc"),
    )
)
_NOT_READ_OF_A_CHOICE = frozenset(("sic", "orig", "expan"))
_XML = "{http://www.w3.org/XML/1998/namespace}"


class TeiReader(BlockReader):
    """Writes a `TEI` element into `out`."""

    blocks = BLOCKS - {"title", "content"}  # titles of works stand in sentences

    def __init__(self, out: Blocks, entities: Entities) -> None:
        super().__init__(out, entities)
        self.title = ""
        self.metadata: dict[str, MetaValue] = {}
        self._depth = 0
        self._notes = 0

    def begin(self, element: _Element, tag: str) -> bool:
        """See `BlockReader`."""
        if tag in _SKIPPED or (tag in _NOT_READ_OF_A_CHOICE and _parent(element) == "choice"):
            return False
        if tag == "teiheader":
            self._read_header(element)
            return False
        if tag == "div" or (tag.startswith("div") and tag[3:].isdigit()):
            self._depth += 1
            if element.get("type") in ("references", "bibliography"):
                self.out.open_region(Role.REFERENCES)
        elif tag == "head":
            self._open_head(element)
        elif tag == "listbibl":
            self.out.open_region(Role.REFERENCES)
        elif tag == "note" and element.get("place") not in ("inline", "margin"):
            self._notes += 1
            return self.note(element, element.get("n") or str(self._notes))
        elif tag in ("biblstruct", "biblfull"):
            self.out.gap(LINE)
            self.out.text(_reference(element, self.entities))
            return False
        elif tag in ("lb", "l"):
            self.out.gap(LINE)
        return True

    def end(self, element: _Element, tag: str) -> None:
        """See `BlockReader`."""
        if tag == "div" or (tag.startswith("div") and tag[3:].isdigit()):
            self._depth -= 1
            if element.get("type") in ("references", "bibliography"):
                self.out.close_region()
        elif tag == "head":
            self.out.close_heading()
        elif tag == "listbibl":
            self.out.close_region()
        elif tag == "label" and _parent(element) == "list":
            self.out.glue()

    def _open_head(self, element: _Element) -> None:
        """A division's head; a figure's or a table's is its caption."""
        if _parent(element) in ("figure", "table", "list", "lg"):
            self.out.gap(PARAGRAPH)
            return
        self.out.open_heading(max(self._depth, 1))
        number = element.get("n", "")
        if number and not words(element, self.entities).startswith(number):
            self.out.text(f"{number} ")

    def _read_header(self, header: _Element) -> None:
        if self.title:
            return  # a corpus has a header for each of its texts
        entities = self.entities
        description = find(header, "filedesc")
        statement = find(description, "titlestmt")
        source = find(description, "sourcedesc", "biblstruct")
        analytic, monograph = find(source, "analytic"), find(source, "monogr")
        self.title = words(find(statement, "title"), entities) or words(
            find(analytic, "title"), entities
        )
        authors = _people(statement, entities) or _people(analytic, entities)
        authors = authors or _people(monograph, entities)
        journal = next(
            (each for each in children(monograph, "title") if each.get("level") == "j"), None
        )
        identifiers = {
            each.get("type", "").lower(): words(each, entities)
            for part in (source, analytic, monograph, find(description, "publicationstmt"))
            for each in children(part, "idno")
        }
        date = find(description, "publicationstmt", "date")
        date = find(monograph, "imprint", "date") if date is None else date
        language = find(header, "profiledesc", "langusage", "language")
        stated = {
            "date": "" if date is None else date.get("when") or words(date, entities),
            "journal": words(journal, entities),
            "doi": identifiers.get("doi", ""),
            "language": "" if language is None else language.get("ident", ""),
            "publisher": words(find(description, "publicationstmt", "publisher"), entities),
        }
        self.metadata = {name: value for name, value in stated.items() if value}
        if authors:
            self.metadata["authors"] = authors
        self._write_header(authors, stated)
        abstract = find(header, "profiledesc", "abstract")
        if abstract is not None and words(abstract, entities):
            if not list(abstract.iter("{*}head")):
                with self.out.heading(1):
                    self.out.text("Abstract")
            self.read(abstract)

    def _write_header(self, authors: tuple[str, ...], stated: dict[str, str]) -> None:
        published = ", ".join(part for part in (stated["journal"], stated["date"]) if part)
        doi = f"doi:{stated['doi']}" if stated["doi"] else ""
        for line in (self.title, ", ".join(authors), published, doi):
            self.out.gap(PARAGRAPH)
            self.out.text(line)
        self.out.gap(PARAGRAPH)


def _parent(element: _Element) -> str:
    parent = element.getparent()
    return "" if parent is None else local(parent)


def _people(holder: _Element | None, entities: Entities) -> tuple[str, ...]:
    found = []
    for author in children(holder, "author"):
        name = find(author, "persname")
        if name is None:
            found.append(words(author, entities))
            continue
        given = [words(each, entities) for each in children(name, "forename")]
        surname = [words(each, entities) for each in children(name, "surname")]
        found.append(" ".join((*given, *surname)) or words(name, entities))
    return tuple(dict.fromkeys(" ".join(name.split()) for name in found if name))


def _reference(element: _Element, entities: Entities) -> str:
    """A structured entry in one line: who, when, what, where."""
    analytic, monograph = find(element, "analytic"), find(element, "monogr")
    imprint = find(monograph, "imprint")
    people = _people(analytic, entities) or _people(monograph, entities)
    date = find(imprint, "date")
    year = "" if date is None else (date.get("when", "")[:4] or words(date, entities))
    parts = [" ".join((", ".join(people), f"({year})" if year else "")).strip()]
    parts += [words(each, entities) for each in children(analytic, "title")]
    parts += [words(each, entities) for each in children(monograph, "title")]
    scope = []
    for each in children(imprint, "biblscope"):
        start, stop = each.get("from", ""), each.get("to", "")
        span = f"{start}–{stop}" if start and stop else start
        scope.append(words(each, entities) or span)
    parts.append(", ".join(part for part in scope if part))
    parts += [words(each, entities) for each in children(imprint, "publisher", "pubplace")]
    parts += [
        f"{each.get('type', 'id')}:{words(each, entities)}"
        for holder in (element, analytic, monograph)
        for each in children(holder, "idno")
    ]
    kept = [part for part in parts if part]
    return " ".join(part if part[-1] in ".?!)" else f"{part}." for part in kept)


def read_tei(
    root: _Element, entities: Entities, out: Blocks
) -> tuple[str, dict[str, MetaValue], tuple[str, ...]]:
    """(title, metadata, warnings) of a TEI file, its text written into `out`."""
    reader = TeiReader(out, entities)
    reader.read(root)
    metadata = dict(reader.metadata)
    language = root.get(f"{_XML}lang", "")
    if language and "language" not in metadata:
        metadata["language"] = language
    return shorten(reader.title, 300), metadata, ()
