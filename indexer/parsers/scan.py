"""What OCR reads on pictures of pages, made pages like any other; pure but for the reader it asks.

Shared by PDFs with scanned pages and by image files. Words become lines and paragraphs of text
with places; what a page's own text layer says (a court's stamp over a scan) stays, and OCR's words
on the same place go. Keeps how sure OCR was, so that a document can say it. Knows no OCR program:
that is `core.protocols.PageReader`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from longleaf.core.errors import NoTextFound, Rejected
from longleaf.core.protocols import PageReader, ParseContext
from longleaf.core.types import OcrWord
from longleaf.indexer.parsers.pdf_page import SourcePage
from longleaf.indexer.parsers.pdf_runs import LINE_HYPHENS

POINTS_PER_INCH = 72.0
_UNSURE = 60.0  # per cent of confidence, below which a page is named
_ALNUM = re.compile(r"[^\W_]")


@dataclass(slots=True)
class OcrLog:
    """Asks `reader` for pages and remembers how each went.

    `words`: page number to the confidence of each word read there, 0 to 100.
    """

    reader: PageReader
    words: dict[int, list[float]] = field(default_factory=dict)
    failures: dict[int, Rejected] = field(default_factory=dict)

    def read(self, page: SourcePage, picture: Callable[[], bytes]) -> SourcePage:
        """`page` with what OCR reads on its `picture`; as it is where OCR fails."""
        try:
            words = self.reader.read_page(page.number, picture)
        except Rejected as failure:
            self.failures[page.number] = failure
            return page
        fresh = [word for word in words if word.text.strip() and not _is_covered(page, word)]
        self.words[page.number] = [word.confidence for word in fresh]
        return _with_words(page, fresh)

    def notes(self) -> list[str]:
        """What the user should know about it."""
        read = {number: words for number, words in self.words.items() if words}
        silent = [number for number, words in self.words.items() if not words]
        notes: list[str] = []
        if read:
            words = [confidence for page in read.values() for confidence in page]
            notes.append(
                f"pages read by OCR ({self.reader.engine}): {ranges(list(read))};"
                f" mean confidence {_mean(words):.0f} %"
            )
        unsure = {number: mean for number in read if (mean := _mean(read[number])) < _UNSURE}
        if unsure:
            each = ", ".join(f"{number} ({mean:.0f} %)" for number, mean in unsure.items())
            notes.append(f"pages that OCR is unsure of (below {_UNSURE:.0f} %): {each}")
        if silent:
            notes.append(f"pages on which OCR found no words: {ranges(silent)}")
        if self.failures:
            why = "; ".join(sorted({failure.message for failure in self.failures.values()}))
            notes.append(f"pages that OCR could not read: {ranges(list(self.failures))} ({why})")
        return notes


def no_text(name: str, what: str, context: ParseContext) -> NoTextFound:
    """The outcome of a file in which neither a text layer nor OCR has words."""
    if context.ocr is not None:
        return NoTextFound(f"{name} holds no text on {what}, and OCR found none.")
    why = f" {context.why_no_ocr}" if context.why_no_ocr else ""
    return NoTextFound(
        f"{name} holds no text on {what}: it needs OCR.{why}",
        "Install Tesseract (Debian: apt-get install tesseract-ocr) and index it again.",
    )


def page_of_words(number: int, width: float, height: float, words: Iterable[OcrWord]) -> SourcePage:
    """Words in reading order as a page: lines as lines, a blank line between paragraphs.

    A hyphen at a line's end before a small letter gets pdfium's mark, so that the document's own
    words decide about it. Heights stay 0: OCR's boxes say too little about the size of the type.
    """
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    boxes: list[tuple[float, float, float, float]] = []
    chars = 0
    last: OcrWord | None = None
    for word in words:
        text = "".join(word.text.split())
        if not text:
            continue
        if last is not None:
            gap = " " if word.line == last.line else "\n"
            if gap == "\n" and text[0].islower() and _ends_in_hyphen(parts[-1]):
                parts[-1] = parts[-1][:-1] + LINE_HYPHENS[0]
                _part_last_char(spans, boxes)
                gap = ""
            elif word.paragraph != last.paragraph:
                gap = "\n\n"
            parts.append(gap)
            chars += len(gap)
        parts.append(text)
        spans.append((chars, chars + len(text)))
        boxes.append(_inside(word, width, height))
        chars += len(text)
        last = word
    return SourcePage(
        number,
        "".join(parts),
        width,
        height,
        np.array(spans, np.int32).reshape(-1, 2),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.zeros(len(spans), np.float32),
    )


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as "2, 5-9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def has_words(page: SourcePage) -> bool:
    """Whether a page's own text says something."""
    return _ALNUM.search(page.characters) is not None


def _with_words(page: SourcePage, words: Sequence[OcrWord]) -> SourcePage:
    read = page_of_words(page.number, page.width, page.height, words)
    if not page.characters.strip():
        return read
    own = page.characters.rstrip("\n") + "\n"
    return SourcePage(
        page.number,
        own + read.characters,
        page.width,
        page.height,
        np.concatenate((page.spans, read.spans + len(own))).astype(np.int32),
        np.concatenate((page.boxes, read.boxes)),
        np.concatenate((page.heights, read.heights)),
    )


def _part_last_char(
    spans: list[tuple[int, int]], boxes: list[tuple[float, float, float, float]]
) -> None:
    """Make the last run's last character a run of its own: a hyphen may not get into the text."""
    start, end = spans.pop()
    left, top, right, bottom = boxes.pop()
    at = right - (right - left) / (end - start)
    spans += [(start, end - 1), (end - 1, end)]
    boxes += [(left, top, at, bottom), (at, top, right, bottom)]


def _inside(word: OcrWord, width: float, height: float) -> tuple[float, float, float, float]:
    left, right = (min(max(x, 0.0), width) for x in (word.left, word.right))
    top, bottom = (min(max(y, 0.0), height) for y in (word.top, word.bottom))
    return (left, top, right, bottom) if left < right and top < bottom else (0.0, 0.0, 0.0, 0.0)


def _ends_in_hyphen(text: str) -> bool:
    return len(text) > 1 and text[-1] == "-" and text[-2].isalpha()


def _is_covered(page: SourcePage, word: OcrWord) -> bool:
    """Whether the word's middle lies on a run of the page's own text."""
    x, y = (word.left + word.right) / 2, (word.top + word.bottom) / 2
    boxes = page.boxes
    over = (boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])
    return bool(over.any())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
