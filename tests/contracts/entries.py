"""Documents, filters and queries that tests of indexes draw."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.filters import And, Eq, Filter, In, Not, Or, Prefix, Range
from longleaf.core.ids import point_id
from longleaf.core.protocols import IndexEntry, IndexFilter, IndexPassage, PassageIndex
from longleaf.core.types import MetaValue

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray

DIM = 16
ALL = IndexFilter(collections=("law", "science"))
EVERYTHING = 10**9


def unit(random_state: np.random.Generator) -> FloatArray:
    vector = random_state.normal(size=DIM).astype(np.float32)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def entry(
    document: int,
    texts: tuple[str, ...] = ("plain words",),
    revision: int | None = None,
    collection: str = "law",
    groups: tuple[str, ...] = (),
    metadata: Mapping[str, MetaValue] | None = None,
    language: str = "english",
    text_language: str | None = None,
) -> IndexEntry:
    revision = document if revision is None else revision
    numbers = np.random.default_rng(revision)
    return IndexEntry(
        document_id=document,
        revision_id=revision,
        public_id=f"public{document}",
        collection=collection,
        key=f"docs/{document}.txt",
        title=f"Title {document % 3}",
        source=f"/in/{document}.txt",
        media_type="text/plain" if document % 2 else "application/pdf",
        bm25_language=language,
        groups=groups,
        passages=tuple(
            IndexPassage(point_id(revision, ordinal), text, text, unit(numbers))
            for ordinal, text in enumerate(texts)
        ),
        metadata=metadata or {},
        language=text_language,
    )


def found(index: PassageIndex, index_filter: IndexFilter) -> set[int]:
    """Every point that passes."""
    query = unit(np.random.default_rng(0))
    return {point.point_id for point in index.search_dense(query, index_filter, EVERYTHING)}


VALUES: list[MetaValue] = [
    2019, 2020.0, 2020.5, "2020", "02020", "2020-03-01", "2020-03-01T12:00:00+05:00", "2020-03", -3,
    0, "", "ca9", "CA9", "café", True, False, "true", ("a", "b"), ("2021", "zeta"), (), 2**60,
    "1e3", "n/a", "\ud800", "2019-12-31T23:59:59.999999", "9999-12",
    "0001-01-01T00:00:00+14:00", 1e300,
]  # fmt: skip
FIELDS = ["year", "a.b[0]", "título", "court"]
BOUNDS: list[float | str | None] = [
    None, 2019, 2020.0, 2020.5, -3, "2020", "2020-03", "2020-03-01", "2021-01-01T00:00:00Z",
    "no date", 2.0**60, "9999-12", math.nan, math.inf,
]  # fmt: skip


def some_metadata(choose: random.Random) -> dict[str, MetaValue]:
    return {name: choose.choice(VALUES) for name in FIELDS if choose.random() < 0.7}


def some_filter(choose: random.Random, depth: int = 3) -> Filter:
    field = choose.choice([*FIELDS, "type", "key", "document", "collection", "missing"])
    values = [value for value in VALUES if not isinstance(value, tuple)]
    values += ["text/plain", "docs/3.txt", "public4", "law"]
    kinds = ["eq", "in", "range", "range", "prefix"] + ["and", "or", "not"] * (depth > 0)
    match choose.choice(kinds):
        case "eq":
            return Eq(field, choose.choice(values))
        case "in":
            return In(field, tuple(choose.sample(values, choose.randrange(4))))
        case "range":
            names = choose.sample(["gte", "gt", "lte", "lt"], choose.randrange(3))
            return Range(field, **{name: choose.choice(BOUNDS) for name in names})
        case "prefix":
            return Prefix(field, choose.choice(["", "2", "20", "ca", "docs/1", "t", "\ud800", "x"]))
        case "not":
            return Not(some_filter(choose, depth - 1))
        case kind:
            parts = tuple(some_filter(choose, depth - 1) for _ in range(choose.randrange(4)))
            return And(parts) if kind == "and" else Or(parts)
