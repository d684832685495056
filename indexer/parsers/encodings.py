"""Which encoding bytes are in that neither say so nor are UTF-8; pure, and bounded for any size.

A sample of 32 KiB around bytes above 127 is read in each candidate encoding, which must show three
things: hardly a byte that it does not know, characters of one script, and that script's frequent
ones among them. For Latin letters the little words name the language, and its alphabet decides.
Where nothing is shown the answer is Windows-1252, by far the most common: a wrong guess reads as
well as a right one. Knows no format; EBCDIC, UTF-7 and DOS code pages other than 866 are not looked
for, and a few words in another Latin code page than 1252 are not told from 1252.

Measured (`python tests/indexer/test_encodings.py`): of 108 single sentences in 27 languages and 26
encodings 106 right (99 before the rules had seen them), the others Windows-1252; of 952 English
papers and contracts in Windows-1252 none taken for anything else. charset-normalizer 3.5, asked
among the same candidates: 63 of the 108, most of the Western ones taken for Windows-1250. 5 ms; the
search for a byte above 127 takes 1 s where there is one at the end of 100 MB.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from longleaf.core.language import detect as language_of
from longleaf.core.language_words import LITTLE_WORDS

SAMPLE_BYTES = 32_768
_WINDOW_BYTES = 4_096
_LEAD_BYTES = 256  # of context before a byte above 127
_HIGH = re.compile(rb"[\x80-\xff]")
_HIGH_RUN = re.compile(rb"[\x80-\xff]{3,}")
_MIN_WIDE_BYTES = 8
_MIN_SCRIPT_BYTES = 12
_MIN_LETTERS = 5  # different ones: a line of dots or dashes is no word
_MAX_UNKNOWN_SHARE = 0.01

# --- by name -----------------------------------------------------------------------------------

# What is declared and what is meant by it differ (WHATWG Encoding, section 4.2). A list, not
# `codecs.lookup`: Python also knows codecs that no document may choose (utf-7, unicode_escape).
_LABELS = re.compile(
    r"utf-?8|utf-?16(?:-?[lb]e)?|utf-?32(?:-?[lb]e)?|iso-8859-\d+|windows-125\d|cp125\d|koi8-[ru]|"
    r"gb18030|big5(?:-hkscs)?|euc-jp|iso-2022-jp|tis-620|ibm866|cp866|cp932|cp949|macintosh"
)
_MEANT = {
    **dict.fromkeys(("iso-8859-1", "iso8859-1", "latin1", "latin-1", "l1"), "cp1252"),
    **dict.fromkeys(("ascii", "us-ascii", "ansi_x3.4-1968"), "cp1252"),
    **dict.fromkeys(("gb2312", "gbk", "x-gbk", "gb_2312-80", "hz-gb-2312"), "gb18030"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "windows-31j", "cp932"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ksc5601", "uhc", "cp949"), "cp949"),
    **dict.fromkeys(("big5", "big5-hkscs"), "big5hkscs"),
    **dict.fromkeys(("iso-8859-9", "latin5"), "cp1254"),
    **dict.fromkeys(("iso-8859-8-i", "iso-8859-8-e", "visual"), "iso-8859-8"),
    **dict.fromkeys(("iso-8859-11", "tis-620", "windows-874"), "cp874"),
    "koi8-r": "koi8-u",
    "x-euc-jp": "euc-jp",
    "iso-2022-jp": "iso2022_jp_ext",
    "macintosh": "mac-roman",
}
_SHOWN = {
    "cp932": "Shift-JIS", "euc_jp": "EUC-JP", "gb18030": "GB18030", "big5hkscs": "Big5",
    "cp949": "EUC-KR", "koi8_u": "KOI8-R/U", "iso2022_jp_ext": "ISO-2022-JP", "cp866": "IBM866",
    "cp874": "TIS-620",
}  # fmt: skip


def codec_named(label: str) -> str | None:
    """Python's codec for an encoding as documents declare it; None for one not taken from them.

    ISO-8859-12 exists as little as "utf-9": a label that fits the form may still name no codec.
    """
    label = label.strip().strip("\"'").lower()
    codec = _MEANT.get(label, label).replace("windows-125", "cp125")
    if label not in _MEANT and _LABELS.fullmatch(label) is None:
        return None
    try:
        "".encode(codec)
    except LookupError:
        return None
    return codec


def shown(codec: str) -> str:
    """An encoding's name for people."""
    known = _SHOWN.get(codec)
    return known or codec.replace("cp125", "Windows-125").replace("iso8859_", "ISO-8859-")


