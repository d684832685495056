"""JATS and its elder NLM forms (PLoS, PubMed Central, eLife): a paper as its reader sees it.

In the order of the printed page: title, authors and where they work, journal, date and identifiers,
abstracts, keywords, the body with its section titles, figure and table captions, tables as rows,
acknowledgments, appendices, the reference list, then peer-review letters. Footnotes, author notes
and the bibliography are regions. Left out: licence text, article history and categories, related
articles, pictures (a formula that is only a picture is counted in a warning).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from longleaf.core.types import MetaValue, Role
from longleaf.indexer.parsers.blocks import LINE, PARAGRAPH, SPACE, Blocks
from longleaf.indexer.parsers.sections import shorten
from longleaf.indexer.parsers.xml_front import Front, read_front
from longleaf.indexer.parsers.xml_math import math_text
from longleaf.indexer.parsers.xml_references import reference_text
from longleaf.indexer.parsers.xml_tables import table_row
from longleaf.indexer.parsers.xml_tree import Entities, TreeReader, children, find, local, words

if TYPE_CHECKING:
    from lxml.etree import _Element

_PARAGRAPHS = frozenset(
    (
        *("p", "disp-quote", "boxed-text", "list", "def-list", "verse-group", "disp-formula"),
        *("disp-formula-group", "fig", "fig-group", "table-wrap", "table-wrap-group", "statement"),
        *("speech", "supplementary-material", "sec", "abstract", "trans-abstract", "ack", "app"),
        *("app-group", "bio", "glossary", "notes", "body", "back", "floats-group", "kwd-group"),
        *("sub-article", "response", "code", "preformat", "front-stub", "caption", "sec-meta"),
        *("funding-group", "funding-statement", "table-wrap-foot", "ref-list", "fn-group"),
        *("author-notes", "media", "chem-struct-wrap", "disp-level", "question", "answer"),
    )
)
_LINES = frozenset(
    (
        *("list-item", "def-item", "verse-line", "attrib", "break", "ref", "aff", "corresp"),
        *("thead", "tbody", "tfoot", "table", "title", "subtitle", "speaker", "license-p", "tr"),
    )
)
_SPACED = frozenset(("surname", "given-names", "suffix", "prefix", "kwd", "email"))
_SKIPPED = frozenset(
    (
        *("graphic", "inline-graphic", "object-id", "permissions", "related-article", "alt-text"),
        *("related-object", "private-char", "colgroup", "col", "long-desc", "inline-media"),
        *("custom-meta-group", "counts", "self-uri", "article-categories", "history"),
        *("processing-meta", "award-group", "open-access", "contrib-id"),
    )
)
_DEEPER = frozenset(
    (
        *("sec", "abstract", "trans-abstract", "ack", "app", "app-group", "ref-list", "glossary"),
        *("bio", "fn-group", "notes", "sub-article", "response"),
    )
)
_NAMED = {
    "abstract": "Abstract",
    "ack": "Acknowledgments",
    "ref-list": "References",
}
_ROLES = {
    "ref-list": Role.REFERENCES,
    "fn-group": Role.FOOTNOTE,
    "author-notes": Role.FOOTNOTE,
}
_NOTE_LISTS = frozenset(("table-wrap-foot", "fn-group", "author-notes", "notes"))
_CITATIONS = frozenset(("mixed-citation", "element-citation", "nlm-citation", "citation"))
_CAPTIONED = frozenset(
    ("fig", "table-wrap", "supplementary-material", "boxed-text", "media", "ref")
)
_LABELLED = _CAPTIONED | {"list-item", "disp-formula", "def-item", "fn", "statement"}
_EXPONENTS = frozenset("0123456789-−–+")
_MARKERS = frozenset(("bibr", "fn", "table-fn", "aff", "corresp", "author-notes"))


class JatsReader(TreeReader):
    """Writes an `article` (or a `book-part`, a `sub-article`) into `out`."""

    def __init__(self, out: Blocks, entities: Entities) -> None:
        super().__init__(out, entities)
        self.pictures = 0
        self._in_row = False
        self._rank = 0
        self._listed: list[list[object]] = []  # of open lists: its kind and the last number

    # --- the walk ------------------------------------------------------------------------------

    def enter(self, element: _Element, tag: str) -> bool:
        """See `TreeReader`."""
        if tag in _SKIPPED:
            return False
        handler = _HANDLERS.get(tag)
        self._gap(tag)
        if tag in _SPACED:
            self.out.gap(SPACE)
        if tag in _DEEPER:
            self._rank += 1
            self._open(element, tag)
        elif tag in _ROLES:
            self.out.open_region(_ROLES[tag])
        return True if handler is None else handler(self, element)

    def leave(self, element: _Element, tag: str) -> None:
        """See `TreeReader`."""
        self._gap(tag)
        if tag in _ROLES:
            self.out.close_region()
        if tag in _DEEPER:
            self._rank -= 1
        if tag in _LABELLED:
            self.out.unglue()
        closer = _CLOSERS.get(tag)
        if closer is not None:
            closer(self, element)

    def _gap(self, tag: str) -> None:
        if tag in _PARAGRAPHS:
            self.out.gap(PARAGRAPH)
        elif tag in _LINES:
            self.out.gap(LINE)

    # --- headings ------------------------------------------------------------------------------

    def _open(self, element: _Element, tag: str) -> None:
        """A container that may have a heading: from its label and title, or named by its kind."""
        if tag in _ROLES:
            self.out.open_region(_ROLES[tag])
        title = words(find(element, "title"), self.entities, _is_marker)
        label = words(find(element, "label"), self.entities)
        if not title and tag in _NAMED and not self._is_repeated(element, tag):
            title = _NAMED[tag]
        if title or (label and tag != "bio"):
            with self.out.heading(self._rank):
                self.out.text(f"{label} {title}" if label else title)

    def _is_repeated(self, element: _Element, tag: str) -> bool:
        """Whether its heading stands further out: a list of references split into groups."""
        parent = element.getparent()
        return parent is not None and local(parent) == tag

    def _title(self, element: _Element) -> bool:
        """A title that a container has used for its heading is not read again."""
        parent = element.getparent()
        return parent is None or local(parent) not in _DEEPER

    def _label(self, element: _Element) -> bool:
        parent = element.getparent()
        above = "" if parent is None else local(parent)
        if above in _DEEPER:
            return False
        self.out.gap(LINE)
        label = words(element, self.entities)
        self.out.text(f"{label}." if above in _CAPTIONED and label[-1:].isalnum() else label)
        self.out.glue()
        return False

    # --- front, floats, lists ------------------------------------------------------------------

    def _front(self, element: _Element) -> bool:
        front = read_front(element, self.entities)
        self._write_front(front)
        meta = find(element, "article-meta")
        for part in children(meta if meta is not None else element):
            if local(part) in ("abstract", "trans-abstract", "funding-group", "author-notes"):
                self.read(part)
            elif local(part) == "kwd-group" and front.keywords:
                self.out.gap(PARAGRAPH)
                self.out.text(f"Keywords: {'; '.join(front.keywords)}")
                front = front.without_keywords()
        return False

    def _write_front(self, front: Front) -> None:
        out = self.out
        out.gap(PARAGRAPH)
        if self._rank:
            with out.heading(self._rank):
                out.text(front.title)
        for line in (front.title if not self._rank else "", *front.other_titles):
            out.gap(PARAGRAPH)
            out.text(line)
        for group in ((", ".join(front.authors),), front.affiliations, front.imprint):
            out.gap(PARAGRAPH)
            for line in group:
                out.gap(LINE)
                out.text(line)

    def _list(self, element: _Element) -> bool:
        self._listed.append([element.get("list-type", ""), 0])
        return True

    def _end_list(self, _element: _Element) -> None:
        self._listed.pop()

    def _list_item(self, element: _Element) -> bool:
        if self._listed and find(element, "label") is None:
            kind, number = self._listed[-1]
            assert isinstance(number, int)
            self._listed[-1][1] = number + 1
            prefix = _numbered(str(kind), number + 1)
            if prefix:
                self.out.text(prefix)
                self.out.glue()
        return True

    def _row(self, element: _Element) -> bool:
        if self._in_row:
            return True
        self.out.text(table_row(element, self._cell))
        return False

    def _cell(self, cell: _Element) -> str:
        reader = JatsReader(Blocks(), self.entities)
        reader._in_row = True  # reading would nest as deep as tables in cells do
        reader.read(cell)
        self.pictures += reader.pictures
        return " ".join(reader.out.finish().text.split())

    def _note(self, element: _Element) -> bool:
        """A footnote inside running text is held back; one in a list of notes is where it is."""
        parent = element.getparent()
        above = "" if parent is None else local(parent)
        if above in _NOTE_LISTS:
            self.out.gap(LINE)
            return True
        if not self.out.open_note():
            return True
        self._read_inside(element)
        self.out.close_note()
        return False

    def _end_note(self, element: _Element) -> None:
        parent = element.getparent()
        if parent is not None and local(parent) in _NOTE_LISTS:
            self.out.gap(LINE)

    def _read_inside(self, element: _Element) -> None:
        self.out.text(element.text)
        for child in children(element):
            self.read(child)
            self.out.text(child.tail)

    # --- inline --------------------------------------------------------------------------------

    def _math(self, element: _Element) -> bool:
        self.out.text(math_text(element, self.entities))
        return False

    def _tex(self, element: _Element) -> bool:
        """TeX beside the same formula in MathML is a second copy."""
        from longleaf.indexer.parsers.latex_math import formula_text

        beside = [each for each in (element.getprevious(), element.getnext()) if each is not None]
        if not any(local(each) == "math" for each in beside):
            self.out.text(formula_text(words(element, self.entities)))
        return False

    def _formula(self, element: _Element) -> bool:
        inside = {local(each) for each in element.iter("{*}*")}
        drawn = inside & {"graphic", "inline-graphic"}
        if drawn and not inside & {"math", "tex-math", "textual-form"}:
            self.pictures += 1
        return True

    def _sup(self, element: _Element) -> bool:
        """A raised reference in brackets, so that "in mice12" is not read as a name."""
        inside = children(element)
        if inside and all(_is_marker(each, local(each)) for each in inside):
            self.out.text(f"[{words(element, self.entities)}]")
            return False
        if self.out.ends_in_digit and (element.text or "").strip()[:1] in _EXPONENTS:
            self.out.text("^")
        return True

    def _end_term(self, _element: _Element) -> None:
        self.out.text(":")
        self.out.glue()

    def _reference(self, element: _Element) -> bool:
        text = reference_text(element, self.entities)
        if text:
            self.out.text(text)
        return not text

    def _code(self, element: _Element) -> bool:
        self.out.verbatim("".join(str(text) for text in element.itertext()))
        return False


def _is_marker(element: _Element, tag: str) -> bool:
    """A raised letter or number that points to a note, an affiliation or a reference."""
    return tag == "fn" or (tag == "xref" and element.get("ref-type", "") in _MARKERS)


def _numbered(kind: str, number: int) -> str:
    match kind:
        case "order" | "arabic":
            return f"{number}."
        case "alpha-lower" | "alpha-upper" if number <= 26:
            return f"{chr(ord('a' if kind == 'alpha-lower' else 'A') + number - 1)}."
        case "roman-lower" | "roman-upper":
            roman = _roman(number)
            return f"{roman if kind == 'roman-lower' else roman.upper()}."
    return ""


def _roman(number: int) -> str:
    text = ""
    for value, sign in ((10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")):
        text += sign * (number // value)
        number %= value
    return text


_HANDLERS = {
    "front": JatsReader._front,
    "front-stub": JatsReader._front,
    "book-part-meta": JatsReader._front,
    "title": JatsReader._title,
    "label": JatsReader._label,
    "list": JatsReader._list,
    "list-item": JatsReader._list_item,
    "tr": JatsReader._row,
    "row": JatsReader._row,
    "fn": JatsReader._note,
    "math": JatsReader._math,
    "tex-math": JatsReader._tex,
    "disp-formula": JatsReader._formula,
    "inline-formula": JatsReader._formula,
    "sup": JatsReader._sup,
    "code": JatsReader._code,
    "preformat": JatsReader._code,
    **dict.fromkeys(_CITATIONS, JatsReader._reference),
}
_CLOSERS = {"fn": JatsReader._end_note, "list": JatsReader._end_list, "term": JatsReader._end_term}


def read_jats(
    root: _Element, entities: Entities, out: Blocks
) -> tuple[str, dict[str, MetaValue], tuple[str, ...]]:
    """(title, metadata, warnings) of a JATS file, its text written into `out`."""
    reader = JatsReader(out, entities)
    reader.read(root)
    front = read_front(find(root, "front") if local(root) == "article" else None, entities)
    language = root.get("{http://www.w3.org/XML/1998/namespace}lang", "")
    metadata = front.metadata()
    if language:
        metadata["language"] = language
    note = f"{reader.pictures} formulas are pictures: no text"
    return shorten(front.title, 300), metadata, (note,) if reader.pictures else ()
