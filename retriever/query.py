"""What a user types, read into text, phrases, exclusions and a filter.

    words            looked for by meaning and by BM25
    "a phrase"       at least this phrase must occur; its words are looked for as well
    -word -"a b"     documents that hold it are left out; -field:value leaves out what matches
    field:value      also field:"two words", field:a,b (either), field:pre* (prefix), field:* (any)
    field:2019..2022 also ..2022, 2019.., >=2019, <2022-03-01; numbers and ISO 8601 dates

Only known fields make filters, so "Re: contract", "10:30" and "http://x" stay text; a minus begins
an exclusion only before a letter or a quote, so "-5 °C", "--force" and "a - b" stay text. Filters
are joined by "and". Whatever does not fit is plain text: there is no malformed query, and every
character ends in exactly one piece. It knows no index and no language. Trade-off: no OR and no
parentheses, which people type as prose far more often than as operators.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from longleaf.core.filters import (
    BUILT_IN_FIELDS,
    And,
    Eq,
    Filter,
    In,
    Not,
    Or,
    Prefix,
    Range,
    as_number,
    as_text,
    parse_date,
)
from longleaf.retriever.words import words

_QUOTES = '"“”„‟«»'
_QUOTE = re.compile(f"[{_QUOTES}]")
# Where an operator may begin: a token, or a quote that does not stand behind a word (5" pipe).
_START = re.compile(rf"(?<!\S)\S|(?<![^\W_])[{_QUOTES}]")
_TOKEN = re.compile(r"\S+")
_ITEM = re.compile(
    rf"[{_QUOTES}](?P<quoted>[^{_QUOTES}]+)[{_QUOTES}]|(?P<bare>[^\s,{_QUOTES}][^\s,]*)"
)
_COMPARISON = re.compile(r"(>=|<=|>|<)([^,]+),*")
_BETWEEN = re.compile(r"([^,]*?)\.\.([^,]*),*")
_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2}(T\S*)?)?)?", re.ASCII)
_OPERATORS = {">=": "gte", ">": "gt", "<=": "lte", "<": "lt"}


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A query as the first stage takes it.

    `text` is what is embedded and what BM25 reads: the words and the phrases' words, without
    filters and exclusions. It is empty for a query of filters only, which asks for a list rather
    than a ranking. Every one of `phrases` must occur and none of `excluded` (words and phrases)
    may. `original` is what was typed.
    """

    text: str
    phrases: tuple[str, ...]
    excluded: tuple[str, ...]
    where: Filter | None
    original: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the query: `source` is what was typed, `content` what it means."""

    source: str
    content: str | Filter
    kind: Literal["text", "phrase", "excluded", "filter"]


def readable(text: str) -> str:
    """`text` with U+FFFD for halves of surrogate pairs, which nothing can embed or store."""
    # UTF-16, because it also joins two halves that stand side by side.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def parse_query(text: str, known_fields: Collection[str]) -> ParsedQuery:
    """Read a query; never raises. Without `known_fields` (built-in ones included) none filters."""
    pieces = list(pieces_of(readable(text), known_fields))
    filters = [piece.content for piece in pieces if not isinstance(piece.content, str)]
    said = [(piece.kind, piece.content) for piece in pieces if isinstance(piece.content, str)]
    read = [
        f" {content} " if kind == "phrase" else content
        for kind, content in said
        if kind != "excluded"
    ]
    return ParsedQuery(
        text=" ".join("".join(read).split()),
        phrases=tuple(content for kind, content in said if kind == "phrase"),
        excluded=tuple(content for kind, content in said if kind == "excluded"),
        where=None if not filters else filters[0] if len(filters) == 1 else And(tuple(filters)),
        original=text,
    )


def pieces_of(text: str, known_fields: Collection[str]) -> Iterator[Piece]:
    """The query cut into pieces whose sources, joined, are the query again."""
    longest_field_chars = max(map(len, known_fields), default=0)
    done = position = 0
    while start := _START.search(text, position):
        begin = start.start()
        piece = _operator(text, begin, known_fields, longest_field_chars)
        if piece is None:
            position = begin + 1
            continue
        if done < begin:
            yield Piece(text[done:begin], text[done:begin], "text")
        yield piece
        done = position = begin + len(piece.source)
    if done < len(text):
        yield Piece(text[done:], text[done:], "text")


def _operator(
    text: str, begin: int, known_fields: Collection[str], longest_field_chars: int
) -> Piece | None:
    """The phrase, exclusion or filter that begins at `begin`, if one does."""
    if text[begin] in _QUOTES:
        return _quoted(text, begin, begin, "phrase")
    minus = text[begin] == "-"
    content = begin + minus
    if minus and _QUOTE.match(text, content):
        return _quoted(text, begin, content, "excluded")
    for colon in _colons(text, content, longest_field_chars):
        if text[content:colon] in known_fields:
            found = _filter(text, colon + 1, text[content:colon])
            if found is not None:
                meant, end = found
                return Piece(text[begin:end], Not(meant) if minus else meant, "filter")
    if minus and text[content : content + 1].isalpha():
        word = _TOKEN.match(text, content)
        assert word is not None
        return Piece(text[begin : word.end()], word[0], "excluded") if words(word[0]) else None
    return None


def _quoted(text: str, begin: int, quote: int, kind: Literal["phrase", "excluded"]) -> Piece | None:
    """A piece that ends at the next quote; None without one, or when no word stands between."""
    closing = _QUOTE.search(text, quote + 1)
    if closing is None:
        return None
    content = text[quote + 1 : closing.start()]
    return Piece(text[begin : closing.end()], content, kind) if words(content) else None


def _colons(text: str, begin: int, longest_field_chars: int) -> Iterator[int]:
    """Where a field's name that starts at `begin` can end, the longest name first."""
    colon = begin + longest_field_chars + 1
    while (colon := text.rfind(":", begin, colon)) > begin:
        yield colon


