"""What a JATS file says about itself: title, authors, where and when it appeared; pure.

Dates are as exact as stated (year, month, day); of several the electronic one counts, because it is
the one with a day. Authors are those called so or called nothing; editors are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from longleaf.core.types import MetaValue
from longleaf.indexer.parsers.xml_tree import Entities, children, find, local, words

if TYPE_CHECKING:
    from lxml.etree import _Element

_DATE_ORDER = ("epub", "pub", "epub-ppub", "ppub", "collection", "")
_MONTHS = {
    month: number
    for number, month in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_ISO_DATE = re.compile(r"\d{4}(?:-\d\d){0,2}$")


@dataclass(frozen=True, slots=True)
class Front:
    """The front of an article. `affiliations` and `imprint` are lines as they are shown."""

    title: str = ""
    other_titles: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    affiliations: tuple[str, ...] = ()
    imprint: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()

    def without_keywords(self) -> Front:
        """The same, its keywords already shown."""
        return replace(self, keywords=())

    def metadata(self) -> dict[str, MetaValue]:
        """The fields that are stated, by name."""
        found: dict[str, MetaValue] = {name: value for name, value in self.fields if value}
        if self.authors:
            found["authors"] = self.authors
        if self.keywords:
            found["keywords"] = self.keywords
        return found


def read_front(front: _Element | None, entities: Entities) -> Front:
    """The front of a `front` or `front-stub` element, empty for None."""
    if front is None:
        return Front()

    def text(element: _Element | None) -> str:
        return words(element, entities, _is_note)

    meta = find(front, "article-meta")
    meta = front if meta is None else meta
    journal_meta = find(front, "journal-meta")
    titles = find(meta, "title-group")
    title = text(find(titles, "article-title")) or text(find(meta, "article-title"))
    subtitle = text(find(titles, "subtitle"))
    others = [
        text(find(group, "trans-title"))
        for group in (titles, *children(titles, "trans-title-group"))
    ]
    identifiers = {each.get("pub-id-type", ""): text(each) for each in children(meta, "article-id")}
    journal = text(find(journal_meta, "journal-title-group", "journal-title")) or text(
        find(journal_meta, "journal-title")
    )
    fields = {
        "journal": journal,
        "date": _date(meta, entities),
        "doi": identifiers.get("doi", ""),
        "pmid": identifiers.get("pmid", ""),
        "pmcid": identifiers.get("pmc", "") or identifiers.get("pmcid", ""),
        "volume": text(find(meta, "volume")),
        "issue": text(find(meta, "issue")),
        "publisher": text(find(journal_meta, "publisher", "publisher-name")),
    }
    return Front(
        title=f"{title}: {subtitle}" if title and subtitle else title,
        other_titles=tuple(other for other in others if other),
        authors=_authors(meta, entities),
        affiliations=_affiliations(meta, entities),
        imprint=_imprint(fields, meta, entities),
        keywords=_keywords(meta, entities),
        fields=tuple(fields.items()),
    )


def _is_note(element: _Element, tag: str) -> bool:
    return tag == "fn" or (tag == "xref" and element.get("ref-type") in ("fn", "author-notes"))


def person(element: _Element, entities: Entities, *, family_first: bool = False) -> str:
    """A `name`, `string-name` or `collab` as it is written."""
    surname = words(find(element, "surname"), entities)
    given = words(find(element, "given-names"), entities)
    if not surname:
        return words(element, entities, _is_note)
    suffix = words(find(element, "suffix"), entities)
    parts = (surname, given) if family_first else (given, surname)
    return " ".join(part for part in (*parts, suffix) if part)


def _authors(meta: _Element, entities: Entities) -> tuple[str, ...]:
    found = []
    for group in children(meta, "contrib-group"):
        for contributor in children(group, "contrib"):
            if contributor.get("contrib-type", "author") != "author":
                continue
            alternatives = find(contributor, "name-alternatives")
            holder = contributor if alternatives is None else alternatives
            named = children(holder, "name", "string-name", "collab", "collab-wrap", "anonymous")
            if named:
                found.append(
                    "Anonymous" if local(named[0]) == "anonymous" else person(named[0], entities)
                )
    return tuple(dict.fromkeys(name for name in found if name))


def _affiliations(meta: _Element, entities: Entities) -> tuple[str, ...]:
    places = children(meta, "aff")
    for group in children(meta, "contrib-group"):
        places += children(group, "aff")
        for contributor in children(group, "contrib"):
            places += children(contributor, "aff")
    for alternatives in children(meta, "aff-alternatives"):
        places += children(alternatives, "aff")[:1]
    lines = (_place(each, entities) for each in places)
    return tuple(dict.fromkeys(line for line in lines if line))


def _place(affiliation: _Element, entities: Entities) -> str:
    label = words(find(affiliation, "label"), entities)
    rest = words(affiliation, entities, lambda _, tag: tag in ("label", "institution-id"))
    return f"{label} {rest}" if label and rest else rest


def _keywords(meta: _Element, entities: Entities) -> tuple[str, ...]:
    found = [
        words(each, entities)
        for group in children(meta, "kwd-group")
        for each in group.iter("{*}kwd")
    ]
    return tuple(dict.fromkeys(keyword for keyword in found if keyword))


def _date(meta: _Element, entities: Entities) -> str:
    dates = {
        (each.get("pub-type") or each.get("date-type") or ""): each
        for each in reversed(children(meta, "pub-date"))
    }
    ordered = [dates[kind] for kind in _DATE_ORDER if kind in dates]
    return next(
        (found for each in (*ordered, *dates.values()) if (found := iso_date(each, entities))), ""
    )


def iso_date(element: _Element, entities: Entities) -> str:
    """A date given as `year`, `month` and `day` elements, or in `iso-8601-date`."""
    stated = element.get("iso-8601-date", "")[:10]
    if _ISO_DATE.match(stated):
        return stated
    year = words(find(element, "year"), entities)[:4]
    if re.fullmatch(r"\d{4}", year) is None:
        return ""
    raw = words(find(element, "month"), entities)
    month = int(raw) if re.fullmatch(r"\d{1,2}", raw) else _MONTHS.get(raw[:3].lower(), 0)
    if not 1 <= month <= 12:
        return year
    day = words(find(element, "day"), entities)
    if re.fullmatch(r"\d{1,2}", day) is None or not 1 <= int(day) <= 31:
        return f"{year}-{month:02d}"
    return f"{year}-{month:02d}-{int(day):02d}"


def _imprint(fields: dict[str, str], meta: _Element, entities: Entities) -> tuple[str, ...]:
    issue = f"({fields['issue']})" if fields["issue"] else ""
    first = words(find(meta, "fpage"), entities) or words(find(meta, "elocation-id"), entities)
    last = words(find(meta, "lpage"), entities)
    pages = f"{first}–{last}" if last and last != first else first
    volume = f"{fields['volume']}{issue}" if fields["volume"] else issue
    place = ": ".join(part for part in (volume, pages) if part)
    published = ", ".join(
        part
        for part in (" ".join(part for part in (fields["journal"], place) if part), fields["date"])
        if part
    )
    identifiers = [
        f"{shown}{fields[name]}"
        for name, shown in (("doi", "doi:"), ("pmid", "PMID "), ("pmcid", "PMC "))
        if fields[name]
    ]
    return tuple(line for line in (published, "; ".join(identifiers)) if line)
