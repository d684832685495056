"""PDF: pages, the map back to them, hyphens at line ends, bookmarks, and files that are broken."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.types import Document
from longleaf.indexer.parsers.pdf import PdfParser
from longleaf.indexer.parsers.pdf_text import JoinedPages, Usage, is_hyphen

_PRC = "/Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F 3 0 R >> >>"
_TO_UNICODE = (
    "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def"
    " 1 begincodespacerange <00> <FF> endcodespacerange"
    " 2 beginbfchar <51> <D835DC00> <5A> <00AD> endbfchar"
    " 1 beginbfrange <20> <50> <0020> endbfrange 1 beginbfrange <61> <7A> <0061> endbfrange"
    " endcmap end end"
)


@dataclass(frozen=True)
class Mark:
    """A bookmark to a page (from 1)."""

    title: str
    page: int


def make_pdf(pages: list[list[str]], info: str = "", marks: tuple[Mark, ...] = ()) -> bytes:
    """A PDF with these lines of Latin-1 text on each page ("Q" is U+1D400, "Z" a soft hyphen)."""
    objects: dict[int, bytes] = {}
    kids = [10 + 2 * number for number in range(len(pages))]
    outlines = 1000
    objects[1] = f"<< /Type /Catalog /Pages 2 0 R /Outlines {outlines} 0 R >>".encode()
    objects[2] = (
        f"<< /Type /Pages /Count {len(pages)} /Kids [{' '.join(f'{k} 0 R' for k in kids)}] >>"
    ).encode()
    objects[3] = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 4 0 R >>"
    objects[4] = _stream(_TO_UNICODE.encode())
    objects[5] = f"<< {info} >>".encode()
    for number, lines in zip(kids, pages, strict=True):
        shown = " ".join(f"({line}) Tj T*" for line in lines)
        objects[number] = f"<< {_PRC} /Contents {number + 1} 0 R >>".encode()
        objects[number + 1] = _stream(f"BT /F 12 Tf 72 700 Td 14 TL {shown} ET".encode("latin-1"))
    numbers = [outlines + 1 + n for n in range(len(marks))]
    first, last = (f"/First {numbers[0]} 0 R", f"/Last {numbers[-1]} 0 R") if marks else ("", "")
    objects[outlines] = f"<< /Type /Outlines {first} {last} >>".encode()
    for number, mark in zip(numbers, marks, strict=True):
        following = f"/Next {number + 1} 0 R" if number != numbers[-1] else ""
        target = f"[{kids[mark.page - 1]} 0 R /Fit]"
        place = f"/Parent {outlines} 0 R {following} /Dest {target}"
        objects[number] = f"<< /Title ({mark.title}) {place} >>".encode()
    out = bytearray(b"%PDF-1.7\n")
    for number, body in objects.items():
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    # No cross-reference table: pdfium rebuilds it.
    return bytes(out + b"trailer << /Root 1 0 R /Info 5 0 R >>\n%%EOF\n")


def _stream(body: bytes) -> bytes:
    return b"<< /Length %d >>\nstream\n%s\nendstream" % (len(body), body)


def read(data: bytes) -> Document:
    (document,) = PdfParser().parse(data, "file.pdf")
    assert isinstance(document, Document)
    return document


def test_pages_titles_and_metadata() -> None:
    document = read(
        make_pdf(
            [["First page here.", "More."], ["Second page."]],
            info="/Title (The Case of X) /Author (Ada) /CreationDate (D:20210902172311-04'00')",
        )
    )
    assert document.text == "First page here.\nMore.\nSecond page.\n"
    assert [document.text[p.start_char : p.end_char] for p in document.pages] == [
        "First page here.\nMore.\n",
        "Second page.\n",
    ]
    assert document.title == "The Case of X"
    assert dict(document.metadata) == {"author": "Ada", "created": "2021-09-02T17:23:11"}
    assert document.warnings == ()


@pytest.mark.parametrize(
    ("stated", "title"),
    [
        ("", "Words on the page"),
        ("Microsoft Word - Motion to Stay", "Motion to Stay"),
        ("brief_final_v2", "Words on the page"),
        ("Some Order of the Court.docx", "Words on the page"),
        ("Untitled", "Words on the page"),
        ("Brown v. Board of Education", "Brown v. Board of Education"),
    ],
)
def test_a_programs_title_is_no_title(stated: str, title: str) -> None:
    assert read(make_pdf([["Words on the page"]], info=f"/Title ({stated})")).title == title


def test_bookmarks_on_their_page_are_sections() -> None:
    document = read(
        make_pdf(
            [["Contents: Second Part", "First  Part", "text"], ["more", "SECOND PART", "text"]],
            marks=(Mark("First Part", 1), Mark("Second Part", 2), Mark("Nowhere", 2)),
        )
    )
    assert [(s.title, document.text[s.start_char :][:6]) for s in document.sections] == [
        ("First Part", "First "),
        ("Second Part", "SECOND"),
    ]


def test_without_bookmarks_the_look_of_lines_decides() -> None:
    document = read(make_pdf([["It is so ordered.", "ARTICLE IV", "Some words here."]]))
    assert [section.title for section in document.sections] == ["ARTICLE IV"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", RejectReason.EMPTY),
        (b"no PDF at all", RejectReason.MALFORMED),
        (b"%PDF-1.7\n%%EOF", RejectReason.MALFORMED),
        (make_pdf([]), RejectReason.MALFORMED),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, reason: RejectReason) -> None:
    with pytest.raises(Rejected) as refusal:
        read(data)
    assert refusal.value.reason == reason


def test_a_password_is_named() -> None:
    locked = (
        b"/Encrypt << /Filter /Standard /V 1 /R 2 /Length 40 /P -4 /O <" + b"11" * 32 + b">"
        b" /U <" + b"22" * 32 + b"> >> /ID [<00><00>]"
    )
    data = make_pdf([["secret"]]).replace(b"/Info 5 0 R", locked)
    with pytest.raises(Rejected) as refusal:
        read(data)
    assert refusal.value.reason == RejectReason.ENCRYPTED


def test_pages_without_text_need_ocr() -> None:
    with pytest.raises(NoTextFound, match="OCR"):
        read(make_pdf([[], []]))
    with pytest.raises(NoTextFound):
        read(make_pdf([["..."]]))


def test_threads_may_parse_at_once() -> None:
    data = make_pdf([[f"Page {number} of many"] for number in range(30)])
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.extend(read(data).text for _ in range(5)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 20 and len(set(texts)) == 1


@pytest.mark.parametrize(
    ("page", "kept"),
    [
        ("wa\x02ter and water", False),
        ("Okla\x02homa alone", False),
        ("in\x02person and in-person", True),
        ("COVID\x0219 rules", True),
        ("cross\ufffeborder: the water, wa\x02ter, cross the border", True),
        ("a range 5\x02", True),
    ],
)
def test_the_documents_own_words_decide_about_hyphens(page: str, kept: bool) -> None:
    at = min(page.find(mark) for mark in "\x02\ufffe" if mark in page)
    assert is_hyphen(page, at, Usage.of([page])) is kept


def test_a_document_that_never_cuts_words_keeps_its_hyphens() -> None:
    page = "vendor\x02plaintiffs, in\x02person and in-person"
    assert is_hyphen(page, page.index("\x02"), Usage.of([page]))


_CHARS = st.text(st.sampled_from("ab A1.-\x02\ufffe\u00ad\r\n\0\f\ud835\udc00\ud800"), max_size=40)


@given(st.lists(_CHARS, max_size=5))
def test_the_map_holds_for_any_characters(pages: list[str]) -> None:
    joined = JoinedPages(Usage.of(pages))
    for number, page in enumerate(pages, 1):
        joined.add_page(number, page)
    text = joined.text()
    text.encode()
    assert not set("\0\r\x02\ufffe\u00ad") & set(text)
    assert [page.number for page in joined.pages] == list(range(1, len(pages) + 1))
    assert all(a.end_char == b.start_char for a, b in pairwise(joined.pages))
    assert all(a.end_char <= b.start_char for a, b in pairwise(joined.spans))
    for span in joined.spans:
        source = pages[span.page - 1].replace("\r\n", "\n")
        for offset in range(span.end_char - span.start_char):
            came, is_now = source[span.source_start_char + offset], text[span.start_char + offset]
            plain = came.isascii() and (came >= " " or came == "\n")
            assert came == is_now if plain else is_now in "-\n \ufffd" or is_now > "\uffff"


@given(st.binary(max_size=200), st.integers(0, 900))
def test_damaged_files_end_in_a_named_outcome(noise: bytes, at: int) -> None:
    whole = make_pdf([["Some words"]], marks=(Mark("Some", 1),))
    with contextlib.suppress(Rejected, NoTextFound):
        read(whole[:at] + noise + whole[at + len(noise) :])
