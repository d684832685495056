"""PDF files: pages, titles, bookmarks, and what cannot be read."""

from __future__ import annotations

import contextlib
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.indexer.pdfs import Mark, lines_pdf

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.types import Document
from longleaf.indexer.parsers.pdf import PdfParser


def read(data: bytes) -> Document:
    (document,) = PdfParser().parse(data, "file.pdf")
    assert isinstance(document, Document)
    return document


def test_pages_titles_and_metadata() -> None:
    document = read(
        lines_pdf(
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
    assert read(lines_pdf([["Words on the page"]], info=f"/Title ({stated})")).title == title


def test_bookmarks_on_their_page_are_sections() -> None:
    document = read(
        lines_pdf(
            [["Contents: Second Part", "First  Part", "text"], ["more", "SECOND PART", "text"]],
            marks=(Mark("First Part", 1), Mark("Second Part", 2), Mark("Nowhere", 2)),
        )
    )
    assert [(s.title, document.text[s.start_char :][:6]) for s in document.sections] == [
        ("First Part", "First "),
        ("Second Part", "SECOND"),
    ]


def test_without_bookmarks_the_look_of_lines_decides() -> None:
    document = read(lines_pdf([["It is so ordered.", "ARTICLE IV", "Some words here."]]))
    assert [section.title for section in document.sections] == ["ARTICLE IV"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", RejectReason.EMPTY),
        (b"no PDF at all", RejectReason.MALFORMED),
        (b"%PDF-1.7\n%%EOF", RejectReason.MALFORMED),
        (lines_pdf([]), RejectReason.MALFORMED),
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
    data = lines_pdf([["secret"]]).replace(b"/Info 5 0 R", locked)
    with pytest.raises(Rejected) as refusal:
        read(data)
    assert refusal.value.reason == RejectReason.ENCRYPTED


def test_pages_without_text_need_ocr() -> None:
    with pytest.raises(NoTextFound, match="OCR"):
        read(lines_pdf([[], []]))
    with pytest.raises(NoTextFound):
        read(lines_pdf([["..."]]))


def test_threads_may_parse_at_once() -> None:
    data = lines_pdf([[f"Page {number} of many"] for number in range(30)])
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


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 900))
def test_damaged_files_end_in_a_named_outcome(noise: bytes, at: int) -> None:
    whole = lines_pdf([["Some words"]], marks=(Mark("Some", 1),))
    with contextlib.suppress(Rejected, NoTextFound):
        read(whole[:at] + noise + whole[at + len(noise) :])
