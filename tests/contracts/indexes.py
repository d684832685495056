"""The implementations of PassageIndex that the contract suite runs over: one line each in INDEXES.

Each line says how an index is opened, what makes it absent here (the tests then skip and say so),
and how far its scores may lie from the oracle's, which is what its storage rounds away.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import update
from tests.contracts import qdrant_indexes
from tests.contracts.oracle_index import OracleIndex

from longleaf.core.catalog import Catalog, Generation, schema
from longleaf.core.protocols import PassageIndex
from longleaf.retriever.index.edge import EdgeIndex
from longleaf.retriever.index.faiss import FaissIndex
from longleaf.retriever.index.followed import ChangeLog
from longleaf.retriever.index.process import IndexProcess


class Opener(Protocol):
    """Opens the index that belongs to `folder`, which an index elsewhere takes as a name."""

    def __call__(
        self, folder: Path, dim: int, fingerprint: str, change_log: ChangeLog | None = None
    ) -> PassageIndex: ...


Served = Callable[[PassageIndex, Catalog, Generation, Path], PassageIndex]
"""From an index that was filled in `folder` to the one that is searched in its place."""


@dataclass(frozen=True, slots=True)
class Implementation:
    """One implementation and what the suite must know of it.

    `dense_tolerance`: how far a cosine may be off; passages whose scores differ by less may stand
    in either order. `bm25_tolerance`: the same, relative. `keeps`: what was flushed is there when
    the folder is opened again. `answers_meanwhile`: one that is made anew answers as before
    until it is full. `missing`: why it cannot run here; None when it can.
    """

    name: str
    open: Opener
    dense_tolerance: float = 1e-5
    bm25_tolerance: float = 1e-4
    keeps: bool = True
    answers_meanwhile: bool = False
    served: Served | None = None
    missing: Callable[[], str | None] = lambda: None

    def require(self) -> None:
        """Skip the test, saying why, where this implementation cannot run."""
        if why := self.missing():
            pytest.skip(why)


def _open_oracle(
    folder: Path, dim: int, fingerprint: str, change_log: ChangeLog | None = None
) -> PassageIndex:
    return OracleIndex(fingerprint)


def _in_a_process(
    filled: PassageIndex, catalog: Catalog, generation: Generation, folder: Path
) -> PassageIndex:
    """The same folder behind `IndexProcess`, with a catalog that says it is where the index is:
    there is nothing to follow, and the passages stay as they are."""
    with catalog._database.writing() as connection:
        head = update(schema.meta).where(schema.meta.c.key == "last_seq").values(value="1")
        connection.execute(head)
    filled.flush(1)
    filled.close()
    return IndexProcess.open(catalog, generation, folder)


def without(module: str, package: str) -> Callable[[], str | None]:
    """For `missing`: it needs the library `module`."""
    return lambda: None if importlib.util.find_spec(module) else f"{package} is not installed"


def _open_faiss(
    folder: Path, dim: int, fingerprint: str, change_log: ChangeLog | None = None
) -> PassageIndex:
    return FaissIndex.open(folder, dim, fingerprint, change_log, devices="cpu")


_NO_FAISS = without("faiss", "faiss-cpu")

INDEXES = (
    Implementation("edge", EdgeIndex.open),
    Implementation("process", EdgeIndex.open, served=_in_a_process),
    Implementation("faiss", _open_faiss, dense_tolerance=5e-4, missing=_NO_FAISS),
    Implementation("qdrant-memory", qdrant_indexes.open_in_memory, keeps=False),
    Implementation("qdrant-http", qdrant_indexes.open_over_http, answers_meanwhile=True),
    Implementation(
        "qdrant-server",
        qdrant_indexes.open_on_server,
        dense_tolerance=2e-3,
        answers_meanwhile=True,
        missing=qdrant_indexes.no_server,
    ),
    Implementation("oracle", _open_oracle, keeps=False),
)

WRITTEN_TO = [one for one in INDEXES if one.served is None]
"""Those that take writes themselves."""

KEEPING = [one for one in WRITTEN_TO if one.keeps]

COMPARED = [one for one in INDEXES if one.name != "oracle"]
"""Those that are compared with the oracle."""


def name_of(implementation: Implementation) -> str:
    """For pytest's `ids`."""
    return implementation.name
