r"""What LaTeX commands and environments are, as far as their text is concerned; tables only.

A command that is in no table is dropped by its name and its braces are read, which is right for
most.
"""

from __future__ import annotations

from longleaf.indexer.parsers.latex_math import SYMBOLS as MATH_SYMBOLS

HEADINGS = {
    "part": 1, "chapter": 2, "section": 3, "subsection": 4, "subsubsection": 5, "paragraph": 6,
    "subparagraph": 7, "addchap": 2, "addsec": 3, "frametitle": 5,
}  # fmt: skip
"""Command -> rank, lower further out."""

SYMBOLS = {
    **{f"\\{name}": sign for name, sign in MATH_SYMBOLS.items() if name in (
        "ldots", "dots", "S", "P", "copyright", "pounds", "dag", "dagger", "ddagger", "bullet",
        "quad", "qquad",
    )},
    "\\ss": "ß", "\\SS": "ẞ", "\\ae": "æ", "\\AE": "Æ", "\\oe": "œ", "\\OE": "Œ", "\\o": "ø",
    "\\O": "Ø", "\\l": "ł", "\\L": "Ł", "\\aa": "å", "\\AA": "Å", "\\i": "ı", "\\j": "ȷ",
    "\\th": "þ", "\\TH": "Þ", "\\dh": "ð", "\\DH": "Ð", "\\dj": "đ", "\\DJ": "Đ", "\\ng": "ŋ",
    "\\&": "&", "\\%": "%", "\\$": "$", "\\#": "#", "\\_": "_", "\\{": "{", "\\}": "}",
    "\\textbackslash": "\\", "\\textasciitilde": "~", "\\textasciicircum": "^", "\\slash": "/",
    "\\textendash": "–", "\\textemdash": "—", "\\textellipsis": "…", "\\textbar": "|",
    "\\textquoteleft": "‘", "\\textquoteright": "’", "\\textquotedblleft": "“", "\\lq": "‘",
    "\\textquotedblright": "”", "\\rq": "’", "\\guillemotleft": "«", "\\guillemotright": "»",
    "\\flqq": "«", "\\frqq": "»", "\\glqq": "„", "\\grqq": "“", "\\quotedblbase": "„",
    "\\textless": "<", "\\textgreater": ">", "\\textdegree": "°", "\\textmu": "µ",
    "\\textregistered": "®", "\\texttrademark": "™", "\\textcopyright": "©", "\\euro": "€",
    "\\texteuro": "€", "\\EUR": "€", "\\textsection": "§", "\\textparagraph": "¶",
    "\\textperiodcentered": "·", "\\textbullet": "•", "\\texttimes": "×", "\\textpm": "±",
    "\\LaTeX": "LaTeX", "\\TeX": "TeX", "\\LaTeXe": "LaTeX2e", "\\BibTeX": "BibTeX",
    "\\-": "", "\\/": "", "\\,": " ", "\\;": " ", "\\:": " ", "\\ ": " ", "\\!": "", "\\@": "",
    "\\\n": " ", "\\thinspace": " ", "\\enspace": " ", "\\space": " ", "\\nobreakspace": " ",
    "\\xspace": "", "\\protect": "", "\\relax": "", "\\today": "",
}  # fmt: skip

ACCENTS = {
    "\\'": "\u0301", "\\`": "\u0300", "\\^": "\u0302", '\\"': "\u0308", "\\~": "\u0303",
    "\\=": "\u0304", "\\.": "\u0307", "\\c": "\u0327", "\\v": "\u030c", "\\H": "\u030b",
    "\\u": "\u0306", "\\k": "\u0328", "\\r": "\u030a", "\\d": "\u0323", "\\b": "\u0331",
}  # fmt: skip
"""Command -> combining character that follows its letter."""

CITES = frozenset(
    (
        *("cite", "citep", "citet", "citealp", "citealt", "citeauthor", "citeyear", "citeyearpar"),
        *("autocite", "parencite", "textcite", "footcite", "fullcite", "supercite", "citenum"),
        *("Citet", "Citep", "Cite", "Textcite", "Parencite", "Autocite", "onlinecite", "shortcite"),
    )
)
REFERENCES = frozenset(("ref", "eqref", "pageref", "autoref", "cref", "Cref", "nameref", "vref"))
INPUTS = frozenset(
    (
        *("input", "include", "subfile", "import", "subimport", "bibliography", "includepdf"),
        *("addbibresource", "lstinputlisting", "verbatiminput"),
    )
)

