"""The forms that well-known metadata takes: ISO dates, language codes, names, DOIs; pure.

Each function gives None for a value that it cannot bring into form with certainty.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime

from longleaf.core.language import LANGUAGE_NAMES
from longleaf.core.types import MetaValue

_CODES = {name.lower(): code for code, name in LANGUAGE_NAMES.items()} | {
    "alb": "sq", "amh": "am", "ara": "ar", "arm": "hy", "aze": "az", "baq": "eu", "ben": "bn",
    "bul": "bg", "bur": "my", "cat": "ca", "ces": "cs", "chi": "zh", "cze": "cs", "dan": "da",
    "deu": "de", "dut": "nl", "ell": "el", "eng": "en", "est": "et", "eus": "eu", "fas": "fa",
    "fin": "fi", "fra": "fr", "fre": "fr", "geo": "ka", "ger": "de", "gre": "el", "guj": "gu",
    "heb": "he", "hin": "hi", "hrv": "hr", "hun": "hu", "hye": "hy", "ind": "id", "ita": "it",
    "jpn": "ja", "kat": "ka", "kaz": "kk", "khm": "km", "kor": "ko", "lav": "lv", "lit": "lt",
    "mal": "ml", "mya": "my", "nep": "ne", "nld": "nl", "nob": "no", "nno": "no", "nor": "no",
    "nb": "no", "nn": "no", "pan": "pa", "per": "fa", "pol": "pl", "por": "pt", "ron": "ro",
    "rum": "ro", "rus": "ru", "slk": "sk", "slo": "sk", "slv": "sl", "spa": "es", "srp": "sr",
    "swe": "sv", "tam": "ta", "tel": "te", "tgk": "tg", "tha": "th", "tur": "tr", "ukr": "uk",
    "urd": "ur", "vie": "vi", "zho": "zh", "iw": "he", "deutsch": "de", "français": "fr",
}  # fmt: skip

_DOI = re.compile(r"10\.\d{4,9}/[^\s\"<>|]+")
_YEAR = re.compile(r"(?<!\d)(1[0-9]\d\d|20\d\d|21\d\d)(?!\d)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})[a-z]*\.?"
_DATES = (
    re.compile(r"(?P<y>\d{4})(?:[-/.](?P<m>\d{1,2})(?:[-/.](?P<d>\d{1,2}))?)?"),
    re.compile(r"(?P<y>\d{4})(?P<m>\d\d)(?P<d>\d\d)"),
    re.compile(r"(?P<d>\d{1,2})\.\s?(?P<m>\d{1,2})\.\s?(?P<y>\d{4})"),
    re.compile(rf"{_MONTH}\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y>\d{{4}})", re.I),
    re.compile(rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\s+{_MONTH},?\s+(?P<y>\d{{4}})", re.I),
    re.compile(rf"{_MONTH},?\s+(?P<y>\d{{4}})", re.I),
)
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
_TIMED = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_NO_PERSON = re.compile(
    r"(?:local\s?user|user|admin(?:istrator)?|owner|unknown|author|anonymous|default|"
    r"windows user|microsoft(?: office user)?|adobe.*|acrobat.*|scanner|hp|xerox.*|canon.*|ricoh.*|"
    r"n/?a|none)\d*",
    re.IGNORECASE,
)
_NAMES_IN_A_ROW = re.compile(r"\s*;\s*|\s*,?\s+(?:and|&)\s+|\s*,\s*")
_FIELD_CHARS = 500


def iso_date(value: MetaValue) -> str | None:
    """A date as ISO 8601 ("2020", "2020-03", "2020-03-21", or with a time); None for none.

    "03/04/2020" is two different days on the two sides of the Atlantic, so it is none.
    """
    if isinstance(value, bool | float | tuple):
        return None
    text = " ".join(str(value).removeprefix("D:").split())
    if _TIMED.match(text):
        try:
            return datetime.fromisoformat(text).isoformat()
        except ValueError:
            return iso_date(text[:10])
    for form in _DATES:
        match = form.fullmatch(text)
        if match is not None:
            parts = match.groupdict()
            month = parts.get("m") or ""
            if named := parts.get("month"):
                month = str(_MONTHS.index(named.lower()) + 1)
            found = _checked(parts["y"], month, parts.get("d") or "")
            if found is not None:
                return found
    slashed = _SLASHED.fullmatch(text)
    if slashed is not None:
        first, second, year = slashed.groups()
        if int(first) > 12 >= int(second) or first == second:
            return _checked(year, second, first)
        if int(second) > 12 >= int(first):
            return _checked(year, first, second)
    return None


def _checked(year: str, month: str, day: str) -> str | None:
    """The date as ISO 8601 if the calendar has it."""
    try:
        date(int(year), int(month or 1), int(day or 1))
    except ValueError:
        return None
    return "-".join([year, *(f"{int(part):02d}" for part in (month, day) if part)])


def year_of(value: MetaValue) -> int | None:
    """The only year between 1000 and 2199 that `value` names; None for none or several."""
    years = set(_YEAR.findall(str(value)))
    return int(years.pop()) if len(years) == 1 else None


def language_code(value: MetaValue) -> str | None:
    """ISO 639-1 for a language by code ("en", "en-GB", "eng") or by its English name."""
    stated = str(value).strip().lower().replace("_", "-")
    for candidate in (stated, stated.partition("-")[0]):
        code = _CODES.get(candidate, candidate)
        if code in LANGUAGE_NAMES:
            return code
    return None


def names_of(value: MetaValue) -> tuple[str, ...] | None:
    """People's names: a list as it is, one string parted where each part is a whole name."""
    stated = value if isinstance(value, tuple) else (str(value),)
    names: list[str] = []
    for each in stated:
        line = " ".join(each.split())[: 4 * _FIELD_CHARS]
        parts = [part for part in _NAMES_IN_A_ROW.split(line) if part]
        # "Doe, Ada" is one name; "Ada Doe, Bo Roe and Cy Poe" are three.
        whole = all(len(part.split()) > 1 for part in parts)
        if not isinstance(value, tuple) and whole:
            names += parts
        else:
            names += [part for part in re.split(r"\s*;\s*", line) if part]
    people = [name for name in names if not _NO_PERSON.fullmatch(name) and re.search(r"\w", name)]
    return tuple(dict.fromkeys(people)) or None


