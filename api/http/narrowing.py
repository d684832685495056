"""Values of facets as a part of a search's filter: chosen, added and taken away by links.

A search's filter is a tree; what facets have chosen is its top level: `{"field": …, "in": […]}`
for each field, joined by `and` with whatever else stands there. So a page's link asks the API for
the same. Pure; it knows no documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from longleaf.core.filters import as_text

Value = str | int | float | bool
Tree = Mapping[str, Any]


def chosen(tree: Tree | None) -> dict[str, list[Value]]:
    """Field -> the values that were chosen."""
    found: dict[str, list[Value]] = {}
    for part in _parts(tree):
        if _is_choice(part):
            found.setdefault(part["field"], []).extend(part["in"])
    return found


def toggled(tree: Tree | None, field: str, value: Value) -> Tree | None:
    """The filter with a value more, or without it where it was chosen; None: no filter."""
    values = chosen(tree).get(field, [])
    kept = [each for each in values if as_text(each) != as_text(value)]
    if len(kept) == len(values):
        kept = [*values, value]
    others = [part for part in _parts(tree) if not (_is_choice(part) and part["field"] == field)]
    parts = [*others, {"field": field, "in": kept}] if kept else others
    if len(parts) > 1:
        return {"and": parts}
    return parts[0] if parts else None


def as_link(tree: Tree | None) -> str | None:
    """A filter as the value of a link's `filter`."""
    if tree is None:
        return None
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False)


def _parts(tree: Tree | None) -> Sequence[Tree]:
    if not tree:
        return []
    parts = tree.get("and")
    return parts if isinstance(parts, list) else [tree]


def _is_choice(part: Tree) -> bool:
    return set(part) == {"field", "in"}
