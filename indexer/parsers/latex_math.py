"""TeX formulas as text that can be read and found: α_i ≤ β^2, (a + b)/c, √(x); pure and linear.

Commands become their Unicode character where there is one, else their name; braces group. Nothing
is computed and no macro is expanded here. A formula nested deeper than `_MAX_DEPTH` keeps its words
and loses its grouping.
"""

from __future__ import annotations

import re

_PIECE = re.compile(r"\\(?:[a-zA-Z]+\*?|.|\n)|[{}^_&~]|\s+|[^\\{}^_&~\s]+", re.DOTALL)
_MAX_DEPTH = 60
_DOCUMENT = re.compile(r"\\begin\{document\}(?P<body>.*)\\end\{document\}", re.DOTALL)

_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"),
    *("lambda", "mu", "nu", "xi", "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi"),
    *("chi", "psi", "omega"),
)
SYMBOLS = {
    **{
        name: chr(0x3B1 + at + (at > 16))  # the final sigma stands between rho and sigma
        for at, name in enumerate(_GREEK)
    },
    **{
        name.capitalize(): chr(0x391 + at + (at > 16))
        for at, name in enumerate(_GREEK)
    },
    "varepsilon": "ε", "vartheta": "ϑ", "varphi": "φ", "varrho": "ϱ", "varsigma": "ς",
    "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥", "neq": "≠", "ne": "≠", "ll": "≪", "gg": "≫",
    "approx": "≈", "sim": "∼", "simeq": "≃", "cong": "≅", "equiv": "≡", "propto": "∝",
    "leqslant": "≤", "geqslant": "≥", "prec": "≺", "succ": "≻", "asymp": "≍", "doteq": "≐",
    "pm": "±", "mp": "∓", "times": "×", "div": "÷", "cdot": "·", "ast": "∗", "star": "⋆",
    "circ": "∘", "bullet": "•", "oplus": "⊕", "otimes": "⊗", "odot": "⊙", "wedge": "∧", "vee": "∨",
    "land": "∧", "lor": "∨", "lnot": "¬", "neg": "¬", "cap": "∩", "cup": "∪", "setminus": "∖",
    "in": "∈", "notin": "∉", "ni": "∋", "subset": "⊂", "subseteq": "⊆", "supset": "⊃",
    "supseteq": "⊇", "emptyset": "∅", "varnothing": "∅", "forall": "∀", "exists": "∃",
    "infty": "∞", "partial": "∂", "nabla": "∇", "sum": "∑", "prod": "∏", "coprod": "∐", "int": "∫",
    "iint": "∬", "oint": "∮", "bigcup": "⋃", "bigcap": "⋂", "bigoplus": "⨁", "bigotimes": "⨂",
    "to": "→", "rightarrow": "→", "longrightarrow": "→", "leftarrow": "←", "gets": "←",
    "leftrightarrow": "↔", "Rightarrow": "⇒", "implies": "⇒", "Leftarrow": "⇐", "mapsto": "↦",
    "Leftrightarrow": "⇔", "iff": "⇔", "uparrow": "↑", "downarrow": "↓", "hookrightarrow": "↪",
    "ldots": "…", "cdots": "⋯", "dots": "…", "vdots": "⋮", "ddots": "⋱", "prime": "′", "hbar": "ℏ",
    "ell": "ℓ", "Re": "ℜ", "Im": "ℑ", "aleph": "ℵ", "wp": "℘", "degree": "°", "angle": "∠",
    "perp": "⊥", "parallel": "∥", "mid": "|", "vert": "|", "Vert": "‖", "langle": "⟨",
    "rangle": "⟩", "lceil": "⌈", "rceil": "⌉", "lfloor": "⌊", "rfloor": "⌋", "lbrace": "{",
    "rbrace": "}", "dagger": "†", "ddagger": "‡", "models": "⊨", "vdash": "⊢", "top": "⊤",
    "bot": "⊥", "triangle": "△", "square": "□", "Box": "□", "colon": ":", "quad": " ", "qquad": " ",
    "lvert": "|", "rvert": "|", "lVert": "‖", "rVert": "‖", "backslash": "\\", "dag": "†",
    "imath": "ı", "jmath": "ȷ", "complement": "∁", "because": "∵", "therefore": "∴", "surd": "√",
    "S": "§", "P": "¶", "copyright": "©", "pounds": "£",
}  # fmt: skip
"""Commands that stand for one character, in formulas and in text."""

