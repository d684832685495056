"""The few expressions that SQLite and Postgres spell differently: lists given as JSON.

A list of ids comes as one parameter whose text is JSON, which both take apart by themselves, so a
statement is made once whatever the list's length.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class _Elements(FunctionElement[str]):
    """The rows of a JSON array; on Postgres as text."""

    inherit_cache = True
    type = String()


class _Arrays(FunctionElement[Any]):
    """The rows of a JSON array of arrays."""

    inherit_cache = True
    type = String()


class _Integer(FunctionElement[int]):
    """An element as the integer that it is."""

    inherit_cache = True
    type = BigInteger()


class _First(_Integer):
    """The first of an array's two integers."""

    inherit_cache = True


class _Second(_Integer):
    """The second of an array's two integers."""

    inherit_cache = True


_SPELLINGS: dict[type[FunctionElement[Any]], tuple[str, str]] = {
    _Elements: ("json_each({})", "json_array_elements_text(CAST({} AS JSON))"),
    _Arrays: ("json_each({})", "json_array_elements(CAST({} AS JSON))"),
    _Integer: ("{}", "CAST({} AS BIGINT)"),
    _First: ("json_extract({}, '$[0]')", "CAST({} ->> 0 AS BIGINT)"),
    _Second: ("json_extract({}, '$[1]')", "CAST({} ->> 1 AS BIGINT)"),
}


def _spelled(element: FunctionElement[Any], compiler: Any, place: int, **options: Any) -> str:
    inner = compiler.process(element.clauses, **options)
    return _SPELLINGS[type(element)][place].format(inner)


for _kind in _SPELLINGS:
    compiles(_kind, "sqlite")(lambda e, c, **options: _spelled(e, c, 0, **options))
    compiles(_kind, "postgresql")(lambda e, c, **options: _spelled(e, c, 1, **options))


def elements(array: Any) -> ColumnElement[str]:
    """Each string of a JSON array (a column, or a parameter's text)."""
    column: ColumnElement[str] = _Elements(array).table_valued("value").c.value
    return column


def integers(array: Any) -> ColumnElement[int]:
    """Each integer of a JSON array."""
    return _Integer(elements(array))


def pairs(arrays: Any) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Both integers of each pair in a JSON array of pairs."""
    pair = _Arrays(arrays).table_valued("value").c.value
    return _First(pair), _Second(pair)
