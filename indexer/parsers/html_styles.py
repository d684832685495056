"""What an element's own `style` says of whether it can be seen; pure.

Reads declarations as CSS parts them and knows no property but `display` and `visibility`. Text made
tiny, transparent or moved off the page is not hidden to it: what errs, errs towards reading.
"""

from __future__ import annotations

import re
from itertools import chain

VISIBILITIES = {"hidden": False, "collapse": False, "visible": True, "initial": True}
"""Whether text can be seen; other values leave it as it is around the element."""

_HIDES = re.compile("display|visibility", re.IGNORECASE)
_CSS_PART = re.compile(
    r"""/\*.*?(?:\*/|\Z)|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|\([^)]*\)?|[^;"'/(]+|.""", re.DOTALL
)
_STYLE_CHARS = 100_000


def declared(style: str) -> dict[str, str]:
    """`display` and `visibility` as an inline style declares them, the last one winning.

    `!important` outweighs later declarations, as in CSS; a ";" in a string or a URL parts nothing.
    """
    found: dict[str, str] = {}
    important: dict[str, str] = {}
    if _HIDES.search(style) is None:  # most styles say how things look, not whether
        return found
    declaration: list[str] = []
    for match in chain(_CSS_PART.finditer(style[:_STYLE_CHARS]), (None,)):
        part = ";" if match is None else match.group()
        if part.startswith("/*"):
            declaration.append(" ")
        elif part != ";":
            declaration.append(part)
        else:
            name, _, value = "".join(declaration).partition(":")
            declaration = []
            name = name.strip().lower()
            value, mark, _ = value.lower().partition("!")
            if name in ("display", "visibility") and value.strip():
                (important if mark else found)[name] = value.strip()
    return found | important