_SPACED = frozenset("=<>≤≥≠≈∼≃≅≡∝≪≫±∓×÷∈∉∋⊂⊆⊃⊇→←↔⇒⇐⇔↦∧∨∩∪⊕⊗+")
_NAMED = frozenset(
    (
        *("sin", "cos", "tan", "cot", "log", "ln", "exp", "min", "max", "sup", "inf", "lim"),
        *("arg", "det", "dim", "ker", "gcd", "Pr", "limsup", "liminf", "deg", "sinh", "cosh"),
        *("tanh", "arcsin", "arccos", "arctan", "sec", "csc", "argmax", "argmin", "mod", "bmod"),
    )
)
_SILENT = frozenset(
    (
        *("left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl"),
        *("biggr", "middle", "displaystyle", "textstyle", "scriptstyle", "limits", "nolimits"),
        *("nonumber", "notag", "rm", "bf", "it", "cal", "tt", "sf", "boldmath", "mathop", "mathrm"),
        *("mathbf", "mathit", "mathcal", "mathbb", "mathfrak", "mathsf", "mathtt", "boldsymbol"),
        *("bm", "operatorname", "text", "textrm", "textbf", "textit", "mbox", "hbox", "ensuremath"),
        *("mathbin", "mathrel", "mathord", "mathopen", "mathclose", "overline", "underline"),
        *("bar", "hat", "tilde", "vec", "dot", "ddot", "widehat", "widetilde", "check", "breve"),
        *(
            "overbrace",
            "underbrace",
            "substack",
            "rule",
            "mathstrut",
            "strut",
            "hline",
            "allowbreak",
        ),
        *("big", "tfrac", "cfrac", "vphantom", "displaylimits", "mathscr", "pmb", "textnormal"),
    )
)
_WITH_NAME = frozenset(("begin", "end", "label", "tag", "ref", "eqref", "hspace", "vspace", "cite"))
_FRACTIONS = frozenset(("frac", "dfrac", "tfrac", "cfrac", "binom", "nicefrac", "sfrac"))
_SPACES = frozenset((",", ";", ":", " ", "!", ">", "/"))


def formula_text(tex: str) -> str:
    """A formula (without its dollar signs, or a whole small document of one) on one line."""
    document = _DOCUMENT.search(tex)
    tex = document["body"] if document is not None else tex
    return " ".join(_Formula(tex.replace("$", " ")).read().split())


class _Formula:
    """One pass over the pieces with a stack of open groups."""

    def __init__(self, tex: str) -> None:
        self._pieces: list[str] = _PIECE.findall(tex)
        self._at = 0

    def read(self) -> str:
        parts: list[str] = []
        while self._at < len(self._pieces):
            parts.append(self._item(0))
        return "".join(parts)

    def _item(self, depth: int) -> str:
        """The next piece, or group, as text. Always moves on."""
        piece = self._pieces[self._at]
        self._at += 1
        if piece == "{":
            return self._group(depth + 1)
        if piece in "^_":
            return piece + _grouped(self._argument(depth))
        if piece == "&" or piece == "~" or piece.isspace():
            return " "
        if piece == "}":
            return ""
        if piece[0] == "\\":
            return self._command(piece[1:].rstrip("*"), depth)
        return "".join(f" {char} " if char in _SPACED else char for char in piece)

    def _group(self, depth: int) -> str:
        parts: list[str] = []
        while self._at < len(self._pieces):
            if self._pieces[self._at] == "}":
                self._at += 1
                break
            if depth >= _MAX_DEPTH:
                break  # the rest is read by whoever is outermost
            parts.append(self._item(depth))
        return "".join(parts)

    def _argument(self, depth: int) -> str:
        """What the next command or sign applies to: a group, a command, or one character."""
        while self._at < len(self._pieces) and self._pieces[self._at].isspace():
            self._at += 1
        if self._at >= len(self._pieces) or depth >= _MAX_DEPTH:
            return ""
        piece = self._pieces[self._at]
        if piece[0] in "\\{":
            return self._item(depth + 1).strip()
        if piece in ("}", "&", "^", "_", "~"):
            return ""
        if len(piece) > 1:
            self._pieces[self._at] = piece[1:]
        else:
            self._at += 1
        return piece[0]

    def _command(self, name: str, depth: int) -> str:
        if name in SYMBOLS:
            symbol = SYMBOLS[name]
            return f" {symbol} " if symbol in _SPACED else symbol
        if name in _FRACTIONS:
            over, under = self._argument(depth), self._argument(depth)
            if name == "binom":
                return f"({over} choose {under})"
            return f"{_grouped(over)}/{_grouped(under)}"
        if name == "sqrt":
            return f"√({self._argument(depth)})"
        if name in _NAMED:
            return f" {name} "
        if name in _WITH_NAME:
            self._argument(depth)
            return " "
        if name in ("\\", "cr", "newline", "\n"):
            return " ; "
        if name in _SPACES:
            return " " if name != "!" else ""
        if name in _SILENT or not name:
            return ""
        return f" {name} " if name.isalpha() else name


_SIMPLE = re.compile(r"[^\W_]+|[^\w\s]|\([^()]*\)")


def _grouped(text: str) -> str:
    text = text.strip()
    return text if not text or _SIMPLE.fullmatch(text) else f"({text})"
