"""EPUB 2 and 3: the spine in order, sections from the table of contents, locks and lost pages."""

from __future__ import annotations

import pytest
from tests.indexer.word import zipped

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.types import Document
from longleaf.indexer.parsers.epub import EpubParser

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/>'
    "</rootfiles></container>"
)
METADATA = (
    "<dc:title>The  Law</dc:title><dc:creator opf:role='aut'>Ada</dc:creator>"
    "<dc:creator opf:role='ill'>Eve</dc:creator><dc:creator opf:role='aut'>Bo</dc:creator>"
    "<dc:language>en</dc:language><dc:date opf:event='modification'>2020-01-01</dc:date>"
    "<dc:date opf:event='publication'>1999-05-01T00:00:00Z</dc:date>"
    "<dc:identifier>urn:uuid:1</dc:identifier><dc:identifier>9780306406158</dc:identifier>"
    "<dc:identifier>urn:isbn:978-0-306-40615-7</dc:identifier>"
    "<dc:identifier>https://doi.org/10.1000/XYZ</dc:identifier><dc:subject>Leases</dc:subject>"
)


def page(body: str) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml">'
        f'<head><title/><script src="x.js"/></head><body>{body}</body></html>'
    )


def book(
    pages: dict[str, str],
    *,
    items: str = "",
    spine: str | None = None,
    metadata: str = METADATA,
    toc: str = "",
    **entries: str | bytes,
) -> bytes:
    """A book of these pages in this order, all in the manifest under their names."""
    held = "".join(
        f'<item id="{name}" href="Text/{name}.xhtml" media-type="application/xhtml+xml"/>'
        for name in pages
    )
    order = "".join(f'<itemref idref="{name}"/>' for name in pages) if spine is None else spine
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        f'xmlns:opf="http://www.idpf.org/2007/opf"><metadata>{metadata}</metadata>'
        f"<manifest>{held}{items}</manifest><spine{toc}>{order}</spine></package>"
    )
    files = {f"OEBPS/Text/{name}.xhtml": page(body) for name, body in pages.items()}
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": CONTAINER,
            "OEBPS/book.opf": opf,
            **files,
            **entries,
        }
    )


def read(data: bytes) -> Document:
    (document,) = EpubParser().parse(data, "book.epub")
    assert isinstance(document, Document)
    return document


def test_pages_are_read_in_the_order_of_the_spine() -> None:
    document = read(
        book(
            {"b": "<h1>Second</h1><p>two</p>", "a": "<h1>First</h1><p>one</p>"},
            spine='<itemref idref="a"/><itemref idref="b"/><itemref idref="a"/>',
        )
    )
    assert document.text == "First\n\none\n\nSecond\n\ntwo"
    assert [(each.title, each.level) for each in document.sections] == [("First", 1), ("Second", 1)]
    assert document.title == "The Law"
    assert document.warnings == ()
    assert dict(document.metadata) == {
        "authors": ("Ada", "Bo"),
        "language": "en",
        "keywords": ("Leases",),
        "date": "1999-05-01",
        "isbn": "9780306406157",
        "doi": "10.1000/xyz",
    }


NAV = page(
    '<nav epub:type="landmarks"><ol><li><a href="Text/a.xhtml">Cover</a></li></ol></nav>'
    '<nav xmlns:epub="http://www.idpf.org/2007/ops" epub:type="toc"><ol>'
    '<li><a href="Text/a.xhtml">Part I</a><ol><li><a href="Text/a.xhtml#c1">Chapter 1</a></li>'
    '<li><a href="Text/b.xhtml#start">Chapter <b>2</b></a></li></ol></li></ol></nav>'
)
NCX = (
    '<!DOCTYPE ncx PUBLIC "-//NISO//DTD ncx 2005-1//EN" "http://www.daisy.org/z3986/2005/ncx.dtd">'
    '<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap><navPoint><navLabel><text>Part I'
    '</text></navLabel><content src="Text/a.xhtml"/><navPoint><navLabel><text>Chapter 2</text>'
    '</navLabel><content src="Text/b.xhtml"/></navPoint></navPoint></navMap></ncx>'
)


