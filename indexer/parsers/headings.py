"""Where plain text has headings; pure.

Finds the headings of legal and scientific writing by their look alone: "ARTICLE IV", "Section 12.
Title", "§ 12-301.", "1. INTRODUCTION", "4.2 Methods", short capital lines, "Abstract". Knows no
fonts and no file formats. A missed heading costs a passage its heading path; an invented one cuts
a passage in two: so each rule asks for more than the pattern (nothing running on from the line
before, a body below, numbers in sequence).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from longleaf.core.types import Section
from longleaf.indexer.parsers.sections import TITLE_CHARS, Mark, nest, shorten

_LINE_CHARS = 400  # no rule looks further into a line
_REPEATS_OF_A_RUNNING_HEADER = 4

_RANK = {
    **dict.fromkeys(("part", "title", "division"), 1),
    **dict.fromkeys(("schedule", "appendix", "annex", "exhibit"), 1),
    "subtitle": 2,
    "chapter": 3,
    "subchapter": 4,
    "article": 5,
}
_UNNUMBERED_RANK, _SECTION_RANK, _ROMAN_RANK, _LETTER_RANK, _ARABIC_RANK = 7, 8, 9, 10, 11

_WORDS = "|".join(f"{word.upper()}|{word.capitalize()}" for word in _RANK)
_KEYWORD = re.compile(
    rf"(?P<label>(?P<word>{_WORDS})\s+(?:[IVXLCDM]+|\d{{1,4}}(?:[.-]\d+)*[A-Za-z]?|[A-Z]))"
    r"(?P<sep>\s*[.:–—-](?=\s|$)|(?=\s|$))\s*(?P<rest>.*)"
)
_SECTION = re.compile(
    r"(?P<label>(?:SECTION|Section|SEC\.|Sec\.|§)\s*\d[\w.:–—-]*?(?:\(\w{1,5}\))*)"
    r"(?P<sep>[.:](?=\s|$)|\s*[–—](?=\s|$)|\s+(?=[A-Z][a-z]*\.\s)|$)\s*(?P<rest>.*)"
)
_NUMBERED = re.compile(
    r"(?P<number>\d{1,3}(?:\.\d{1,3}){0,4}|[IVXL]{1,6}|[A-Z])(?P<dot>\.?)\s+(?P<rest>\S.*)"
)
_NAMES = re.compile(
    r"(?:abstract|summary|introduction|background|(?:materials?\s+and\s+)?methods?|methodology|"
    r"results|discussion|results\s+and\s+discussion|conclusions?|references|bibliography|"
    r"acknowledge?ments?|funding|limitations|author\s+contributions|competing\s+interests|"
    r"conflicts?\s+of\s+interest|data\s+availability|supplementary\s+materials?|definitions|"
    r"preamble|recitals|table\s+of\s+contents|contents):?",
    re.IGNORECASE,
)
_ENDS_A_SENTENCE = re.compile(r"[.!?:;][\"'”’)\]]*$")
_CONTENTS_LINE = re.compile(r"(?:\.\s?){4,}\s*[\divxl]+$|\t\s*\d+$|\s{3,}\d+$")
_RUN_IN = re.compile(r"(?P<title>[^.]{2,90}?)[.](?:\s|$)")
_SMALL_WORDS = frozenset(("with", "from", "this", "that", "into", "upon", "under", "over", "than"))
_HASHES = re.compile(r"(?P<level>#{1,6})\s+(?P<title>[^\s#].*)")
_REFERENCES = re.compile(r"references?|bibliography|literature cited", re.IGNORECASE)
_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50}


@dataclass(frozen=True, slots=True)
class _Line:
    start_char: int
    words: str  # stripped, at most _LINE_CHARS
    after_blank: bool


def sections_of(text: str) -> tuple[Section, ...]:
    """The sections of plain `text`, in order; empty where nothing looks like a heading."""
    return nest(find_headings(text), len(text))


def find_headings(text: str) -> list[Mark]:
    """The headings of plain `text`, in order."""
    lines = list(_lines(text))
    hashed = [
        Mark(shorten(match["title"]), len(match["level"]), line.start_char)
        for line in lines
        if line.after_blank and (match := _HASHES.fullmatch(line.words)) is not None
    ]
    # Text that was Markdown once says where its headings are; then guessing only adds list items.
    # One "#" alone is a comment in a configuration file.
    if len(hashed) > 1 and any(mark.rank > 1 for mark in hashed):
        return hashed
    finder = _Finder(lines)
    marks = [mark for number in range(len(lines)) if (mark := finder.mark(number)) is not None]
    repeated = Counter(mark.title for mark in marks if mark.rank == _UNNUMBERED_RANK)
    return [mark for mark in marks if repeated[mark.title] < _REPEATS_OF_A_RUNNING_HEADER]


def _lines(text: str) -> Iterator[_Line]:
    """The lines that are not blank; a form feed ends a line as well."""
    after_blank = True
    for match in re.finditer(r"[^\n\f]+|\f|\n{2,}", text):
        raw = match.group()
        words = raw[:_LINE_CHARS].strip()
        if not words:
            after_blank = True
            continue
        indent = len(raw) - len(raw.lstrip())
        yield _Line(match.start() + indent, words, after_blank)
        after_blank = False


class _Finder:
    """Reads lines in order; remembers the last number of each kind to ask for sequence."""

    def __init__(self, lines: Sequence[_Line]) -> None:
        self._lines = lines
        self._last: dict[int, int] = {}
        self._title_of_previous = -1
        self._previous_was_heading = True
        self._in_references = False  # whose numbers count works, not sections

    def mark(self, number: int) -> Mark | None:
        if number == self._title_of_previous:
            return None
        line = self._lines[number]
        opens = (
            line.after_blank
            or self._previous_was_heading
            or _ENDS_A_SENTENCE.search(self._lines[number - 1].words) is not None
        )
        found: tuple[str, int] | None = None
        if opens and _CONTENTS_LINE.search(line.words) is None:
            found = (
                self._keyword(number)
                or self._section(number)
                or self._numbered(number)
                or self._unnumbered(number)
            )
        self._previous_was_heading = found is not None
        if found is not None:
            self._in_references = _REFERENCES.search(found[0][-20:]) is not None
        return None if found is None else Mark(shorten(found[0]), found[1], line.start_char)

    def _neighbour(self, number: int) -> str:
        return self._lines[number].words if 0 <= number < len(self._lines) else ""

    def _keyword(self, number: int) -> tuple[str, int] | None:
        match = _KEYWORD.fullmatch(self._lines[number].words)
        if match is None:
            return None
        rank, rest, title = _RANK[match["word"].lower()], match["rest"], match.group()
        if rest:
            proper = _is_headline(rest) and (bool(match["sep"]) or _is_title_case(rest))
            return (title, rank) if proper else None
        below = self._neighbour(number + 1)
        # "ARTICLE IV" often stands alone, its title on the next line.
        numbered = any(form.match(below) for form in (_KEYWORD, _SECTION, _NUMBERED))
        if not numbered and _is_headline(below) and _is_title_case(below):
            self._title_of_previous = number + 1
            return f"{title} {below}", rank
        return title, rank

    def _section(self, number: int) -> tuple[str, int] | None:
        line = self._lines[number]
        match = _SECTION.fullmatch(line.words)
        if match is None:
            return None
        label, rest = match["label"] + match["sep"].rstrip(), match["rest"]
        if not rest and not line.after_blank:
            return None  # the end of a wrapped citation
        run_in = _RUN_IN.match(rest)
        if run_in is not None and len(rest) > run_in.end() and _is_title_case(run_in["title"]):
            return f"{label} {run_in['title']}", _SECTION_RANK
        whole = len(line.words) <= TITLE_CHARS and not self._runs_on(number)
        starts_well = not rest or rest[0].isupper() or rest[0] in '[(“"'
        return (line.words if whole and starts_well else label), _SECTION_RANK

    def _runs_on(self, number: int) -> bool:
        """Whether the next line is the rest of this line's sentence."""
        below = self._lines[number + 1] if number + 1 < len(self._lines) else None
        return below is not None and not below.after_blank and below.words[0].islower()

    def _numbered(self, number: int) -> tuple[str, int] | None:
        seen = _number_of(self._lines[number].words, self._last)
        if seen is None or self._in_references:
            return None
        rank, value, title, run_in = seen
        in_sequence = value <= 1 or value <= self._last.get(rank, 0) + 2
        self._last[rank] = value
        if run_in:
            return (title, rank) if in_sequence else None
        if self._runs_on(number):
            return None
        for beside in (number - 1, number + 1):
            other = _number_of(self._neighbour(beside), self._last)
            if other is not None and other[0] == rank:
                return None  # lines of one kind in a row are a list or a table of contents
        return (title, rank) if in_sequence else None

    def _unnumbered(self, number: int) -> tuple[str, int] | None:
        line = self._lines[number]
        if _NAMES.fullmatch(line.words) is not None and line.words[:1].isupper():
            return line.words.rstrip(":"), _UNNUMBERED_RANK
        if number == 0 or not _is_capitals(line.words) or _is_capitals(self._neighbour(number + 1)):
            return None
        # A line of a paragraph in capitals ("THE SOFTWARE IS PROVIDED AS IS ...").
        if not line.after_blank and self._neighbour(number - 1).isupper():
            return None
        below = self._lines[number + 1] if number + 1 < len(self._lines) else None
        if below is not None and not below.after_blank and below.words.isupper():
            return None
        return line.words.rstrip(":"), _UNNUMBERED_RANK


