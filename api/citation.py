"""A document as a citation: plain text, BibTeX, RIS (2001 specification) and CSL-JSON 1.0.

From metadata as parsers and people write it (`authors` or `author`, `date` or `year`, `journal`,
`volume`, `issue`, `publisher`, `doi`, `court`); what is not known is left out and nothing is
guessed. Pure. Each format has its own way of keeping a value a value: titles come from documents,
and must open no field, entry or command of the format.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longleaf.core.dates import date_of
from longleaf.core.filters import as_text
from longleaf.core.types import MetaValue

_BIBTEX = {
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",  # \{ counts as a brace where BibTeX looks for a field's end
    "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    '"': r"\textquotedbl{}",
    **{sign: f"\\{sign}" for sign in "$&%#_"},
}
_KINDS = {
    "article": ("article", "JOUR", "article-journal"),
    "case": ("misc", "CASE", "legal_case"),
    "document": ("misc", "GEN", "document"),
}
"""What it is called in BibTeX, RIS and CSL."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What is cited. `pages`: the first and the last one that are meant."""

    document_id: str
    title: str
    authors: tuple[str, ...]
    date: str
    journal: str
    volume: str
    issue: str
    publisher: str
    doi: str
    court: str
    source: str
    pages: tuple[int, int] | None

    @property
    def year(self) -> str:
        """The date's year, "" without one."""
        return self.date[:4]

    @property
    def kind(self) -> str:
        """A key of `_KINDS`."""
        return "article" if self.journal else "case" if self.court else "document"

    @property
    def page(self) -> str:
        """ "4", "4-6" or ""."""
        if self.pages is None:
            return ""
        first, last = self.pages
        return str(first) if first == last else f"{first}-{last}"


def reference_of(
    document_id: str,
    title: str,
    source: str,
    metadata: Mapping[str, MetaValue],
    pages: tuple[int, int] | None,
) -> Reference:
    """What is known of a document."""

    def text(name: str) -> str:
        value = metadata.get(name, "")
        joined = ", ".join(value) if isinstance(value, tuple) else as_text(value)
        return _line(joined)

    return Reference(
        document_id=document_id,
        title=_line(title) or _line(source) or "Untitled",
        authors=_authors(metadata),
        date=_line(date_of(metadata) or "")[:10],
        journal=text("journal"),
        volume=text("volume"),
        issue=text("issue"),
        publisher=text("publisher"),
        doi=text("doi"),
        court=text("court"),
        source=_line(source),
        pages=pages,
    )


def _authors(metadata: Mapping[str, MetaValue]) -> tuple[str, ...]:
    value = metadata.get("authors") or metadata.get("author") or ()
    names = value if isinstance(value, tuple) else re.split(r"\s*;\s*", as_text(value))
    return tuple(filter(None, (_line(each) for each in names)))


def _line(text: str) -> str:
    """One line without control characters: no value can begin a line of a format."""
    spaced = "".join(" " if unicodedata.category(each) in ("Cc", "Zl", "Zp") else each
                     for each in text)  # fmt: skip
    return " ".join(spaced.split())


def as_plain(cited: Reference) -> str:
    """One line of words."""
    parts = ["; ".join(cited.authors) + (f" ({cited.date})" if cited.date else "")]
    parts += [cited.title, cited.court]
    volume = cited.volume + (f"({cited.issue})" if cited.issue else "")
    parts += [" ".join(filter(None, (cited.journal, volume))), cited.publisher]
    if cited.page:
        parts.append(f"{'pp.' if '-' in cited.page else 'p.'} {cited.page.replace('-', '–')}")
    parts += [f"doi:{cited.doi}" if cited.doi else ""]
    return ". ".join(each.strip().rstrip(".") for each in parts if each.strip()) + "."


def as_bibtex(cited: Reference) -> str:
    """One entry."""
    kind = _KINDS[cited.kind][0]
    fields = {
        "title": f"{{{_bibtex(cited.title)}}}",  # a second pair of braces keeps capitals
        "author": " and ".join(_bibtex_name(each) for each in cited.authors),
        "year": _bibtex(cited.year),
        "date": _bibtex(cited.date) if len(cited.date) > 4 else "",
        "journal": _bibtex(cited.journal),
        "volume": _bibtex(cited.volume),
        "number": _bibtex(cited.issue),
        "publisher": _bibtex(cited.publisher),
        "pages": cited.page.replace("-", "--"),
        "doi": _bibtex(cited.doi),
        "howpublished": _bibtex(cited.court),
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{_key(cited)},", *lines, "}", ""])


def _bibtex(text: str) -> str:
    return "".join(_BIBTEX.get(each, each) for each in text)


def _bibtex_name(name: str) -> str:
    """A name with "and" in it (an institution's) is one name."""
    shown = _bibtex(name)
    return f"{{{shown}}}" if re.search(r"\band\b", name, re.IGNORECASE) else shown


def _key(cited: Reference) -> str:
    """What a text cites by: letters and digits of author, year and title."""
    author = _family(cited.authors[0])[0] if cited.authors else ""
    word = next((each for each in re.findall(r"\w+", cited.title) if len(each) > 3), "")
    plain = [
        re.sub(r"[^A-Za-z0-9]", "", unicodedata.normalize("NFKD", each)).lower()
        for each in (author, cited.year, word)
    ]
    return "".join(plain) or f"d{cited.document_id[:8]}"


def _family(name: str) -> tuple[str, str]:
    """(family, given): as it is written before a comma, else the last word."""
    family, comma, given = name.partition(",")
    if comma:
        return family.strip(), given.strip()
    given, _, family = name.rpartition(" ")
    return family, given


def as_ris(cited: Reference) -> str:
    """One record; lines end as the specification says."""
    first, last = cited.pages or (None, None)
    parts = cited.date.split("-")
    rows: list[tuple[str, str]] = [("TY", _KINDS[cited.kind][1]), ("TI", cited.title)]
    rows += [("AU", each) for each in cited.authors]
    rows += [
        ("PY", cited.year),
        ("DA", "/".join([*parts, "", "", ""][:3]) + "/" if len(parts) > 1 else ""),
        ("JO", cited.journal),
        ("VL", cited.volume),
        ("IS", cited.issue),
        ("PB", cited.publisher or cited.court),
        ("SP", str(first) if first is not None else ""),
        ("EP", str(last) if last is not None else ""),
        ("DO", cited.doi),
        ("ID", cited.document_id),
    ]
    lines = [f"{tag}  - {value}" for tag, value in rows if value]
    return "\r\n".join([*lines, "ER  - ", ""])


def as_csl(cited: Reference) -> dict[str, Any]:
    """One item."""
    names = [_family(each) for each in cited.authors]
    numbers = [int(part) for part in cited.date.split("-") if part.isdecimal()][:3]
    item: dict[str, Any] = {
        "id": _key(cited),
        "type": _KINDS[cited.kind][2],
        "title": cited.title,
        "author": [
            {"family": family, "given": given} if given else {"literal": family}
            for family, given in names
        ],
        "issued": {"date-parts": [numbers]} if numbers else None,
        "container-title": cited.journal,
        "volume": cited.volume,
        "issue": cited.issue,
        "publisher": cited.publisher,
        "authority": cited.court,
        "page": cited.page,
        "DOI": cited.doi,
    }
    return {name: value for name, value in item.items() if value}


def as_csl_json(cited: Reference) -> str:
    """A list of one item."""
    return json.dumps([as_csl(cited)], ensure_ascii=False, indent=2) + "\n"
