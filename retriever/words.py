"""What a word is: one reading of text for BM25, phrases and exclusions.

Text from PDFs and web pages spells one word in many ways (ligatures, decomposed accents, soft
hyphens), so everything is compared after `normalised`. Words are runs of letters and digits, lower
case, unstemmed; scripts written without spaces give one word per character, so that a phrase is
found in the midst of a sentence. This module knows no language and no index. Trade-off: it does
not segment Chinese, Japanese or Thai into dictionary words, which would need a model per language.
"""

from __future__ import annotations

import re
import unicodedata

_DASHES = "‐‑‒–−"
_BREAKS = "—―"
_INVISIBLE = "\u00ad\u200c\u200d\u2060\ufeff"  # inside words
_ODD = re.compile(f"[{_DASHES}{_BREAKS}{_INVISIBLE}]")

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
# Vowel signs and accents that have no composed form belong to their word; `\w` leaves them out.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670"
    "\u0900-\u0903\u093a-\u094f\u0962-\u0963\u0981-\u0983\u09bc-\u09cd\u0a01-\u0a03\u0a3c-\u0a4d"
    "\u0a81-\u0a83\u0abc-\u0acd\u0b01-\u0b03\u0b3c-\u0b4d\u0bbe-\u0bcd\u0c00-\u0c04\u0c3e-\u0c4d"
    "\u0c81-\u0c83\u0cbc-\u0ccd\u0d00-\u0d03\u0d3b-\u0d4d"
)
_SPACED = rf"[^\W_{_UNSPACED}]"
UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")
_WORD = re.compile(rf"[{_UNSPACED}]|{_SPACED}+(?:[{_MARKS}]+{_SPACED}*)*")
_ASCII_WORD = re.compile(r"[a-z0-9]+")


def normalised(text: str) -> str:
    """Compatibility forms, invisible characters and dashes unified (NFKC), lower case."""
    if text.isascii():
        return text.lower()
    text = text.replace("™", " ").replace("℠", " ")  # NFKC would glue "TM" to the word
    return _ODD.sub(_unified, unicodedata.normalize("NFKC", text)).lower()


def _unified(odd: re.Match[str]) -> str:
    character = odd[0]
    if character in _DASHES:
        return "-"
    return " " if character in _BREAKS else ""


def words(text: str) -> list[str]:
    """The words of `text` in order. A phrase is in a text when its words are, side by side."""
    text = normalised(text)
    return (_ASCII_WORD if text.isascii() else _WORD).findall(text)
