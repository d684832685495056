"""The templates' environment: everything is escaped, nothing undefined passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import longleaf
from longleaf.api.http import assets
from longleaf.retriever.query import readable

FOLDER = Path(__file__).resolve().parents[1]


def _number(value: int) -> str:
    return f"{value:,}"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


# Escaping goes by no file name: whatever a template is called, its values are text.
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["number"] = _number
_ENVIRONMENT.filters["score"] = _score
_ENVIRONMENT.globals["version"] = longleaf.__version__
_ENVIRONMENT.globals["assets"] = assets.URL


def render(template: str, **values: Any) -> str:
    """A template of api/templates as a page. Values are text, never markup."""
    return readable(_ENVIRONMENT.get_template(template).render(**values))
