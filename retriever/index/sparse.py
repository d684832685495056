"""BM25 as sparse vectors: a document's saturated term frequencies, a query's terms.

The index multiplies in the IDF. Plain words get the stemmer, the stop list and the term numbers of
Qdrant's `qdrant/bm25` (a hash of the stemmed word), so the embedded shard and a server hold the
same vectors. On top, exact identifiers become terms of their own ("il-6" also as "il6", "12(b)"
and "12(b)(iii)" as "12b" and "12biii", "§ 1983" as "§1983"), so that the document that spells the
identifier beats the one that only has its parts; texts in scripts without spaces are read as
character pairs. Identifier terms do not count in a document's length.

It knows no storage. Trade-off: hashing into 31 bits needs no vocabulary file but lets terms share a
number (expected: one term in 2,000 at a vocabulary of a million).
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from longleaf.core.errors import ConfigError
from longleaf.retriever.words import UNSPACED_RUN, normalised, words

if TYPE_CHECKING:
    from qdrant_edge import Bm25

LANGUAGES = (
    "none", "arabic", "azerbaijani", "basque", "bengali", "catalan", "chinese", "danish", "dutch",
    "english", "finnish", "french", "german", "greek", "hebrew", "hinglish", "hungarian",
    "indonesian", "italian", "japanese", "kazakh", "nepali", "norwegian", "portuguese", "romanian",
    "russian", "slovene", "spanish", "swedish", "tajik", "turkish",
)  # fmt: skip
"""What `Bm25Encoder` takes; "none" neither stems nor drops stop words."""

# nDCG@10, mean of scifact train, cacm and cranfield, whole documents: 0.517; with Qdrant's defaults
# (1.2, 0.75, 256) 0.504, and 0.503 without identifier terms.
K1 = 1.5
B = 0.6
AVERAGE_WORDS = 128.0

_REMEMBERED_TERMS = 200_000
_MAX_BEGINNINGS = 7
_MAX_IDENTIFIER_CHARS = 200
_PART = re.compile(r"[^\W_]+")
_AFTER_SECTION_SIGN = re.compile(r"§\s+")
_JOINT = r"(?:[-./:&@#_(]|\)[-./(]?|\+{1,2}|(?<=\d),(?=\d))"
_JOINED_PARTS = rf"[^\W_]++(?:{_JOINT}[^\W_]++)"
_IDENTIFIER = re.compile(
    rf"(?<!§)§++(?P<section>{_JOINED_PARTS}*)|(?<![^\W_])(?P<compound>{_JOINED_PARTS}+)"
    r"|(?<!\w)[^\W\d_]{1,3}(?:\+{1,2}|#)(?!\w)"
)


@dataclass(frozen=True, slots=True)
class SparseTerms:
    """Term numbers (unsigned 32-bit, ascending, distinct) and their weights, side by side."""

    indices: list[int]
    weights: list[float]


@lru_cache(maxsize=32)
def encoder(language: str) -> Bm25Encoder:
    """The encoder of one language, made once."""
    return Bm25Encoder(language)


class Bm25Encoder:
    """Text to sparse terms for one language. Thread-safe. Raises ConfigError for other languages.

    `document` weighs a term by tf (k1 + 1) / (tf + k1 (1 - b + b length / average)), Robertson and
    Zaragoza 2009, section 3; `query` gives each distinct term 1.0.
    """

    def __init__(
        self, language: str, k1: float = K1, b: float = B, average_words: float = AVERAGE_WORDS
    ) -> None:
        if language not in LANGUAGES:
            raise ConfigError(
                f"BM25 has no language {language!r}.", f"Choose one of: {', '.join(LANGUAGES)}."
            )
        import qdrant_edge

        plain = qdrant_edge.Bm25Config(
            tokenizer=qdrant_edge.TokenizerType.Whitespace,
            stopwords=qdrant_edge.StopwordsSet(),
            stemmer=qdrant_edge.DisabledStemmer(),
        )
        self._exact = _Hasher(qdrant_edge.Bm25(plain))
        self._stemmed = (
            self._exact
            if language == "none"
            else _Hasher(qdrant_edge.Bm25(qdrant_edge.Bm25Config(language=language)))
        )
        self._k1, self._b, self._average_words = k1, b, average_words

    def document(self, text: str) -> SparseTerms:
        """The terms of a passage, weighted."""
        plain, extra = self._terms(text)
        length = sum(plain.values())
        norm = self._k1 * (1.0 - self._b + self._b * length / self._average_words)
        for number, count in extra.items():
            plain[number] = plain.get(number, 0) + count
        indices = sorted(plain)
        frequencies = [plain[index] for index in indices]
        return SparseTerms(indices, [tf * (self._k1 + 1.0) / (tf + norm) for tf in frequencies])

    def query(self, text: str) -> SparseTerms:
        """The distinct terms of a query; empty when it has none but stop words."""
        plain, extra = self._terms(text)
        indices = sorted(plain.keys() | extra.keys())
        return SparseTerms(indices, [1.0] * len(indices))

    def _terms(self, text: str) -> tuple[dict[int, int], dict[int, int]]:
        """Term numbers and how often they occur: of the words, and of the identifiers."""
        text = normalised(text)
        plain: dict[int, int] = {}
        if not text.isascii():
            runs = UNSPACED_RUN.findall(text)
            self._count(self._exact, (pair for run in runs for pair in _pairs(run)), plain)
            text = UNSPACED_RUN.sub(" ", text)
        self._count(self._stemmed, words(text), plain)
        # A joined term that looks like a word counts as one: "non-compete" finds "noncompete".
        extra: dict[int, int] = {}
        terms = list(identifiers(text))
        self._count(self._stemmed, filter(str.isalnum, terms), extra)
        self._count(self._exact, itertools.filterfalse(str.isalnum, terms), extra)
        return plain, extra

    @staticmethod
    def _count(hasher: _Hasher, terms: Iterable[str], into: dict[int, int]) -> None:
        for term, count in Counter(terms).items():
            for number in hasher(term):
                into[number] = into.get(number, 0) + count


class _Hasher:
    """A term's numbers: none for a stop word, else one. Remembers, as most terms are frequent."""

    def __init__(self, model: Bm25) -> None:
        self._model = model
        self._known: dict[str, list[int]] = {}

    def __call__(self, term: str) -> list[int]:
        numbers = self._known.get(term)
        if numbers is None:
            if len(self._known) >= _REMEMBERED_TERMS:
                self._known.clear()
            numbers = self._known[term] = self._model.embed_query(term).indices
        return numbers


