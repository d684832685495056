"""A run's new promises: several generations at once, long documents in slices, and a supervisor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.config import IndexerSettings
from longleaf.core.types import EmbedInput, Outcome, PassageVectors, Scope
from longleaf.indexer.build import FileResult, Indexer, Target
from longleaf.indexer.chunk import PassageChunker
from longleaf.indexer.parsers.here import ReadHere
from longleaf.indexer.records import Unsupervised

ALL = Scope.all()
WORDS = "The tenant pays the rent on the first day of each month. "


class SizedEmbedder:
    """Vectors that tell their text's length, so that a test sees which passage they are of."""

    languages = None
    dim, token_dim = 2, 4

    def __init__(self, name: str) -> None:
        self.name = self.fingerprint = name
        self.count = 0
        self.stop_at: int | None = None

    def embed_passages(self, inputs: Iterator[EmbedInput]) -> Iterator[PassageVectors]:
        for each in inputs:
            if self.count == self.stop_at:
                raise RuntimeError("the power failed")
            self.count += 1
            dense = np.array([len(each.text), 1.0], np.float32)
            dense /= np.linalg.norm(dense)
            yield PassageVectors(dense, np.full((3, 4), len(each.text) % 100, np.int8))


def target(catalog: Catalog, chunker: Any, embedder: SizedEmbedder, live: bool = True) -> Target:
    enter = catalog.open_generation if live else catalog.generations.begin
    generation = enter(chunker.fingerprint, embedder.fingerprint, embedder.name, 2, 4, {})
    return Target(generation, chunker, embedder)  # type: ignore[arg-type]


def passages(catalog: Catalog, generation: Generation) -> list[str]:
    return [
        passage.text
        for head in catalog.documents(ALL)
        for passage in catalog.passages(head, generation, limit=10_000)
    ]


def vectors_fit(catalog: Catalog, generation: Generation) -> bool:
    """Every stored vector is that of its passage, in dense and token vectors."""
    for head in catalog.documents(ALL):
        [entry] = catalog.index_entries([head.document_id], generation)
        found = catalog.passages(head, generation, limit=10_000)
        codes, starts, _ = catalog.token_vectors([p.passage_id for p in found], generation)
        for number, (passage, stored) in enumerate(zip(found, entry.passages, strict=True)):
            ratio = stored.dense[0] / stored.dense[1]
            if abs(ratio - len(passage.text)) > 0.02 * len(passage.text):
                return False
            if codes[starts[number], 0] != len(passage.text) % 100:
                return False
    return True


def test_every_open_generation_gets_its_own_passages_and_vectors(
    catalog: Catalog, minilm: Any, tmp_path: Path
) -> None:
    coarse = PassageChunker(minilm.tokenizer, "t", 200)
    fine = PassageChunker(minilm.tokenizer, "t", 60)
    live = target(catalog, coarse, SizedEmbedder("one"))
    building = target(catalog, fine, SizedEmbedder("two"), live=False)
    indexer = Indexer(catalog, [live, building], ReadHere(), IndexerSettings(commit_passages=4))
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text(WORDS * (10 + number))
    counts = indexer.index_paths("law", "english", [tmp_path], exclude=["data"])
    assert counts == {Outcome.INDEXED: 5}
    one, two = passages(catalog, live.generation), passages(catalog, building.generation)
    assert len(two) > len(one) > 0
    assert vectors_fit(catalog, live.generation)
    assert vectors_fit(catalog, building.generation)
    assert catalog.generations.make_live(building.generation), "nothing is missing"
    assert passages(catalog, building.generation) == two


def test_a_run_goes_on_in_the_new_generation_when_its_own_was_retired(
    catalog: Catalog, minilm: Any, tmp_path: Path
) -> None:
    chunker = PassageChunker(minilm.tokenizer, "t", 60)
    old = target(catalog, chunker, SizedEmbedder("one"))
    new = target(catalog, chunker, SizedEmbedder("two"), live=False)
    indexer = Indexer(catalog, [old], ReadHere(), IndexerSettings(commit_passages=4), lambda: [new])
    assert catalog.generations.make_live(new.generation)
    (tmp_path / "a.txt").write_text(WORDS * 9)
    (tmp_path / "long.txt").write_text(WORDS * 200)
    counts = indexer.index_paths("law", "english", [tmp_path], exclude=["data"])
    assert counts == {Outcome.INDEXED: 2}
    assert vectors_fit(catalog, new.generation)
    assert len(passages(catalog, new.generation)) > 30


@pytest.mark.parametrize("live", [False, True])
def test_a_generation_that_is_begun_meanwhile_is_fed_from_the_next_commit_on(
    catalog: Catalog, minilm: Any, tmp_path: Path, live: bool
) -> None:
    """And one that takes the other's place gets passages of its own chunker."""
    old = target(catalog, PassageChunker(minilm.tokenizer, "t", 200), SizedEmbedder("one"))
    targets = [old]
    settings = IndexerSettings(commit_passages=2)
    indexer = Indexer(catalog, [old], ReadHere(), settings, lambda: targets)
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text(WORDS * (30 + number))

    def begin(_passages: int) -> None:
        if len(targets) == 1 and targets[0] is old:
            chunker = PassageChunker(minilm.tokenizer, "t", 60)
            new = target(catalog, chunker, SizedEmbedder("two"), live=False)
            targets[:] = [old, new]
            if live:
                for head in catalog.documents(ALL):
                    catalog.delete_document(head.public_id, ALL)  # what the new one lacks
                assert catalog.generations.make_live(new.generation)
                targets[:] = [new, old]

    indexer.index_paths("law", "english", [tmp_path], exclude=["data"], on_passages=begin)
    new = targets[0] if live else targets[1]
    assert vectors_fit(catalog, old.generation)
    assert vectors_fit(catalog, new.generation)
    assert catalog.generations.missing_count(old.generation) == 0
    assert catalog.generations.missing_count(new.generation) <= (0 if live else 2)
    assert len(passages(catalog, new.generation)) > len(passages(catalog, old.generation)) / 2


