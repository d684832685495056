"""What a document's first page says of itself: DOI, court, docket number, date of filing; pure.

Made for filings of United States courts and for papers, by the stamp that electronic filing puts on
every page and by the caption. It would rather know nothing than something wrong: a docket number
counts only beside a court or in a stamp, a number that is said to be another court's does not, and
two different ones that both could be it are none. Other countries' courts are not known here.

Measured (`python tests/indexer/test_metadata.py`): of 22 court files with a text layer 16 name
their court and 20 carry their docket number on the first page; all were found, none wrong, and
nothing where there is nothing. The rules were made with these files. Of 1,279 contracts, papers,
statutes and standards none was given a court; of 54 papers that print their DOI 52 got it; of 5,305
texts that print none of their own three got one that they only mention. 4 ms a document.
"""

from __future__ import annotations

import re

from longleaf.core.types import Document, MetaValue
from longleaf.indexer.metadata_forms import iso_date, trimmed_doi

_PAGE_CHARS = 6_000
_CAPTION_CHARS = 2_500

_DOI = re.compile(r"(?<![\w.])10\.\d{4,9}/[^\s\"<>|]+")
_MIN_DOI_CHARS = 10
_RUN_ON = re.compile(r"(?<=\d)[A-Z][a-z]{3,}.*$")  # "...002Received 3 May": the next words
_CONTEXT_CHARS = 100
_ANOTHERS_DOI = re.compile(
    r"\b(?:correct(?:s|ed|ion)|errat(?:um|a)|corrigendum|retract\w+|comment(?:ary)?\s+on|reply|"
    r"original(?:ly)?|supplement\w*|data\s?sets?|deposited|preprint)\b",
    re.IGNORECASE,
)

_DASHES = str.maketrans("\u2010\u2011\u2012\u2013\u2212", "-----")
_STAMPS = (
    # Case 8:16-cv-01261-DOC-KES Document 40 Filed 08/05/16 Page 1 of 4
    re.compile(
        r"Case:?\s+(?P<docket>\d:\d\d-[a-z]{2}-\d{4,5}(?:-[A-Z]{2,5})*)\s+Document:?\s+\S+\s+"
        r"(?:Date\s+)?Filed:?\s+(?P<date>\d\d/\d\d/(?:\d{4}|\d\d))\b"
    ),
    # Appellate Case: 21-800 Document: 010110462922 Date Filed: 01/11/2021 Page: 1
    re.compile(
        r"(?:Case|Appeal):?\s+(?P<docket>\d\d-\d{2,6}),?\s+(?:Doc(?:ument)?:?\s+\S+|(?=\d\d/\d\d/))"
        r"(?:\s+Pages?:?\s+\d+(?:\s+of\s+\d+)?)?[\s,]+(?:(?:Date\s+)?Filed:?\s+)?"
        r"(?P<date>\d\d/\d\d/(?:\d{4}|\d\d))\b"
    ),
)

_ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth",
             "Tenth", "Eleventh")  # fmt: skip
_STATE = r"[A-Z][A-Za-z]+(?:\s[A-Z][A-Za-z]+){0,3}"
_SIDE = "(?:Northern|Southern|Eastern|Western|Central|Middle)"
_STATE_KINDS = (
    r"(?:Supreme|Superior|Circuit|District|Probate|Family)\s+Court|"
    r"Court\s+of\s+(?:Appeals?|Chancery|Common\s+Pleas)"
)
_COURTS = (
    re.compile(r"(?:In\s+the\s+)?(?P<scotus>Supreme\s+Court\s+of\s+the\s+United\s+States)\b", re.I),
    re.compile(
        r"(?:In\s+the\s+)?United\s+States\s+Court\s+of\s+Appeals,?\s+for\s+(?:the\s+)?"
        rf"(?P<circuit>{'|'.join(_ORDINALS)}|Federal|District\s+of\s+Columbia|D\.C\.)\s+Circuit",
        re.I,
    ),
    re.compile(
        r"(?:In\s+the\s+)?United\s+States\s+(?P<kind>District|Bankruptcy)\s+Court,?\s+"
        rf"(?:for\s+(?:the\s+)?)?(?P<district>(?:{_SIDE}\s+)?District\s+of\s+"
        r"[A-Z][a-z]+(?:[ \t]+[A-Z][a-z]+)?|(?:"
        + _SIDE.upper()
        + r"\s+)?DISTRICT\s+OF\s+[A-Z]+(?:[ \t]+[A-Z]+)?)",
        re.I,
    ),
    re.compile(
        rf"(?:In\s+the\s+)?(?P<state>(?:{_STATE_KINDS})\s+of\s+(?:the\s+State\s+of\s+)?{_STATE})"
        r"(?=[ \t]*(?:\n|$))",
        re.I,
    ),
    re.compile(
        rf"In\s+the\s+(?P<appeals>{_STATE}\s+(?:Court\s+of\s+Appeals|Supreme\s+Court))\s*\n"
        rf"\s*(?P<part>{_SIDE}\s+District)?",
        re.I,
    ),
)
_CIRCUIT_SITE = re.compile(r"www\.ca(?P<number>\d{1,2}|fc|dc)\.uscourts\.gov", re.I)
_APPEALS_LINE = re.compile(r"^[ \t]*United States Court of Appeals[ \t]*$", re.I | re.M)
_SMALL_WORDS = {"of", "the", "for", "and"}

