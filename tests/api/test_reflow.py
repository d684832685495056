"""Line ends of a PDF that a paragraph flows over, and those that stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.api.http.reflow import soft_ends
from longleaf.api.http.textview import Piece, flowing, window
from longleaf.core.catalog import DocumentText

PROSE = """The tenant shall pay the rent on the first day of
each month, and the security deposit is returned to
the tenant within thirty days of the end of the
lease.
The landlord keeps the premises in good repair while
the tenant lives there."""


def shown(text: str) -> str:
    """As a reader sees it: soft line ends are spaces."""
    ends = set(soft_ends(text))
    assert all(text[place] == "\n" for place in ends)
    return "".join(" " if place in ends else char for place, char in enumerate(text))


def test_paragraphs_flow_and_end_where_they_end() -> None:
    assert shown(PROSE).split("\n") == [
        "The tenant shall pay the rent on the first day of each month, and the security deposit is "
        "returned to the tenant within thirty days of the end of the lease.",
        "The landlord keeps the premises in good repair while the tenant lives there.",
    ]


@pytest.mark.parametrize(
    "stays",
    [
        "(a) which begins a clause of its own in the lease,",
        "12. which begins a clause of its own in the lease",
        "- which is a point of a list in this long lease,",
        "    which is set in, as a quotation in the lease,",
        "Rent      1,200      monthly      of the lease end",
        "Article 4 ............................ page 12, 13",
        "",
    ],
)
def test_lists_tables_and_quotations_keep_their_lines(stays: str) -> None:
    before = "The tenant shall pay the rent on the first day of"
    text = f"{before}\n{stays}\n{PROSE}"
    assert len(before) not in soft_ends(text)
    assert soft_ends(text), "the prose behind it flows"


def test_lines_that_are_no_paragraph_stay() -> None:
    assert soft_ends("A short line\nof verse\nand another\nand one more\n") == []
    assert soft_ends("One line of quite some length stands here alone\nand one more") == []
    hyphen = PROSE.replace("security deposit is returned to", "security deposit is re-")
    assert "re-\nthe tenant" in shown(hyphen)


@given(st.text(alphabet="ab .-\n(1)§", max_size=400), st.data())
def test_nothing_of_the_text_changes(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [
        Piece(text[begin:end], marked=bool(begin % 2))
        for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)
    ]
    made = flowing(pieces)
    assert [(piece.text, piece.marked) for piece in made] == [
        (piece.text, piece.marked) for piece in pieces
    ]
    parts = [part for piece in made for part in piece.parts]
    assert "".join(part for part, _ in parts) == text
    soft = [part for part, is_soft in parts if is_soft]
    assert len(soft) == len(soft_ends(text)) and set(soft) <= {"\n"}


def test_only_what_was_cut_to_a_page_flows() -> None:
    document = DocumentText(PROSE)
    [flown] = window(document, None, (4, 60), flows=True).blocks
    [plain] = window(document, None, (4, 60)).blocks
    assert [piece.text for piece in flown.pieces] == [piece.text for piece in plain.pieces]
    assert sum(len(piece.soft) for piece in flown.pieces) == 4
    assert not any(piece.soft for piece in plain.pieces)
