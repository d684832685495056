"""Too long: what servers and services say, and a text made shorter."""

from __future__ import annotations

import pytest

from longleaf.core.lengths import first_part, says_too_long

SAID = [
    (400, "This model's maximum context length is 8192 tokens. However, you requested 9000"),
    (400, "The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
    (413, "`inputs` must have less than 512 tokens. Given: 556"),
    (422, "`inputs` must have less than 512 tokens. Given: 556"),
    (500, "input (518 tokens) is too large to process. increase the physical batch size"),
    (400, "Range of input length should be [1, 30000]"),
    (413, ""),
]
OTHER = [
    (400, "model not found"),
    (500, "deadline exceeded"),
    (500, ""),
    (429, "too many tokens"),
    (403, "You exceeded your current quota"),
    (None, "too long"),
]


@pytest.mark.parametrize(("status", "said"), SAID)
def test_a_text_that_is_too_long_is_understood(status: int, said: str) -> None:
    assert says_too_long(status, said)


@pytest.mark.parametrize(("status", "said"), OTHER)
def test_other_refusals_are_something_else(status: int | None, said: str) -> None:
    assert not says_too_long(status, said)


def test_a_part_ends_with_a_word_where_there_is_one() -> None:
    assert first_part("short", 5) == "short"
    assert first_part("one two three", 9) == "one two"
    assert first_part("a bcdefghijkl", 8) == "a bcdefg"
    assert first_part("x" * 20, 7) == "x" * 7
