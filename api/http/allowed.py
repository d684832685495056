"""Which methods a path takes: all of them, whichever of our routes they belong to.

The framework names in `Allow` those of the first route at a path only; RFC 9110, section 15.5.6,
wants all.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path


def routes_of(app: FastAPI) -> list[tuple[re.Pattern[str], frozenset[str]]]:
    """(pattern of the path, methods) of every route of the app, pages too."""
    found = []
    for context in iter_route_contexts(app.routes):
        route: Any = context.original_route
        path = str(getattr(context, "path", "") or route.path)
        methods = frozenset(getattr(route, "methods", None) or ())
        if methods:
            found.append((compile_path(path)[0], methods))
    return found


def allowed(routes: list[tuple[re.Pattern[str], frozenset[str]]], path: str) -> str:
    """The value of `Allow` for `path`, "" where nothing is."""
    methods = [these for pattern, these in routes if pattern.match(path)]
    return ", ".join(sorted(frozenset().union(*methods)))
