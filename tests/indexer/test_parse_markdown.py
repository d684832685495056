"""Markdown: exact offsets in the author's own source, front matter, titles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.core.errors import NoTextFound, Rejected
from longleaf.core.types import Document
from longleaf.indexer.parsers.markdown import MarkdownParser


def read(text: str) -> Document:
    (document,) = MarkdownParser().parse(text.encode(), "notes.md")
    assert isinstance(document, Document)
    return document


def test_headings_are_sections_at_their_place_in_the_source() -> None:
    text = (
        "Intro\n\n# The *Big* `one` [here](http://x)\n\ntext\n\n"
        "```\n# code\n```\n\n> # quoted\n\n   ### Deep\n\nSet\nText\n----\n\nend\n"
    )
    document = read(text)
    assert document.text == text
    assert [(s.title, s.level, text[s.start_char :][:6]) for s in document.sections] == [
        ("The Big one here", 1, "# The "),
        ("Deep", 2, "### De"),
        ("Set Text", 2, "Set\nTe"),
    ]
    assert document.sections[0].end_char == len(text)
    assert document.sections[1].end_char == document.sections[2].start_char
    assert document.title == "The Big one here"


def test_front_matter_becomes_metadata_and_leaves_the_text() -> None:
    document = read(
        '---\ntitle: "Annual: report"\nyear: 2020\nscore: 1.5\ndraft: false\n'
        "tags: [a, 'b c']\nauthors:\n  - Ada\n  - Bo\ndate: 2020-03-01\n# note\n---\n# Body\n\nx\n"
    )
    assert document.title == "Annual: report"
    assert document.text == "# Body\n\nx\n"
    assert document.sections[0].start_char == 0
    assert dict(document.metadata) == {
        "year": 2020,
        "score": 1.5,
        "draft": False,
        "tags": ("a", "b c"),
        "authors": ("Ada", "Bo"),
        "date": "2020-03-01",
    }


@pytest.mark.parametrize(
    "text", ["---\na: b\nfree words\n---\nBody\n", "---\n\nBody\n", "---\na: b\nno end\n"]
)
def test_what_is_no_plain_front_matter_stays_in_the_text(text: str) -> None:
    document = read(text)
    assert document.text == text
    assert document.metadata == {}


def test_without_headings_the_look_of_lines_decides() -> None:
    document = read("Plain licence\n\nSection 1. Terms\n\nSome words.\n")
    assert [section.title for section in document.sections] == ["Section 1. Terms"]
    assert document.title == "Plain licence"


def test_nothing_to_read_is_said() -> None:
    with pytest.raises(NoTextFound):
        read("---\ntitle: x\n---\n\n")
    with pytest.raises(Rejected):
        read(" \n")


_LINES = ["# A", "## B *c*", "text", "", "- item", "> # q", "```", "Set", "===", "   # D", "\t# e"]


@given(st.lists(st.sampled_from(_LINES) | st.text(max_size=12), min_size=1).map("\n".join))
def test_sections_begin_at_headings_for_any_markdown(text: str) -> None:
    try:
        document = read(text)
    except (Rejected, NoTextFound):
        return
    starts = [section.start_char for section in document.sections]
    assert starts == sorted(set(starts))
    for start in starts:
        assert not document.text[start].isspace()
        assert document.text[:start].rpartition("\n")[2].strip() == ""
