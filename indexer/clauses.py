"""Which sentences belong to one numbered clause, and which of its sub-items; pure.

It reads the labels that units begin with ("5.", "5.1", "(a)", "Section 3", a bullet) and knows no
tokens and no sections: the chunker asks it about one section at a time and decides what fits. The
levels come from the order in which kinds of label turn up, not from a table of ranks, because
"(a) (i)" and "(i) (a)" are both in use; "(i)" behind "(h)" is a letter. A clause ends where the
next of its own kind begins, or the section does: where unnumbered paragraphs follow the last clause
of a list they count as part of it, which costs at most one cut that could have been better.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_MAX_LEVELS = 8
_LABEL = re.compile(
    r"""(?: (?P<word> section | sec\. | article | art\. | chapter | clause | rule | § ) \s?
            (?P<named> \d{1,4} | [IVXLC]{1,7} ) [\w.-]{0,10}
          | (?P<decimal> \d{1,3} (?: \.\d{1,3} ){1,5} ) \.?
          | (?P<open> [(\[] )?
            (?P<mark> \d{1,3} [A-Z]? | [A-Z] - \d{1,2} | [IVXLC]{1,7}
                    | (?P<letter> [A-Z] ) (?P=letter)? )
            (?P<close> [.)\]] )
          | (?P<bullet> [-•‣▪◦●*–\uf0a7\uf0b7] )
        ) (?= \s | $ )""",
    re.VERBOSE | re.IGNORECASE,
)
_ROMAN_DIGITS = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}
_LABEL_CHARS = 40
_LINE_STARTS = "\n\r\f\v\u2028\u2029"


class Unit(NamedTuple):
    """How a unit stands in its section's clauses.

    `depth` counts the clauses that reach over the border before it: 0 where nothing is cut in two.
    `labelled`: it begins a clause or a sub-item.
    """

    depth: int
    labelled: bool


def clause_units(text: str, units: Sequence[tuple[int, int]]) -> list[Unit]:
    """One `Unit` for each unit (start, end) of one section, in order."""
    stack: list[tuple[str, str]] = []  # (kind, last mark) of the clauses that are open
    found: list[Unit] = []
    for start, end in units:
        label = _label(text, start, end)
        if label is None:
            found.append(Unit(len(stack), False))
            continue
        kinds, mark = label
        level = _level(stack, kinds, mark)
        if level is None:
            found.append(Unit(len(stack), False))
            continue
        kind = stack[level][0] if level < len(stack) else kinds[0]
        stack[level:] = [(kind, mark)]
        found.append(Unit(level, True))
    if found:
        found[0] = found[0]._replace(depth=0)
    return found


def _label(text: str, start: int, end: int) -> tuple[tuple[str, ...], str] | None:
    """(kinds that it may be of, the likelier first; its mark) of the label a line begins with."""
    before = text[max(0, start - _LABEL_CHARS) : start].rstrip(" \t\xa0")
    at_line_start = before[-1:] in _LINE_STARTS if before else start <= _LABEL_CHARS
    match = _LABEL.match(text, start, min(end, start + _LABEL_CHARS)) if at_line_start else None
    if match is None:
        return None
    if match["bullet"]:
        return (match["bullet"],), ""
    if match["word"]:
        return (match["word"].lower()[:3],), match["named"]
    if match["decimal"]:
        return (f"decimal {match['decimal'].count('.')}",), match["decimal"]
    mark, around = match["mark"], f"{match['open'] or ''}_{match['close']}"
    if mark[0].isdigit():
        # "5." stands above "5.1".
        return ("decimal 0" if around == "_." else f"digit {around}",), mark
    case = "low" if mark.islower() else "high"
    mark = mark.lower()
    letter, roman = f"letter {case} {around}", f"roman {case} {around}"
    if not _roman(mark):
        return (letter,), mark
    if match["letter"] is None and len(mark) > 1:
        return (roman,), mark
    return (roman, letter) if mark in ("i", "ii", "v", "x") else (letter, roman), mark


def _level(stack: Sequence[tuple[str, str]], kinds: Sequence[str], mark: str) -> int | None:
    """Where in the stack of open clauses a label belongs; None where there is no room for it."""
    if len(kinds) > 1:
        for level in range(len(stack) - 1, -1, -1):
            kind, last = stack[level]
            if kind in kinds and _follows(kind, last, mark):
                return level
    open_kinds = [kind for kind, _ in stack]
    # "(i)" that follows nothing begins a list of its own.
    for kind in kinds[:1] if mark == "i" else kinds:
        if kind in open_kinds:
            return open_kinds.index(kind)
    for level, kind in enumerate(open_kinds):
        # "5." behind "4.2": a number of fewer places stands above.
        if kinds[0].startswith("decimal") and kind.startswith("decimal") and kind > kinds[0]:
            return level
    return len(stack) if len(stack) < _MAX_LEVELS else None


def _follows(kind: str, last: str, mark: str) -> bool:
    """Whether `mark` is the next of its kind: "(i)" behind "(h)", "(x)" behind "(ix)"."""
    if kind.startswith("roman"):
        return _roman(mark) == _roman(last) + 1
    return len(last) == len(mark) and ord(mark[0]) == ord(last[0]) + 1


def _roman(mark: str) -> int:
    """The value of a roman number in small letters; 0 for anything else."""
    if not set(mark) <= _ROMAN_DIGITS.keys():
        return 0
    values = [_ROMAN_DIGITS[digit] for digit in mark]
    return sum(
        -value if value < following else value
        for value, following in zip(values, [*values[1:], 0], strict=True)
    )