def _filter(text: str, begin: int, field: str) -> tuple[Filter, int] | None:
    """The filter that the value at `begin` means, and where it ends; None if it means none."""
    token = _TOKEN.match(text, begin)
    if token is None:
        return None
    if compared := _COMPARISON.fullmatch(token[0]):
        found = _range(field, {_OPERATORS[compared[1]]: compared[2]})
        return None if found is None else (found, token.end())
    if between := _BETWEEN.fullmatch(token[0]):
        bounds = {"gte": between[1], "lte": between[2]}
        found = _range(field, {name: bound for name, bound in bounds.items() if bound})
        if found is not None:
            return found, token.end()
    items: list[Filter] = []
    while item := _ITEM.match(text, begin):
        if item["bare"] not in (None, "*") and not words(item["bare"]):
            return None
        items += _item(field, item["quoted"], item["bare"])
        begin = item.end()
        comma = begin
        while text[begin : begin + 1] == ",":
            begin += 1
        if begin == comma:
            break
    if not items:
        return None
    if len(items) > 1 and all(isinstance(part, Eq) for part in items):
        return In(field, tuple(part.value for part in items if isinstance(part, Eq))), begin
    return items[0] if len(items) == 1 else Or(tuple(items)), begin


def _item(field: str, quoted: str | None, bare: str | None) -> Iterator[Filter]:
    """What one value of a list may mean: itself, a number, a whole year, month or day, a prefix."""
    if quoted is not None or bare is None:
        yield Eq(field, quoted or "")
        return
    if bare.endswith("*"):
        yield Prefix(field, bare[:-1])
        return
    yield Eq(field, bare)
    number = as_number(bare)
    if number is not None and as_text(number) != bare:
        yield Eq(field, number)
    if field not in BUILT_IN_FIELDS and _DATE.fullmatch(bare) and parse_date(bare):
        yield Range(field, gte=bare, lte=bare)


def _range(field: str, bounds: dict[str, str]) -> Filter | None:
    """Bounds that are numbers, dates, or years, which are both; None for anything else."""
    numbers = {name: as_number(bound) for name, bound in bounds.items()}
    dates = {name: bound for name, bound in bounds.items() if _DATE.fullmatch(bound)}
    ranges: list[Filter] = []
    if bounds and None not in numbers.values():
        ranges.append(Range(field, **numbers))
    if bounds and len(dates) == len(bounds) and all(map(parse_date, dates.values())):
        ranges.append(Range(field, **dates))
    return Or(tuple(ranges)) if len(ranges) > 1 else next(iter(ranges), None)