# --- by content --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Script:
    """Encodings of one alphabet. `letters`: its characters; `frequent`: most of any text's."""

    codecs: tuple[str, ...]
    letters: re.Pattern[str]
    frequent: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Wide:
    """An encoding of two bytes a character; those with a first byte in `common` are everyday ones.

    `frequent`: characters that make up a tenth of any text at least.
    """

    codec: str
    common: tuple[tuple[int, int], ...]
    frequent: frozenset[str]


_SCRIPTS = (
    _Script(
        ("cp1251", "koi8_u", "iso8859_5", "cp866"),
        re.compile("[\u0400-\u045f\u0490\u0491]"),
        frozenset("оеаинтсрвлкмдпуі"),
    ),
    _Script(
        ("cp1253", "iso8859_7"),
        re.compile("[\u0386-\u03ce]"),
        frozenset("αοιετσνηυρκπμλςόίάέή"),
    ),
    _Script(("cp1255", "iso8859_8"), re.compile("[\u05b0-\u05ea]"), frozenset("יוהלאברתמשנכ")),
    _Script(("cp1256", "iso8859_6"), re.compile("[\u0600-\u06ff]"), frozenset("اليمونترةبعدهس")),
    _Script(("cp874",), re.compile("[\u0e01-\u0e5b]"), frozenset("านรอกเงมยลวดทสตะปค่้ี็ัิ์ห")),
)
_KANA = re.compile("[\u3040-\u30ff]")
_JAPANESE = frozenset("のにはをたがでてとしれさいあるなっすらもかこ者を年月日、。")
_WIDE = (
    _Wide("cp932", ((0x81, 0x83), (0x88, 0x97)), _JAPANESE),
    _Wide("euc_jp", ((0xA1, 0xA5), (0xB0, 0xCF)), _JAPANESE),
    _Wide(
        "gb18030",
        ((0xA1, 0xA3), (0xB0, 0xD7)),
        frozenset(
            "的一是不在人有为以上中大年国法规定者或应当和及其于本条可对个地出时要这他我，。、"
        ),
    ),
    _Wide(
        "big5hkscs",
        ((0xA1, 0xA3), (0xA4, 0xC6)),
        frozenset(
            "的一是不在人有為以上中大年國法規定者或應當和及其於本條可對個地出時要這他我，。、"
        ),
    ),
    _Wide(
        "cp949",
        ((0xA1, 0xA3), (0xB0, 0xC8)),
        frozenset("이다는의에을를고가한하지로기은사어자리도시인대나해수과으제그"),
    ),
)

_WESTERN = "cp1252"
_CENTRAL = ("cs", "hr", "hu", "pl", "ro", "sk", "sl")
_LATIN = {
    "iso8859_15": ("de", "es", "fi", "fr", "it", "nl", "pt"),
    "cp1250": _CENTRAL,
    "iso8859_2": _CENTRAL,
    "cp1254": ("tr",),
    "cp1257": ("et", "lt", "lv"),
}
"""Each with the languages that it is for, in order of preference where several fit as well."""