SKIPPED_ARGUMENTS = {
    "label": 1, "index": 1, "vspace": 1, "hspace": 1, "includegraphics": 1, "bibliographystyle": 1,
    "usepackage": 1, "documentclass": 1, "RequirePackage": 1, "pagestyle": 1, "thispagestyle": 1,
    "setlength": 2, "addtolength": 2, "setcounter": 2, "addtocounter": 2, "pagenumbering": 1,
    "color": 1, "definecolor": 3, "graphicspath": 1, "hypersetup": 1, "newtheorem": 2,
    "theoremstyle": 1, "newenvironment": 3, "renewenvironment": 3, "newcounter": 1, "nocite": 1,
    "newlength": 1, "fontsize": 2, "linespread": 1, "geometry": 1, "captionsetup": 1, "cmidrule": 1,
    "cline": 1, "multicolumn": 2, "multirow": 2, "textcolor": 1, "colorbox": 1, "href": 1,
    "rule": 2, "hyphenation": 1, "newif": 1, "bibitem": 0, "stepcounter": 1, "refstepcounter": 1,
    "markboth": 2, "markright": 1, "addcontentsline": 3, "rotatebox": 1, "resizebox": 2,
    "scalebox": 1, "raisebox": 1, "parbox": 1, "selectlanguage": 1, "foreignlanguage": 1,
    "tikzset": 1, "pgfplotsset": 1, "lstset": 1, "usetikzlibrary": 1, "phantom": 1, "hphantom": 1,
    "vphantom": 1, "numberwithin": 2, "DeclareUnicodeCharacter": 2, "institute": 0, "hskip": 0,
    "let": 2, "fancyhead": 1, "fancyfoot": 1, "lhead": 1, "rhead": 1, "chead": 1, "cfoot": 1,
    "lfoot": 1, "rfoot": 1, "orcid": 1, "bibinfo": 1, "bibfield": 1, "bibnamefont": 0, "Url": 1,
    "cellcolor": 1, "rowcolor": 1, "arrayrulecolor": 1, "setstretch": 1, "DeclareMathAlphabet": 5,
    "ifthenelse": 1, "sisetup": 1, "crefname": 3, "Crefname": 3, "PassOptionsToPackage": 2,
}  # fmt: skip
"""Command -> how many arguments in braces say nothing to a reader."""

ENVIRONMENT_ARGUMENTS = {
    "tabular": 1, "tabular*": 2, "tabularx": 2, "tabulary": 2, "longtable": 1, "array": 1,
    "supertabular": 1, "xltabular": 2, "tabu": 1, "minipage": 1, "multicols": 1, "wrapfigure": 2,
    "adjustbox": 1, "subfigure": 1, "subtable": 1, "thebibliography": 1, "list": 2, "spacing": 1,
    "otherlanguage": 1, "textblock": 1, "column": 1, "adjustwidth": 2, "CJK": 2, "CJK*": 2,
    "IEEEeqnarray": 1, "alignat": 1, "alignat*": 1, "minted": 1, "filecontents": 1,
    "filecontents*": 1, "subequations": 0, "wraptable": 2, "sidewaystable": 0,
}  # fmt: skip
TABLES = frozenset(("tabular", "tabular*", "tabularx", "tabulary", "longtable", "array", "tabu",
                    "supertabular", "xltabular"))  # fmt: skip
FORMULAS = frozenset(
    (
        *("equation", "equation*", "align", "align*", "gather", "gather*", "multline", "multline*"),
        *("eqnarray", "eqnarray*", "displaymath", "math", "flalign", "flalign*", "alignat"),
        *("alignat*", "IEEEeqnarray", "IEEEeqnarray*", "dmath", "dmath*"),
    )
)
VERBATIM = frozenset(("verbatim", "verbatim*", "lstlisting", "minted", "Verbatim", "alltt",
                      "listing"))  # fmt: skip
DRAWINGS = frozenset(("tikzpicture", "pgfpicture", "picture", "pspicture", "tikzcd", "xy", "axis",
                      "forest", "circuitikz"))  # fmt: skip
DROPPED = frozenset(("comment", "filecontents", "filecontents*", "CCSXML"))
NUMBERED_LISTS = frozenset(("enumerate", "compactenum", "inparaenum", "asparaenum"))
LISTS = NUMBERED_LISTS | {"itemize", "description", "compactitem", "list", "trivlist", "asparaitem"}
CAPTIONED = {"figure": "Figure", "figure*": "Figure", "table": "Table", "table*": "Table",
             "wrapfigure": "Figure", "wraptable": "Table", "sidewaystable": "Table",
             "sidewaysfigure": "Figure", "longtable": "Table", "algorithm": "Algorithm",
             "listing": "Listing"}  # fmt: skip
THEOREMS = frozenset(
    (
        *("theorem", "lemma", "proposition", "corollary", "definition", "remark", "example"),
        *("proof", "claim", "conjecture", "assumption", "axiom", "hypothesis", "notation"),
    )
)
