"""pdfium's characters, page by page, to one text and a map back to each page; pure.

pdfium gives characters in reading order. Three things are changed, and `spans` follows each:
- "\\r\\n" becomes "\\n". Source characters are counted with each CRLF as one, which keeps the map
  at about one span a page instead of one a line.
- Where a line ends in a hyphen, pdfium leaves one mark (U+0002; U+FFFE in its whole-page calls)
  and no line break. The words of the document itself decide whether it was a hyphen
  ("vendor-plaintiffs") or a word cut in two ("Okla-homa"); see `is_hyphen`.
- Soft hyphens (U+00AD) go, control characters become spaces, unmapped ones U+FFFD.
Knows nothing of pdfium itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from longleaf.core.types import Page

_LINE_HYPHENS = "\x02\ufffe"
_CHANGED = re.compile("[\0-\x08\x0b-\x1f\x7f\u00ad\ufffe\uffff\ud800-\udfff]")
_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_WORD_CHARS = 60  # longer runs are no words
_MARK = re.compile(f"[{_LINE_HYPHENS}]")
_BEFORE, _AFTER = re.compile(r"[^\W_]+\Z"), re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class SourceSpan:
    """Maps `text[start_char:end_char]` to characters `source_start_char…` of a source page."""

    start_char: int
    end_char: int
    page: int
    source_start_char: int


@dataclass(frozen=True, slots=True)
class Usage:
    """How a document writes words: each one's count, and whether its line ends cut words in two.

    `counts` holds words and hyphenated compounds that stand whole inside a line, in lower case.
    """

    counts: Counter[str]
    cuts_words: bool

    @classmethod
    def of(cls, pages: Sequence[str | None]) -> Usage:
        counts: Counter[str] = Counter()
        halves: list[tuple[str, str]] = []
        for characters in pages:
            source = characters or ""
            cut_at = {match.start() for match in _MARK.finditer(source)}
            halves += (pair for at in cut_at if (pair := _halves(source, at)) is not None)
            for match in _WORD.finditer(source):
                if match.start() - 1 in cut_at or match.end() in cut_at:
                    continue
                word = match.group().lower()
                counts[word] += 1
                if "-" in word:
                    counts.update(word.split("-"))
        joined = sum(counts[(left + right).lower()] > 0 for left, right in halves)
        compound = sum(counts[f"{left}-{right}".lower()] > 0 for left, right in halves)
        return cls(counts, cuts_words=joined > compound or not compound)


class JoinedPages:
    """Joins pages into one text and keeps the map back."""

    def __init__(self, usage: Usage) -> None:
        self.pages: list[Page] = []
        self.spans: list[SourceSpan] = []
        self.unmapped = 0
        self._usage = usage
        self._parts: list[str] = []
        self._chars = 0

    def text(self) -> str:
        return "".join(self._parts)

    def add_page(self, number: int, characters: str) -> None:
        """Append a page; the line break that ends it belongs to it."""
        source = characters.replace("\r\n", "\n")
        start = self._chars
        done = 0
        for match in _CHANGED.finditer(source):
            at = match.start()
            if at < done:
                continue  # the second half of a surrogate pair
            instead, taken = self._replacement(source, at)
            self._copy(source[done:at], number, done)
            self._copy(instead, number, at)
            done = at + taken
        self._copy(source[done:], number, done)
        if not source.endswith("\n"):
            self._parts.append("\n")
            self._chars += 1
        self.pages.append(Page(number, start, self._chars))

    def _replacement(self, source: str, at: int) -> tuple[str, int]:
        """What stands in the text for `source[at]`, and how many source characters it takes."""
        char = source[at]
        if char in _LINE_HYPHENS:
            return ("-" if is_hyphen(source, at, self._usage) else ""), 1
        if char == "\u00ad":
            return "", 1
        if "\ud800" <= char <= "\udbff" and "\udc00" <= source[at + 1 : at + 2] <= "\udfff":
            pair = source[at : at + 2].encode("utf-16-le", "surrogatepass")
            return pair.decode("utf-16-le"), 2
        if char in "\0\uffff" or "\ud800" <= char <= "\udfff":
            self.unmapped += 1
            return "\ufffd", 1
        return ("\n" if char in "\r\f\v" else " "), 1

    def _copy(self, text: str, page: int, source_start_char: int) -> None:
        if not text:
            return
        start, end = self._chars, self._chars + len(text)
        self._parts.append(text)
        self._chars = end
        last = self.spans[-1] if self.spans else None
        shift = source_start_char - start
        if (
            last is not None
            and (last.page, last.end_char) == (page, start)
            and last.source_start_char - last.start_char == shift
        ):
            self.spans[-1] = SourceSpan(last.start_char, end, page, last.source_start_char)
            return
        self.spans.append(SourceSpan(start, end, page, source_start_char))


def is_hyphen(source: str, at: int, usage: Usage) -> bool:
    """Whether the line-end hyphen at `at` belongs to the words, not to the line.

    The document's own usage decides: the form it uses elsewhere; else a document that never cuts
    words keeps it, and in one that does, both halves being words of it make a compound. A digit
    or a capital beside the hyphen keeps it ("COVID-19"). Of 160 line-end hyphens in court filings,
    read by eye, 1 came out wrong; joining them all gets 20 wrong.
    """
    halves = _halves(source, at)
    if halves is None:
        return True
    left, right = halves
    joined = usage.counts[(left + right).lower()]
    compound = usage.counts[f"{left}-{right}".lower()]
    if joined != compound:
        return compound > joined
    if not (left + right).isalpha() or not right[0].islower() or not usage.cuts_words:
        return True
    return usage.counts[left.lower()] > 0 and usage.counts[right.lower()] > 0


def _halves(source: str, at: int) -> tuple[str, str] | None:
    """The letters and digits right before and right after `at`; None where there are none."""
    before = _BEFORE.search(source[max(at - _WORD_CHARS, 0) : at])
    after = _AFTER.match(source[at + 1 : at + 1 + _WORD_CHARS])
    return None if before is None or after is None else (before.group(), after.group())
