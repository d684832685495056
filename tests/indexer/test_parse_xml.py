# ruff: noqa: E501 - markup reads better unbroken
"""XML: which vocabulary, encodings, entities, broken markup; and files built to hurt."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.core.errors import LongleafError, NoTextFound, Rejected, RejectReason
from longleaf.core.types import Document
from longleaf.indexer.parsers import xml_tree
from longleaf.indexer.parsers.xml import XmlParser

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def read(source: str | bytes, name: str = "a.xml") -> Document:
    data = source if isinstance(source, bytes) else source.encode()
    (document,) = XmlParser().parse(data, name)
    assert isinstance(document, Document)
    return document


def titles(document: Document) -> list[tuple[int, str]]:
    return [(section.level, section.title) for section in document.sections]


# --- an unknown vocabulary -----------------------------------------------------------------------


def test_an_unknown_vocabulary_is_read_by_its_structure_and_says_so() -> None:
    document = read("""<?xml version="1.0"?><memo date="2020-01-01"><title>On fees</title>
        <to>Ada</to><from>Bo</from>
        <body><para>The <b>fee</b> is <i>due</i>.</para><para>Second.</para>
        <list><entry>one</entry><entry>two <list><entry>deep</entry></list> more</entry></list>
        <part><heading>Costs</heading><para>None.</para></part>
        <table><row><entry>a</entry><entry>b</entry></row><row><entry/><entry>c</entry></row></table>
        </body></memo>""")
    assert document.text == (
        "On fees\n\nAda\nBo\n\nThe fee is due.\n\nSecond.\n\none\n\ntwo\n\ndeep\n\nmore\n\n"
        "Costs\n\nNone.\n\na | b\n| c"
    )
    assert document.title == "On fees"
    assert titles(document) == [(1, "On fees"), (2, "Costs")]
    assert document.warnings == (
        "XML of an unknown vocabulary (memo): read as the text of its elements, without attributes",
    )


def test_xhtml_is_a_web_page() -> None:
    document = read(
        '<?xml version="1.0" encoding="iso-8859-1"?>'
        '<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>Été</h1><p>x</p></body></html>'.encode(
            "latin-1"
        )
    )
    assert document.text == "Été\n\nx"
    assert document.warnings == ()


def test_a_file_without_text_is_no_document() -> None:
    with pytest.raises(NoTextFound, match="without any text"):
        read("<a><b c='words'/></a>")


# --- encodings and entities ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("<a>é“§”</a>".encode(), "é“§”"),
        ('<?xml version="1.0" encoding="UTF-16"?><a>é</a>'.encode("utf-16"), "é"),
        ('<?xml version="1.0" encoding="windows-1251"?><a>право</a>'.encode("cp1251"), "право"),
        ('<?xml version="1.0" encoding="Shift_JIS"?><a>契約</a>'.encode("cp932"), "契約"),
        (b'<?xml version="1.0" encoding="utf-8"?><a>\xe9t\xe9</a>', "été"),
        (b'<?xml version="1.0" encoding="none-such"?><a>a\xe9</a>', "aé"),
        (b"\n <?xml version='1.0'?><a>behind white space</a>", "behind white space"),
        (b"<a>&#8212;&#x20AC;&lt;<![CDATA[<b> & c]]></a>", "—€<<b> & c"),
        (b"<a>x&nbsp;y&mdash;z&alpha;</a>", "x y—zα"),
        (b"<a>one<!-- no -->two<?no way?>three</a>", "onetwothree"),
    ],
)
def test_the_declared_encoding_and_html_entities_are_read(data: bytes, text: str) -> None:
    assert read(data).text == text


def test_entities_of_the_file_itself_are_read_and_others_named() -> None:
    document = read("""<!DOCTYPE a SYSTEM "other.dtd" [<!ENTITY co "ACME &amp; <b>Sons</b> &in;">
        <!ENTITY in "Inc."><!ENTITY part SYSTEM "part-2.xml">]>
        <a>By &co; and &co;. &part; &nowhere;</a>""")
    assert document.text == "By ACME & Sons Inc. and ACME & Sons Inc.. &part; &nowhere;"
    assert document.warnings[:2] == (
        "other files that it draws in were not read: part",
        "entities that it does not declare: nowhere",
    )


# --- broken and hostile --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"<a><p>whole</p><p>cut sho", "whole\ncut sho"),
        (b"<a><p>one</p><p>two</q> more</a>", "one\ntwo more"),
        (b"<a>x & y < 5</a>", "x  y  5"),
        (b"<a>one</a><a>two</a>", "one"),
        (b"<a>bad \x01 character</a>", "bad character"),
    ],
)
def test_broken_markup_is_read_as_far_as_possible_with_a_warning(data: bytes, text: str) -> None:
    document = read(data)
    assert document.text.split() == text.split()
    assert any("not well-formed XML (line 1: " in note for note in document.warnings)


@pytest.mark.parametrize(
    "data", [b"just words", b"{}", b"<", b"<a b=1>words</a>", b"<!-- only -->", b"<?xml?>"]
)
def test_what_is_no_xml_is_malformed(data: bytes) -> None:
    with pytest.raises(Rejected) as refusal:
        read(data)
    assert refusal.value.reason in (RejectReason.MALFORMED, RejectReason.EMPTY)
    assert "a.xml" in refusal.value.message


def _laughs(depth: int, width: int, where: str) -> bytes:
    declared = "".join(
        f'<!ENTITY l{number} "{f"&l{number - 1};" * width}">' for number in range(1, depth)
    )
    return f'<!DOCTYPE a [<!ENTITY l0 "lol">{declared}]>{where % f"&l{depth - 1};"}'.encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_laughs(10, 10, "<a>%s</a>"), RejectReason.EXPANDS),
        (_laughs(10, 10, "<a b='%s'>x</a>"), RejectReason.EXPANDS),
        (_laughs(200, 2, "<a>%s</a>"), RejectReason.EXPANDS),
        (b'<!DOCTYPE a [<!ENTITY b "' + b"b" * 90_000 + b'">]><a>' + b"&b;" * 90_000 + b"</a>",
         RejectReason.EXPANDS),
        (b'<!DOCTYPE a [<!ENTITY b "&c;"><!ENTITY c "&b;">]><a>&b;</a>', RejectReason.EXPANDS),
        (b"<a>" * 100_000 + b"x" + b"</a>" * 100_000, RejectReason.MALFORMED),
        (b"<a>" * 2_000_000, RejectReason.MALFORMED),
        (b"<a>" + b"x" * 12_000_000 + b"</a>", RejectReason.TOO_LARGE),
        (b"<a>" + b"<b/>" * xml_tree.MAX_TAGS + b"</a>", RejectReason.TOO_MUCH_MEMORY),
    ],
)  # fmt: skip
def test_bombs_are_refused_by_name(data: bytes, reason: RejectReason) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Rejected) as refusal:
            read(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refusal.value.reason == reason
    assert peak_bytes < 3 * len(data) + 4_000_000


def test_our_own_budget_holds_where_libxml2_lets_entities_pass() -> None:
    entities = xml_tree.Entities("a.xml", {"b": "b" * 1_000})
    with pytest.raises(Rejected) as refusal:
        [entities.text("b") for _ in range(3_000)]
    assert refusal.value.reason == RejectReason.EXPANDS
    chain = {f"e{n}": f"&e{n + 1};" for n in range(100)}
    with pytest.raises(Rejected):
        xml_tree.Entities("a.xml", chain).text("e0")


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE a [<!ENTITY x SYSTEM "{url}">]><a>one &x; two</a>',
        '<!DOCTYPE a [<!ENTITY % x SYSTEM "{url}"> %x;]><a>one &y; two</a>',
        '<!DOCTYPE a SYSTEM "{url}"><a>one &y; two</a>',
        '<!DOCTYPE a PUBLIC "-//x//y" "{url}"><a>one &y; two</a>',
        '<a xmlns:i="http://www.w3.org/2001/XInclude">one <i:include href="{url}" parse="text"/> two</a>',
        '<?xml-stylesheet href="{url}"?><a xmlns:x="x" x:schemaLocation="x {url}">one two</a>',
    ],
)
def test_nothing_outside_the_file_is_opened(
    document: str, tmp_path: Path, opened: list[str]
) -> None:
    """A DTD that would be read if it were opened: its entity's text must not appear."""
    secret = tmp_path / "secret"
    secret.write_text('<!ENTITY y "the secret">')
    opened.clear()
    found = read(document.replace("{url}", secret.as_uri()))
    assert "secret" not in found.text
    assert found.text.startswith("one") and found.text.endswith("two")
    assert not [path for path in opened if "secret" in path]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What libxml2 asks to have opened; our resolver is the only door left."""
    from lxml import etree

    seen: list[str] = []
    real: Callable[..., object] = etree.XMLParser

    def spied(**options: object) -> object:
        parser = real(**options)

        class Spy(etree.Resolver):
            def resolve(self, system_url, public_id, context):  # type: ignore[no-untyped-def]
                seen.append(str(system_url))

        parser.resolvers.add(Spy())  # type: ignore[attr-defined]
        return parser

    monkeypatch.setattr(etree, "XMLParser", spied)
    return seen


@pytest.mark.parametrize("root", ["article", "TEI", "akomaNtoso", "anything"])
@pytest.mark.parametrize(
    "nest",
    [
        ("<table><tr><td>", "</td></tr></table>"),
        ("<fn><p>", "</p></fn>"),
        ("<note>", "</note>"),
        ("<authorialNote>", "</authorialNote>"),
        ("<sec><title>t</title>", "</sec>"),
        ("<section><num>1</num><heading>", "</heading></section>"),
        ("<sub-article><body>", "</body></sub-article>"),
        ("<front><abstract>", "</abstract></front>"),
        ("<math><mfrac><mi>a</mi><mrow>", "</mrow></mfrac></math>"),
        ("<list><list-item><label>x</label>", "</list-item></list>"),
    ],
)
def test_nesting_as_deep_as_xml_allows_is_read(root: str, nest: tuple[str, str]) -> None:
    each = nest[0].count("<") - nest[0].count("</")
    times = 250 // each
    source = f"<{root}><body>{nest[0] * times}word{nest[1] * times}</body></{root}>"
    assert "word" in read(source).text


def test_many_small_things_take_time_in_proportion() -> None:
    """Each of these was built to be quadratic; together they are a second, not a minute."""
    many = 30_000
    for source in (
        "<article><body><p>" + "<tex-math>x</tex-math>" * many + "</p></body></article>",
        "<article><body><p>" + "<xref>1</xref>,&nbsp;" * many + "</p></body></article>",
        "<article><body><p>" + "w<fn><p>n</p></fn>" * many + "</p></body></article>",
        "<akomaNtoso><section>" + "<num>1</num>" * many + "</section></akomaNtoso>",
        "<akomaNtoso><body>" + "<section><num>1</num></section>" * many + "</body></akomaNtoso>",
        "<a>" + "<title>t</title>" * many + "</a>",
        "<TEI><text><p>" + "w<note>n</note>" * many + "</p></text></TEI>",
    ):
        assert len(read(source).text) >= many


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode()))
def test_any_bytes_give_storable_text_or_a_named_refusal(data: bytes) -> None:
    try:
        document = read(b"<a>" + data + b"</a>")
    except LongleafError:
        return
    assert document.text.strip() and document.text.encode()
    assert not set("\0\r") & set(document.text)


_NAMES = st.sampled_from(
    [
        *(
            "article",
            "front",
            "article-meta",
            "title-group",
            "article-title",
            "contrib-group",
            "name",
        ),
        *(
            "contrib",
            "surname",
            "body",
            "sec",
            "title",
            "label",
            "p",
            "list",
            "list-item",
            "fn",
            "xref",
        ),
        *(
            "sup",
            "ref-list",
            "ref",
            "mixed-citation",
            "element-citation",
            "table",
            "tr",
            "td",
            "math",
        ),
        *(
            "disp-formula",
            "mfrac",
            "mi",
            "tex-math",
            "TEI",
            "teiHeader",
            "text",
            "div",
            "head",
            "note",
        ),
        *("listBibl", "bibl", "akomaNtoso", "meta", "section", "num", "heading", "content", "toc"),
        *("authorialNote", "quotedStructure", "def-item", "term", "def"),
    ]
)
_TREES = st.recursive(
    st.text("ab &1", max_size=6).map(lambda text: text.replace("&", "&amp;")),
    lambda inner: st.builds(
        lambda name, parts: f"<{name}>{''.join(parts)}</{name}>",
        _NAMES,
        st.lists(inner, max_size=4),
    ),
    max_leaves=25,
)


@settings(deadline=None)
@given(st.sampled_from(["article", "TEI", "akomaNtoso", "x"]), _TREES)
def test_any_tree_gives_sound_sections_and_regions(root: str, inside: str) -> None:
    try:
        document = read(f"<{root}><body>{inside}</body></{root}>")
    except NoTextFound:
        return
    text = document.text
    assert text == text.strip()
    for section in document.sections:
        assert 0 <= section.start_char < section.end_char <= len(text)
    starts = [section.start_char for section in document.sections]
    assert starts == sorted(starts)
    before = 0
    for region in sorted(document.regions, key=lambda region: region.start_char):
        assert before <= region.start_char < region.end_char <= len(text)
        before = region.end_char


def test_broken_files_end_in_a_named_outcome_and_nothing_else() -> None:
    files = sorted((DATA / "malformed").rglob("*.xml"))
    if not files:
        pytest.skip("the shared test data is not on this machine")
    outcomes = set()
    for path in files:
        try:
            document = read(path.read_bytes(), path.name)
        except (Rejected, NoTextFound) as refusal:
            outcomes.add(getattr(refusal, "reason", "no text"))
            continue
        outcomes.add("read")
        assert document.text.strip() and document.title
    assert "read" in outcomes and "no text" in outcomes
