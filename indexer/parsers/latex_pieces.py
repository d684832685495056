r"""LaTeX source cut into pieces: commands, braces, dollar signs, blank lines and the words between.

Knows what TeX does with comments, with spaces behind a command and with macros that take no
argument, and hardly anything of what commands mean. Macros are expanded within one budget for the
whole document; a bomb of them is refused. Looking ahead for the end of something costs once what
lies between; after a number of ends that never came, nobody looks ahead any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from longleaf.core.errors import Rejected, RejectReason
from longleaf.indexer.parsers.latex_names import DROPPED, VERBATIM

BLANK = "\n\n"
"""The piece that ends a paragraph."""

_MIN_EXPANDED_CHARS = 500_000
_MAX_OPEN_MACROS = 60
_MAX_MATH_PASSES = 12
_MAX_OPTION_PIECES = 400
_MAX_ARGUMENT_PIECES = 4_000
_MAX_FAILURES = 100
_MAX_LONG_FAILURES = 10  # of looking far ahead

_PIECE = re.compile(
    r"""
    (?P<blank>(?:%[^\n]*)?\n[ \t]*(?:\n[ \t]*)+)
  | (?P<comment>%[^\n]*(?:\n[ \t]*)?)
  | (?P<begin>\\begin[ \t]*\{(?P<environment>[^{}\n]{1,60})\})
  | \\end[ \t]*\{[^{}\n]{1,60}\}
  | \\verb\*?(?P<bar>[^a-zA-Z\s*{])[^\n]{0,1000}?(?P=bar)
  | (?P<command>\\[a-zA-Z@]+\*?)[ \t]*(?:\n(?![ \t]*\n)[ \t]*)?
  | \\.
  | \$\$ | [{}\[\]$&~\\]
  | [^\\{}\[\]$&~%\n]+
  | \n
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMAND = re.compile(r"\\[a-zA-Z@]+")
_AS_IT_IS = VERBATIM | DROPPED


@dataclass(slots=True)
class Macros:
    """A document's macros without arguments, and what they may still grow by."""

    name: str
    bodies: dict[str, str] = field(default_factory=dict)
    _chars_left: int = _MIN_EXPANDED_CHARS

    @classmethod
    def of(cls, name: str, source: str) -> Macros:
        """None yet; they may grow to twice the source, and to half a million characters anyway."""
        return cls(name, {}, max(_MIN_EXPANDED_CHARS, 2 * len(source)))

    def body(self, command: str) -> str | None:
        """What `command` stands for, None for no macro. Raises `Rejected(EXPANDS)`."""
        found = self.bodies.get(command)
        if found is not None:
            self._chars_left -= len(found) + 1
            if self._chars_left < 0:
                self.refuse()
        return found

    def refuse(self) -> NoReturn:
        """Raise `Rejected(EXPANDS)`."""
        raise Rejected(RejectReason.EXPANDS, f"{self.name}: its macros expand without end.")

    def in_formula(self, tex: str) -> str:
        """A formula with its macros put in."""
        for _ in range(_MAX_MATH_PASSES):
            expanded = _COMMAND.sub(self._or_itself, tex)
            if expanded == tex:
                break
            tex = expanded
        return tex

    def _or_itself(self, match: re.Match[str]) -> str:
        found = self.body(match.group())
        return match.group() if found is None else f" {found} "


def pieces(source: str) -> Iterator[str]:
    """`source` piece by piece: comments left out, commands without the space behind them.

    An environment whose content is no LaTeX is one piece with its content and its end.
    """
    at = 0
    without_end: set[str] = set()
    while (match := _PIECE.match(source, at)) is not None:
        at = match.end()
        kind = match.lastgroup
        if kind == "blank":
            yield BLANK
        elif kind == "command":
            yield match["command"]
        elif kind == "begin":
            name = match["environment"].strip()
            end = -1
            if name in _AS_IT_IS and name not in without_end:
                end = source.find(f"\\end{{{name}}}", at)
                if end < 0:
                    without_end.add(name)
            if end >= 0:
                yield f"\\begin{{{name}}}{source[at:end]}\\end{{{name}}}"
                at = end + len(name) + 6
            else:
                yield f"\\begin{{{name}}}"
        elif kind != "comment":
            yield match.group()


class Pieces:
    """Pieces in order, with those of macros in their place, and a way to look ahead."""

    def __init__(self, source: str, macros: Macros) -> None:
        self.macros = macros
        self._sources: list[Iterator[str]] = [pieces(source)]
        self._back: list[str] = []
        self._failures = self._long_failures = 0

    def take(self) -> str | None:
        """The next piece, None at the end."""
        if self._back:
            return self._back.pop()
        while self._sources:
            piece = next(self._sources[-1], None)
            if piece is not None:
                return piece
            self._sources.pop()
        return None

    def put_back(self, *taken: str | None) -> None:
        """`taken` come next, in this order; None, the end, needs no putting back."""
        self._back += [piece for piece in reversed(taken) if piece]

    def expand(self, command: str) -> bool:
        """Whether `command` is a macro without arguments; its pieces then come next.

        Raises `Rejected(EXPANDS)` when macros keep on opening macros.
        """
        body = self.macros.body(command)
        if body is None:
            return False
        if self._back:
            self._sources.append(iter(self._back[::-1]))
            self._back = []
        if len(self._sources) > _MAX_OPEN_MACROS:
            self.macros.refuse()
        self._sources.append(pieces(body))
        return True

    def spaces(self) -> None:
        """Skip white space that does not end a paragraph."""
        while (piece := self.take()) is not None:
            if piece == BLANK or not piece.isspace():
                self.put_back(piece if piece == BLANK else piece.lstrip())
                return

    def option(self) -> str | None:
        """An optional argument `[...]` that comes next, without its brackets."""
        first = self.take()
        if first != "[" or self._failures > _MAX_FAILURES:
            self.put_back(first)
            return None
        taken: list[str] = []
        depth = 0
        while len(taken) < _MAX_OPTION_PIECES:
            piece = self.take()
            if piece is None or piece == BLANK:
                self.put_back(piece)
                break
            if piece == "]" and depth == 0:
                return _joined(taken)
            depth += (piece == "{") - (piece == "}")
            taken.append(piece)
        self._failures += 1
        self.put_back("[", *taken)
        return None

    def group(self) -> str | None:
        """An argument in braces that comes next, as source; None, and nothing taken, without."""
        self.spaces()
        first = self.take()
        if first != "{" or self._failures > _MAX_FAILURES:
            self.put_back(first)
            return None
        taken: list[str] = []
        depth = 1
        while len(taken) < _MAX_ARGUMENT_PIECES and (piece := self.take()) is not None:
            depth += (piece == "{") - (piece == "}")
            if depth == 0:
                return _joined(taken)
            taken.append(piece)
        self._failures += 1
        self.put_back("{", *taken)
        return None

    def argument(self) -> str:
        """What a command applies to: a group, a command or one letter; "" for nothing."""
        group = self.group()
        if group is not None:
            return group
        first = self.take()
        if first is None or first in ("{", "}", BLANK):
            self.put_back(first)
            return ""
        if first[0] != "\\":
            self.put_back(first[1:])
            return first[0]
        return first

    def until(self, end: str, stop: str = "") -> str | None:
        """All source up to the piece `end`, which is taken; None, and nothing taken, without."""
        if self._failures > _MAX_FAILURES or self._long_failures > _MAX_LONG_FAILURES:
            return None
        taken: list[str] = []
        while (piece := self.take()) is not None and piece != stop:
            if piece == end:
                return _joined(taken)
            taken.append(piece)
        self._failures += 1
        self._long_failures += len(taken) > _MAX_ARGUMENT_PIECES
        self.put_back(*taken, piece)
        return None


def _joined(taken: list[str]) -> str:
    """Pieces as source again: a command needs a space before a letter."""
    parts: list[str] = []
    for piece in taken:
        if parts and piece[0].isalpha() and _COMMAND.fullmatch(parts[-1]):
            parts.append(" ")
        parts.append(piece)
    return "".join(parts)