def _number_of(words: str, last: dict[int, int]) -> tuple[int, int, str, bool] | None:
    """(rank, value, title, run-in) of a line that starts with a heading's number."""
    match = _NUMBERED.fullmatch(words)
    if match is None:
        return None
    number, rest = match["number"], match["rest"]
    if rest[-1] == "." and rest.count(".") == 1 and _is_title_case(rest):
        rest = rest[:-1]  # "0. Definitions."
    depth = number.count(".")
    if number[0].isdigit():
        if depth == 0 and not match["dot"] and _NAMES.fullmatch(rest) is None:
            return None  # "12 March 2020"
        rank, value = _ARABIC_RANK + depth, int(number.rpartition(".")[2])
    elif not match["dot"]:
        return None
    elif len(number) == 1 and (
        number not in "IVX" or last.get(_LETTER_RANK, 0) == ord(number) - ord("A")
    ):
        rank, value = _LETTER_RANK, ord(number) - ord("A") + 1
    else:
        rank, value = _ROMAN_RANK, _roman(number)
    run_in = _RUN_IN.match(rest)
    if run_in is not None and number[0].isdigit() and len(rest) > len(run_in["title"]) + 20:
        if _is_title_case(run_in["title"]) and _is_headline(run_in["title"]):
            return rank, value, words[: match.start("rest")] + run_in["title"], True
        return None
    if not _is_headline(rest) or not (_is_title_case(rest) or len(rest.split()) <= 5 or depth):
        return None
    return rank, value, words[: match.start("rest")] + rest, False


