r"""A text to its MinHash signature, by which versions of the same text are known again.

The text is taken as its set of five-word runs, compared without case, punctuation and white space,
so neither another layout nor another file format of it changes much. Words are what `\w+` says,
except that ideographs and kana stand for themselves. MinHash itself is datasketch's. What an
estimate means is `core.similarity`'s; it knows no passages and no store.

Signatures are stored, so the same text must give the same numbers for ever, on every machine: the
words' hash (BLAKE2b), the arithmetic of the runs, seed and scheme are all fixed here, and a test
holds golden numbers. datasketch keeps its schemes bit for bit ("legacy", its only one before 2.0,
still gives what it gave). rensa is faster (1,000,000 characters of papers: 0.003 s against 0.3 s,
where embedding them takes minutes), but its 0.5 gives other numbers than its 0.4.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.similarity import SIGNATURE_HASHES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.core.similarity import Signature

_RUN_WORDS = 5
_FEWEST_RUNS = 50
"""Below, texts that differ in what matters are alike: acts of 32 to 47 words that renew an
appropriation, each with another chapter number, came to 0.91-0.95."""

_SEED = 1
_SCHEME = "affine32"
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying loses nothing (2^64 / golden ratio)
_HALF = np.uint64(32)

_BLOCK_CHARS = 1 << 20  # a word across two blocks counts as two
_RUNS_AT_ONCE = 1 << 12  # 2 MB of products stay in the cache
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORDS = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+")


def signature_of(text: str) -> Signature:
    """(SIGNATURE_HASHES,) uint32, or (0,) for a text too short to tell. Linear in the text."""
    from datasketch import MinHash  # a second of imports (scipy), for a few lines of it

    made = MinHash(SIGNATURE_HASHES, seed=_SEED, hashfunc=int, scheme=_SCHEME)
    run_count = 0
    for runs in _runs(text):
        run_count += len(runs)
        for begin in range(0, len(runs), _RUNS_AT_ONCE):
            made.update_batch(runs[begin : begin + _RUNS_AT_ONCE].tolist())
    return np.asarray(made.hashvalues if run_count >= _FEWEST_RUNS else (), np.uint32)


def _runs(text: str) -> Iterator[NDArray[np.uint32]]:
    """The text's five-word runs as numbers, each once a block."""
    words = np.zeros(0, np.uint64)
    for begin in range(0, len(text), _BLOCK_CHARS):
        block = unicodedata.normalize("NFKC", text[begin : begin + _BLOCK_CHARS]).casefold()
        words = np.concatenate((words, _word_numbers(_WORDS.findall(block))))
        if len(words) >= _RUN_WORDS:
            yield _run_numbers(words)
            words = words[1 - _RUN_WORDS :]


def _word_numbers(words: Sequence[str]) -> NDArray[np.uint64]:
    """(n_words,) one number for each word, the same for equal words."""
    number: dict[str, int] = {}
    order = [number.setdefault(word, len(number)) for word in words]
    hashes = [
        hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for word in number
    ]
    return np.frombuffer(b"".join(hashes), "<u8").astype(np.uint64)[order]


def _run_numbers(words: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """A polynomial of each run's words, modulo 2^64, its upper half: unique and ascending."""
    length = len(words) - _RUN_WORDS + 1
    total = np.zeros(length, np.uint64)
    for place in range(_RUN_WORDS):
        total = total * _MULTIPLIER + words[place : place + length]
    total = (total ^ (total >> _HALF)) * _MULTIPLIER
    return np.unique((total >> _HALF).astype(np.uint32))
