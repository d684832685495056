"""Near-duplicates stand behind the best-ranked of them, and nothing else is moved."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from longleaf.api.collapse import Member, collapse
from longleaf.core.similarity import SIGNATURE_HASHES, Signature, estimated_jaccard

EMPTY = np.zeros(0, np.uint32)


def kind(number: int, changed: int = 0) -> Signature:
    """A signature of its own kind, other in `changed` places."""
    signature = np.random.default_rng(number).integers(0, 1 << 32, SIGNATURE_HASHES)
    signature[:changed] += 1
    return signature.astype(np.uint32)


def test_versions_join_the_best_ranked() -> None:
    ranked = [kind(1), kind(2), kind(1, 12), kind(3), kind(2, 6), kind(1, 60)]
    groups = collapse(range(6), ranked)
    assert groups == {0: [Member(2, 0.9)], 1: [Member(4, 0.95)], 3: [], 5: []}


def test_the_threshold_belongs_to_the_group() -> None:
    ranked = [kind(1), kind(1, 24)]
    assert collapse(range(2), ranked, 0.8) == {0: [Member(1, 0.8)]}
    assert collapse(range(2), ranked, 0.81) == {0: [], 1: []}


def test_a_chain_of_changes_is_no_group() -> None:
    far = kind(1, 20)
    far[-20:] += np.uint32(1)
    # Each is near its neighbour, the ends are not near each other.
    assert list(collapse(range(3), [kind(1), kind(1, 20), far])) == [0, 2]


def test_equal_contents_are_one_text_without_a_signature() -> None:
    groups = collapse([7, 8, 7, 8, 9], [None, EMPTY, None, EMPTY, EMPTY])
    assert groups == {0: [Member(2, 1.0)], 1: [Member(3, 1.0)], 4: []}


def test_nothing_to_collapse() -> None:
    assert collapse([], []) == {}


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 40)), max_size=25),
    st.sampled_from([0.5, 0.8, 0.95]),
)
def test_equals_the_slow_obvious_version(ranked: list[tuple[int, int]], at_least: float) -> None:
    signatures = [kind(number, changed) for number, changed in ranked]
    slow: dict[int, list[Member]] = {}
    for place, signature in enumerate(signatures):
        for leader, members in slow.items():
            [similarity] = estimated_jaccard(signatures[leader], [signature])
            if similarity >= at_least:
                members.append(Member(place, float(similarity)))
                break
        else:
            slow[place] = []
    assert collapse(range(len(ranked)), signatures, at_least) == slow