_ALPHABETS = {
    "ca": "àáçéèíïóòúü·", "cs": "áčďéěíňóřšťúůýž", "da": "æøåéäöü", "de": "äöüßé",
    "en": "éèêëïçñöüôàáíóæ", "es": "áéíñóúü¿¡ºª", "et": "äõöüšž", "fi": "äöåšž",
    "fr": "àâæçéèêëîïôœùûüÿ", "hr": "čćđšž", "hu": "áéíóöőúüű", "it": "àèéìíîòóùú",
    "lt": "ąčęėįšųūž", "lv": "āčēģīķļņšūž", "nl": "áéëïöóüèê", "no": "æøåéòôä",
    "pl": "ąćęłńóśźż", "pt": "ãáàâçéêíóôõúüºª", "ro": "ăâîşţșț", "sk": "áäčďéíĺľňóôŕšťúýž",
    "is": "áéíóúýðþæö", "sl": "čšž", "sv": "äöåéü", "tr": "çğıi̇öşüâîû",
}  # fmt: skip
_TYPOGRAPHIC = frozenset("“”‘’„‚«»‹›–—…•·§¶©®™°±×€£¢¥†‡¹²³½¼¾µ\u00a0\u00ad")
_EAST = frozenset((*_CENTRAL, "et", "lt", "lv", "tr"))
# English has no letters of its own: whatever it borrows would fit.
_WEST = frozenset(_ALPHABETS) - _EAST - {"en"}
_ABOVE = re.compile(r"[^\x00-\x7f]")
_IN_WORD = re.compile(r"[¹²³¼½¾±¶§£¢¥©®](?=[a-z])|(?<=[a-z])[¿¡°](?=[a-z])")
_MIN_FIT = 0.95
_MIN_LEAD = 0.02
_MIN_DISTINCT = 3


def guess(data: bytes) -> str:
    """The codec that `data`, which is not UTF-8, is most probably in: `cp1252` when unclear."""
    windows = list(_windows(data))
    high = sum(len(_HIGH.findall(window)) for window in windows)
    in_runs = sum(len(run) for window in windows for run in _HIGH_RUN.findall(window))
    # Western text has its letters above 127 one at a time; other scripts write whole words so.
    if in_runs > 0.5 * high:
        found = _best_wide(windows) if high >= _MIN_WIDE_BYTES else None
        if found is None and high >= _MIN_SCRIPT_BYTES:
            found = _best_script(windows)
        return found or _WESTERN
    return _best_latin(windows)


def is_iso2022_jp(data: bytes) -> bool:
    """Whether 7-bit `data` switches to Japanese characters and back, as old mails do."""
    if b"\x1b$B" not in data and b"\x1b$@" not in data:
        return False
    try:
        data.decode("iso2022_jp_ext")
    except UnicodeDecodeError:
        return False
    return True


