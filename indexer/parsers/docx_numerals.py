"""Numbers as Word writes them in front of paragraphs: "iv", "AA", "First", "§", "第一".

Pure. It knows the formats of ECMA-376 part 1, 17.18.59 that use Latin, Cyrillic or Han signs; words
are English ones, because Word takes the language of the text and nobody stores it with the number.
A format or a number that is not known here is None, and the caller says what it showed instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_ROMAN = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L")),
    *((40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)
_MAX_ROMAN = 39_999
_MAX_LETTERS = 780  # Word's own: Z thirty times

_LATIN = "abcdefghijklmnopqrstuvwxyz"
_RUSSIAN = "абвгдежзиклмнопрстуфхцчшщыэюя"
_CHICAGO = "*†‡§"

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = ("ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_LAST_WORD = re.compile(r"[a-z]+$")
_MAX_IN_WORDS = 999_999

_HAN = "〇一二三四五六七八九"
_MAX_HAN = 9_999


def numeral(value: int, number_format: str) -> str | None:
    """`value` in a `w:numFmt`, None where the format is unknown or has no sign for the value."""
    if (write := _FORMATS.get(number_format)) is None:
        return None
    return write(value) if value >= 0 else None


def padded(value: int, pattern: str) -> str | None:
    """`value` in a custom format as Word writes those ("001, 002, 003, ..."); None if unknown."""
    first = pattern.partition(",")[0].strip()
    return f"{value:0{len(first)}d}" if re.fullmatch(r"0{1,9}[01]", first) else None


def _roman(value: int) -> str | None:
    if not 0 < value <= _MAX_ROMAN:
        return None
    written = ""
    for worth, sign in _ROMAN:
        written += sign * (value // worth)
        value %= worth
    return written


def _letters(alphabet: str) -> Callable[[int], str | None]:
    def write(value: int) -> str | None:
        """a ... z, aa, bb ..."""
        if not 0 < value <= _MAX_LETTERS:
            return None
        times, place = divmod(value - 1, len(alphabet))
        return alphabet[place] * (times + 1)

    return write


def _ordinal(value: int) -> str:
    ending = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10)
    return f"{value}{ending or 'th'}"


def _in_words(value: int) -> str | None:
    words = _cardinal(value)
    return None if words is None else words[:1].upper() + words[1:]


def _cardinal(value: int) -> str | None:
    if value > _MAX_IN_WORDS:
        return None
    if value < 20:
        return _ONES[value]
    if value < 100:
        tens = _TENS[value // 10 - 1]
        return f"{tens}-{_ONES[value % 10]}" if value % 10 else tens
    unit, worth = ("hundred", 100) if value < 1_000 else ("thousand", 1_000)
    head, rest = _cardinal(value // worth), _cardinal(value % worth) if value % worth else None
    return f"{head} {unit} {rest}" if rest else f"{head} {unit}"


def _ordinal_in_words(value: int) -> str | None:
    words = _in_words(value)
    if words is None:
        return None

    def last(match: re.Match[str]) -> str:
        word = match.group()
        return _ORDINALS.get(word) or (word[:-1] + "ieth" if word.endswith("y") else word + "th")

    lowered = _LAST_WORD.sub(last, words[:1].lower() + words[1:])
    return lowered[:1].upper() + lowered[1:]


def _chicago(value: int) -> str | None:
    return _letters(_CHICAGO)(value)


def _han_counting(value: int) -> str | None:
    """Chinese: 十一, 二十, 一百〇一."""
    if not 0 <= value <= _MAX_HAN:
        return None
    if value == 0:
        return _HAN[0]
    written, gap = "", False
    for worth, sign in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = value // worth % 10
        if digit == 0:
            gap = bool(written)
            continue
        written += (_HAN[0] if gap else "") + _HAN[digit] + sign
        gap = False
    return written[1:] if written.startswith("一十") else written


def _japanese_counting(value: int) -> str | None:
    """Japanese: as Chinese, without zeros and without a one before ten, hundred, thousand."""
    written = _han_counting(value)
    if written is None or value == 0:
        return written
    return re.sub("一(?=[十百千])|〇", "", written)


def _digits(signs: str) -> Callable[[int], str | None]:
    table = str.maketrans("0123456789", signs)
    return lambda value: str(value).translate(table)


def _enclosed(first: int, last_value: int) -> Callable[[int], str | None]:
    return lambda value: chr(first + value - 1) if 0 < value <= last_value else None


def _lowered(write: Callable[[int], str | None]) -> Callable[[int], str | None]:
    def lower(value: int) -> str | None:
        written = write(value)
        return None if written is None else written.lower()

    return lower


_FORMATS: dict[str, Callable[[int], str | None]] = {
    "decimal": str,
    "decimalZero": lambda value: f"{value:02d}",
    "decimalHalfWidth": str,
    "decimalFullWidth": _digits("０１２３４５６７８９"),
    "decimalFullWidth2": _digits("０１２３４５６７８９"),
    "decimalEnclosedCircle": _enclosed(ord("①"), 20),
    "decimalEnclosedCircleChinese": _enclosed(ord("①"), 20),
    "decimalEnclosedParen": _enclosed(ord("⑴"), 20),
    "decimalEnclosedFullstop": _enclosed(ord("⒈"), 20),
    "numberInDash": lambda value: f"- {value} -",
    "hex": lambda value: f"{value:X}",
    "upperRoman": _roman,
    "lowerRoman": _lowered(_roman),
    "upperLetter": _letters(_LATIN.upper()),
    "lowerLetter": _letters(_LATIN),
    "russianUpper": _letters(_RUSSIAN.upper()),
    "russianLower": _letters(_RUSSIAN),
    "ordinal": _ordinal,
    "cardinalText": _in_words,
    "ordinalText": _ordinal_in_words,
    "chicago": _chicago,
    "none": lambda _: "",
    "ideographDigital": _digits(_HAN),
    "japaneseDigitalTenThousand": _digits(_HAN),
    "taiwaneseDigital": _digits(_HAN),
    **dict.fromkeys(
        (
            *("chineseCounting", "chineseCountingThousand", "taiwaneseCounting"),
            "taiwaneseCountingThousand",
        ),
        _han_counting,
    ),
    "japaneseCounting": _japanese_counting,
}
