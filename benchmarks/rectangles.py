"""Whether a passage's rectangles cover exactly the passage, asked of pdfium.

    python benchmarks/rectangles.py PDF... [--passages 200] [--seed 0] [--json] [--picture OUT.png]

Random passages of the PDFs given (folders are searched), half of the files weighing as much as the
other half whatever their length. For each, pdfium is asked for the text under the rectangles of
`Layout.rectangles`, read back from its stored form and turned back to the page's own coordinates.
exact: its characters are the passage's, in order, white space and line-end hyphens aside. near: at
most 2 % of them differ, or only their order. wrong: anything else. pdfium counts a character as
soon as its box touches the rectangle, so one that leans over its neighbour counts as too much.
`--picture` draws the rectangles of the passage with the most lines on a page.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pypdfium2
from pypdfium2 import raw

from longleaf.core.errors import NoTextFound, Rejected
from longleaf.core.layout import Layout, Rectangle
from longleaf.core.types import Document
from longleaf.indexer.parsers.pdf import PdfParser

PASSAGE_CHARS = (200, 1_500)
NEAR_SHARE = 0.02
_ASIDE = re.compile("[\\s\x00-\x1f\u00ad\ufffd\ufffe\uffff-]")


@dataclass(frozen=True)
class Source:
    """A file, parsed, and what its layout is after having been stored."""

    path: Path
    document: Document
    layout: Layout


@dataclass(frozen=True)
class Verdict:
    """What pdfium found under a passage's rectangles."""

    source: Source
    start_char: int
    end_char: int
    kind: str
    reason: str
    coverage: float


def sources(paths: Sequence[Path]) -> Iterator[Source]:
    """The files with a layout; the others end in another outcome and have no passages."""
    for path in paths:
        try:
            (document,) = PdfParser().parse(path.read_bytes(), path.name)
        except (Rejected, NoTextFound):
            continue
        if isinstance(document, Document) and document.layout is not None:
            yield Source(path, document, Layout.from_bytes(document.layout.to_bytes()))


def passages(
    found: Sequence[Source], count: int, chance: random.Random
) -> Iterator[tuple[Source, int, int]]:
    """Random stretches of whole words."""
    weights = [len(source.document.text) ** 0.5 for source in found]
    for source in chance.choices(found, weights, k=count):
        text = source.document.text
        words = [match.span() for match in re.finditer(r"\S+", text)]
        start = chance.choice(words)[0]
        limit = start + chance.randint(*PASSAGE_CHARS)
        end = max(
            end for begin, end in words if begin >= start and (end <= limit or begin == start)
        )
        yield source, start, end


def text_under(pdf: pypdfium2.PdfDocument, rectangles: Sequence[Rectangle]) -> str:
    """What pdfium finds under them, one after the other."""
    parts: list[str] = []
    for rectangle in rectangles:
        page = pdf[rectangle.page - 1]
        text_page = page.get_textpage()
        left, bottom, right, top = _on_page(page, rectangle)
        parts.append(text_page.get_text_bounded(left, bottom, right, top))
        text_page.close()
        page.close()
    return "".join(parts)


def _on_page(page: pypdfium2.PdfPage, shown: Rectangle) -> tuple[float, float, float, float]:
    """pdfium's own way from the page as shown to the page: left, bottom, right, top."""
    scale = 1_000  # device units a point: pdfium rounds device coordinates to whole ones
    width, height = (round(side * scale) for side in page.get_size())
    corners: list[tuple[float, float]] = []
    for x, y in ((shown.left, shown.top), (shown.right, shown.bottom)):
        page_x, page_y = ctypes.c_double(), ctypes.c_double()
        raw.FPDF_DeviceToPage(
            page, 0, 0, width, height, 0, round(x * scale), round(y * scale), page_x, page_y
        )
        corners.append((page_x.value, page_y.value))
    (x1, y1), (x2, y2) = corners
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def judge(source: Source, start: int, end: int) -> Verdict:
    """Compare what is under the rectangles with the passage."""
    rectangles = source.layout.rectangles(start, end)
    pdf = pypdfium2.PdfDocument(source.path.read_bytes())
    found = _letters(text_under(pdf, rectangles))
    pdf.close()
    wanted = _letters(source.document.text[start:end])
    missing = Counter(wanted) - Counter(found)
    surplus = Counter(found) - Counter(wanted)
    coverage = 1 - missing.total() / max(len(wanted), 1)
    differing = (missing.total() + surplus.total()) / max(len(wanted), 1)
    if found == wanted:
        kind, reason = "exact", ""
    elif not missing and not surplus:
        kind, reason = "near", "another order"
    else:
        kind = "near" if differing <= NEAR_SHARE else "wrong"
        reason = f"missing {''.join(missing.elements())[:40]!r}, too much"
        reason += f" {''.join(surplus.elements())[:40]!r}"
    return Verdict(source, start, end, kind, reason, coverage)


def _letters(text: str) -> str:
    return _ASIDE.sub("", text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))


def draw(verdicts: Sequence[Verdict], out: Path) -> None:
    """The page on which a passage has most lines, with its rectangles over it."""
    from PIL import ImageDraw

    on_pages = [
        (source, list(group))
        for source, rectangles in (
            (each.source, each.source.layout.rectangles(each.start_char, each.end_char))
            for each in verdicts
        )
        for _, group in groupby(rectangles, key=lambda rectangle: rectangle.page)
    ]
    source, rectangles = max(on_pages, key=lambda each: len(each[1]))
    pdf = pypdfium2.PdfDocument(source.path.read_bytes())
    picture = pdf[rectangles[0].page - 1].render(scale=2).to_pil().convert("RGB")
    pen = ImageDraw.Draw(picture, "RGBA")
    for _, left, top, right, bottom in rectangles:
        box = [2 * left - 1, 2 * top - 1, 2 * right + 1, 2 * bottom + 1]
        pen.rectangle(box, fill=(255, 220, 0, 90), outline=(200, 60, 0, 255))
    picture.save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--passages", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    files = [
        file
        for path in options.paths
        for file in (sorted(path.rglob("*.pdf")) if path.is_dir() else [path])
    ]
    found = list(sources(files))
    chance = random.Random(options.seed)
    verdicts = [judge(*each) for each in passages(found, options.passages, chance)]
    kinds = Counter(verdict.kind for verdict in verdicts)
    coverage = sum(verdict.coverage for verdict in verdicts) / len(verdicts)
    result: dict[str, Any] = {
        "files": len(files),
        "with_layout": len(found),
        "passages": len(verdicts),
        **{kind: kinds[kind] for kind in ("exact", "near", "wrong")},
        "mean_coverage": round(coverage, 5),
    }
    if options.picture is not None:
        draw(verdicts, options.picture)
    if options.json:
        print(json.dumps(result))
        return
    for verdict in verdicts:
        if verdict.kind != "exact":
            where = f"{verdict.source.path.name}[{verdict.start_char}:{verdict.end_char}]"
            print(f"{verdict.kind}: {where}: {verdict.reason}")
    print(", ".join(f"{name} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
