"""Texts that are too long for a service elsewhere: how it says so, and how one is made shorter.

It knows no tokenizer and no service in particular. The words are those of the servers and services
that docs/remote.md names; what a service says besides is never shown, since it may quote a text.
"""

from __future__ import annotations

import re

_TOO_LONG = re.compile(
    r"context.?length|input.?length|too (?:long|large|many (?:input )?tokens)|longer than|exceed|"
    r"less than \d+ tokens|max(?:imum)?[ _.-](?:\w+[ _.-]){0,3}(?:tokens?|length|context)",
    re.IGNORECASE,
)
_FOR_CERTAIN = re.compile(r"too (?:long|large)|context.?(?:length|size)", re.IGNORECASE)
"""In an error of the server's (500): "deadline exceeded" is no matter of length there."""


def says_too_long(status: int | None, said: str) -> bool:
    """Whether an answer with this status and these words refuses a text or request for its length.

    A 413 says so without words; llama.cpp says it with a 500, and asking again would not help.
    """
    if status == 500:
        return _FOR_CERTAIN.search(said) is not None
    return status == 413 or (status in (400, 422) and _TOO_LONG.search(said) is not None)


def first_part(text: str, most_chars: int) -> str:
    """At most the first `most_chars`, ended at white space where there is some in the second half
    of them."""
    if len(text) <= most_chars:
        return text
    part = text[:most_chars]
    end = max(part.rfind(" "), part.rfind("\n"))
    return part[:end] if end > most_chars // 2 else part
