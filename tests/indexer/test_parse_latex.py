# ruff: noqa: E501 - markup reads better unbroken
r"""LaTeX: a paper as it would be read aloud; encodings; and sources built to hurt."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.core.errors import LongleafError, NoTextFound, Rejected, RejectReason
from longleaf.core.types import Document, Role
from longleaf.indexer.parsers.latex import LatexParser
from longleaf.indexer.parsers.latex_math import formula_text

PAPER = r"""\documentclass[12pt]{article}
\usepackage[utf8]{inputenc}
\newcommand{\R}{\mathbb{R}} \newcommand{\eg}{e.g.\ }
\newcommand{\two}[2]{#1 and #2} \def\nm{IL-6} \DeclareMathOperator{\Tr}{Tr}
\title{On \emph{Deep}\\ Things\thanks{Funded.}}
\author{Ada Doe\thanks{Here} \and Bo K. Roe$^1$ \\ University of Here}
\date{March 2020}
This preamble is dropped. % and this comment
\begin{document}
\maketitle
\begin{abstract}
We show $x \in \R$ and \nm{} works. % not this
\end{abstract}
\section{Introduction}\label{sec:intro}
Known since \cite{smith2019,jones}, see \citep[p.~5]{roe} and Fig.~\ref{fig:a}.
It is ``so'' --- na\"{\i}ve caf\'e, \v{S}koda, \c{c}a --- \eg \textbf{bold} 5\% of \$3.\footnote{A
note with $y_1$.} And
on.

\subsection*{Methods \& more}
\begin{enumerate}
\item first
\item[(b)] second
  \begin{itemize} \item deep \end{itemize}
\item third
\end{enumerate}
\begin{equation}\label{eq:1}
\int_0^1 f(x)\,dx = \frac{a}{b}
\end{equation}
where \two{this}{that} holds, $\Tr A$. \[ E = mc^2 \]
\begin{table}[h]\centering\caption[short]{Numbers of $\R$}
\begin{tabular}{l|r} \hline Name & n \\ \hline \multicolumn{2}{c}{both} \\ a & 1 \\[2pt]
\end{tabular}\end{table}
\begin{figure}\includegraphics[width=2cm]{a.png}\caption{A \textit{thing}.}\end{figure}
\begin{theorem}[Main] All is well. \end{theorem}
\begin{verbatim}
if x:  % kept
    y = $1
