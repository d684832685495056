"""A text's signature: the same for ever, and near for texts that are."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
from tests.growth import assert_linear

from longleaf.core.similarity import SIGNATURE_HASHES, estimated_jaccard
from longleaf.indexer.signature import signature_of

WORDS = [f"{kind}{number}" for number in range(300) for kind in ("clause", "tenant", "rent")]


def text_of(words: list[str]) -> str:
    return " ".join(words)


def written(count: int, seed: int = 0) -> list[str]:
    return random.Random(seed).choices(WORDS, k=count)


def similarity(one: str, other: str) -> float:
    return float(estimated_jaccard(signature_of(one), [signature_of(other)])[0])


def exact(one: list[str], other: list[str]) -> float:
    a, b = ({tuple(words[n : n + 5]) for n in range(len(words) - 4)} for words in (one, other))
    return len(a & b) / len(a | b)


def test_golden_signature() -> None:
    # Stored in catalogs: the same numbers on every machine, with every version, for ever.
    text = " ".join(f"Word {n} of a café's § {n}(b) 条 文。" for n in range(40))
    signature = signature_of(text)
    assert signature.dtype == np.uint32 and signature.shape == (SIGNATURE_HASHES,)
    assert signature[:4].tolist() == [9183867, 741228, 3323288, 11011289]
    digest = hashlib.sha256(signature.astype("<u4").tobytes()).hexdigest()
    assert digest == "400757f77a48c56ba12f23cfe298b2c13c95469b8ce7208117be336de3ece7df"


def slow_signature(words: list[str]) -> list[int]:
    """What the numbers are, in plain integers: nothing here is datasketch's."""
    draw = np.random.RandomState(1)
    slopes = draw.randint(0, 1 << 31, SIGNATURE_HASHES, dtype=np.uint32).tolist()
    shifts = draw.randint(0, 1 << 32, SIGNATURE_HASHES, dtype=np.uint32).tolist()
    least = [2**32 - 1] * SIGNATURE_HASHES
    for begin in range(len(words) - 4):
        run = 0
        for word in words[begin : begin + 5]:
            digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
            run = (run * 0x9E3779B97F4A7C15 + int.from_bytes(digest, "little")) % 2**64
        run = (run ^ (run >> 32)) * 0x9E3779B97F4A7C15 % 2**64
        mixed = run >> 32
        mixed = (mixed ^ (mixed >> 16)) * 0x85EBCA6B % 2**32  # MurmurHash3's finalizer
        mixed = (mixed ^ (mixed >> 13)) * 0xC2B2AE35 % 2**32
        mixed ^= mixed >> 16
        for place, (slope, shift) in enumerate(zip(slopes, shifts, strict=True)):
            least[place] = min(least[place], (mixed * (2 * slope + 1) + shift) % 2**32)
    return least


def test_equals_the_slow_obvious_version() -> None:
    words = written(300)
    assert signature_of(text_of(words)).tolist() == slow_signature(words)


@pytest.mark.parametrize("changed", [0, 2, 5, 10, 30])
def test_the_estimate_is_near_the_truth(changed: int) -> None:
    one = written(1_000)
    other = list(one)
    for place in random.Random(1).sample(range(len(other)), changed):
        other[place] = "amended"
    # Four standard errors.
    allowed = 4 * np.sqrt(exact(one, other) * (1 - exact(one, other)) / SIGNATURE_HASHES) + 1e-9
    assert abs(similarity(text_of(one), text_of(other)) - exact(one, other)) <= allowed


def test_layout_case_and_punctuation_do_not_count() -> None:
    words = written(200)
    plain = text_of(words)
    set_otherwise = ",\n\t".join(word.upper() for word in words) + "."
    assert similarity(plain, set_otherwise) == 1.0


def test_ligatures_and_accents_are_the_same_however_they_are_written() -> None:
    text = text_of([*written(100), "ﬁnal", "café", *written(100, 1)])
    other = text.replace("ﬁ", "fi").replace("é", "e\u0301")
    assert text != other and similarity(text, other) == 1.0


def test_writing_without_spaces_is_compared_by_character() -> None:
    characters = [chr(0x4E00 + n) for n in random.Random(2).sample(range(5_000), 400)]
    other = [*characters]
    for place in range(10, 400, 80):
        other[place] = "法"
    assert abs(similarity("".join(characters), "".join(other)) - exact(characters, other)) < 0.12
    assert 0.8 < exact(characters, other) < 0.9


def test_order_counts_only_within_five_words() -> None:
    one, two = text_of(written(500)), text_of(written(500, 1))
    assert similarity(f"{one} {two}", f"{two} {one}") > 0.95
    assert similarity(one, " ".join(reversed(one.split()))) < 0.1


@pytest.mark.parametrize("text", ["", " \n", "...", "one two", "the same word " * 500])
def test_too_little_to_tell(text: str) -> None:
    assert signature_of(text).shape == (0,)


def test_fifty_runs_are_enough() -> None:
    words = [f"w{n}" for n in range(54)]
    assert len(signature_of(text_of(words))) == SIGNATURE_HASHES
    assert len(signature_of(text_of(words[:53]))) == 0


def test_a_long_text_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(written(3_000))
    whole = signature_of(text)
    monkeypatch.setattr("longleaf.indexer.signature._BLOCK_CHARS", 997)
    # Each block may cut a word in two, which changes six runs.
    assert estimated_jaccard(whole, [signature_of(text)])[0] > 0.8
    monkeypatch.setattr("longleaf.indexer.signature._BLOCK_CHARS", text.index(" ", 9_000) + 1)
    assert signature_of(text).tolist() == whole.tolist()


@pytest.mark.parametrize("unit", ["word{} ", "文", "a", " ", "é\u0301", "\ud800"])
def test_time_grows_with_the_text(unit: str) -> None:
    def text(size_chars: int) -> str:
        return "".join(unit.format(n) for n in range(size_chars // len(unit)))

    assert_linear(text, signature_of, 50_000)
