"""HTML: what a reader sees, headings at their offsets, encodings, and pages built to hurt."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.core.errors import LongleafError, NoTextFound, Rejected, RejectReason
from longleaf.core.types import Document
from longleaf.indexer.parsers.html import HtmlParser


def read(source: str | bytes) -> Document:
    data = source if isinstance(source, bytes) else source.encode()
    (document,) = HtmlParser().parse(data, "page.html")
    assert isinstance(document, Document)
    return document


def test_a_page_reads_as_its_reader_sees_it() -> None:
    document = read("""<!doctype html><html lang="en-GB"><head>
        <title>The  Act &amp; its  <!-- no --> notes</title>
        <meta name="Author" content="Ada"><meta name=citation_author content="Bo">
        <meta name="citation_publication_date" content="2019/03/21">
        <meta property="og:description" content="About &lt;it&gt;">
        <meta name=keywords content="a, b">
        <style>p {}</style><script>var hidden = "<p>no</p>"</script></head>
        <body><h1>The <em>Act</em></h1><p>One&nbsp;two<br>three <b>bo</b>ld&shy;er</p>
        <template><p>no</p></template><noscript>no</noscript><svg><text>no</text></svg>
        <div hidden><p>no</p></div>
        <ul><li>first<li>second</ul>
        <table><tr><th>Name<th>Fee</tr><tr><td>X</td><td></td><td>10 <i>EUR</i></td></tr></table>
        <h2>Part <span>B</span></h2><pre>  a
    b</pre><div>in<div>ner</div></div>tail</body></html>""")
    assert document.text == (
        "The Act\n\nOne two\nthree bolder\n\nfirst\nsecond\n\nName\tFee\nX\t10 EUR\n\n"
        "Part B\n\n  a\n    b\n\nin\nner\ntail"
    )
    assert [(s.title, s.level, document.text[s.start_char :][:4]) for s in document.sections] == [
        ("The Act", 1, "The "),
        ("Part B", 2, "Part"),
    ]
    assert document.sections[1].end_char == len(document.text)
    assert document.title == "The Act & its <!-- no --> notes"
    assert dict(document.metadata) == {
        "language": "en-GB",
        "author": ("Ada", "Bo"),
        "date": "2019-03-21",
        "description": "About <it>",
        "keywords": ("a", "b"),
    }


def test_the_title_falls_back_to_a_heading_then_to_the_first_line() -> None:
    assert read("<p>x</p><h2>Second</h2>").title == "Second"
    assert read("<p>Some words</p>").title == "Some words"


@pytest.mark.parametrize(
    ("data", "text", "warned"),
    [
        ("<p>é“§”".encode(), "é“§”", False),
        ("<p>é“§”".encode("utf-16"), "é“§”", False),
        (b'<meta charset="iso-8859-1"><p>\x93\xe9\x94', "“é”", False),
        ("<meta charset=gbk><p>合同".encode("gbk"), "合同", False),
        (b'<meta http-equiv=x content="text/html; charset=koi8-r"><p>\xd7', "в", False),
        (b"<meta charset=utf-7><p>a+AGE-", "a+AGE-", False),
        (b"<meta charset=unicode_escape><p>\\ud800", "\\ud800", False),
        ("<meta charset=utf-16><p>é".encode(), "é", False),
        (b"<p>\xe9", "é", True),
        (b"<p>a&#0;b&#xD800;c&#13;d", "a\ufffdb\ufffdc d", False),
    ],
)
def test_the_encoding_is_the_marked_or_the_declared_one(
    data: bytes, text: str, warned: bool
) -> None:
    document = read(data)
    assert document.text == text
    assert bool(document.warnings) == warned


@pytest.mark.parametrize("start", ['<?xml version="1.0"?>', '<html xmlns="x">'])
def test_what_xhtml_closes_in_itself_does_not_swallow_the_page(start: str) -> None:
    source = f"{start}<title/><script src='x'/><p id='a'/><p>one<br/><i class='x' />two</p>"
    assert read(source).text == "one\ntwo"
    assert read("<p>one<i/>two").text == "onetwo"


def test_pages_without_words_say_so() -> None:
    with pytest.raises(NoTextFound):
        read("<html><script>app()</script><img src=x><p> &nbsp; </p>")
    with pytest.raises(Rejected) as refusal:
        read(b"")
    assert refusal.value.reason == RejectReason.EMPTY


@pytest.mark.parametrize(
    "source",
    [
        "<div>" * 100_000 + "hello" + "</div>" * 100_000,
        "<b>hello</i>" * 20_000,
        "<ul><li>" * 30_000 + "hello",
        "<" * 100_000 + " hello",
        "<a " * 100_000 + "><p>hello",
    ],
    ids=["nested", "misnested", "lists", "brackets", "unclosed"],
)
def test_hostile_nesting_takes_linear_time(source: str) -> None:
    started = time.process_time()
    document = read(source)
    # The first takes 18 s when the parser sees it as it is.
    assert time.process_time() - started < 5
    assert "hello" in document.text


def test_nesting_that_no_page_means_is_refused() -> None:
    with pytest.raises(Rejected, match="nests more than 250,000") as raised:
        read("<div>" * 250_001 + "words")
    assert raised.value.reason is RejectReason.MALFORMED


def test_flattening_keeps_the_words_and_is_said() -> None:
    deep = "".join(f"<div>w{n} " for n in range(3_000)) + "</div>" * 3_000 + "<h1>After</h1>"
    document = read(deep)
    assert document.text.split() == [*(f"w{n}" for n in range(3_000)), "After"]
    assert "nested 3,000 deep" in document.warnings[0]
    assert [section.title for section in document.sections] == ["After"]
    assert read("<p>x</p>" * 3_000).warnings == ()


@pytest.mark.parametrize(
    ("style", "seen"),
    [
        ("display:none", False),
        ("DISPLAY : None ;", False),
        ("color:red;display:none!important;display:block", False),
        ("display:block;display:none", False),
        ("/* ; */display/**/:/* x */none", False),
        ("background:url(data:image/png;base64,x);display:none", False),
        ("font-family:'a;b';display:none", False),
        ("visibility:hidden", False),
        ("visibility: collapse", False),
        ("display:none;display:block", True),
        ("content:'display:none'", True),
        ("content:';display:none;'", True),
        ("background:url(x;display:none;y)", True),
        ("/*display:none*/", True),
        ("x-display:none", True),
        ("display:none-of-it", True),
        ("visibility:inherit", True),
        ("font-size:0;opacity:0", True),
        ("display", True),
        (";:;:;'", True),
    ],
)
def test_inline_styles_that_hide(style: str, seen: bool) -> None:
    page = f'<p>before</p><div style="{style}"><h2>In</h2><p>side</p></div><p>behind</p>'
    document = next(HtmlParser().parse(page.encode(), "a.html"))
    assert isinstance(document, Document)
    inside = "In\n\nside\n\n" if seen else ""
    assert document.text == f"before\n\n{inside}behind"
    assert [section.title for section in document.sections] == (["In"] if seen else [])


def test_what_is_visible_inside_the_invisible_is_read() -> None:
    page = (
        "<div style='visibility:hidden'>no <b style='visibility:visible'>yes "
        "<i style='display:none'>no</i></b><img style='visibility:visible'> no</div>"
        "<p aria-hidden=true>For eyes only"
    )
    document = next(HtmlParser().parse(page.encode(), "a.html"))
    assert isinstance(document, Document) and document.text == "yes\n\nFor eyes only"


_PIECES = ["<h1>", "</h1>", "<h3>a", "<p>", "x y", " ", "<pre>", "</pre>", "<td>", "<div hidden>"]
_PIECES += [
    "<?pi?>",
    "<!--",
    "-->",
    "</div>",
    "<br>",
    "&nbsp;",
    "<table>",
    "\n",
    "<svg>",
    "<title>",
]


@given(st.lists(st.sampled_from(_PIECES) | st.text(max_size=5), max_size=30).map("".join))
def test_sections_begin_with_their_titles_for_any_page(source: str) -> None:
    try:
        document = read(source.encode("utf-8", "replace"))
    except LongleafError:
        return
    assert document.text.strip() and document.title
    for section in document.sections:
        found = " ".join(document.text[section.start_char : section.end_char].split())
        assert found.startswith(section.title.rstrip("…"))
