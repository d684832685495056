"""Tesseract, pages that are read once, and pictures of pages. Real pictures, the real program."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont
from tests.indexer.pdfs import Box, lines_pdf, scanned_pdf

from longleaf.core.errors import ConfigError, NoTextFound, Rejected, RejectReason
from longleaf.core.protocols import ParseContext
from longleaf.core.types import Document, OcrWord
from longleaf.indexer.ocr import CachedPages, OcrMissing, Tesseract
from longleaf.indexer.parsers.image import JPEG, PNG, TIFF, ImageParser
from longleaf.indexer.parsers.pdf import PdfParser

SCANS = Path(__file__).resolve().parents[3] / "shared" / "data" / "documents" / "court_files"
LINES = ("The petition is denied without prejudice", "because the court lacks jurisdiction.")


class Words:
    """A reader that knows its words; counts what it was asked."""

    engine = "words 1 eng"

    def __init__(self, *words: OcrWord) -> None:
        self.words = words
        self.asked: list[int] = []
        self.pictures: list[bytes] = []

    def read_page(self, number: int, render: Callable[[], bytes]) -> tuple[OcrWord, ...]:
        self.asked.append(number)
        self.pictures.append(render())
        return self.words


class Failing:
    engine = "failing"

    def read_page(self, number: int, render: Callable[[], bytes]) -> tuple[OcrWord, ...]:
        raise Rejected(RejectReason.TOO_SLOW, "OCR took too long")


def word(text: str, line: int = 0, left: float = 72.0, confidence: float = 90.0) -> OcrWord:
    top = 100.0 + 20 * line
    return OcrWord(text, confidence, 0, line, left, top, left + 6 * len(text), top + 10)


def picture(lines: tuple[str, ...] = LINES, dots: int = 150) -> Image.Image:
    """A letter page with these lines, as a scanner would see it."""
    page = Image.new("L", (round(8.5 * dots), 11 * dots), 255)
    font = ImageFont.load_default(size=dots / 6)
    for number, line in enumerate(lines):
        ImageDraw.Draw(page).text((dots, dots * (1 + number / 3)), line, fill=0, font=font)
    return page


def encoded(page: Image.Image, form: str, dots: int = 150, **options: object) -> bytes:
    out = io.BytesIO()
    page.save(out, form, dpi=(dots, dots), **options)
    return out.getvalue()


def scan(page: Image.Image, words: str = "") -> bytes:
    return scanned_pdf(page.tobytes(), page.width, page.height, words=words)


def read_pdf(data: bytes, context: ParseContext) -> Document:
    (document,) = PdfParser().parse(data, "scan.pdf", context)
    assert isinstance(document, Document)
    return document


def read_picture(parser: ImageParser, data: bytes, context: ParseContext) -> Document:
    (document,) = parser.parse(data, "scan" + parser.suffixes[0], context)
    assert isinstance(document, Document)
    return document


@pytest.fixture(scope="module")
def tesseract() -> Tesseract:
    try:
        return Tesseract()
    except OcrMissing as missing:
        pytest.skip(str(missing))


# --- the program -----------------------------------------------------------------------------


def test_words_are_where_they_stand(tesseract: Tesseract) -> None:
    words = tesseract.read_page(1, lambda: encoded(picture(), "PNG"))
    assert [each.text for each in words] == " ".join(LINES).split()
    assert [each.line for each in words] == [0] * 6 + [1] * 5
    assert all(each.confidence > 60 for each in words)
    first = words[0]
    assert first.left == pytest.approx(72, abs=4) and first.top == pytest.approx(75, abs=6)
    assert first.right - first.left == pytest.approx(20, abs=6)


def test_a_page_on_its_side_is_read(tesseract: Tesseract) -> None:
    turned = picture(LINES * 6).rotate(90, expand=True)
    words = tesseract.read_page(1, lambda: encoded(turned, "PNG"))
    assert [each.text for each in words[:4]] == LINES[0].split()[:4]
    assert words[0].bottom - words[0].top > words[0].right - words[0].left


def test_the_engine_names_program_version_and_languages(tesseract: Tesseract) -> None:
    name, version, languages = tesseract.engine.split()
    assert (name, languages) == ("tesseract", "eng") and version[0].isdigit()


def test_a_missing_language_is_named_with_its_package(tesseract: Tesseract) -> None:
    with pytest.raises(ConfigError, match=r"'xyz_abc'.*eng.*tesseract-ocr-xyz-abc"):
        Tesseract("eng+xyz_abc")


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(OcrMissing, match="apt-get install tesseract-ocr"):
        Tesseract(program="no-such-ocr")


def program(folder: Path, reading: str) -> str:
    """A program that answers like Tesseract, and reads pages by `reading`, a line of shell."""
    path = folder / "ocr"
    path.write_text(
        '#!/bin/sh\ncase "$1" in --version) echo tesseract 9.9;;'
        ' --list-langs) printf "List:\\neng\\n";;'
        f" *) {reading};; esac\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("reading", "reason", "said"),
    [
        ("/bin/sleep 30", RejectReason.TOO_SLOW, "page 7"),
        ("kill -SEGV $$", RejectReason.CRASHED, "signal 11"),
        ("echo bad picture >&2; exit 1", RejectReason.UNREADABLE, "bad picture"),
    ],
)
def test_what_the_program_does_wrong_is_named(
    tmp_path: Path, reading: str, reason: RejectReason, said: str
) -> None:
    reader = Tesseract(program=program(tmp_path, reading), seconds_per_page=0.5)
    with pytest.raises(Rejected, match=said) as failure:
        reader.read_page(7, lambda: encoded(picture(()), "PNG"))
    assert failure.value.reason == reason


def test_rows_that_are_no_words_are_no_words(tmp_path: Path) -> None:
    rows = [
        "level\\tpage_num\\t...",
        "4\\t1\\t1\\t1\\t1\\t0\\t0\\t0\\t99\\t99\\t-1\\t",
        "5\\t1\\t1\\t1\\t1\\t1\\t150\\t300\\t75\\t15\\t96.5\\tone",
        "5\\t1\\t1\\t1\\t1\\t2\\t150\\t300\\t75\\t15\\t95\\t ",
        "5\\t1\\t1\\t2\\t1\\t1\\t150\\t450\\t75\\t15\\t-1\\ttwo",
        "torn\\trow",
    ]
    reading = "; ".join(["/bin/cat >/dev/null", *(f"printf '{row}\\n'" for row in rows)])
    reader = Tesseract(program=program(tmp_path, reading))
    assert reader.read_page(1, lambda: encoded(picture(()), "PNG")) == (
        OcrWord("one", 96.5, 0, 0, 72.0, 144.0, 108.0, 151.2),
        OcrWord("two", 0.0, 1, 1, 72.0, 216.0, 108.0, 223.2),
    )


class Store:
    def __init__(self) -> None:
        self.pages: dict[int, tuple[OcrWord, ...]] = {}

    def get(self, page: int) -> tuple[OcrWord, ...] | None:
        return self.pages.get(page)

    def put(self, page: int, words: tuple[OcrWord, ...]) -> None:
        self.pages[page] = words


def test_a_page_is_read_once_and_drawn_once() -> None:
    reader, store = Words(word("known")), Store()
    for _ in range(2):
        cached = CachedPages(reader, store)
        assert cached.read_page(3, lambda: b"picture") == reader.words
    assert reader.asked == [3] and cached.engine == reader.engine
    blank = CachedPages(Words(), store)
    assert blank.read_page(4, lambda: b"") == () == blank.read_page(4, pytest.fail)


def test_failures_are_not_kept() -> None:
    store = Store()
    with pytest.raises(Rejected):
        CachedPages(Failing(), store).read_page(1, lambda: b"")
    assert not store.pages


# --- pages of a PDF --------------------------------------------------------------------------


def test_a_scan_becomes_text_with_places(tesseract: Tesseract) -> None:
    document = read_pdf(scan(picture()), ParseContext(ocr=tesseract))
    assert document.text.split() == " ".join(LINES).split()
    assert document.warnings[0].startswith(f"pages read by OCR ({tesseract.engine}): 1; mean")
    assert document.layout is not None
    at = document.text.index("jurisdiction")
    (box,) = document.layout.rectangles(at, at + len("jurisdiction"))
    assert box.page == 1 and 0 < box.left < box.right < 612 and 90 < box.top < box.bottom < 115


def test_a_stamp_over_a_scan_stays_and_is_not_read_twice() -> None:
    covered = OcrWord("Gase", 50, 0, 0, 74.0, 84.0, 95.0, 92.0)
    reader = Words(covered, word("The", 1), word("scan", 1, left=120))
    document = read_pdf(scan(picture(), words="Case 1:20"), ParseContext(ocr=reader))
    assert document.text == "Case 1:20\nThe scan\n"


def test_pages_with_text_are_not_read() -> None:
    reader = Words(word("read"))
    document = read_pdf(lines_pdf([["A page of words."]]), ParseContext(ocr=reader))
    assert not reader.asked and document.warnings == ()


def test_blank_pages_are_not_read() -> None:
    reader = Words(word("read"))
    document = read_pdf(lines_pdf([["Words."], []]), ParseContext(ocr=reader))
    assert not reader.asked and document.text == "Words.\n\n"


def test_unsure_and_silent_pages_are_named() -> None:
    unsure = Words(word("Pe7it1on", confidence=40), word("ok", confidence=60))
    document = read_pdf(scan(picture()), ParseContext(ocr=unsure))
    assert document.warnings == (
        "pages read by OCR (words 1 eng): 1; mean confidence 50 %",
        "pages that OCR is unsure of (below 60 %): 1 (50 %)",
    )
    stamped = read_pdf(scan(picture(), words="Case 1:20"), ParseContext(ocr=Words()))
    assert stamped.warnings == ("pages on which OCR found no words: 1",)


def test_a_page_that_ocr_cannot_read_does_not_lose_the_others() -> None:
    document = read_pdf(scan(picture(), words="Case 1:20"), ParseContext(ocr=Failing()))
    assert document.text == "Case 1:20\n"
    assert document.warnings == ("pages that OCR could not read: 1 (OCR took too long)",)
    with pytest.raises(Rejected, match="too long"):
        read_pdf(scan(picture()), ParseContext(ocr=Failing()))


def test_without_ocr_the_outcome_says_why_and_what_to_do() -> None:
    context = ParseContext(why_no_ocr="OCR is switched off.")
    with pytest.raises(NoTextFound, match="switched off") as outcome:
        read_pdf(scan(picture()), context)
    assert "apt-get install tesseract-ocr" in str(outcome.value)
    with pytest.raises(NoTextFound, match="OCR found none"):
        read_pdf(scan(picture()), ParseContext(ocr=Words()))


def test_a_word_cut_at_a_lines_end_is_whole() -> None:
    words = word("deter-", 0), word("mined", 1), word("whole", 2), word("-", 3), word("words", 4)
    document = read_pdf(scan(picture()), ParseContext(ocr=Words(*words)))
    assert document.text == "determined\nwhole\n-\nwords\n"


@pytest.mark.parametrize("side", [72.0, 14_400.0])
def test_a_page_of_any_size_is_drawn_in_bounded_pixels(side: float) -> None:
    reader = Words(word("huge"))
    data = scanned_pdf(b"\0" * 100, 10, 10, Box(side, side))
    read_pdf(data, ParseContext(ocr=reader))
    with Image.open(io.BytesIO(reader.pictures[0])) as drawn:
        assert drawn.mode == "L" and drawn.width * drawn.height <= 40_100_000
        dots = drawn.info["dpi"][0]
    assert dots == pytest.approx(min(300, 72 * 40_000_000**0.5 / side), rel=0.01)


def test_a_pixel_flood_on_a_page_is_not_drawn() -> None:
    data = scanned_pdf(b"", 60_000, 60_000)
    with pytest.raises(Rejected, match="3,600,000,000 pixels") as refusal:
        read_pdf(data, ParseContext(ocr=Words()))
    assert refusal.value.reason == RejectReason.EXPANDS


def test_real_scans_are_read(tesseract: Tesseract) -> None:
    path = SCANS / "image-pdf-2.pdf"
    if not path.exists():
        pytest.skip("the shared test data is not on this machine")
    document = read_pdf(path.read_bytes(), ParseContext(ocr=tesseract))
    for words in ("Docket No. 2017-03-1235", "Reversed and Remanded", "election of remedies"):
        assert words in document.text
    assert "mean confidence 9" in document.warnings[0]


# --- picture files ---------------------------------------------------------------------------


@pytest.mark.parametrize(("parser", "form"), [(PNG, "PNG"), (JPEG, "JPEG"), (TIFF, "TIFF")])
def test_picture_files_are_documents(tesseract: Tesseract, parser: ImageParser, form: str) -> None:
    document = read_picture(parser, encoded(picture(), form), ParseContext(ocr=tesseract))
    assert document.text.split() == " ".join(LINES).split()
    assert document.title == LINES[0] and len(document.pages) == 1
    assert document.layout is not None
    assert document.layout.pages[0].tolist() == pytest.approx([612, 792], abs=0.5)


def test_each_picture_of_a_tiff_is_a_page() -> None:
    heard: list[tuple[str, int, int]] = []
    pages = [picture((str(number),)).convert("1") for number in range(3)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression="group4")
    reader = Words(word("page"))
    context = ParseContext(ocr=reader, on_progress=lambda *each: heard.append(each))
    document = read_picture(TIFF, data, context)
    assert [page.number for page in document.pages] == [1, 2, 3] == reader.asked
    assert len(set(reader.pictures)) == 3
    assert heard == [("parse", number, 3) for number in (1, 2, 3)]


def test_a_photograph_is_turned_as_it_says(tesseract: Tesseract) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it
    lying = picture(dots=200).rotate(90, expand=True)
    data = encoded(lying, "JPEG", dots=72, exif=exif)
    document = read_picture(JPEG, data, ParseContext(ocr=tesseract))
    assert document.text.split() == " ".join(LINES).split()
    assert document.layout is not None
    assert document.layout.pages[0].tolist() == pytest.approx([612, 792], abs=0.5)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "CMYK"])
def test_any_kind_of_pixel_becomes_black_on_white(mode: str) -> None:
    page = picture()
    if mode == "I;16":
        seen = Image.frombytes(mode, page.size, bytes(v for p in page.tobytes() for v in (p, p)))
    elif mode in ("RGBA", "LA"):  # black ink on nothing
        seen = Image.new(mode, page.size)
        seen.putalpha(page.point(lambda value: 255 - value))
    else:
        seen = page.convert(mode)
    reader = Words(word("x"))
    form = "JPEG" if mode == "CMYK" else "PNG"
    read_picture(PNG, encoded(seen, form), ParseContext(ocr=reader))
    with Image.open(io.BytesIO(reader.pictures[0])) as given:
        assert given.mode == "L" and given.size == page.size
        histogram = given.histogram()
    assert sum(histogram[200:]) > 0.9 * page.width * page.height
    assert 0 < sum(histogram[:60]) < 0.1 * page.width * page.height


def test_a_fax_is_made_square() -> None:
    page = Image.new("1", (1728, 1078), 1)
    out = io.BytesIO()
    page.save(out, "TIFF", dpi=(204, 98), compression="group4")
    document = read_picture(TIFF, out.getvalue(), ParseContext(ocr=Words(word("x"))))
    assert document.layout is not None
    assert document.layout.pages[0].tolist() == pytest.approx([609.9, 792], abs=1)


def flood(form: str) -> bytes:
    """A picture whose header says 60,000 x 60,000 pixels."""
    data = bytearray(encoded(Image.new("L", (8, 8)), form))
    if form == "PNG":
        import zlib

        data[16:24] = (60_000).to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    elif form == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = (60_000).to_bytes(2, "big") * 2
    else:
        data = bytearray(encoded(Image.new("1", (60_000, 60_000)), form, compression="group4"))
    return bytes(data)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_flood_of_pixels_is_refused_by_its_header(form: str) -> None:
    reader = Words()
    with pytest.raises(Rejected, match="3600000000 pixels") as refusal:
        read_picture(PNG, flood(form), ParseContext(ocr=reader))
    assert refusal.value.reason == RejectReason.EXPANDS and not reader.asked


@pytest.mark.parametrize("parser", [PNG, JPEG, TIFF])
def test_what_is_no_picture_is_refused(parser: ImageParser) -> None:
    for data in (b"no picture", encoded(picture(), "PNG")[:60]):
        with pytest.raises(Rejected) as refusal:
            read_picture(parser, data, ParseContext(ocr=Words()))
        assert refusal.value.reason == RejectReason.MALFORMED


def test_a_torn_page_does_not_lose_the_others() -> None:
    pages = [picture(("one",)), picture(("two",))]
    data = bytearray(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    with Image.open(io.BytesIO(bytes(data))) as image:
        image.seek(1)
        data[image.tag_v2.offset + 4 :] = b""  # type: ignore[attr-defined]
    document = read_picture(TIFF, bytes(data), ParseContext(ocr=Words(word("one"))))
    assert document.text == "one\n"
    assert "pages that cannot be decoded: 2" in document.warnings


def test_a_picture_without_ocr_needs_it() -> None:
    with pytest.raises(NoTextFound, match="needs OCR"):
        read_picture(PNG, encoded(picture(), "PNG"), ParseContext())
