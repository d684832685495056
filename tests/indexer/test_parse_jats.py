# ruff: noqa: E501 - markup reads better unbroken
"""JATS: what a reader of the paper sees, with its parts told apart; and 122 real papers."""

from __future__ import annotations

from pathlib import Path

import pytest

from longleaf.core.types import Document, Role
from longleaf.indexer.parsers.xml import XmlParser

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "documents" / "plos" / "xml"

PAPER = """<?xml version="1.0"?>
<!DOCTYPE article PUBLIC "-//NLM//DTD JATS v1.2//EN" "JATS-archivearticle1.dtd">
<article xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:mml="http://www.w3.org/1998/Math/MathML"
  xml:lang="en">
<front><journal-meta><journal-title-group><journal-title>Journal of Things</journal-title>
</journal-title-group><publisher><publisher-name>Press</publisher-name></publisher></journal-meta>
<article-meta><article-id pub-id-type="doi">10.1234/jt.7</article-id>
<article-id pub-id-type="pmid">123</article-id>
<article-categories><subj-group><subject>Hidden</subject></subj-group></article-categories>
<title-group><article-title>On <italic>IL-6</italic><xref ref-type="fn" rid="f">*</xref></article-title>
<subtitle>A study</subtitle></title-group>
<contrib-group><contrib contrib-type="author"><name><surname>Doe</surname><given-names>Ada B.</given-names>
</name><xref ref-type="aff" rid="a1"><sup>1</sup></xref></contrib>
<contrib contrib-type="author"><collab>The Group</collab></contrib>
<contrib contrib-type="editor"><name><surname>Ed</surname></name></contrib>
<aff id="a1"><label>1</label><institution>University</institution>, <country>Chile</country></aff>
</contrib-group>
<author-notes><fn><p>They declare nothing.</p></fn></author-notes>
<pub-date pub-type="collection"><year>2019</year></pub-date>
<pub-date pub-type="epub"><day>3</day><month>2</month><year>2020</year></pub-date>
<volume>4</volume><issue>2</issue><fpage>10</fpage><lpage>19</lpage>
<permissions><license><p>Free to share.</p></license></permissions>
<abstract><p>We show it.</p></abstract>
<abstract abstract-type="summary"><title>Summary for all</title><p>It works.</p></abstract>
<kwd-group><kwd>cytokine</kwd><kwd>mice</kwd></kwd-group></article-meta></front>
<body><sec><label>1.</label><title>Introduction</title>
<p>Known since long<sup><xref ref-type="bibr" rid="r1">1</xref>,<xref ref-type="bibr">2</xref></sup>,
10<sup>-5</sup> of H<sub>2</sub>O<fn id="f1"><label>a</label><p>A <bold>note</bold>.</p></fn> remain.</p>
<sec><title>Detail</title><list list-type="order"><list-item><p>first</p></list-item>
<list-item><p>second</p></list-item></list>
<p>Let <inline-formula><mml:math><mml:mfrac><mml:mrow><mml:mi>a</mml:mi><mml:mo>+</mml:mo>
<mml:mi>b</mml:mi></mml:mrow><mml:mn>2</mml:mn></mml:mfrac></mml:math></inline-formula> be it, and
<inline-formula><alternatives><tex-math>$\\alpha_{i} \\leq 2$</tex-math></alternatives></inline-formula>.</p>
<disp-formula><label>(1)</label><graphic xlink:href="e1.gif"/></disp-formula></sec></sec>
<sec><title>Results</title>
<fig><label>Figure 1</label><caption><title>Mice.</title><p>They are small.</p></caption></fig>
<table-wrap><label>Table 1.</label><caption><p>Numbers</p></caption><table><thead><tr><th>Name</th>
<th>n</th></tr></thead><tbody><tr><td>a <italic>b</italic></td><td/></tr><tr><td/><td/></tr>
<tr><td>c</td><td><p>1</p><p>2</p></td></tr></tbody></table>
<table-wrap-foot><fn><p>n: count</p></fn></table-wrap-foot></table-wrap>
<def-list><def-item><term>IL</term><def><p>interleukin</p></def></def-item></def-list></sec></body>
<back><ack><p>Thanks.</p></ack>
<ref-list><title>References</title>
<ref id="r1"><label>1</label><element-citation><person-group><name><surname>Roe</surname>
<given-names>C</given-names></name><etal/></person-group><year>1999</year>
<article-title>A title</article-title><source>Nature</source><volume>5</volume><issue>1</issue>
<fpage>1</fpage><lpage>9</lpage><pub-id pub-id-type="doi">10.1/x</pub-id></element-citation></ref>
<ref id="r2"><label>2.</label><mixed-citation><name><surname>Poe</surname> <given-names>E</given-names></name>.
<source>Tales</source>, 1840.</mixed-citation></ref></ref-list>
<fn-group><fn><p>Reviewed.</p></fn></fn-group></back>
<sub-article><front-stub><title-group><article-title>Decision letter</article-title></title-group>
</front-stub><body><p>Accepted.</p></body></sub-article></article>"""


