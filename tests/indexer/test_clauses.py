"""Which clause a sentence belongs to, told from the labels that lines begin with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.growth import assert_linear

from longleaf.indexer.clauses import clause_units
from longleaf.indexer.sentences import sentence_spans

# Before each unit: "*" for a label, and how many clauses the border before it lies inside.
GOLDEN = [
    "0 Preamble here.\n*0 1. First.\n1 More of it.\n*1 1.1 Sub one\n*2 (a) an item; and\n"
    "*2 (b) other.\n3 More.\n*1 1.2 Sub two\n*0 2. Second.\n",
    # "(i)" is a letter behind "(h)" and a number elsewhere; so are "(v)" and "(x)".
    "*0 (h) aitch\n*0 (i) eye\n*0 (j) jay",
    "*0 (a) one:\n*1 (i) two\n*1 (ii) three\n*0 (b) four:\n*1 (i) five",
    "*0 (iv) four\n*0 (v) five\n*0 (vi) six",
    "*0 (u) you\n*0 (v) vee\n*0 (w) double",
    "*0 (viii) eight\n*0 (ix) nine\n*0 (x) ten\n*0 (xi) eleven",
    # Whichever comes first is the outer one.
    "*0 (1) One:\n*1 (a) Two\n*1 (b) Three\n*0 (2) Four",
    "*0 (a) One:\n*1 (1) Two\n*1 (2) Three\n*0 (b) Four",
    # A statute's labels on lines of their own.
    "0 The Board.\n\n*0 (a)\nIt meets.\n1 It votes.\n*1 (1)\nOnce;\n*1 (2)\nTwice;\n*1 (2A)\nMore."
    "\n*0 (a-1)\nIt may rest.\n*0 (b)\nIt ends.",
    "*0 ARTICLE I\n\n*1 Section 1. The rent.\n2 It is due.\n*1 Section 2. The term.\n*0 ARTICLE II",
    "*0 2. Two.\n*1 2.1. two one; and\n*2 2.1.1. two one one\n*1 2.2. Two two.\n*0 3. Three.",
    # The outer number of a nested one may be missing.
    "*0 2.1 Two one.\n*0 2.2 Two two.\n*0 3. Three.",
    "0 Buy:\n*0 • milk\n*0 • bread",
    # Words, years and initials are no labels.
    "0 In May.\n\n0 1998 was a year.\n\n0 No. 5 is here.",
    "0 See rule (a) here.\n0 And (b) there.",
]


@pytest.mark.parametrize("marked", GOLDEN)
def test_golden_depths(marked: str) -> None:
    wanted, text = [], ""
    for part in marked.splitlines(keepends=True):
        head, _, rest = part.partition(" ")
        if head.lstrip("*").isdigit() and head[-1] in "0123456789" and (rest or head[0] == "*"):
            labelled, depth = head[0] == "*", head.lstrip("*")
            if len(depth) == 1:
                wanted.append((int(depth), labelled))
                text += rest
                continue
        text += part
    spans = sentence_spans(text, 0, len(text))
    assert [tuple(unit) for unit in clause_units(text, spans)] == wanted


@given(st.text(st.sampled_from("(a)(i)1.2.B •\n\t ")), st.integers(0, 5))
def test_any_labels_give_sane_depths(text: str, skip: int) -> None:
    spans = sentence_spans(text, min(skip, len(text)), len(text))
    units = clause_units(text, spans)
    assert len(units) == len(spans)
    assert not units or units[0].depth == 0
    assert all(0 <= unit.depth <= 8 for unit in units)


@pytest.mark.parametrize(
    "unit", ["(a) x\n", "1.1 Aa\n", "(i) x\n(1) y\n", "a" * 50 + "\n\n", " \n"]
)
def test_time_grows_with_the_text(unit: str) -> None:
    def prepared(size_chars: int) -> tuple[str, list[tuple[int, int]]]:
        text = unit * (size_chars // len(unit))
        return text, sentence_spans(text, 0, len(text))

    assert_linear(prepared, lambda given: clause_units(*given), 25_000)