_NUMBER = r"(?P<number>(?:MDL\s+)?[A-Z]{0,3}\d[\w:-]*\d(?:[A-Z]\d*)?(?:-[\w()]+)*)"
_DOCKET = re.compile(
    r"(?P<label>(?:Case|Civil\s+Action|C\.A\.|Docket|Cause|Criminal|Civil)\s*(?:No\.?|Number|\#)?|Nos?\.)"
    rf"\s*:?\s*{_NUMBER}",
)
_OF_ANOTHER = re.compile(
    r"(?:USDC|DC|D\.C\.|District|Originating|Lower|Agency|Appeal|Tax|Bankr\.?|Trial|Related|"
    r"Superior|Circuit|Cf\.|see|in|v\.)\s*$",
    re.IGNORECASE,
)
_FEDERAL = re.compile(
    r"\b(?:\d:)?\d\d[- ](?:cv|cr|md|mc|CV|CR|MD|MC|Civ\.|Cr\.)[- ]\d{3,5}(?:[- ]\(?[A-Z]{2,4}\)?)*"
)
_ABOUT = re.compile(r"\bRE?:[^\n]*(?:\n[^\n]*)?$", re.IGNORECASE)
_BELOW = re.compile(r"\bappeals?\s+from\b", re.IGNORECASE)
_BELOW_CHARS = 220  # from there to the number that the case had in the court below
_DAY = re.compile(
    r"(?:^|[\t)\-\u2014\u2013])[ \t]*(?:Date\s+)?(?:Filed|Decided)\s*:?\s+"
    r"(?P<day>[A-Z][a-z]+ \d{1,2}, \d{4}|\d{1,2} [A-Z][a-z]+ \d{4})\b",
    re.MULTILINE,
)
_IS_DOCKET = re.compile(r"\d[\w:-]*\d", re.ASCII)


def find_in_text(document: Document) -> dict[str, MetaValue]:
    """`doi`, `court`, `docket` and `date` as far as the first page states them."""
    page = _first_page(document)
    found: dict[str, MetaValue] = {}
    if (doi := find_doi(page)) is not None:
        found["doi"] = doi
    stamp = find_stamp(document.text, page)
    court = find_court(page)
    if court is not None:
        found["court"] = court
    docket = stamp[0] if stamp is not None else find_docket(page) if court is not None else None
    if docket is not None:
        found["docket"] = docket
    day = stamp[1] if stamp is not None else find_day(page) if court is not None else None
    if day is not None:
        found["date"] = day
    return found


def _first_page(document: Document) -> str:
    runs = [page for page in document.pages if page.number == 1]
    if not runs:
        return document.text[:_PAGE_CHARS]
    return "\n".join(document.text[run.start_char : run.end_char] for run in runs)[:_PAGE_CHARS]


def find_doi(page: str) -> str | None:
    """The page's own DOI: the only one, or the one that all others are parts of."""
    found = set()
    for match in _DOI.finditer(page):
        if _ANOTHERS_DOI.search(page[max(0, match.start() - _CONTEXT_CHARS) : match.start()]):
            return None
        doi = trimmed_doi(_RUN_ON.sub("", match.group()))
        if len(doi) >= _MIN_DOI_CHARS:
            found.add(doi)
    shortest = min(found, key=len, default=None)
    if shortest is None or not all(doi.startswith(shortest) for doi in found):
        return None
    return shortest