@pytest.fixture(scope="module")
def paper() -> Document:
    (document,) = XmlParser().parse(PAPER.encode(), "paper.xml")
    assert isinstance(document, Document)
    return document


def test_the_text_is_the_printed_page_in_order(paper: Document) -> None:
    assert paper.text.split("\n\n") == [
        "On IL-6: A study",
        "Ada B. Doe, The Group",
        "1 University, Chile",
        "Journal of Things 4(2): 10–19, 2020-02-03\ndoi:10.1234/jt.7; PMID 123",
        "They declare nothing.",
        "Abstract",
        "We show it.",
        "Summary for all",
        "It works.",
        "Keywords: cytokine; mice",
        "1. Introduction",
        "Known since long[1,2], 10^-5 of H2O remain.",
        "a A note.",
        "Detail",
        "1. first",
        "2. second",
        "Let (a + b)/2 be it, and α_i ≤ 2.",
        "(1)",
        "Results",
        "Figure 1. Mice.",
        "They are small.",
        "Table 1. Numbers",
        "Name | n\na b |\nc | 1 2",
        "n: count",
        "IL: interleukin",
        "Acknowledgments",
        "Thanks.",
        "References",
        "1. Roe C, et al. (1999) A title. Nature. 5(1): 1–9. doi:10.1/x.\n2. Poe E. Tales, 1840.",
        "Reviewed.",
        "Decision letter",
        "Accepted.",
    ]
    assert paper.warnings == ("1 formulas are pictures: no text",)


def test_sections_are_the_titles_with_their_numbers(paper: Document) -> None:
    assert [(section.level, section.title) for section in paper.sections] == [
        (1, "Abstract"),
        (1, "Summary for all"),
        (1, "1. Introduction"),
        (2, "Detail"),
        (1, "Results"),
        (1, "Acknowledgments"),
        (1, "References"),
        (1, "Decision letter"),
    ]
    for section in paper.sections:
        assert paper.text.startswith(section.title, section.start_char)


def test_notes_and_references_are_regions(paper: Document) -> None:
    assert [
        (region.role, paper.text[region.start_char : region.end_char].split("\n")[0])
        for region in paper.regions
    ] == [
        (Role.FOOTNOTE, "They declare nothing."),
        (Role.FOOTNOTE, "a A note."),
        (Role.REFERENCES, "References"),
        (Role.FOOTNOTE, "Reviewed."),
    ]


def test_the_front_is_metadata(paper: Document) -> None:
    assert paper.title == "On IL-6: A study"
    assert dict(paper.metadata) == {
        "authors": ("Ada B. Doe", "The Group"),
        "date": "2020-02-03",
        "doi": "10.1234/jt.7",
        "issue": "2",
        "journal": "Journal of Things",
        "keywords": ("cytokine", "mice"),
        "language": "en",
        "pmid": "123",
        "publisher": "Press",
        "volume": "4",
    }


def test_real_papers_have_title_authors_doi_sections_and_references() -> None:
    files = sorted(DATA.glob("*.xml"))
    if not files:
        pytest.skip("the shared test data is not on this machine")
    for path in files[::3]:
        data = path.read_bytes()
        (document,) = XmlParser().parse(data, path.name)
        assert isinstance(document, Document)
        assert document.title and document.title in document.text
        assert str(document.metadata["doi"]) in document.text
        assert document.metadata["date"]
        assert ("authors" in document.metadata) == (b'contrib-type="author"' in data), path.name
        marked = {region.role for region in document.regions}
        assert (Role.REFERENCES in marked) == (b"<ref-list" in data), path.name
        assert bool(document.sections) or data.count(b"<title>") < 2, path.name
        # Nothing of the body is lost: its words are those of its tree.
        assert len(document.text) > 0.5 * _visible_chars(data)


def _visible_chars(data: bytes) -> int:
    from lxml import etree

    body = etree.fromstring(data, etree.XMLParser(load_dtd=False, no_network=True)).find("body")
    assert body is not None
    return len("".join(str(text) for text in body.itertext()))