def _pairs(run: str) -> Iterator[str]:
    """Overlapping character pairs; a lone character stands for itself."""
    if len(run) == 1:
        yield run
    for start in range(len(run) - 1):
        yield run[start : start + 2]


def identifiers(text: str) -> Iterator[str]:
    """The terms that `normalised` text has beyond its words: identifiers, joined.

    Punctuation is dropped between parts, except between two digits, where it tells "1.5" from
    "15". One with a digit also gives its beginnings, so that "12(b)" finds "12(b)(iii)"; one
    after a section sign is given with the sign as well.
    """
    if "§" in text:
        text = _AFTER_SECTION_SIGN.sub("§", text)
    # Most tokens are plain words: leaving them out first makes this three times faster.
    tokens = (token for token in text.split() if not token.rstrip(".,;:").isalnum())
    for match in _IDENTIFIER.finditer(" ".join(tokens)):
        section, compound = match["section"], match["compound"]
        if len(match[0]) > _MAX_IDENTIFIER_CHARS:
            continue
        if section:
            yield from ("§" + term for term in _beginnings(section))
        elif not compound:
            yield match[0]
        yield from _beginnings(section or compound or "")[1:]


def _beginnings(token: str) -> list[str]:
    """The first part, the first two parts joined, and so on; the whole is always last."""
    joined, end, beginnings = "", 0, []
    for part in _PART.finditer(token):
        separator = token[end : part.start()][:1]
        between_digits = joined[-1:].isdigit() and part[0][0].isdigit()
        joined += (separator if between_digits or separator in "+#" else "") + part[0]
        end = part.end()
        beginnings.append(joined)
    if not any(map(str.isdigit, token)):
        del beginnings[1:-1]
    del beginnings[_MAX_BEGINNINGS:-1]
    return beginnings