\end{verbatim}
\begin{comment}
no \end{document}
\end{comment}
\iffalse no \fi
\input{chapter2}\include{app} \begin{tikzpicture}\draw (0,0);\end{tikzpicture}
\href{https://x.org}{a link} to \url{https://y.org/a_b} for \verb|a\b| at $5 only.

\begin{thebibliography}{9}
\bibitem{smith2019} J. Smith, \textit{Title}, 2019.
\bibitem[Jones(2)]{jones} B. Jones.
\end{thebibliography}
\end{document}
Nothing after the end."""


def read(source: str | bytes, name: str = "a.tex") -> Document:
    data = source if isinstance(source, bytes) else source.encode()
    (document,) = LatexParser().parse(data, name)
    assert isinstance(document, Document)
    return document


def test_a_paper_reads_as_it_would_be_read_aloud() -> None:
    document = read(PAPER)
    assert document.text.split("\n\n") == [
        "On Deep Things",
        "Ada Doe, Bo K. Roe^1 University of Here",
        "Abstract",
        "We show x ∈ R and IL-6 works.",
        "Introduction",
        "Known since [smith2019, jones], see [roe, p. 5] and Fig. [fig:a]. It is “so” — naïve café, "
        "Škoda, ça — e.g. bold 5% of $3.[1] And on.",
        "[1] A note with y_1.",
        "Methods & more",
        "1. first\n(b) second",
        "deep",
        "2. third",
        "∫_0^1 f(x) dx = a/b\nwhere this that holds, Tr A.\nE = mc^2",
        "Table: Numbers of R",
        "Name | n\nboth\na | 1",
        "Figure: A thing.",
        "Theorem (Main). All is well.",
        "if x:  % kept\n    y = $1",
        "a link to https://y.org/a_b for a\\b at $5 only.",
        "References",
        "[smith2019] J. Smith, Title, 2019.\n[Jones(2)] B. Jones.",
    ]
    assert document.title == "On Deep Things"
    assert dict(document.metadata) == {"authors": ("Ada Doe", "Bo K. Roe"), "date": "March 2020"}
    assert [(section.level, section.title) for section in document.sections] == [
        (1, "Abstract"),
        (1, "Introduction"),
        (2, "Methods & more"),
        (1, "References"),
    ]
    assert [
        (region.role, document.text[region.start_char : region.end_char].split("\n")[0])
        for region in document.regions
    ] == [(Role.FOOTNOTE, "[1] A note with y_1."), (Role.REFERENCES, "References")]


def test_what_was_not_read_is_named() -> None:
    assert read(PAPER).warnings == (
        "other files that it draws in were not read: chapter2, app",
        "macros with arguments are not expanded: \\two",
        "1 drawings have no text",
    )


def test_a_chapter_without_a_preamble_is_read_whole() -> None:
    document = read("\\chapter{One}\nWords.\n\n\\section{Two}\\subsubsection{Deep}x")
    assert document.text == "One\n\nWords.\n\nTwo\n\nDeep\n\nx"
    assert [(section.level, section.title) for section in document.sections] == [
        (1, "One"),
        (2, "Two"),
        (3, "Deep"),
    ]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a%b\nc", "ac"),
        ("a % b\n\nc", "a\n\nc"),
        (r"100\% sure", "100% sure"),
        (r"\textbf {a}\emph{b} c", "ab c"),
        (r"a\ b\,c~d\\e", "a b c d\ne"),
        (r"\'{e}\`a\^{\i}\~n\H{o}\aa\ss{}\o", "éàîñőåßø"),
        (r"\section{A $x^2$ \cite{k} b}", "A x^2 [k] b"),
        (r"\cite{a}\nocite{b} \textcite[see][p. 1]{c,d}", "[a] [c, d, p. 1]"),
        (r"costs $5 and $6 more", "costs 5 and 6 more"),
        ("costs $5\n\nand $6", "costs $5\n\nand $6"),
        (r"\let\x=\y\foo{a}{b}", "a b"),
        (r"\def\x#1{n #1} \x{a}", "a"),
        (r"\renewcommand*\x{new}\x, \x.", "new, new."),
        (r"\begin{lstlisting}[language=C, x={1}] int a; % c" + "\n\\end{lstlisting}", "int a; % c"),
        (r"\begin{minipage}{0.5\textwidth}in\end{minipage} out", "in\n\nout"),
        (r"\begin{align*} a &= b \\ c &= d \end{align*}", "a = b ; c = d"),
        (r"unclosed \textbf{word", "unclosed word"),
        (r"} stray \end{x} \] words", "stray\n\nwords"),
        (r"\begin{equation} never closed", "never closed"),
        (r"\footnote{never closed", "[1]\n\n[1] never closed"),
        (r"\footnote", "[1]\n\n[1]"),
    ],
)
def test_details(source: str, text: str) -> None:
    assert read(source).text == text


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"\alpha_{i} \leq \beta^{2}", "α_i ≤ β^2"),
        (r"\frac{a+b}{2}", "(a + b)/2"),
        (r"\sqrt{x_{ij}}", "√(x_ij)"),
        (r"\hat{\theta} = \arg\min_\theta \mathcal{L}(\theta)", "θ = arg min _θ L(θ)"),
        (r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}", "a b ; c d"),
        (r"\text{if } n > 0", "if n > 0"),
        (r"\Sigma\sigma\Omega\omega\varepsilon", "ΣσΩωε"),
        ("}{^_", "^_"),
        ("", ""),
    ],
)
def test_formulas(tex: str, text: str) -> None:
    assert formula_text(tex) == text


def test_the_declared_input_encoding_is_obeyed() -> None:
    source = "\\usepackage[latin2]{inputenc}\\begin{document}Wałęsa\\end{document}"
    assert read(source.encode("iso-8859-2")).text == "Wałęsa"
    source = source.replace("latin2", "koi8-r").replace("Wałęsa", "право")
    assert read(source.encode("koi8-r")).text == "право"


@pytest.mark.parametrize("source", ["", " \n"])
def test_nothing_at_all_is_empty(source: str) -> None:
    with pytest.raises(Rejected) as refusal:
        read(source)
    assert refusal.value.reason == RejectReason.EMPTY


def test_a_source_of_other_files_only_says_so() -> None:
    with pytest.raises(NoTextFound) as refusal:
        read(r"\documentclass{book}\begin{document}\input{one}\input{two}\end{document}")
    assert "one, two" in str(refusal.value)


_NAMES = [f"\\m{letter}" for letter in "abcdefgh"]
TENFOLD = "".join(
    f"\\def{name}{{{inner * 10}}}" for name, inner in zip(_NAMES, ["x", *_NAMES], strict=False)
)


@pytest.mark.parametrize(
    "source",
    [
        TENFOLD + r"\mh",
        TENFOLD + r"$\mh$",
        TENFOLD + r"\item[\mh]",
        TENFOLD + r"\title{\mh}",
        r"\def\a{x\c}\def\c{y\a}z\a",
        r"\def\a{\a\a}\a",
        r"\def\a{" + "x" * 10_000 + "}" + r"\a" * 1_000,
    ],
)
def test_macro_bombs_are_refused(source: str) -> None:
    with pytest.raises(Rejected) as refusal:
        read(source)
    assert refusal.value.reason == RejectReason.EXPANDS


@pytest.mark.parametrize(
    "unit",
    [
        "{", "}", "{}", "[", "$", "$$ x ", "$x", r"\[ x ", r"\( x ", r"\begin{a}", r"\end{a}",
        r"\begin{equation} x ", r"\begin{verbatim} x ", r"\begin{itemize}\item ", r"\title{x",
        r"\footnote{b ", r"\section{b ", r"\item[ ", r"\\[ ", r"\verb|x ", r"\iffalse x ", r"\cite{ ",
        r"\def\a#1", r"\newcommand{\a", r"\caption{", "%\n", "\\", r"\'", "^", r"\frac", "a & ", "\n",
        r"\begin{tabular}{", r"\bibitem{", r"\left(", "{x_", r"\begin{figure}\caption{x}", r"\let\a",
    ],
)  # fmt: skip
@pytest.mark.parametrize("inside", ["", "$", r"\begin{equation}"])
def test_anything_repeated_a_lot_is_read_or_refused(unit: str, inside: str) -> None:
    """None of it may take time that grows with the square, or nest Python's calls."""
    try:
        document = read(f"{inside}{unit * 4_000}word")
    except (Rejected, NoTextFound):
        return
    assert document.text.strip()


_SOURCES = st.lists(
    st.sampled_from(
        [
            *(
                "{",
                "}",
                "[",
                "]",
                "$",
                "$$",
                "&",
                "~",
                "%",
                "\n",
                "\n\n",
                "\\\\",
                "a",
                "word ",
                "^",
                "_",
            ),
            *(r"\section", r"\footnote", r"\item", r"\title", r"\begin{itemize}", r"\end{itemize}"),
            *(
                r"\begin{document}",
                r"\end{document}",
                r"\begin{tabular}{l}",
                r"\end{tabular}",
                r"\cite",
            ),
            *(
                r"\begin{thebibliography}",
                r"\end{thebibliography}",
                r"\bibitem",
                r"\[",
                r"\]",
                r"\def",
            ),
            *(
                r"\x",
                r"\newcommand",
                r"\caption",
                r"\maketitle",
                r"\'",
                r"\frac",
                r"\begin{equation}",
            ),
        ]
    ),
    max_size=40,
).map("".join)


@settings(deadline=None)
@given(_SOURCES | st.text(max_size=200))
def test_any_source_gives_sound_text_sections_and_regions(source: str) -> None:
    try:
        document = read(source)
    except LongleafError:
        return
    text = document.text
    assert text.strip() and text.encode() and not set("\0\r") & set(text)
    for section in document.sections:
        assert 0 <= section.start_char < section.end_char <= len(text)
    before = 0
    for region in sorted(document.regions, key=lambda region: region.start_char):
        assert before <= region.start_char < region.end_char <= len(text)
        before = region.end_char
