"""Stage 1 against a slow, obvious oracle, and its single behaviours."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.retriever.oracle import BruteIndex, Catalog, Doc, holds, oracle, plain, same

from longleaf.core.errors import ConfigError
from longleaf.core.filters import Eq
from longleaf.core.ids import point_id
from longleaf.core.types import Scope
from longleaf.retriever.retrieve import (
    RetrievalQuery,
    RetrievalSettings,
    retrieve,
)

_word = st.sampled_from(["alpha", "beta", "gamma", "delta", "eta", "iota", "kappa"])
_passage = st.tuples(
    st.tuples(*[st.integers(-3, 3)] * 3), st.lists(_word, min_size=1, max_size=5).map(" ".join)
)
_shape = st.tuples(
    st.lists(_passage, min_size=1, max_size=8).map(tuple),
    st.sampled_from(["main", "side"]),
    st.sampled_from([(), ("red",), ("blue",), ("red", "blue")]),
    st.sampled_from(["law", "science"]),
    st.frozensets(st.integers(0, 7), max_size=3),
)


@st.composite
def corpora(draw: st.DrawFn) -> list[Doc]:
    shapes = draw(st.lists(_shape, min_size=1, max_size=14))
    return [
        Doc(n, 100 + n, passages, collection, groups, {"field": area}, asides)
        for n, (passages, collection, groups, area, asides) in enumerate(shapes, start=1)
    ]


_queries = st.builds(
    RetrievalQuery,
    text=st.lists(_word, min_size=1, max_size=3).map(" ".join),
    vector=st.tuples(*[st.floats(-1, 1, width=16)] * 3).map(lambda v: np.array(v, np.float32)),
    scope=st.sampled_from([None, frozenset({"red"}), frozenset()]).map(lambda g: Scope(None, g)),
    collections=st.sampled_from(
        [{"main": "abg"}, {"main": "abg", "side": "abg"}, {"main": "abg", "side": "dei"}]
    ),
    phrases=st.sampled_from([(), (), ("alpha",), ("beta gamma",), ("alpha", "eta")]),
    excluded=st.sampled_from([(), (), ("kappa",), ("delta eta",)]),
    where=st.sampled_from([None, None, Eq("field", "law")]),
)
_settings = st.builds(
    RetrievalSettings,
    candidates=st.integers(1, 8),
    passages_per_document=st.integers(1, 3),
    first_batch_passages=st.integers(1, 12),
    aside_penalty=st.sampled_from([0.0, 1.0, 2.0]),
)


@settings(max_examples=150, deadline=None)
@given(corpora(), _queries, _settings)
def test_equals_the_oracle(docs, query, options) -> None:
    found = retrieve(query, BruteIndex(docs), Catalog(docs), options)
    expected = oracle(query, docs, options)
    assert same(plain(found), expected), (plain(found), expected)
    assert found.counts["hidden_documents"] == 0  # the filter asked for no more than the scope


@settings(max_examples=80, deadline=None)
@given(corpora(), _queries, _settings, st.integers(1, 200))
def test_the_size_of_batches_never_shows(docs, query, options, other_batch) -> None:
    first = retrieve(query, BruteIndex(docs), Catalog(docs), options)
    again = retrieve(
        query, BruteIndex(docs), Catalog(docs), replace(options, first_batch_passages=other_batch)
    )
    assert again.candidates == first.candidates  # bit for bit
    assert again.dense_ranking == first.dense_ranking
    assert again.bm25_ranking == first.bm25_ranking


@settings(max_examples=80, deadline=None)
@given(corpora(), _queries, _settings, st.sets(st.integers(1, 14)))
def test_an_index_that_lies_cannot_leak(docs, query, options, gone) -> None:
    catalog = Catalog([doc for doc in docs if doc.document_id not in gone])
    found = retrieve(query, BruteIndex(docs, lies=True), catalog, options)
    scope = query.scope.narrowed(query.collections)
    allowed = {
        doc.document_id
        for doc in catalog.docs.values()
        if scope.allows(doc.collection, doc.groups)
        and all(holds(phrase, doc.text) for phrase in query.phrases)
        and not any(holds(phrase, doc.text) for phrase in query.excluded)
    }
    assert {c.document_id for c in found.candidates} <= allowed
    assert {r.document_id for r in (*found.dense_ranking, *found.bm25_ranking)} <= allowed


# --- single behaviours ---------------------------------------------------------------------------


def _unit(angle: float) -> tuple[float, ...]:
    return (math.cos(angle), math.sin(angle))


def _ask(text: str = "alpha", **changes) -> RetrievalQuery:
    query = RetrievalQuery(
        text=text,
        vector=np.array([1.0, 0.0], np.float32),
        scope=Scope.all(),
        collections={"main": "abg"},
    )
    return replace(query, **changes)


def _spread(count: int, first: int = 1, **changes) -> list[Doc]:
    """Documents of one passage, each a little farther from the query than the one before."""
    return [
        Doc(n, n, ((_unit(0.01 * n), f"alpha number{n}"),), **changes)
        for n in range(first, first + count)
    ]


def test_a_huge_document_does_not_crowd_out_the_others() -> None:
    huge = Doc(1, 1, tuple((_unit(0.0), "alpha alpha alpha") for _ in range(5000)))
    docs = [huge, *_spread(120, first=2)]
    index = BruteIndex(docs)
    found = retrieve(_ask(), index, Catalog(docs), RetrievalSettings())
    assert len(found.candidates) == 100
    assert found.candidates[0].document_id == 1
    assert len(found.candidates[0].passages) == 3
    assert len({c.document_id for c in found.candidates}) == 100
    assert index.largest_limit <= 800  # the full document was excluded, not waded through


def test_few_documents_of_many_passages_are_not_read_whole() -> None:
    docs = [
        Doc(n, n, tuple((_unit(0.001 * n * k), "alpha") for k in range(300))) for n in range(1, 21)
    ]
    index = BruteIndex(docs)
    found = retrieve(_ask(), index, Catalog(docs), RetrievalSettings())
    assert len(found.candidates) == 20
    assert found.exhausted
    # Dense: 20 x 3 passages are wanted of 6,000; without exclusion 10,200 would be fetched.
    assert index.returned["dense"] <= 5000


def test_exhausted_means_that_everything_was_seen() -> None:
    docs = _spread(30)
    assert not retrieve(_ask(), BruteIndex(docs), Catalog(docs), RetrievalSettings(30)).exhausted
    assert retrieve(_ask(), BruteIndex(docs), Catalog(docs), RetrievalSettings(31)).exhausted


def test_nothing_there_is_an_empty_answer() -> None:
    found = retrieve(_ask(), BruteIndex([]), Catalog([]), RetrievalSettings())
    assert found.candidates == ()
    assert found.exhausted


def test_each_side_lists_its_own_documents_and_scores_are_exact_on_both() -> None:
    docs = [
        Doc(1, 1, ((_unit(0.0), "beta"),)),
        Doc(2, 2, ((_unit(0.5), "alpha"),)),
        Doc(3, 3, ((_unit(1.0), "alpha alpha"),)),
    ]
    found = retrieve(_ask(), BruteIndex(docs), Catalog(docs), RetrievalSettings(candidates=2))
    assert [(r.document_id, r.revision_id) for r in found.dense_ranking] == [(1, 1), (2, 2)]
    assert [(r.document_id, r.score) for r in found.bm25_ranking] == [(3, 2.0), (2, 1.0)]
    assert found.counts["union_passages"] == 3
    shown = {c.document_id: c.passages[0] for c in found.candidates}
    assert len(shown) == 2
    assert not found.exhausted
    everything = retrieve(_ask(), BruteIndex(docs), Catalog(docs), RetrievalSettings(candidates=3))
    passage = next(c for c in everything.candidates if c.document_id == 1).passages[0]
    assert (passage.bm25_score, passage.bm25_rank, passage.dense_rank) == (0.0, None, 1)
    far = next(c for c in found.candidates if c.document_id == 3).passages[0]
    assert far.dense_score == pytest.approx(math.cos(1.0))
    assert far.dense_rank is None


def test_without_a_vector_words_alone_decide_and_the_answer_says_so() -> None:
    docs = [Doc(n, n, ((_unit(0.0), "alpha " * n),)) for n in range(1, 5)]
    found = retrieve(_ask(vector=None), BruteIndex(docs), Catalog(docs), RetrievalSettings())
    assert [c.document_id for c in found.candidates] == [4, 3, 2, 1]
    assert [d.stage for d in found.degraded] == ["dense"]
    assert found.dense_ranking == ()
    rrf = RetrievalSettings(fusion="rrf")
    again = retrieve(_ask(vector=None), BruteIndex(docs), Catalog(docs), rrf)
    assert [c.document_id for c in again.candidates] == [4, 3, 2, 1]


def test_rrf_adds_reciprocal_ranks() -> None:
    docs = [
        Doc(1, 1, ((_unit(0.0), "beta"),)),
        Doc(2, 2, ((_unit(0.5), "alpha"),)),
    ]
    found = retrieve(_ask(), BruteIndex(docs), Catalog(docs), RetrievalSettings(fusion="rrf"))
    assert [(c.document_id, c.score) for c in found.candidates] == [
        (2, pytest.approx(1 / 62 + 1 / 61)),
        (1, pytest.approx(1 / 61)),
    ]


@pytest.mark.parametrize("fusion", ["zscore", "rrf"])
def test_an_aside_gives_way_and_is_still_found(fusion) -> None:
    near = Doc(1, 1, ((_unit(0.0), "alpha beta"),), asides=frozenset({0}))
    others = [Doc(n, n, ((_unit(0.02 * n), "alpha beta"),)) for n in range(2, 6)]
    cites = Doc(9, 9, ((_unit(1.0), "gamma"),), asides=frozenset({0}))
    docs = [near, *others, cites]
    options = RetrievalSettings(fusion=fusion, aside_penalty=2.0)
    found = retrieve(_ask(text="alpha beta"), BruteIndex(docs), Catalog(docs), options)
    assert found.candidates[0].document_id != 1
    assert {c.document_id for c in found.candidates} == {1, 2, 3, 4, 5, 9}
    even = retrieve(
        _ask(text="alpha beta"), BruteIndex(docs), Catalog(docs), replace(options, aside_penalty=0)
    )
    assert even.candidates[0].document_id == 1
    lookup = retrieve(_ask(text="gamma", vector=None), BruteIndex(docs), Catalog(docs), options)
    assert [c.document_id for c in lookup.candidates] == [9]


def test_passages_are_ranked_when_nothing_is_grouped() -> None:
    docs = [Doc(1, 1, tuple((_unit(0.01 * k), "alpha") for k in range(10))), *_spread(5, first=20)]
    options = RetrievalSettings(candidates=8, group="none")
    found = retrieve(_ask(), BruteIndex(docs), Catalog(docs), options)
    assert [c.document_id for c in found.candidates] == [1] * 8
    assert [c.passages[0].point_id for c in found.candidates] == [point_id(1, k) for k in range(8)]
    assert [c.rank for c in found.candidates] == list(range(1, 9))
    assert all(len(c.passages) == 1 for c in found.candidates)


def test_of_two_revisions_the_newest_that_exists_is_kept() -> None:
    old = Doc(7, 10, ((_unit(0.0), "alpha alpha"),))
    new = Doc(7, 11, ((_unit(0.3), "alpha"),))
    index = BruteIndex([old, new])
    both = retrieve(_ask(), index, Catalog([old, new]), RetrievalSettings())
    assert [(c.document_id, c.revision_id) for c in both.candidates] == [(7, 11)]
    assert [r.revision_id for r in both.dense_ranking] == [11]
    only_old = retrieve(_ask(), index, Catalog([old]), RetrievalSettings())
    assert [c.revision_id for c in only_old.candidates] == [10]
    assert only_old.counts["hidden_documents"] == 1


def test_more_is_fetched_when_phrases_drop_documents() -> None:
    # Each passage holds one of the two phrases, but only every tenth document holds both.
    docs = [
        Doc(
            n,
            n,
            (
                (_unit(0.001 * n), "alpha due process"),
                (_unit(1.0), "trade mark" if n % 10 == 0 else "nothing"),
            ),
        )
        for n in range(1, 301)
    ]
    catalog = Catalog(docs)
    query = _ask(phrases=("Due  Process", "trade-mark"))
    options = RetrievalSettings(candidates=20, first_batch_passages=40)
    index = BruteIndex(docs)
    found = retrieve(query, index, catalog, options)
    assert [c.document_id for c in found.candidates] == list(range(10, 201, 10))
    assert index.returned["dense"] < 400  # documents without the phrase are not fetched again
    assert found.counts["phrase_misses"] > 0
    assert catalog.texts_read <= 300  # each text once, for both sides


def test_a_word_that_is_excluded_anywhere_in_the_document_excludes_it() -> None:
    docs = [
        Doc(1, 1, ((_unit(0.0), "alpha"), (_unit(1.0), "the party agrees"))),
        Doc(2, 2, ((_unit(0.1), "alpha"), (_unit(1.0), "a work of art"))),
    ]
    found = retrieve(_ask(excluded=("ART",)), BruteIndex(docs), Catalog(docs), RetrievalSettings())
    assert [c.document_id for c in found.candidates] == [1]


def test_collections_of_two_languages_make_one_list() -> None:
    # "alpha" weighs 1 in the one language and 0.5 in the other.
    docs = [
        *(Doc(n, n, ((_unit(1.0), "alpha " * n),)) for n in range(1, 5)),
        *(Doc(n, n, ((_unit(1.0), "alpha " * n),), "other") for n in range(5, 9)),
    ]
    query = _ask(collections={"main": "abg", "other": "zzz"}, vector=None)
    found = retrieve(query, BruteIndex(docs), Catalog(docs), RetrievalSettings(candidates=5))
    assert [(r.document_id, r.score) for r in found.bm25_ranking] == [
        (4, 4.0),
        (8, 4.0),
        (7, 3.5),
        (3, 3.0),
        (6, 3.0),
    ]
    # The scores of the union are each collection's own as well.
    both = retrieve(
        replace(query, vector=np.array([1.0, 0.0], np.float32)),
        BruteIndex(docs),
        Catalog(docs),
        RetrievalSettings(candidates=8),
    )
    assert {c.document_id: c.passages[0].bm25_score for c in both.candidates}[5] == 2.5


def test_texts_are_not_read_without_phrases() -> None:
    docs = _spread(10)
    catalog = Catalog(docs)
    retrieve(_ask(), BruteIndex(docs), catalog, RetrievalSettings())
    assert catalog.texts_read == 0


def test_a_query_of_filters_alone_lists_documents() -> None:
    docs = [*_spread(5, metadata={"field": "law"}), *_spread(5, first=6)]
    query = _ask(" ", where=Eq("field", "law"))
    found = retrieve(query, BruteIndex(docs), Catalog(docs), RetrievalSettings(candidates=4))
    assert [c.document_id for c in found.candidates] == [1, 2, 3, 4]
    assert {c.score for c in found.candidates} == {0.0}
    assert not found.exhausted
    passage = found.candidates[0].passages[0]
    assert passage.dense_rank is None
    assert passage.bm25_rank is None


def test_a_passage_that_vanishes_between_two_questions_is_left_out() -> None:
    docs = _spread(3)

    class Losing(BruteIndex):
        def score_dense(self, vector, point_ids):
            return {}

    docs.append(Doc(9, 9, ((_unit(3.0), "alpha alpha"),)))
    found = retrieve(_ask(), Losing(docs), Catalog(docs), RetrievalSettings(candidates=2))
    assert 9 not in {c.document_id for c in found.candidates}


def test_timings_name_every_part() -> None:
    docs = _spread(3)
    found = retrieve(_ask(), BruteIndex(docs), Catalog(docs), RetrievalSettings())
    assert set(found.timings_ms) == {"dense", "bm25", "check", "fuse"}
    assert all(value >= 0 for value in found.timings_ms.values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"candidates": 0},
        {"passages_per_document": 0},
        {"first_batch_passages": 0},
        {"rrf_k": 0},
        {"weight_bm25": math.nan},
        {"weight_bm25": -1.0},
        {"aside_penalty": -1.0},
        {"aside_penalty": math.inf},
        {"fusion": "sum"},
        {"group": "page"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong) -> None:
    with pytest.raises(ConfigError):
        RetrievalSettings(**wrong)
