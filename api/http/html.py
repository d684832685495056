"""The templates' environment: everything is escaped, nothing undefined passes.

Numbers, sizes and dates are elements with a machine's value (`<data>`, `<time>`), which
static/localise.js says in the reader's language.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

import longleaf
from longleaf.api.http import assets
from longleaf.core.access import LOCAL, Caller, Role
from longleaf.core.types import Scope
from longleaf.retriever.query import readable

ASKING: ContextVar[Caller] = ContextVar("ASKING", default=LOCAL)
"""Who a page is for: what they may not do is not offered to them."""
FOLDER = Path(__file__).resolve().parents[1]
_FIGURE = re.compile(
    r"(?<![\w.,/-])(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w,/-])"
    r"|\d+\.\d+(?= (?:[KMGT]i?B|m?s|days)\b))"
)
"""No version, address or file name: 1,234 and 1.5 GiB."""


def _number(value: int) -> Markup:
    return Markup('<data value="{}">{:,}</data>').format(value, value)


def _size(size_bytes: int) -> Markup:
    """Bytes as people read them, in powers of 1,000 as the browser's units are."""
    size, unit = float(size_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    shown = f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
    return Markup('<data value="{}" class="size">{}</data>').format(size_bytes, shown)


def _day(value: datetime) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(
        value.isoformat(timespec="seconds"), value.date().isoformat()
    )


def _spelt(value: float | str, digits: int, said: str) -> Markup:
    """`said`, which the page writes anew with so many decimals of `value`."""
    return Markup('<span data-number="{}" data-digits="{}">{}</span>').format(value, digits, said)


def _decimal(value: float, digits: int = 1) -> Markup:
    return _spelt(value, digits, f"{value:.{digits}f}")


def _share(value: float) -> Markup:
    return Markup('<data value="{}" class="share">{:.0f} %</data>').format(value, value * 100)


def _score(value: float | None) -> str:
    return "–" if value is None else _decimal(value, 3)


def _figures(prose: str) -> Markup:
    """A sentence of ours whose thousands and sizes the reader's language may write."""

    def said(found: re.Match[str]) -> Markup:
        digits = len(found[0].partition(".")[2])
        return _spelt(found[0].replace(",", ""), digits, found[0])

    parts, at = [Markup()], 0
    for found in _FIGURE.finditer(prose):
        parts += [escape(prose[at : found.start()]), said(found)]
        at = found.end()
    return Markup("").join([*parts, escape(prose[at:])])


# Escaping goes by no file name: whatever a template is called, its values are text.
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["number"] = _number
_ENVIRONMENT.filters["size"] = _size
_ENVIRONMENT.filters["day"] = _day
_ENVIRONMENT.filters["decimal"] = _decimal
_ENVIRONMENT.filters["share"] = _share
_ENVIRONMENT.filters["score"] = _score
_ENVIRONMENT.filters["figures"] = _figures
_ENVIRONMENT.globals["version"] = longleaf.__version__
_ENVIRONMENT.globals["assets"] = assets.URL


def _who(caller: Caller) -> str:
    """How the page calls whoever may log out; "" for who cannot."""
    if caller.person is not None:
        return caller.person.name or caller.name
    return caller.name if caller.key_id else ""


def render(template: str, **values: Any) -> str:
    """A template of api/templates as a page. Values are text, never markup."""
    caller = ASKING.get()
    values |= {
        "signed_in": _who(caller),
        "may_write": caller.role.includes(Role.WRITE),
        "may_manage": caller.role.includes(Role.ADMIN),
        "sees_all": caller.scope == Scope.all(),
    }
    return readable(_ENVIRONMENT.get_template(template).render(**values))
