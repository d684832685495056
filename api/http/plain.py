"""The border for text and numbers: what cannot be stored stays out, what leaves is always UTF-8.

JSON can spell what no UTF-8 file, index or answer can hold: half of a surrogate pair, and with
Python's reader NaN. Requests that would store or compare such a value are refused with its name; a
query and a file name are made readable instead. Answers never fail on text that got in earlier: it
leaves with U+FFFD. It knows no route. Trade-off: the slow way out is taken only when the fast one
has failed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from longleaf.core.errors import InvalidRequest
from longleaf.retriever.query import readable

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_INTEGER_LIMIT = 1 << 63
_FLOAT_LIMIT = 1e300


def check_plain(value: Any, what: str) -> None:
    """Raise InvalidRequest, naming the part of `what`, if text or a number in it is not plain.

    `value` is parsed JSON, at most as deep as a filter may be. Plain is text without NUL and halves
    of surrogate pairs, integers of 64 bits and finite numbers below 1e300.
    """
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            raise InvalidRequest(
                f"{what}: holds a NUL character or half of a surrogate pair.",
                "Only text that UTF-8 can hold is taken.",
            )
    elif isinstance(value, int | float):
        limit = _INTEGER_LIMIT if isinstance(value, int) else _FLOAT_LIMIT
        # Written so that NaN, which is smaller than nothing, is refused too.
        if not abs(value) < limit:
            raise InvalidRequest(
                f"{what}: expected a finite number, or an integer of at most 64 bits.",
                "Send a longer number as a string.",
            )
    elif isinstance(value, Mapping):
        for name, part in value.items():
            check_plain(name, f"{what}.{readable(name)[:100]!r}")
            check_plain(part, f"{what}.{name[:100]}")
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            check_plain(part, f"{what}[{number}]")


class PlainJSON(JSONResponse):
    """A model or parsed JSON as UTF-8, whatever text it holds."""

    def render(self, content: Any) -> bytes:
        if isinstance(content, BaseModel):
            try:
                return content.model_dump_json().encode()
            except PydanticSerializationError:
                content = content.model_dump(mode="json")
        try:
            text = _compact(content)
        except ValueError:
            # Numbers that are none become null here as well, as on the fast way.
            text = _compact(json.loads(json.dumps(content), parse_constant=lambda _: None))
        return readable(text).encode()


def _compact(content: Any) -> str:
    """Raises ValueError for a number that is none."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