def doi_of(value: MetaValue) -> str | None:
    """A DOI without what is written around it ("https://doi.org/", "doi:", a full stop)."""
    match = _DOI.search(str(value))
    return None if match is None else trimmed_doi(match.group())


def trimmed_doi(doi: str) -> str:
    """A DOI without the punctuation of the sentence that it ends."""
    doi = doi.rstrip(".,;:'\u2019\u201d")
    for opening, closing in ("()", "[]", "{}"):
        while doi.endswith(closing) and doi.count(closing) > doi.count(opening):
            doi = doi[:-1].rstrip(".,;:")
    return doi


def _year(value: MetaValue) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else year_of(value)


def _line(value: MetaValue) -> str | None:
    if isinstance(value, tuple):
        return None
    return " ".join(str(value).split())[:_FIELD_CHARS] or None


def _words(value: MetaValue) -> tuple[str, ...] | None:
    if isinstance(value, tuple):
        return value
    found = (" ".join(word.split()) for word in re.split(r"[;,\n]", str(value)))
    return tuple(word for word in found if word) or None


FORMS: dict[str, Callable[[MetaValue], MetaValue | None]] = {
    "authors": names_of,
    "date": iso_date,
    "year": _year,
    "court": _line,
    "docket": _line,
    "journal": _line,
    "doi": doi_of,
    "language": language_code,
    "keywords": _words,
}
"""Well-known field -> its form."""