def test_a_long_document_is_written_in_slices_and_gone_on_with_after_a_crash(
    catalog: Catalog, minilm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunker = PassageChunker(minilm.tokenizer, "t", 60)
    embedder = SizedEmbedder("one")
    live = target(catalog, chunker, embedder)
    indexer = Indexer(catalog, [live], ReadHere(), IndexerSettings(commit_passages=4))
    file = tmp_path / "long.txt"
    file.write_text(WORDS * 200)
    slices: list[int] = []
    write_slice = catalog.write_slice

    def counted(generation: Generation, content: Any) -> None:
        slices.append(len(content.vectors))
        write_slice(generation, content)

    monkeypatch.setattr(catalog, "write_slice", counted)
    embedder.stop_at = 10
    with pytest.raises(RuntimeError, match="the power failed"):
        indexer.index_paths("law", "english", [file])
    assert catalog.documents(ALL) == [], "a document that is not whole is not there"
    written = sum(slices)
    assert 4 <= written <= 8 and max(slices) == 4
    embedder.stop_at = None
    counts = indexer.index_paths("law", "english", [file])
    assert counts == {Outcome.INDEXED: 1}
    total = len(passages(catalog, live.generation))
    assert sum(slices) == total, "what was durable is not embedded again"
    assert vectors_fit(catalog, live.generation)


class Watching(Unsupervised):
    def __init__(self, stop_after: int = 10**9) -> None:
        self.phases: list[tuple[str, str]] = []
        self.embedded: list[tuple[int, int]] = []
        self.ends: list[FileResult] = []
        self.checks_left = stop_after
        self.bad: dict[str, str] = {}

    def check(self) -> None:
        self.checks_left -= 1
        if self.checks_left <= 0:
            raise KeyboardInterrupt

    def under_way(self, key: str, phase: str, done: int, total: int) -> None:
        self.phases.append((Path(key).name, phase))
        if phase == "embed":
            self.embedded.append((done, total))

    def ended(self, connection: object, files: Sequence[FileResult]) -> None:
        self.ends += files

    def given_up(self, key: str) -> str | None:
        return self.bad.get(Path(key).name)


def test_the_supervisor_hears_of_every_file_and_may_give_one_up(
    catalog: Catalog, minilm: Any, tmp_path: Path
) -> None:
    live = target(catalog, PassageChunker(minilm.tokenizer, "t", 60), SizedEmbedder("one"))
    indexer = Indexer(catalog, [live], ReadHere(), IndexerSettings())
    for name in ("a.txt", "bad.txt", "c.txt"):
        (tmp_path / name).write_text(WORDS)
    watching = Watching()
    watching.bad = {"bad.txt": "its worker died 3 times"}
    results: list[FileResult] = []
    indexer.index_paths(
        "law", "english", [tmp_path], exclude=["data"], supervisor=watching,
        on_result=results.append,
    )  # fmt: skip
    assert [(Path(r.key).name, r.outcome) for r in results] == [
        ("a.txt", Outcome.INDEXED),
        ("bad.txt", Outcome.REJECTED),
        ("c.txt", Outcome.INDEXED),
    ]
    assert results[1].reason == "crashes its reader" and "3 times" in results[1].detail
    assert [r.key for r in watching.ends] == [r.key for r in results]
    assert watching.ends[0].document_ids == results[0].document_ids
    assert ("a.txt", "parse") in watching.phases and ("bad.txt", "parse") not in watching.phases
    assert ("c.txt", "embed") in watching.phases


def test_passages_of_a_file_are_counted_over_all_its_documents(
    catalog: Catalog, minilm: Any, tmp_path: Path
) -> None:
    live = target(catalog, PassageChunker(minilm.tokenizer, "t", 60), SizedEmbedder("one"))
    lines = (json.dumps({"_id": str(n), "text": f"{n} {WORDS}"}) for n in range(7))
    (tmp_path / "many.jsonl").write_text("\n".join(lines))

    def counted(**settings: int) -> list[tuple[int, int]]:
        indexer = Indexer(catalog, [live], ReadHere(), IndexerSettings(**settings))
        watching = Watching()
        catalog.create_collection(f"c{len(settings)}")
        indexer.index_paths(
            f"c{len(settings)}", "english", [tmp_path], exclude=["data"], supervisor=watching
        )
        return watching.embedded

    in_parts = counted(commit_passages=4)
    each = in_parts[1][0]
    assert [done for done, _ in in_parts] == [number * each for number in range(7)]
    assert {total for _, total in in_parts[1:-1]} <= {0, 7 * each}, "more was still to come"
    assert counted() == []  # the same texts: nothing is embedded


def test_a_run_that_is_stopped_keeps_what_it_reported(
    catalog: Catalog, minilm: Any, tmp_path: Path
) -> None:
    live = target(catalog, PassageChunker(minilm.tokenizer, "t", 60), SizedEmbedder("one"))
    indexer = Indexer(catalog, [live], ReadHere(), IndexerSettings(commit_passages=2))
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text(f"{number}. {WORDS}")
    results: list[FileResult] = []
    with pytest.raises(KeyboardInterrupt):
        indexer.index_paths(
            "law", "english", [tmp_path], exclude=["data"], supervisor=Watching(25),
            on_result=results.append,
        )  # fmt: skip
    assert 0 < len(results) < 9
    there = {head.key for head in catalog.documents(ALL)}
    assert {result.key for result in results} <= there
