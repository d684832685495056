"""What a reader sees marked."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from longleaf.api.highlight import _UNFOLDED, Highlighter
from longleaf.core.types import PassageText


def marked(text: str, query: str, *phrases: str, start: int = 100) -> list[str]:
    passage = PassageText(1, 1, start, start + len(text), None, None, (), 9, text)
    spans = Highlighter(query, phrases).spans(passage)
    assert list(spans) == sorted(spans)
    assert all(left[1] < right[0] for left, right in pairwise(spans))
    return [text[begin - start : end - start] for begin, end in spans]


def test_query_words_and_their_other_endings_are_marked() -> None:
    text = "Licences granted under this Licence terminate; a license is no grantor."
    assert marked(text, "which licence terminates?") == ["Licences", "Licence", "terminate"]


def test_little_words_are_not_marked() -> None:
    assert marked("The tenant is in the house.", "is the tenant in it?") == ["tenant"]
    german = "Der Mieter wohnt in der Wohnung und zahlt die Miete für den Monat im voraus."
    assert marked(german, "Wann zahlt der Mieter die Miete?") == ["Mieter", "zahlt", "Miete"]


def test_phrases_are_marked_across_line_breaks_and_merge_with_words() -> None:
    text = "sold without\n    warranty of any kind"
    assert marked(text, "warranty sold", "without warranty") == ["sold", "without\n    warranty"]


def test_identifiers_are_one_word() -> None:
    assert marked("IL-6 and IL-10 rise.", "IL-6") == ["IL-6"]


def test_a_pattern_in_a_phrase_is_only_text() -> None:
    assert marked("costs (a+b)* more", "x", "(a+b)*") == ["(a+b)*"]


@given(
    st.text(st.sampled_from("patent Patents il-6 x/y'sé .ſß"), max_size=200),
    st.sampled_from(["patents", "il-6 patent", "x/y", "é patent", "s", "paté nts", "the a"]),
)
def test_looking_only_where_words_begin_marks_the_same(text: str, query: str) -> None:
    quick, slow = Highlighter(query), Highlighter(query)
    passage = PassageText(1, 1, 100, 100 + len(text), None, None, (), 9, text)
    found = quick.spans(passage)
    slow.spans(passage)
    slow._beginnings = None
    assert found == slow.spans(passage)


def test_all_letters_that_fold_to_ascii_are_known() -> None:
    folding = {
        chr(n) for n in range(0x80, 0x110000) if set(map(str.isascii, chr(n).casefold())) - {False}
    }
    assert {letter for letter in folding if _UNFOLDED.match(letter)} == folding