def _windows(data: bytes) -> Iterator[bytes]:
    """Parts of `data` around bytes above 127: from its beginning, then from its middle.

    Each starts at a character: a line end is no part of one in any encoding.
    """
    seen = at = 0
    jumped = False
    while seen < SAMPLE_BYTES and (found := _HIGH.search(data, at)) is not None:
        first = found.start()
        start = max(at, first - _LEAD_BYTES)  # ASCII from `at` on, so no character is cut here
        at = min(first + _WINDOW_BYTES, len(data))
        window = data[start:at]
        yield window
        seen += len(window)
        if not jumped and seen >= SAMPLE_BYTES // 2:
            jumped = True
            at = max(at, data.find(b"\n", len(data) // 2) + 1)
        elif at < len(data):
            # A character may end behind the window, so the next one begins at a fresh line.
            at = data.find(b"\n", at) + 1 or len(data)


def _read(windows: list[bytes], codec: str) -> str | None:
    """The sample in `codec`; None where that knows too few of its bytes."""
    parts = []
    for window in windows:
        text = window.decode(codec, "replace")
        # Only the window's end may cut a character.
        parts.append(text[:-1] if text.endswith("\ufffd") else text)
    text = "\n".join(parts)
    above = sum(not char.isascii() for char in text)
    return text if text.count("\ufffd") <= _MAX_UNKNOWN_SHARE * above else None


def _best_wide(windows: list[bytes]) -> str | None:
    """The two-byte encoding whose everyday characters these are."""
    found: list[tuple[float, str]] = []
    for wide in _WIDE:
        text = _read(windows, wide.codec)
        high = [char for char in text or "" if not char.isascii()]
        if not high:
            continue
        everyday = _everyday(wide.codec, wide.common)
        if sum(char in everyday for char in high) < 0.9 * len(high):
            continue
        if wide.frequent is _JAPANESE and len(_KANA.findall(text or "")) < 0.1 * len(high):
            continue
        share = sum(char in wide.frequent for char in high) / len(high)
        if share >= 0.1:
            found.append((share, wide.codec))
    return max(found)[1] if found else None


@functools.cache
def _everyday(codec: str, common: tuple[tuple[int, int], ...]) -> frozenset[str]:
    pairs = (
        bytes((lead, trail))
        for first, last in common
        for lead in range(first, last + 1)
        for trail in range(0x40, 0xFF)
    )
    # Half-width forms and letters as well: full-width digits and brackets stand in every text.
    return frozenset("".join(pair.decode(codec, "ignore") for pair in pairs))


def _best_script(windows: list[bytes]) -> str | None:
    """The one-byte encoding that makes words of one script, of its frequent letters."""
    found: list[tuple[float, int, str]] = []
    for script in _SCRIPTS:
        for order, codec in enumerate(script.codecs):
            text = _read(windows, codec)
            high = [char for char in text or "" if not char.isascii() and char not in _TYPOGRAPHIC]
            letters = [char for char in high if script.letters.match(char)]
            if len(letters) < 0.9 * len(high) or len(set(letters)) < _MIN_LETTERS:
                continue
            # Windows-1252 has its quotes and dashes where IBM866 has capitals.
            if sum(char.isupper() for char in letters) > 0.5 * len(letters):
                continue
            frequent = sum(char.lower() in script.frequent for char in letters) / len(letters)
            # In another encoding of the same alphabet, words begin small and go on in capitals.
            swapped = len(re.findall(r"[^\W\d_](?<=[a-zа-яα-ω])(?=[А-ЯΑ-Ω])", text or ""))
            score = frequent * len(letters) / len(high) - 2 * swapped / len(letters)
            if score >= 0.5:
                found.append((score, -order, codec))
    return max(found)[2] if found else None


def _best_latin(windows: list[bytes]) -> str:
    """The Latin encoding whose letters fit the language that its words show.

    Where they show none, one in which all letters are some language's while they are no Western
    one's: that takes a few different letters.
    """
    western = "".join(window.decode(_WESTERN, "replace") for window in windows)
    shown_language = language_of(western) or ""
    best, best_fit = _WESTERN, _fit(western, _ALPHABETS.get(shown_language, ""))
    if best_fit == 1.0:
        return _WESTERN
    texts = {codec: text for codec in _LATIN if (text := _read(windows, codec)) is not None}
    known = shown_language in _WEST
    for codec, text in texts.items():
        language = language_of(text)
        if language in _LATIN[codec]:
            known = True
            fit = _fit(text, _ALPHABETS[language])
            if fit >= max(_MIN_FIT, best_fit + _MIN_LEAD):
                best, best_fit = codec, fit
    letters = (set(_ABOVE.findall(western)) - _TYPOGRAPHIC) | set(_IN_WORD.findall(western))
    if known or len(letters) < _MIN_DISTINCT:
        return best
    if max(_fit(western, _ALPHABETS[language]) for language in _WEST) >= _MIN_FIT:
        return best
    fitting = [
        (_little_words(text, language), -order, codec)
        for order, (codec, text) in enumerate(texts.items())
        for language in _EAST.intersection(_LATIN[codec])
        if _fit(text, _ALPHABETS[language]) == 1.0
    ]
    return max(fitting)[2] if fitting else best


def _little_words(text: str, language: str) -> int:
    known = LITTLE_WORDS["latin"].get(language, "").split()
    return sum(word in known for word in text.lower().split())


def _fit(text: str, alphabet: str) -> float:
    """The share of its letters above 127 that are in `alphabet`; a sign inside a word is none."""
    above = _ABOVE.findall(text)
    signs = sum(char in _TYPOGRAPHIC for char in above)
    inside = sum(char in _TYPOGRAPHIC for char in _IN_WORD.findall(text))
    good = sum(char.lower() in alphabet for char in above)
    letters = len(above) - signs + inside
    return good / letters if letters else 1.0
