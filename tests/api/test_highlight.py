"""What a reader sees marked."""

from __future__ import annotations

from itertools import pairwise

from longleaf.api.highlight import Highlighter
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