def find_stamp(text: str, page: str) -> tuple[str, str] | None:
    """(docket, date of filing) from the stamp of electronic filing, if only one case is stamped."""
    for stamp in _STAMPS:
        match = stamp.search(page) or stamp.search(text[: 4 * _PAGE_CHARS])
        if match is not None:
            month, day, year = match["date"].split("/")
            century = "" if len(year) == 4 else "20" if int(year) < 70 else "19"
            return match["docket"], f"{century}{year}-{month}-{day}"
    return None


def find_court(page: str) -> str | None:
    """The court whose name stands in lines of its own near the top."""
    head = page[:_CAPTION_CHARS]
    best: tuple[int, str] | None = None
    for court in _COURTS:
        for match in court.finditer(head):
            if not _begins_a_line(head, match.start()):
                continue
            if best is None or match.start() < best[0]:
                best = match.start(), _court_name(match)
            break
    if best is not None:
        return best[1]
    site = _CIRCUIT_SITE.search(head)
    if site is not None and _APPEALS_LINE.search(head):
        number = site["number"].lower()
        circuit = {"fc": "Federal", "dc": "District of Columbia"}.get(number)
        if circuit is None and 1 <= int(number) <= len(_ORDINALS):
            circuit = _ORDINALS[int(number) - 1]
        return f"United States Court of Appeals for the {circuit} Circuit" if circuit else None
    return None


def _begins_a_line(text: str, at: int) -> bool:
    before = text[text.rfind("\n", 0, at) + 1 : at].strip()
    above = text[: text.rfind("\n", 0, at) + 1].rstrip()[-40:].lower()
    # "Appeal from the / United States District Court": the line before says whose court it is.
    return not before and not re.search(r"(?:\bfrom|\bto|\bby|\bin|\bof|\bthe)(?: the)?$", above)


def _court_name(match: re.Match[str]) -> str:
    groups = match.groupdict()
    if groups.get("scotus"):
        return "Supreme Court of the United States"
    if circuit := groups.get("circuit"):
        circuit = "District of Columbia" if circuit.upper() == "D.C." else _titled(circuit)
        return f"United States Court of Appeals for the {circuit} Circuit"
    if district := groups.get("district"):
        kind = groups["kind"].capitalize()
        return f"United States {kind} Court for the {_titled(district)}"
    name = _titled(groups.get("state") or groups.get("appeals") or "")
    part = groups.get("part")
    return f"{name}, {_titled(part)}" if part else name


def _titled(words: str) -> str:
    return " ".join(
        word.lower() if word.lower() in _SMALL_WORDS else word.capitalize()
        for word in words.split()
    )


def find_docket(page: str) -> str | None:
    """The case's own number in the caption; None where two could be it."""
    head = page[:_CAPTION_CHARS].translate(_DASHES)
    numbers: dict[str, str] = {}  # each with what stands before it
    for match in _DOCKET.finditer(head):
        line = head[head.rfind("\n", 0, match.start("label")) + 1 : match.start("label")]
        above = head[max(0, match.start("label") - _BELOW_CHARS) : match.start("label")]
        is_own = not _OF_ANOTHER.search(line.strip()) and not _BELOW.search(above)
        if is_own and _IS_DOCKET.search(match["number"]):
            numbers.setdefault(" ".join(match["number"].split()), above)
    if not numbers:
        bare = {" ".join(match.group().split()) for match in _FEDERAL.finditer(head)}
        return bare.pop() if len(bare) == 1 else None
    if len(numbers) == 1:
        return next(iter(numbers))
    first = next(iter(numbers))
    if re.search(rf"^[ \t]*Nos?\.[ \t]*{re.escape(first)}[ \t]*$", head, re.MULTILINE):
        return first
    subject = [number for number, above in numbers.items() if _ABOUT.search(above)]
    return subject[0] if len(subject) == 1 else None


def find_day(page: str) -> str | None:
    """The only day on which a court says it was filed or decided, as ISO 8601."""
    days = {iso_date(match["day"]) for match in _DAY.finditer(page[:_CAPTION_CHARS])}
    return days.pop() if len(days) == 1 else None
