"""Files made to keep a parser busy for ever, or to fill the memory."""

from __future__ import annotations

import functools
import tracemalloc
import zlib

import pytest
from tests.indexer.pdfs import Box, Mark, Words, lines_pdf, placed_pdf, raw_pdf, stream

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document
from longleaf.indexer.parsers import pdf_file
from longleaf.indexer.parsers.pdf import PdfParser
from longleaf.indexer.parsers.pdf_bombs import refuse_bombs

_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def one_page(contents: bytes, page: bytes = b"", **objects: bytes) -> bytes:
    """A PDF of one page; `objects` are more of them, as o20=..."""
    return raw_pdf(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R >>",
            2: b"<< /Type /Pages /Count 1 /Kids [10 0 R] >>",
            3: _FONT,
            10: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 11 0 R"
            b" /Resources << /Font << /F 3 0 R >> >> %s >>" % page,
            11: contents,
            **{int(name[1:]): body for name, body in objects.items()},
        }
    )


SHOWN = stream(b"BT /F 12 Tf 72 700 Td (Some words) Tj ET")


def read(data: bytes, context: ParseContext = NO_CONTEXT) -> Document:
    (document,) = PdfParser().parse(data, "file.pdf", context)
    assert isinstance(document, Document)
    return document


def refused(data: bytes) -> Rejected:
    with pytest.raises(Rejected) as refusal:
        read(data)
    return refusal.value


# --- pages -----------------------------------------------------------------------------------


def test_a_page_flood_is_refused_before_a_page_is_read() -> None:
    kids = b"10 0 R " * 60_000
    data = raw_pdf(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R >>",
            2: b"<< /Type /Pages /Count 60000 /Kids [%s] >>" % kids,
            3: _FONT,
            10: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 11 0 R >>",
            11: SHOWN,
        }
    )
    refusal = refused(data)
    assert refusal.reason == RejectReason.TOO_LARGE and "60,000 pages" in refusal.message


def test_endless_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_file, "MAX_CHARS", 50)
    assert read(lines_pdf([["Twenty letters here."]] * 2)).text
    refusal = refused(lines_pdf([["Twenty letters here."]] * 3))
    assert refusal.reason == RejectReason.TOO_LARGE and "page 3" in refusal.message


@pytest.mark.parametrize("side", ["1e9", "99999999999999999999", "0", "-5", "0.0001"])
def test_pages_of_any_size_are_read(side: str) -> None:
    data = one_page(SHOWN, b"/CropBox [0 0 %s %s]" % (side.encode(), side.encode()))
    data = data.replace(b"/MediaBox [0 0 612 792]", b"/MediaBox [0 0 %s 792]" % side.encode())
    document = read(data)
    assert document.text == "Some words\n"
    if document.layout is not None:
        assert document.layout.to_bytes()


def test_a_giant_page_keeps_its_text_and_has_no_places() -> None:
    document = read(placed_pdf([[Words(72, 100, "somewhere")]], Box(200_000, 200_000)))
    assert document.text == "somewhere\n" and document.layout is None


def test_a_hundred_thousand_annotations_are_passed_by() -> None:
    note = b"<< /Type /Annot /Subtype /Text /Rect [0 0 9 9] /Contents (x) >>"
    document = read(one_page(SHOWN, b"/Annots [%s]" % (b"20 0 R " * 100_000), o20=note))
    assert document.text == "Some words\n"


def test_progress_is_told_page_by_page() -> None:
    heard: list[tuple[str, int, int]] = []
    read(
        lines_pdf([["One."], ["Two."], ["Three."]]),
        ParseContext(on_progress=lambda *each: heard.append(each)),
    )
    phases = [("parse", number, 3) for number in (1, 2, 3)]
    assert heard == [*phases, *(("join", number, total) for _, number, total in phases)]


# --- bookmarks -------------------------------------------------------------------------------


def test_bookmarks_in_a_circle_are_read_once() -> None:
    data = lines_pdf([["First Part", "text"]], marks=[Mark("First Part", 1), Mark("text", 1)])
    looped = data.replace(b"/Title (text)", b"/Title (text) /Next 100001 0 R")
    document = read(looped)
    assert [section.title for section in document.sections] == ["First Part", "text"]
    assert document.warnings == ("its bookmarks run in a circle: each was read once",)


def test_bookmarks_in_themselves_are_read_once() -> None:
    data = lines_pdf([["First Part", "text"]], marks=[Mark("First Part", 1)])
    nested = data.replace(b"/Title (First", b"/First 100001 0 R /Last 100001 0 R /Title (First")
    assert "circle" in read(nested).warnings[0]


def test_deep_bookmarks_are_read_as_deep_as_levels_go() -> None:
    depth = 2_000
    objects = {
        100_001 + n: b"<< /Title (Some) /First %d 0 R /Last %d 0 R /Dest [10 0 R /Fit] >>"
        % (100_002 + n, 100_002 + n)
        for n in range(depth)
    }
    objects[100_001 + depth] = b"<< /Title (Some) /Dest [10 0 R /Fit] >>"
    data = one_page(SHOWN, **{f"o{number}": body for number, body in objects.items()})
    outlines = b"/Type /Catalog /Outlines << /First 100001 0 R /Last 100001 0 R >>"
    document = read(data.replace(b"/Type /Catalog", outlines))
    assert document.warnings == ("bookmarks below level 15 were not read",)


# --- streams that expand ---------------------------------------------------------------------


@functools.cache
def zeros(size_bytes: int) -> bytes:
    """A zlib stream of so many spaces."""
    deflater = zlib.compressobj(9)
    return b"".join(deflater.compress(b" " * (1 << 20)) for _ in range(size_bytes >> 20)) + (
        deflater.flush()
    )


FLATE = b"/Filter /FlateDecode"


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_flate_bomb_is_refused_without_its_memory(layers: int) -> None:
    bomb = zeros(192 << 20)
    for _ in range(layers - 1):
        bomb = zlib.compress(bomb, 9)
    filters = b"/Filter [%s]" % (b"/FlateDecode " * layers)
    data = one_page(stream(bomb, filters))
    tracemalloc.start()
    refusal = refused(data)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refusal.reason == RejectReason.EXPANDS and "64 MiB" in refusal.message
    assert peak_bytes < 32 << 20


def test_a_bomb_of_objects_is_refused() -> None:
    bomb = stream(zeros(192 << 20), b"/Type /ObjStm /N 9 /First 9" + FLATE)
    assert refused(one_page(SHOWN, o20=bomb)).reason == RejectReason.EXPANDS


def test_what_expands_less_is_read() -> None:
    shown = b"BT /F 12 Tf 72 700 Td (Some words) Tj ET" + b" " * (8 << 20)
    assert read(one_page(stream(zlib.compress(shown), FLATE))).text == "Some words\n"


def test_images_are_not_inflated_to_look_at_them() -> None:
    entries = b"/Type /XObject /Subtype /Image /Width 9999 /Height 9999 /BitsPerComponent 8" + FLATE
    refuse_bombs(one_page(SHOWN, o20=stream(zeros(192 << 20), entries)), "file.pdf")


@pytest.mark.parametrize("body", [b"x\x9c", b"x\x9cgarbage", b"H\x89" + b"\xff" * 80_000, b""])
def test_damaged_streams_are_left_to_pdfium(body: bytes) -> None:
    with pytest.raises(NoTextFound):
        read(one_page(stream(body, FLATE)))
