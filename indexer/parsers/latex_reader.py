r"""LaTeX pieces to text: sections, lists, tables, notes, formulas as one would read them aloud.

Reads what stands between `\begin{document}` and its end (a file without them is a chapter, read
whole); of the preamble only title, authors and macros. Nothing is set: references stay the keys
they are, `[fig:2]`, macros with arguments lose their name and keep what is in their braces. A stack
of open braces and environments instead of recursion, so nesting costs nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from longleaf.core.types import Role
from longleaf.indexer.parsers import latex_names as names
from longleaf.indexer.parsers.blocks import LINE, PARAGRAPH, SPACE, Blocks, one_line
from longleaf.indexer.parsers.latex_math import formula_text
from longleaf.indexer.parsers.latex_pieces import BLANK, Macros, Pieces

_QUOTES = (("---", "—"), ("--", "–"), ("``", "“"), ("''", "”"), ("`", "‘"), ("'", "’"))
_DEFINITIONS = frozenset(
    ("newcommand", "renewcommand", "providecommand", "DeclareRobustCommand", "def", "gdef", "edef")
)
_OPERATORS = frozenset(("DeclareMathOperator", "DeclareMathOperator*"))
_NAME = re.compile(r"\\[a-zA-Z@]+")
_ARGUMENTS_OF_CODE = re.compile(r"\s*(?:\[[^\]\n]*\]|\{[^}\n]*\})*")
AND = re.compile(r"\s*\\(?:and|And|AND)\b")
_BEGIN_DOCUMENT = re.compile(r"\\begin[ \t]*\{document\}")


@dataclass(slots=True)
class _Open:
    """An open brace ("{") or environment, and what its end does."""

    name: str
    close: Callable[[], None] | None = None
    item: int = 0


class LatexReader:
    """Writes a LaTeX source into `out`; `title`, `authors`, `date` and the counts come with it."""

    def __init__(self, source: str, macros: Macros, out: Blocks) -> None:
        self.out = out
        self.title = self.authors_source = self.date = ""
        self.inputs: dict[str, None] = {}
        self.unknown_macros: dict[str, None] = {}
        self.drawings = 0
        self.pieces = Pieces(source, macros)
        self._macros = macros
        self._in_document = _BEGIN_DOCUMENT.search(source) is None
        self._open: list[_Open] = []
        self._notes = 0
        self._tables = 0  # open tables, inside which & parts cells
        self._header_written = False
        self._with_arguments: set[str] = set()

    # --- the loop ------------------------------------------------------------------------------

    def read(self) -> None:
        """The whole source."""
        while (piece := self.pieces.take()) is not None:
            if piece[0] == "\\":
                if self._command(piece):
                    break
            elif piece == "{":
                self._open.append(_Open("{"))
            elif piece == "}":
                self._close_brace()
            elif self._in_document:
                self._words(piece)
        while self._open:
            self._end(self._open.pop())
        self._write_header()

    def _words(self, piece: str) -> None:
        out = self.out
        if piece == BLANK:
            out.gap(SPACE if self._tables else PARAGRAPH)
        elif piece in ("$", "$$"):
            self._formula(piece, is_display=piece == "$$")
        elif piece == "~":
            out.gap(SPACE)
        elif piece == "&" and self._tables:
            out.text(" | ")
        else:
            for ascii_form, sign in _QUOTES:
                piece = piece.replace(ascii_form, sign)
            out.text(piece)

    def _close_brace(self) -> None:
        if self._open and self._open[-1].name == "{":
            self._end(self._open.pop())
            following = self.pieces.take()
            if following == "{":
                self.out.gap(SPACE)  # the next argument of a command that is not known
            self.pieces.put_back(following)

    def _end(self, opened: _Open) -> None:
        if opened.close is not None:
            opened.close()

    def _group(self, close: Callable[[], None]) -> None:
        """The argument that comes next is read as text; then `close` is called."""
        self.pieces.spaces()
        piece = self.pieces.take()
        if piece == "{":
            self._open.append(_Open("{", close))
            return
        self.pieces.put_back(piece)
        close()

    # --- commands ------------------------------------------------------------------------------

    def _command(self, piece: str) -> bool:
        """Obey a command; True when the document ends here."""
        name = piece[1:].rstrip("*")
        if piece.startswith(("\\begin", "\\end")) and piece.endswith("}"):
            environment, _, inside = piece[piece.index("{") + 1 :].partition("}")
            environment = environment.strip()
            if environment == "document":
                return self._document(piece)
            if inside:
                self._as_it_is(environment, inside.removesuffix(f"\\end{{{environment}}}"))
            elif piece.startswith("\\begin"):
                self._begin(environment)
            else:
                self._end_environment(environment)
            return False
        if name in _DEFINITIONS or name in _OPERATORS:
            self._define(name)
        elif name == "iffalse":
            self.pieces.until("\\fi")
        elif name == "let":
            self._let()
        elif name in ("title", "author", "date"):
            self._about(name)
        elif name in names.INPUTS:
            self._input(name)
        elif self._in_document or name in names.SKIPPED_ARGUMENTS:
            self._in_text(piece, name)
        return False

    def _in_text(self, piece: str, name: str) -> None:
        """A command of the body."""
        out = self.out
        symbol = names.SYMBOLS.get(piece)
        if self.pieces.expand(piece):
            return
        if symbol is not None:
            out.text(symbol)
        elif piece in names.ACCENTS:
            self._accent(names.ACCENTS[piece])
        elif piece in ("\\\\", "\\newline", "\\tabularnewline", "\\linebreak", "\\\\*"):
            self.pieces.option()
            out.gap(LINE)
        elif piece in ("\\[", "\\("):
            self._formula("\\]" if piece == "\\[" else "\\)", is_display=piece == "\\[")
        elif name in names.HEADINGS:
            self.pieces.option()
            self._write_header()
            out.open_heading(names.HEADINGS[name])
            self._group(out.close_heading)
        elif name in ("par", "newpage", "clearpage", "bigskip", "medskip", "smallskip"):
            out.gap(PARAGRAPH)
        elif name == "item":
            self._item()
        elif name in ("footnote", "thanks", "footnotetext", "endnote"):
            self._note()
        elif name == "caption":
            self._caption()
        elif name == "bibitem":
            self._bibitem()
        elif name in names.CITES:
            self._cite()
        elif name in names.REFERENCES:
            out.text(f"[{self.pieces.argument()}]")
        elif name == "url":
            out.text(self.pieces.argument().replace("\\", ""))
        elif piece.startswith("\\verb") and len(piece) > 6:
            out.text(piece[piece.index(piece[-1]) + 1 : -1])
        elif name == "maketitle":
            self._write_header()
        else:
            self._other(piece, name)

    def _other(self, piece: str, name: str) -> None:
        """A command without a meaning here: its braces are read, unless they say nothing."""
        if piece in self._with_arguments:
            self.unknown_macros[piece] = None
        skipped = names.SKIPPED_ARGUMENTS.get(name)
        if skipped is None:
            return
        self.pieces.option()
        for _ in range(skipped):
            self.pieces.group()
            self.pieces.option()

    def _let(self) -> None:
        self.pieces.argument()
        if (sign := self.pieces.take()) is not None and sign.strip() != "=":
            self.pieces.put_back(sign)
        self.pieces.argument()

    def _define(self, name: str) -> None:
        """Remember a macro without arguments; know of one with arguments."""
        target = self.pieces.argument().strip()
        option = self.pieces.option() if name not in ("def", "gdef", "edef") else None
        default = self.pieces.option() if option else None
        parameters = ""
        if name in ("def", "gdef", "edef"):
            while (piece := self.pieces.take()) is not None and piece != "{":
                if piece in ("}", BLANK) or len(parameters) > 200:
                    self.pieces.put_back(piece)
                    return
                parameters += piece
            self.pieces.put_back(piece)
        body = self.pieces.group()
        if body is None or _NAME.fullmatch(target) is None:
            return
        if (option or "").strip() not in ("", "0") or default is not None or parameters.strip():
            self._with_arguments.add(target)
        elif name in _OPERATORS:
            self._macros.bodies[target] = f"\\operatorname{{{body}}}"
        elif target not in (body.strip(), f"\\{name}"):
            self._macros.bodies[target] = body

    def _accent(self, combining: str) -> None:
        source = self.pieces.argument()
        letter = names.SYMBOLS.get(source.strip(), source.strip().strip("{}"))
        letter = {"ı": "i", "ȷ": "j"}.get(letter, letter)
        self.out.text(unicodedata.normalize("NFC", letter[:1] + combining) + letter[1:])

    def _cite(self) -> None:
        options = [option for option in (self.pieces.option(), self.pieces.option()) if option]
        keys = ", ".join(key.strip() for key in self.pieces.argument().split(","))
        where = "".join(f", {self.flat(option)}" for option in options[-1:])
        self.out.gap(SPACE)
        self.out.text(f"[{keys}{where}]")

    def _note(self) -> None:
        self.pieces.option()
        if not self.out.open_note():
            return
        self._notes += 1
        number = f"[{self._notes}]"
        self.out.text(f"{number} ")

        def close() -> None:
            self.out.close_note()
            self.out.text(number)

        self._group(close)

    def _caption(self) -> None:
        self.pieces.option()
        self.out.gap(PARAGRAPH)
        kind = next(
            (names.CAPTIONED[each.name] for each in reversed(self._open[-20:])
             if each.name in names.CAPTIONED),
            "",
        )  # fmt: skip
        if kind:
            self.out.text(f"{kind}: ")
        self._group(lambda: self.out.gap(PARAGRAPH))

    def _input(self, name: str) -> None:
        self.pieces.option()
        for _ in range(2 if name in ("import", "subimport") else 1):
            target = one_line(self.pieces.argument())
            if target:
                self.inputs[target[:80]] = None

    def _item(self) -> None:
        self.pieces.spaces()
        label = self.pieces.option()
        self.out.gap(LINE)
        opened = next(
            (each for each in reversed(self._open[-20:]) if each.name in names.LISTS), None
        )
        if label is not None:
            self.out.text(self.flat(label))
            self.out.glue()
        elif opened is not None and opened.name in names.NUMBERED_LISTS:
            opened.item += 1
            self.out.text(f"{opened.item}.")
            self.out.glue()

    def _bibitem(self) -> None:
        label = self.pieces.option()
        key = self.pieces.group() or ""
        self.out.gap(LINE)
        self.out.text(f"[{self.flat(label) if label else key}]")
        self.out.glue()

    def _formula(self, end: str, *, is_display: bool) -> None:
        """A formula up to `end`; a dollar sign without its other is a dollar sign."""
        source = self.pieces.until(end, "" if is_display else BLANK)
        if source is None:
            if end in ("$", "$$"):
                self.out.text("$")
            return
        self._write_formula(source, is_display=is_display)

    def _write_formula(self, source: str, *, is_display: bool) -> None:
        text = formula_text(self._macros.in_formula(source))
        gap = LINE if is_display and not self._tables else 0
        self.out.gap(max(gap, SPACE if source[:1].isspace() else 0))
        self.out.text(text)
        self.out.gap(max(gap, SPACE if source[-1:].isspace() else 0))

    # --- environments --------------------------------------------------------------------------

    def _document(self, piece: str) -> bool:
        if piece.startswith("\\end"):
            return True
        self._in_document = True
        self._open.clear()
        return False

    def _begin(self, name: str) -> None:
        if not self._in_document:
            return
        if name in names.FORMULAS or name in names.DRAWINGS:
            source = self.pieces.until(f"\\end{{{name}}}")
            if source is not None and name in names.FORMULAS:
                self._write_formula(source, is_display=True)
            self.drawings += source is not None and name in names.DRAWINGS
            if source is not None:
                return
        self._options(name)
        self.out.gap(PARAGRAPH)
        opened = _Open(name)
        self._open.append(opened)
        if name in names.TABLES:
            self._tables += 1
            opened.close = self._close_table
        elif name == "abstract":
            self._write_header()
            with self.out.heading(names.HEADINGS["section"]):
                self.out.text("Abstract")
        elif name == "thebibliography":
            self.out.open_region(Role.REFERENCES)
            opened.close = self.out.close_region
            with self.out.heading(names.HEADINGS["section"]):
                self.out.text("References")

    def _options(self, name: str) -> None:
        """An environment's arguments; a theorem's is its name."""
        option = self.pieces.option()
        for _ in range(names.ENVIRONMENT_ARGUMENTS.get(name, 0)):
            self.pieces.group()
            self.pieces.option()
        if name.rstrip("*") in names.THEOREMS:
            self.out.gap(PARAGRAPH)
            called = f" ({self.flat(option)})" if option else ""
            self.out.text(f"{name.rstrip('*').capitalize()}{called}.")
            self.out.glue()

    def _end_environment(self, name: str) -> None:
        """Close down to the environment of that name; an end without a beginning is nothing."""
        for at in range(len(self._open) - 1, max(-1, len(self._open) - 200), -1):
            if self._open[at].name == name:
                while len(self._open) > at:
                    self._end(self._open.pop())
                break
        self.out.gap(PARAGRAPH)

    def _close_table(self) -> None:
        self._tables -= 1

    def _as_it_is(self, name: str, source: str) -> None:
        """Program text; a comment or an embedded file is left out."""
        if self._in_document and name not in names.DROPPED:
            start = (
                _ARGUMENTS_OF_CODE.match(source) if name not in ("verbatim", "Verbatim") else None
            )
            self.out.verbatim(source[start.end() :].lstrip(" ") if start else source)

    # --- about the document --------------------------------------------------------------------

    def _about(self, name: str) -> None:
        self.pieces.option()
        source = self.pieces.argument()
        if name == "title":
            self.title = self.title or self.flat(source)
        elif name == "date":
            self.date = self.date or self.flat(source)
        else:
            self.authors_source = "\\and ".join(
                part for part in (self.authors_source, source) if part
            )
        if self._in_document and self._header_written:
            self.out.gap(PARAGRAPH)
            self.out.text(self.flat(source))
            self.out.gap(PARAGRAPH)

    def _write_header(self) -> None:
        """Title and authors where the title page would stand, once."""
        if self._header_written or not self._in_document or not (self.title or self.authors_source):
            return
        self._header_written = True
        for line in (self.title, self.flat(AND.sub(", ", self.authors_source))):
            self.out.gap(PARAGRAPH)
            self.out.text(line)
        self.out.gap(PARAGRAPH)

    def flat(self, source: str) -> str:
        """A piece of source as one line of text, footnotes left out."""
        reader = _FlatReader(source, self._macros, Blocks())
        reader.read()
        return one_line(reader.out.finish().text)


class _FlatReader(LatexReader):
    """Reads what stands inside a title or a label: one line, no title page of its own."""

    def __init__(self, source: str, macros: Macros, out: Blocks) -> None:
        super().__init__(source, macros, out)
        self._in_document = self._header_written = True

    def flat(self, source: str) -> str:
        return one_line(source)

    def _about(self, name: str) -> None:
        """A title inside a title is its words."""

    def _note(self) -> None:
        self.pieces.option()
        self.pieces.group()
