"""MathML as a line of text that reads aloud: (a + b)/2, x_i^2, √(n); pure.

Presentation MathML only; content MathML comes as the words inside it, and what annotations repeat
is left out. Spacing is by operator, not by the rules of typesetting. Recursion is bounded by
libxml2, which refuses elements nested over 256 levels deep.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from longleaf.indexer.parsers.xml_tree import Entities, children, local, words

if TYPE_CHECKING:
    from lxml.etree import _Element

_SPACED = frozenset("=<>≤≥≠≈≡∼≃≅∝+±∓×÷·∗⋅∈∉⊂⊆⊃∪∩→←↔⇒⇐⇔↦∧∨∣≪≫≔∘⊕⊗−-*/|")
_UNSPACED = frozenset("/|*·")
_NOTHING = frozenset("\u2061\u2062\u2063\u2064\u200b")
_SKIPPED = frozenset(("annotation", "annotation-xml", "mphantom", "maligngroup", "malignmark"))
_SIMPLE = re.compile(r"[\w.,'′]+|\([^()]*\)")


def math_text(element: _Element, entities: Entities) -> str:
    """A `math` element on one line, "" where there is nothing to read."""
    return " ".join(_math(element, entities).split())


def _math(element: _Element, entities: Entities) -> str:
    tag = local(element)
    if tag in _SKIPPED:
        return ""
    inside = children(element)
    if tag == "mo":
        return _operator("".join(words(element, entities).split()))
    if tag == "mspace":
        return " "
    if not inside:
        return words(element, entities)
    if tag == "semantics":
        return _math(inside[0], entities)
    parts = []
    for child in inside:
        parts.append(_math(child, entities))  # noqa: PERF401 - a comprehension nests a frame more
    return _combined(tag, element, parts)


def _combined(tag: str, element: _Element, parts: list[str]) -> str:
    """The children's text put together as their parent says."""
    match tag, parts:
        case "mfrac", [over, under]:
            return f"{_grouped(over)}/{_grouped(under)}"
        case (("msup" | "mover"), [base, above]):
            return f"{_grouped(base)}^{_grouped(above)}"
        case (("msub" | "munder"), [base, below]):
            return f"{_grouped(base)}_{_grouped(below)}"
        case (("msubsup" | "munderover"), [base, below, above]):
            return f"{_grouped(base)}_{_grouped(below)}^{_grouped(above)}"
        case "msqrt", _:
            return f"√({''.join(parts).strip()})"
        case "mroot", [radicand, index]:
            return f"{_grouped(radicand)}^(1/{_grouped(index)})"
        case "mfenced", _:
            start, end = element.get("open", "("), element.get("close", ")")
            return start + ", ".join(part.strip() for part in parts) + end
        case (("mtr" | "mlabeledtr"), _):
            return ", ".join(part.strip() for part in parts)
        case "mtable", _:
            return "; ".join(part for part in parts if part)
    return "".join(parts)


def _grouped(text: str) -> str:
    text = text.strip()
    return text if len(text) == 1 or _SIMPLE.fullmatch(text) else f"({text})"


def _operator(sign: str) -> str:
    sign = "".join(char for char in sign if char not in _NOTHING)
    if sign in (",", ";", ":"):
        return f"{sign} "
    return f" {sign} " if sign in _SPACED and sign not in _UNSPACED else sign
