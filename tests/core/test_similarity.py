"""Signatures estimate similarity, and bands find what is similar."""

from __future__ import annotations

import numpy as np
import pytest

from longleaf.core.similarity import (
    SIGNATURE_HASHES,
    Signature,
    estimated_jaccard,
    signature_bands,
    signature_from_bytes,
    signature_to_bytes,
)

EMPTY = np.zeros(0, np.uint32)


def random_signatures(count: int) -> list[Signature]:
    numbers = np.random.default_rng(7).integers(0, 1 << 32, (count, SIGNATURE_HASHES))
    return list(numbers.astype(np.uint32))


def with_share(signature: Signature, share: float) -> Signature:
    """A signature that agrees in the first `share` of its places."""
    other = signature.copy()
    other[round(share * SIGNATURE_HASHES) :] ^= np.uint32(1)
    return other


def test_the_estimate_is_the_share_of_equal_places() -> None:
    one, far = random_signatures(2)
    found = estimated_jaccard(one, [one, with_share(one, 0.75), far, EMPTY])
    assert found.tolist() == [1.0, 0.75, 0.0, 0.0]
    assert estimated_jaccard(EMPTY, [one, EMPTY]).tolist() == [0.0, 0.0]
    assert estimated_jaccard(one, []).tolist() == []


def test_bands_are_equal_where_six_places_are() -> None:
    one = random_signatures(1)[0]
    bands = signature_bands(one), signature_bands(with_share(one, 0.5))
    same = [a == b for a, b in zip(*bands, strict=True)]
    assert same == [True] * 10 + [False] * 10
    assert signature_bands(EMPTY) == []


def test_golden_bands() -> None:
    # Stored in catalogs: these numbers may never change.
    signature = np.arange(SIGNATURE_HASHES, dtype=np.uint32)
    assert signature_bands(signature)[:3] == [2232219709, 1522729204, 1754465895]


def test_as_bytes_and_back() -> None:
    for signature in (random_signatures(1)[0], EMPTY):
        stored = signature_to_bytes(signature)
        assert len(stored) == 4 * len(signature)
        assert signature_from_bytes(stored).tolist() == signature.tolist()
    with pytest.raises(ValueError, match="7 bytes"):
        signature_from_bytes(bytes(7))