@pytest.mark.parametrize("version", ["nav", "ncx"])
def test_the_table_of_contents_names_sections_and_headings_nest_below(version: str) -> None:
    pages = {"a": "<h2>Chapter 1</h2><p>one</p>", "b": "<h2>Chapter 2</h2><p>two</p><h3>x</h3><p>y"}
    if version == "nav":
        item = '<item id="t" href="toc.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
        document = read(book(pages, items=item, **{"OEBPS/toc.xhtml": NAV}))
    else:
        item = '<item id="t" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
        document = read(book(pages, items=item, toc=' toc="t"', **{"OEBPS/toc.ncx": NCX}))
    assert [(each.title, each.level) for each in document.sections] == [
        *(("Part I", 1), ("Chapter 1", 2), ("Chapter 2", 2), ("x", 3)),
    ]
    chapter = document.sections[2]
    assert document.text[chapter.start_char : chapter.end_char] == "Chapter 2\n\ntwo\n\nx\n\ny"


def test_a_printed_table_of_contents_is_marked_as_one() -> None:
    item = '<item id="t" href="toc.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    data = book(
        {"a": "<p>one</p>"},
        items=item,
        spine='<itemref idref="t"/><itemref idref="a"/>',
        **{"OEBPS/toc.xhtml": NAV},
    )
    document = read(data)
    (region,) = document.regions
    assert region.role == "contents"
    assert document.text[region.end_char :] == "\n\none"


def test_what_is_left_out_is_said() -> None:
    items = (
        '<item id="p" href="p.svg" media-type="image/svg+xml"/>'
        '<item id="gone" href="gone.xhtml" media-type="application/xhtml+xml"/>'
        '<item id="bad" href="bad.xhtml" media-type="application/xhtml+xml"/>'
    )
    spine = "".join(f'<itemref idref="{each}"/>' for each in ("p", "a", "gone", "bad", "unknown"))
    document = read(
        book(
            {"a": "<p>one</p>"},
            items=items,
            spine=spine,
            **{"OEBPS/p.svg": "<svg/>", "OEBPS/bad.xhtml": bytes(range(256)) * 9},
        )
    )
    assert document.text == "one"
    assert document.warnings[:2] == (
        "pages that are pictures left out: 1",
        "pages of the spine that the package lacks: 2",
    )
    assert document.warnings[2].startswith("pages that cannot be read: 1 (OEBPS/bad.xhtml")


def encryption(target: str, method: str) -> str:
    return (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><EncryptedData '
        f'xmlns="http://www.w3.org/2001/04/xmlenc#"><EncryptionMethod Algorithm="{method}"/>'
        f'<CipherData><CipherReference URI="{target}"/></CipherData></EncryptedData></encryption>'
    )


def test_locked_pages_are_refused_and_obfuscated_fonts_are_not() -> None:
    lock = "http://www.w3.org/2001/04/xmlenc#aes128-cbc"
    pages = {"a": "<p>one</p>"}
    locked = book(pages, **{"META-INF/encryption.xml": encryption("OEBPS/Text/a.xhtml", lock)})
    with pytest.raises(Rejected) as refusal:
        read(locked)
    assert refusal.value.reason is RejectReason.ENCRYPTED
    font = encryption("OEBPS/f.otf", "http://www.idpf.org/2008/embedding")
    assert read(book(pages, **{"META-INF/encryption.xml": font})).text == "one"


def test_entities_of_the_package_expand_nothing() -> None:
    declared = '<!DOCTYPE package [<!ENTITY a "lol"><!ENTITY b SYSTEM "file:///etc/passwd">]>'
    data = book({"a": "<p>one</p>"}, metadata="<dc:title>x&a;y&b;z</dc:title>")
    entries = _entries(data)
    entries["OEBPS/book.opf"] = declared.encode() + entries["OEBPS/book.opf"]
    assert read(zipped(entries)).title == "x&a;y&b;z"


def _entries(data: bytes) -> dict[str, bytes]:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_books_without_a_container_or_without_words() -> None:
    entries = _entries(book({"a": "<p>one</p>"}))
    del entries["META-INF/container.xml"]
    assert read(zipped(entries)).text == "one"
    with pytest.raises(NoTextFound, match="1 pages"):
        read(book({"a": "<img src='x.png'/>"}))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", RejectReason.EMPTY),
        (b"PK\x03\x04", RejectReason.MALFORMED),
        (zipped({"mimetype": "application/epub+zip"}), RejectReason.MALFORMED),
        (zipped({"a.opf": "<package/>"}), RejectReason.MALFORMED),
        (zipped({"a.opf": ""}), RejectReason.MALFORMED),
        (zipped({"a.opf": "not xml at all"}), RejectReason.MALFORMED),
    ],
)
def test_what_is_no_book_is_refused_by_name(data: bytes, reason: RejectReason) -> None:
    with pytest.raises(Rejected) as refusal:
        read(data)
    assert refusal.value.reason is reason and "book.epub" in refusal.value.message
