"""What a run speaks of: files under way, how they ended, and who looks after the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from longleaf.core.catalog import Generation, PutResult
from longleaf.core.catalog.writes import UPLOAD_MARK
from longleaf.core.ids import document_id
from longleaf.core.protocols import Chunker, Embedder, OpenedFile
from longleaf.core.types import Outcome
from longleaf.indexer.prepare import FileFailure
from longleaf.indexer.sidecars import NO_SIDECAR, Sidecar
from longleaf.indexer.sources import SourceFile

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Target(NamedTuple):
    """An open generation with what makes its passages and vectors."""

    generation: Generation
    chunker: Chunker
    embedder: Embedder


@dataclass(frozen=True, slots=True)
class FileResult:
    """How one file ended, reported after the commit that made it so."""

    key: str
    outcome: Outcome
    reason: str = ""
    detail: str = ""
    document_count: int = 0
    changed_count: int = 0
    document_ids: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Supervisor(Protocol):
    """Who looks after a run: hears how far it is, may stop it, and writes along with its commits.

    `check` raises to stop the run between two units of work. `under_way` says what a file is in
    the middle of ("parse", "ocr", "convert", "embed"; units done, units in all, 0 when not known).
    `ended` writes how files ended inside the transaction that makes it so. `given_up` names files
    that must not be tried again, and why.
    """

    def check(self) -> None: ...

    def under_way(self, key: str, phase: str, done: int, total: int) -> None: ...

    def ended(self, connection: Connection, files: Sequence[FileResult]) -> None: ...

    def given_up(self, key: str) -> str | None: ...


class Unsupervised:
    """Nobody looks: the run goes on to its end."""

    def check(self) -> None: ...

    def under_way(self, key: str, phase: str, done: int, total: int) -> None: ...

    def ended(self, connection: Connection, files: Sequence[FileResult]) -> None: ...

    def given_up(self, key: str) -> str | None:
        return None


OnResult = Callable[[FileResult], None]
OnPassages = Callable[[int], None]
"""Called with how many passages have just become durable."""


def ignore_result(_result: FileResult) -> None: ...


def ignore_passages(_count: int) -> None: ...


@dataclass(slots=True)
class FileUnderWay:
    """A file of a run, from its first byte to its outcome."""

    source: SourceFile | None
    key: str
    name: str
    sha256: str
    size_bytes: int
    mtime_ns: int
    ingest_version: str
    sidecar: Sidecar = NO_SIDECAR
    data: bytes = b""
    opened: OpenedFile | None = None
    original: str | None = None
    keys: list[str] = field(default_factory=list)
    results: list[PutResult] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failures: list[FileFailure] = field(default_factory=list)
    found_passages: int = 0
    embedded_passages: int = 0

    @property
    def all_passages(self) -> int:
        """How many passages it has; 0 while more of its documents may come."""
        return self.found_passages if self.opened is None or len(self.keys) == 1 else 0

    @property
    def source_key(self) -> str:
        """The key under which the catalog remembers this file."""
        return self.key if self.source is not None else f"{UPLOAD_MARK}{self.key}"

    @property
    def was_not_read(self) -> bool:
        """Whether the file as a whole failed (some bad members of a container do not count)."""
        return any(not failure.where for failure in self.failures)

    def ending(self) -> tuple[Outcome, str, str]:
        """Outcome, reason and detail once all its documents are in."""
        details = [
            f"{f.where}: {f.reason}: {f.detail}"
            if f.where
            else f"{f.reason or f.outcome}: {f.detail}"
            for f in self.failures
        ]
        if not self.keys and self.failures:
            first = self.failures[0]
            return first.outcome, first.reason, first.detail
        problems = [*details, *dict.fromkeys(self.warnings)]
        if not self.keys:
            return Outcome.REJECTED, "empty", "the file holds no document"
        outcome = Outcome.INDEXED_WITH_WARNINGS if problems else Outcome.INDEXED
        return outcome, "", "; ".join(problems[:20]) + ("; …" if len(problems) > 20 else "")

    def result(self, collection: str, more_changed: int = 0) -> FileResult:
        """How it ended; `more_changed` documents are not among `results` yet."""
        outcome, reason, detail = self.ending()
        return FileResult(
            self.key,
            outcome,
            reason,
            detail,
            len(self.keys),
            sum(result.changed for result in self.results) + more_changed,
            tuple(document_id(collection, key) for key in self.keys),
            tuple(dict.fromkeys(self.warnings)),
        )
