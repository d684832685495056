"""Text in a table that people open in a spreadsheet (OWASP: CSV injection).

What begins like a formula is written behind an apostrophe, which a spreadsheet takes for "this is
text". It knows no columns. Trade-off: other readers see the apostrophe; `as_meant` takes it away.
"""

from __future__ import annotations

import re

_LIKE_FORMULA = re.compile("'* *[=+\\-@\t\r\n＝＋－＠]")
"""Apostrophes in front too, so that what was written can be told from what was meant."""


def harmless(text: str) -> str:
    """Text that no spreadsheet reads as a formula."""
    return f"'{text}" if _LIKE_FORMULA.match(text) else text


def as_meant(text: str) -> str:
    """What `harmless` was given."""
    return text[1:] if text.startswith("'") and _LIKE_FORMULA.match(text) else text
