"""Which language a text is in, from its script and its little words; None when that is not clear.

A warning that is wrong teaches people to ignore warnings, so this detector would rather know
nothing: a query of names and nouns has no little words and stays unknown. It needs no model and no
package. It knows only the languages below; a text in another one is unknown or, for a close
relative, taken for its neighbour (Galician for Portuguese, Serbian in Latin script for Croatian).

Measured (tests/core/test_language.py): of 62 single sentences in 30 languages 56 right, 6 unknown,
none wrong; of 20 held-out paragraphs 19 right, Danish unknown; of 8,863 English abstracts and 1,398
English queries none taken for another language (the price: 553 of the queries unknown). 0.5 ms for
2,000 characters. py3langid 0.4 (BSD, 4.6 MB) knows more of the sentences (61), but always answers:
10 of the queries and 155 of 1,500 CACM records in "other" languages, and 0.9 s to load.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Collection

from longleaf.core.language_words import LITTLE_WORDS

LANGUAGE_NAMES = {
    "am": "Amharic", "ar": "Arabic", "az": "Azerbaijani", "bg": "Bulgarian", "bn": "Bengali",
    "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian",
    "fi": "Finnish", "fr": "French", "gu": "Gujarati", "he": "Hebrew", "hi": "Hindi",
    "hr": "Croatian", "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian", "it": "Italian",
    "ja": "Japanese", "ka": "Georgian", "kk": "Kazakh", "km": "Khmer", "ko": "Korean",
    "lt": "Lithuanian", "lv": "Latvian", "ml": "Malayalam", "my": "Burmese", "ne": "Nepali",
    "nl": "Dutch", "no": "Norwegian", "pa": "Punjabi", "pl": "Polish", "pt": "Portuguese",
    "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovene", "sr": "Serbian",
    "sv": "Swedish", "ta": "Tamil", "te": "Telugu", "tg": "Tajik", "th": "Thai",
    "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
"""ISO 639-1 codes of what `detect` can answer."""

_CODES = {name.lower(): code for code, name in LANGUAGE_NAMES.items()} | {"slovenian": "sl"}

# A script that one language, or one by far, is written in stands under that language's code.
_SCRIPTS = {
    "el": "\u0370-\u03ff\u1f00-\u1fff",
    "hy": "\u0530-\u058f",
    "he": "\u0590-\u05ff",
    "bn": "\u0980-\u09ff",
    "pa": "\u0a00-\u0a7f",
    "gu": "\u0a80-\u0aff",
    "ta": "\u0b80-\u0bff",
    "te": "\u0c00-\u0c7f",
    "ml": "\u0d00-\u0d7f",
    "th": "\u0e00-\u0e7f",
    "my": "\u1000-\u109f",
    "ka": "\u10a0-\u10ff",
    "ko": "\u1100-\u11ff\uac00-\ud7af",
    "am": "\u1200-\u137f",
    "km": "\u1780-\u17ff",
    "kana": "\u3040-\u30ff",
    "han": "\u3400-\u4dbf\u4e00-\u9fff",
    "latin": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
    "cyrillic": "\u0400-\u052f",
    "arabic": "\u0600-\u06ff",
    "devanagari": "\u0900-\u097f",
}
_SHARED_SCRIPTS = {"latin", "cyrillic", "arabic", "devanagari"}

_WORD = re.compile(r"[^\W\d_]+(?:[\u093c-\u094d\u0900-\u0903]+[^\W\d_]*)*")
_INITIAL = re.compile(r"\b[A-ZÀ-Þ]\.")
"""The initial of a name: "A. J. Perlis" holds no article."""
_SLICE_CHARS = 700
_MIN_LETTERS = 3
_MIN_WORDS = 4
_MIN_DISTINCT = 3
_MIN_EVIDENCE = 0.8
_MIN_SHARE = 0.12
_MIN_LEAD = 1.3


def detect(text: str) -> str | None:
    """The ISO 639-1 code of the language that most of `text` is in, or None when it is not clear.

    Long texts are judged by three slices, so the time does not grow with the text. Under four
    words only a script that belongs to one language tells.
    """
    sample = _sample(text)
    if sample.isascii():
        return _by_little_words(sample, "latin")
    counts = {name: len(script.findall(sample)) for name, script in _script_patterns().items()}
    letters = sum(counts.values())
    if letters < _MIN_LETTERS:
        return _ideographic(counts) if counts["han"] or counts["kana"] else None
    script = max(counts, key=lambda name: counts[name])
    east_asian = counts["kana"] + counts["han"]
    # An ideograph carries about as much as three letters.
    if 3 * east_asian > letters - east_asian and east_asian > counts["ko"]:
        return _ideographic(counts)
    if 2 * counts[script] < letters:
        return None
    return _by_little_words(sample, script) if script in _SHARED_SCRIPTS else script


def mismatch_warning(
    detected: str | None,
    bm25_language: str,
    what: str,
    model_languages: Collection[str] | None = None,
) -> str | None:
    """What to tell a user when a text is in a language that the collection does not read.

    `detected` is an answer of `detect`, or what a document states; one that is not known here
    never warns. `bm25_language` is the collection's, by English name ("german") or ISO code; one
    that this module does not know is not compared.
    `what` begins the sentence ("This query"). `model_languages` are the ISO codes that the
    embedding model was trained on, None when it reads many or that is not known.
    """
    if detected is None or detected not in LANGUAGE_NAMES:
        return None  # a document may state any language
    name = LANGUAGE_NAMES[detected]
    code = bm25_language.lower()
    code = _CODES.get(code, code)
    problems, advice = [], []
    if code in LANGUAGE_NAMES and code != detected:
        problems.append(f"the collection's word search (BM25) is set to {LANGUAGE_NAMES[code]}")
        advice.append(f"keep {name} documents in a collection of their own")
    if model_languages is not None and detected not in model_languages:
        known = " and ".join(sorted(LANGUAGE_NAMES.get(c, c) for c in model_languages))
        problems.append(f"the embedding model reads {known}")
        advice.append(f"choose an embedding model that reads {name}")
    if not problems:
        return None
    return (
        f"{what} looks {name}, but {' and '.join(problems)}: expect to miss documents. "
        f"To find them, {' and '.join(advice)}."
    )


def _sample(text: str) -> str:
    if len(text) <= 3 * _SLICE_CHARS:
        return text
    middle = (len(text) - _SLICE_CHARS) // 2
    starts = (0, middle, len(text) - _SLICE_CHARS)
    return " ".join(text[start : start + _SLICE_CHARS] for start in starts)


def _ideographic(counts: dict[str, int]) -> str:
    # Japanese without any kana is a heading at most; a stray kana in Chinese is a name.
    return "ja" if 20 * counts["kana"] > counts["han"] else "zh"


@functools.cache
def _script_patterns() -> dict[str, re.Pattern[str]]:
    return {name: re.compile(f"[{characters}]") for name, characters in _SCRIPTS.items()}


@functools.cache
def _word_weights(script: str) -> dict[str, dict[str, float]]:
    """Language -> little word -> weight: one divided by the number of languages that have it."""
    lists = {code: frozenset(words.split()) for code, words in LITTLE_WORDS[script].items()}
    sharing = Counter(word for words in lists.values() for word in words)
    return {code: {word: 1.0 / sharing[word] for word in words} for code, words in lists.items()}


def _by_little_words(sample: str, script: str) -> str | None:
    words = Counter(_WORD.findall(_INITIAL.sub(" ", sample).lower()))
    total = words.total()
    if total < _MIN_WORDS:
        return None
    judged = []
    for code, weights in _word_weights(script).items():
        found = words.keys() & weights.keys()
        evidence = sum(words[word] * weights[word] for word in found)
        judged.append((evidence, sum(words[word] for word in found), len(found), code))
    judged.sort(reverse=True)
    (evidence, hits, distinct, code), (rival, *_) = judged[0], judged[1]
    clear = (
        evidence >= _MIN_EVIDENCE
        and evidence >= _MIN_LEAD * rival
        and hits >= _MIN_SHARE * total
        and distinct >= _MIN_DISTINCT
    )
    return code if clear else None
