"""A document's metadata in one form, whoever stated it: the file, a sidecar, a flag, or its text.

The well-known fields and their form: `title` (the document's own), `authors` (names, a tuple),
`date` (ISO 8601, as exact as stated), `year` (a number), `court`, `docket`, `doi`, `journal`,
`language` (ISO 639-1), `keywords` (a tuple). What was stated stays: a field of another name or a
value that cannot be brought into form is kept as it is, and its well-known field is added beside it
(`author` gives `authors`, a PDF's `created` gives `date` where nothing better is known).
Precedence: flags, sidecar, file, then what the first page says (`metadata_text`).
"""

from __future__ import annotations

from collections.abc import Mapping

from longleaf.core.types import Document, MetaValue
from longleaf.indexer.metadata_forms import FORMS, iso_date, year_of
from longleaf.indexer.metadata_text import find_in_text

_ALIASES = {
    "authors": ("author", "creator", "dc:creator", "dc.creator"),
    "date": ("published", "publication_date", "date_filed", "filed", "decided"),
    "docket": ("docket_number", "case_number", "case_no", "docket_no"),
    "court": ("court_name",),
    "journal": ("journal_title", "journal-title"),
    "keywords": ("keyword", "tags"),
}
"""Well-known field -> names that others give it, the most trusted first."""

_WEAK_DATES = ("created",)
"""When a file was made: the date of the document where no other is known."""


def complete(
    document: Document,
    *,
    sidecar: Mapping[str, MetaValue] | None = None,
    flags: Mapping[str, MetaValue] | None = None,
) -> dict[str, MetaValue]:
    """A document's metadata from all four sources, in form. The title is not among it.

    `sidecar` is what a file beside the document's file says of it, `flags` what the user said of
    the whole run. An empty string or tuple there takes a field away.
    """
    stated: dict[str, MetaValue] = {}
    for source in (flags or {}, sidecar or {}, document.metadata):
        for name, value in _in_form(source).items():
            stated.setdefault(name, value)
    for name, value in find_in_text(document).items():
        stated.setdefault(name, value)
    _add_weak_date(stated)
    _add_year(stated)
    return {name: value for name, value in stated.items() if value not in ("", ())}


def normalised(metadata: Mapping[str, MetaValue]) -> dict[str, MetaValue]:
    """`metadata` with its well-known fields in form; the same again changes nothing."""
    found = _in_form(metadata)
    _add_weak_date(found)
    _add_year(found)
    return found


def _in_form(metadata: Mapping[str, MetaValue]) -> dict[str, MetaValue]:
    """One source's fields in form, without what is only guessed from others."""
    found = dict(metadata)
    for field, names in _ALIASES.items():
        stated = next((found[name] for name in names if found.get(name)), None)
        if stated is not None and not (field == "authors" and _is_login(stated)):
            found.setdefault(field, stated)
    for field, form in FORMS.items():
        if field not in found or found[field] in ("", ()):
            continue
        value = form(found[field])
        if value is not None:
            found[field] = value
        elif field == "language":
            found["language_stated"] = found.pop(field)  # `language` is read as a code
        elif field == "authors":
            del found[field]  # no name among them
    return found


def _is_login(author: MetaValue) -> bool:
    """Whether an `author` is one word, as programs write their user's account."""
    return not isinstance(author, tuple) and len(str(author).split()) < 2


def _add_weak_date(found: dict[str, MetaValue]) -> None:
    if "date" not in found:
        stated = next((found[name] for name in _WEAK_DATES if found.get(name)), None)
        day = None if stated is None else iso_date(stated)
        if day is not None:
            found["date"] = day[:10]  # the hour is the file's, not the document's


def _add_year(found: dict[str, MetaValue]) -> None:
    if "year" not in found and found.get("date"):
        year = year_of(found["date"])
        if year is not None:
            found["year"] = year