def _is_headline(words: str) -> bool:
    """Short, begins like a title, does not end like a sentence, and says something."""
    return (
        0 < len(words) <= 90
        and len(words.split()) <= 12
        and (words[0].isupper() or words[0] in "“\"'[(")
        and words[-1] not in ".,;:!?"
        and ";" not in words
        and re.search(r"[^\W\d_]{3}", words) is not None
    )


def _is_title_case(words: str) -> bool:
    """All words of four letters or more begin with a capital, and the first word does."""
    long_words = re.findall(r"[^\W\d_]{4,}", words)
    return words[:1].isupper() and all(
        word[0].isupper() or word in _SMALL_WORDS for word in long_words
    )


def _is_capitals(words: str) -> bool:
    if not 4 <= len(words) <= 80 or words[-1] in ".,;!?-–—)" or not words.isupper():
        return False
    words = words.removesuffix(":")
    if re.search(r"[@$=|_/\\<>{}*:\t]|\s{3}|\d{3}", words) is not None or len(words.split()) > 10:
        return False
    letters = sum(char.isalpha() for char in words)
    return letters >= 0.7 * len(words.replace(" ", "")) and bool(re.search(r"[^\W\d_]{4}", words))


def _roman(number: str) -> int:
    values = [_ROMAN_DIGITS[digit] for digit in number]
    return sum(
        -value if value < following else value
        for value, following in zip(values, [*values[1:], 0], strict=True)
    )
