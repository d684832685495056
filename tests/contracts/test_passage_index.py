"""What every PassageIndex promises, against the brute-force oracle."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.contracts.entries import (
    ALL,
    DIM,
    EVERYTHING,
    entry,
    found,
    some_filter,
    some_metadata,
    unit,
)
from tests.contracts.indexes import COMPARED, WRITTEN_TO, Implementation, name_of
from tests.contracts.oracle_index import OracleIndex

from longleaf.core.catalog import Catalog
from longleaf.core.filters import Eq, Filter, In, Prefix, Range
from longleaf.core.ids import point_id, split_point_id
from longleaf.core.protocols import (
    IndexFilter,
    LexicalQuery,
    PassageIndex,
    ScoredPoint,
)
from longleaf.core.types import MetaValue

if TYPE_CHECKING:
    pass


@pytest.fixture(params=WRITTEN_TO, ids=name_of)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PassageIndex]:
    implementation: Implementation = request.param
    implementation.require()
    opened = implementation.open(tmp_path / "index", DIM, "test")
    yield opened
    opened.close()


@pytest.fixture(scope="module", params=COMPARED, ids=name_of)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    found: Implementation = request.param
    found.require()
    return found


@pytest.fixture(scope="module")
def pair(
    implementation: Implementation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PassageIndex, OracleIndex]]:
    """An index and the oracle, holding the same 200 documents."""
    choose = random.Random(7)
    vocabulary = ["court", "patent", "il-6", "12(b)(iii)", "liability", "the", "of", "act", "god"]
    entries = [
        entry(
            number,
            tuple(
                " ".join(choose.choices(vocabulary, k=12)) for _ in range(choose.randrange(1, 4))
            ),
            collection=choose.choice(["law", "science"]),
            groups=tuple(choose.sample(["a", "b", "open"], choose.choice([0, 0, 1, 2]))),
            metadata=some_metadata(choose),
        )
        for number in range(1, 201)
    ]
    home = tmp_path_factory.mktemp("pair")
    catalog = Catalog(home)
    generation = catalog.open_generation("c", "e", "tiny", DIM, 0)
    searched = implementation.open(home / "index", DIM, generation.fingerprint)
    oracle = OracleIndex()
    for opened in (searched, oracle):
        opened.put(entries)
    if implementation.served:
        searched = implementation.served(searched, catalog, generation, home / "index")
    yield searched, oracle
    searched.close()
    catalog.close()


def test_filters_mean_what_matches_says(pair: tuple[PassageIndex, OracleIndex]) -> None:
    searched, oracle = pair
    choose = random.Random(11)
    sizes = set()
    for _ in range(600):
        asked = IndexFilter(("law", "science"), where=some_filter(choose))
        wanted = found(oracle, asked)
        assert found(searched, asked) == wanted, asked.where
        sizes.add(len(wanted))
    assert len(sizes) > 50, "the generated filters are too alike to prove anything"


def test_filters_mean_the_same_after_optimize(
    implementation: Implementation, pair: tuple[PassageIndex, OracleIndex]
) -> None:
    searched, oracle = pair
    if implementation.served:
        pytest.skip("what serves it never optimizes")
    searched.optimize()
    choose = random.Random(13)
    for _ in range(150):
        asked = IndexFilter(("law", "science"), where=some_filter(choose))
        assert found(searched, asked) == found(oracle, asked), asked.where


def test_scroll_is_what_passes_in_point_order(
    pair: tuple[PassageIndex, OracleIndex],
) -> None:
    searched, oracle = pair
    for asked in [ALL, IndexFilter(("law",), ("a",)), IndexFilter(("law",), where=Eq("type", "x"))]:
        wanted = oracle.scroll(asked, EVERYTHING)
        assert searched.scroll(asked, EVERYTHING) == wanted
        assert set(searched.scroll(asked, 7)) <= set(wanted)
        assert len(searched.scroll(asked, 7)) == min(7, len(wanted))
    assert searched.scroll(ALL, 0) == []


def test_year_and_language_are_known_where_no_metadata_say_them(index: PassageIndex) -> None:
    told: list[tuple[dict[str, MetaValue], str | None]] = [
        ({"date": "2019-05-17"}, "de"), ({"published": "2020"}, "en"), ({}, None),
        ({"year": 2021, "date": "2019-01-01", "language": "fr"}, "en"), ({"date": "soon"}, "de"),
    ]  # fmt: skip
    index.put(
        [
            entry(n, metadata=metadata, text_language=language)
            for n, (metadata, language) in enumerate(told, 1)
        ]
    )

    def documents(where: Filter) -> set[int]:
        points = found(index, IndexFilter(("law",), where=where))
        return {split_point_id(point)[0] for point in points}

    assert documents(Eq("year", 2019)) == {1}
    assert documents(Range("year", gte=2020)) == {2, 4}
    assert documents(In("language", ("de", "fr"))) == {1, 4, 5}
    assert documents(Prefix("language", "e")) == {2}


def test_scopes(pair: tuple[PassageIndex, OracleIndex]) -> None:
    searched, oracle = pair
    for collections in [("law",), ("science",), ("law", "science"), ("none",), ("law", "none")]:
        for groups in [None, (), ("a",), ("a", "b"), ("open",), ("nobody",)]:
            asked = IndexFilter(collections, groups)
            assert found(searched, asked) == found(oracle, asked), asked


def equal_but_for_near_ties(
    left: list[ScoredPoint], every_score: Mapping[int, float], limit: int, tolerance: float
) -> None:
    """The first `limit` of `every_score`, where those that score within `tolerance` of one another
    may stand for each other."""
    assert len(left) == min(limit, len(every_score))
    assert left == sorted(left, key=lambda point: (-point.score, point.point_id))
    for point in left:
        assert point.score == pytest.approx(every_score[point.point_id], abs=tolerance)
    got = {point.point_id for point in left}
    least = min(every_score[point] for point in got)
    missed = {point: score for point, score in every_score.items() if point not in got}
    assert max(missed.values(), default=-2.0) <= least + 2 * tolerance


def test_dense_equals_brute_force(
    implementation: Implementation, pair: tuple[PassageIndex, OracleIndex]
) -> None:
    searched, oracle = pair
    numbers = np.random.default_rng(3)
    for within in (ALL, IndexFilter(("law",)), IndexFilter(ALL.collections, groups=("a",))):
        for _ in range(20):
            query = unit(numbers)
            every = {
                point.point_id: point.score
                for point in oracle.search_dense(query, within, EVERYTHING)
            }
            left = searched.search_dense(query, within, 25)
            equal_but_for_near_ties(left, every, 25, implementation.dense_tolerance)


def test_bm25_equals_the_formula_within_the_collections_searched(
    implementation: Implementation, pair: tuple[PassageIndex, OracleIndex]
) -> None:
    searched, oracle = pair
    relative = implementation.bm25_tolerance
    for text in [
        "patent liability",
        "12(b)(iii)",
        "the court il-6",
        "god",
        "absent",
        "the of",
        "",
    ]:
        for asked in [ALL, IndexFilter(("science",)), IndexFilter(("law",), groups=("a",))]:
            query = LexicalQuery(text, "english")
            left = searched.search_bm25(query, asked, EVERYTHING)
            right = oracle.search_bm25(query, asked, EVERYTHING)
            assert {p.point_id for p in left} == {p.point_id for p in right}
            expected = {p.point_id: p.score for p in right}
            for point in left:
                assert point.score == pytest.approx(expected[point.point_id], rel=relative)


def test_bm25_finds_what_the_formula_finds_first(
    implementation: Implementation, pair: tuple[PassageIndex, OracleIndex]
) -> None:
    """Of the first 25, at least 99 % over 60 generated queries; equals may stand for each other."""
    searched, oracle = pair
    choose = random.Random(17)
    vocabulary = ["court", "patent", "IL-6", "12(b)", "liability", "act", "god", "absent"]
    common = wanted = 0
    for _ in range(60):
        text = " ".join(choose.sample(vocabulary, choose.randrange(1, 5)))
        asked = choose.choice([ALL, IndexFilter(("law",)), IndexFilter(("science",), ("b",))])
        every = oracle.search_bm25(LexicalQuery(text, "english"), asked, EVERYTHING)
        top = every[:25]
        if not top:
            continue
        least = top[-1].score * (1 - implementation.bm25_tolerance)
        good = {point.point_id for point in every if point.score >= least}
        left = searched.search_bm25(LexicalQuery(text, "english"), asked, 25)
        common += sum(point.point_id in good for point in left)
        wanted += len(top)
    assert wanted > 1000 and common / wanted >= 0.99


def test_scores_of_given_points(
    implementation: Implementation, pair: tuple[PassageIndex, OracleIndex]
) -> None:
    searched, oracle = pair
    absolute, relative = implementation.dense_tolerance, implementation.bm25_tolerance
    numbers = np.random.default_rng(5)
    every = sorted(found(oracle, ALL))
    asked = [*every[:40], point_id(10**6, 0), every[0]]
    query = unit(numbers)
    left, right = searched.score_dense(query, asked), oracle.score_dense(query, asked)
    assert left.keys() == right.keys() == set(every[:40])
    assert all(left[point] == pytest.approx(right[point], abs=absolute) for point in left)
    lexical = LexicalQuery("patent", "english")
    for within in [
        ALL,
        IndexFilter(("law",)),
        IndexFilter(("law",), where=Eq("type", "text/plain")),
    ]:
        got = searched.score_bm25(lexical, within, asked)
        wanted = oracle.score_bm25(lexical, within, asked)
        assert got.keys() == wanted.keys()
        assert 0.0 in got.values() and max(got.values()) > 0.0
        assert all(got[point] == pytest.approx(wanted[point], rel=relative) for point in got)


PHRASE_TEXTS = (
    "The Court-of-Appeals, in Smith v. Jones, held: force majeure does not apply.",
    "force\nmajeure",
    "majeure force",
    "Force “Majeure”",
    "enforce majeure",
    "IL‑6 and TNF-α rise; § 12(b)(iii) applies",
    "ﬁnal ﬁndings of fact",
    "東京都で開催された会議",
    "no words here !!!",
)


PHRASES: list[tuple[str, set[int]]] = [
    ("force majeure", {0, 1, 3}),
    ("FORCE, majeure!", {0, 1, 3}),
    ("court of appeals", {0}),
    ("smith v. jones", {0}),
    ("il-6", {5}),
    ("12(b)(iii)", {5}),
    ("12(b)", {5}),
    ("tnf α", {5}),
    ("findings of fact", {6}),
    ("京都", {7}),
    ("会議", {7}),
    ("appl", set()),
    ("unknown words", set()),
    ("force", {0, 1, 2, 3}),
]


def test_phrases_and_exclusions(index: PassageIndex) -> None:
    index.put([entry(1, PHRASE_TEXTS)])
    everything = {point_id(1, ordinal) for ordinal in range(len(PHRASE_TEXTS))}
    for phrase, holding in PHRASES:
        points = {point_id(1, ordinal) for ordinal in holding}
        assert found(index, IndexFilter(("law",), phrases=(phrase,))) == points, phrase
        assert found(index, IndexFilter(("law",), phrases=(phrase, "no such"))) == points, phrase
        rest = everything - points
        assert found(index, IndexFilter(("law",), excluded=(phrase,))) == rest, phrase


def test_phrases_without_words_are_ignored(index: PassageIndex) -> None:
    index.put([entry(1, PHRASE_TEXTS)])
    assert len(found(index, IndexFilter(("law",), phrases=("!!!",), excluded=("…", "")))) == len(
        PHRASE_TEXTS
    )


def test_identifiers_beat_their_parts(index: PassageIndex) -> None:
    index.put(
        [
            entry(1, ("rule 12 of part (b) and of part (iii), 12 12 b iii",)),
            entry(2, ("as § 12(b)(iii) says",)),
            entry(3, ("interleukin 6 and IL 10, IL 6 il 6 il",)),
            entry(4, ("levels of IL-6 rose",)),
            entry(5, ("doi 10.1371/journal.pbio.0020188",)),
            entry(6, ("the journal 10 1371 pbio 0020188 journal",)),
            entry(7, ("東京都で開催された会議",)),
            entry(8, ("Case 1:21-cv-01234-ABC was closed",)),
        ]
    )
    for text, best in [("§ 12(b)(iii)", 2), ("12(b)", 2), ("IL-6", 4), ("IL6", 4), ("東京", 7),
                       ("10.1371/journal.pbio.0020188", 5), ("1:21-cv-01234", 8)]:  # fmt: skip
        ranked = index.search_bm25(LexicalQuery(text, "english"), ALL, 5)
        assert ranked[0].point_id == point_id(best, 0), text


def test_empty_index_and_limits(index: PassageIndex) -> None:
    query, lexical = unit(np.random.default_rng(1)), LexicalQuery("words", "english")
    assert index.search_dense(query, ALL, 10) == []
    assert index.search_bm25(lexical, ALL, 10) == []
    assert index.score_dense(query, [1]) == {}
    assert index.score_bm25(lexical, ALL, [1]) == {}
    assert (index.passage_count(), index.indexed_seq()) == (0, 0)
    index.delete([1, 2])
    index.put([])
    index.put([entry(1, ("words", "more words"))])
    assert index.search_dense(query, ALL, 0) == [] == index.search_bm25(lexical, ALL, 0)
    assert len(index.search_dense(query, ALL, 10**12)) == 2
    assert len(index.search_bm25(lexical, ALL, 1)) == 1
    assert index.score_dense(query, []) == {} == index.score_bm25(lexical, ALL, [])


def test_equal_scores_come_in_point_order(index: PassageIndex) -> None:
    index.put([entry(3, ("steady text", "steady text")), entry(1, ("steady text",))])
    ranked = index.search_bm25(LexicalQuery("steady", "english"), ALL, 10)
    assert [point.point_id for point in ranked] == [point_id(1, 0), point_id(3, 0), point_id(3, 1)]


def test_put_replaces_whole_documents(index: PassageIndex) -> None:
    index.put([entry(1, ("old one", "old two", "old three"), revision=10), entry(2)])
    index.put([entry(1, ("new one",), revision=11)])
    assert found(index, ALL) == {point_id(11, 0), point_id(2, 0)}
    index.put([entry(1, ("new one",), revision=11)])
    assert index.passage_count() == 2
    index.put([entry(1, (), revision=12)])
    assert found(index, ALL) == {point_id(2, 0)}


def test_an_older_revision_is_ignored(index: PassageIndex) -> None:
    index.put([entry(1, ("newer",), revision=5)])
    index.put([entry(1, ("older", "older too"), revision=4), entry(2, revision=6)])
    assert found(index, ALL) == {point_id(5, 0), point_id(6, 0)}
    index.put([entry(3, revision=9), entry(3, revision=8)])
    assert found(index, ALL) == {point_id(5, 0), point_id(6, 0), point_id(9, 0)}


def test_the_same_revision_takes_new_fields(index: PassageIndex) -> None:
    index.put([entry(1, revision=5, metadata={"year": 2020})])
    index.put([entry(1, revision=5, metadata={"court": "ca9"}, groups=("a",))])
    point = {point_id(5, 0)}
    assert found(index, IndexFilter(("law",), where=Prefix("year", ""))) == set()
    assert found(index, IndexFilter(("law",), where=Eq("court", "ca9"))) == point
    assert found(index, IndexFilter(("law",), groups=("b",))) == set()


def test_delete(index: PassageIndex) -> None:
    index.put([entry(number) for number in range(1, 6)])
    index.delete([2, 4, 99])
    index.delete([])
    assert found(index, ALL) == {point_id(number, 0) for number in (1, 3, 5)}
    assert index.passage_count() == 3
    index.put([entry(2)])
    assert point_id(2, 0) in found(index, ALL)


def test_rare_words_lead_after_replacing_and_deleting(index: PassageIndex) -> None:
    """How often a word occurred in what is gone may linger in its weight, but in nothing else."""
    kept = [entry(n, ("alpha beta" if n % 3 else "alpha gamma",)) for n in range(1, 10)]
    index.put([entry(n, ("beta beta",)) for n in range(20, 40)])
    index.put([entry(3, ("beta gamma", "beta"), revision=2)])
    index.put(kept)
    index.delete(list(range(20, 40)))
    everything = [one.passages[0].point_id for one in kept]
    ranked = index.search_bm25(LexicalQuery("alpha gamma", "english"), ALL, 50)
    assert [point.point_id for point in ranked[:3]] == [point_id(n, 0) for n in (3, 6, 9)]
    assert {point.point_id for point in ranked} == set(everything)
    assert index.score_bm25(LexicalQuery("alpha gamma", "english"), ALL, everything) == {
        point.point_id: point.score for point in ranked
    }


def test_ranges_beyond_the_indexed_fields(
    index: PassageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_max_indexed_keys", 7, raising=False)
    index.put([entry(n, metadata={f"field{n}": n, "seen": f"2020-01-{n:02}"}) for n in range(1, 8)])
    for number in range(1, 8):
        asked = IndexFilter(("law",), where=Range(f"field{number}", gte=number, lte=number))
        assert found(index, asked) == {point_id(number, 0)}
    late = IndexFilter(("law",), where=Range("seen", gt="2020-01-05"))
    assert found(index, late) == {point_id(6, 0), point_id(7, 0)}


def test_concurrent_put_and_search(index: PassageIndex) -> None:
    """A document that is being replaced is always found, in its old or its new revision."""
    index.put([entry(1, ("steady words",) * 3, revision=1)])
    failures: list[BaseException | str] = []
    done = threading.Event()

    def search() -> None:
        query = unit(np.random.default_rng(1))
        try:
            while not done.is_set():
                if not index.search_dense(query, ALL, 100):
                    failures.append("nothing was found by meaning")
                if not index.search_bm25(LexicalQuery("steady", "english"), ALL, 100):
                    failures.append("nothing was found by words")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for revision in range(2, 40):
        index.put([entry(1, ("steady words",) * (1 + revision % 3), revision=revision)])
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert found(index, ALL) == {point_id(39, 0)}
