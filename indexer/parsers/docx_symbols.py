"""Signs of Word's symbol fonts as Unicode: "α" for the letter "a" in Symbol, a tick in Wingdings.

Word stores such a sign as its place in the font, often moved to the private range U+F000..U+F0FF.
The Symbol table is Adobe's (unicode.org, MAPPINGS/VENDORS/ADOBE/symbol.txt), whole but for pieces
of tall brackets; of Wingdings the signs that stand in running text (boxes, ticks, arrows, bullets,
digits in circles). What is not known becomes U+FFFD, and the caller counts it.
"""

from __future__ import annotations

import re

BULLET = "•"
UNKNOWN = "\ufffd"

_PRIVATE = 0xF000
PRIVATE_SIGN = re.compile("[\uf020-\uf0ff]")
_FONT_SIGN = re.compile("[\x20-\xff\uf020-\uf0ff]")

_SYMBOL = dict(
    zip(
        range(0x20, 0x7F),
        " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_"
        "‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼",
        strict=True,
    )
) | dict(
    zip(
        range(0xA0, 0xE6),
        "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑",
        strict=True,
    )
)
_SYMBOL |= {0xF1: "〉", 0xF2: "∫"}

_WINGDINGS = {
    0x20: " ",
    0x21: "✏",
    0x22: "✂",
    0x28: "☎",
    0x29: "✆",
    0x2A: "✉",
    0x46: "☞",
    0x4A: "☺",
    0x4C: "☹",
    0x6C: "●",
    0x6D: "❍",
    0x6E: "■",
    0x6F: "□",
    0x71: "❑",
    0x72: "❒",
    0x74: "⧫",
    0x75: "◆",
    0x76: "❖",
    0x78: "☒",
    0x9E: "·",
    0x9F: BULLET,
    0xA1: "○",
    0xA7: "▪",
    0xA8: "□",
    0xD8: "➢",
    0xDC: "➲",
    0xDF: "←",
    0xE0: "→",
    0xE1: "↑",
    0xE2: "↓",
    0xE8: "➔",
    0xEF: "⇦",
    0xF0: "⇨",
    0xF1: "⇧",
    0xF2: "⇩",
    0xF3: "⬄",
    0xFB: "✗",
    0xFC: "✓",
    0xFD: "☒",
    0xFE: "☑",
    **dict(zip(range(0x80, 0x8B), "⓪①②③④⑤⑥⑦⑧⑨⑩", strict=True)),
    **dict(zip(range(0x8B, 0x96), "⓿❶❷❸❹❺❻❼❽❾❿", strict=True)),
}
_WINGDINGS_2 = {0x20: " ", 0x4F: "✗", 0x50: "✓", 0x51: "☒", 0x52: "☑", 0x53: "☒", 0xA3: "□"}
_WINGDINGS_3 = {0x20: " ", 0x7D: "▶", 0x84: "◀", 0xA0: "△"}
_FONTS = {
    "symbol": _SYMBOL,
    "wingdings": _WINGDINGS,
    "wingdings 2": _WINGDINGS_2,
    "wingdings 3": _WINGDINGS_3,
}


def is_symbol_font(font: str | None) -> bool:
    """Whether letters in `font` are other signs."""
    return (font or "").lower() in _FONTS


def sign(code: int, font: str | None) -> str:
    """The sign at `code` of `font` (Symbol for a font that is not known here), or `UNKNOWN`."""
    place = code - _PRIVATE if _PRIVATE <= code <= _PRIVATE + 0xFF else code
    known = _FONTS.get((font or "").lower())
    if known is None and place == code:
        # A letter of an ordinary font, which `w:sym` may name as well.
        return chr(code) if 0x20 <= code < 0xD800 or 0xF8FF < code <= 0x10FFFF else UNKNOWN
    return (_SYMBOL if known is None else known).get(place, UNKNOWN)


def as_unicode(text: str, font: str | None) -> str:
    """`text` of a run in `font` with the signs of symbol fonts as Unicode."""
    signs = _FONT_SIGN if is_symbol_font(font) else PRIVATE_SIGN
    return signs.sub(lambda match: sign(ord(match.group()), font), text)
