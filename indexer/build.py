"""Sources to catalog, resumable: walk, skip what is unchanged, read ahead, prepare, embed, commit.

`Indexer` decides which files are read and opens a few of them ahead, so that their parsers work
while earlier ones are embedded; `run.Run` does the rest. What ended is known from the catalog
alone, so a run that was killed is continued by running again.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from longleaf.core.catalog import Catalog, Source
from longleaf.core.catalog.writes import IMPORTED_MARK, was_read_here
from longleaf.core.config import IndexerSettings
from longleaf.core.errors import Conflict, Rejected, RejectReason
from longleaf.core.protocols import FileReader
from longleaf.core.types import Outcome
from longleaf.indexer.prepare import FileFailure, Labels
from longleaf.indexer.records import (
    FileResult,
    FileUnderWay,
    OnPassages,
    OnResult,
    Supervisor,
    Target,
    Unsupervised,
    ignore_passages,
    ignore_result,
)
from longleaf.indexer.run import WITHOUT, Run
from longleaf.indexer.sidecars import Sidecars
from longleaf.indexer.sources import SourceFile, path_of, read_bytes, walk

__all__ = ["FileResult", "Indexer", "Target"]

_MAY_PASS = frozenset(
    reason.value
    for reason in (
        RejectReason.UNREADABLE,
        RejectReason.TOO_LARGE,
        RejectReason.NEEDS_PROGRAM,
        RejectReason.TOO_SLOW,
        RejectReason.TOO_MUCH_MEMORY,
        RejectReason.CRASHED,
        RejectReason.INTERNAL,
    )
)
"""Rejections that may end otherwise the next time: the file is tried again on every run."""

DELETED_BEFORE = "Its documents were deleted here; longleaf index --again brings them back."

_AHEAD_BYTES = 256 * 1024 * 1024
"""Bytes of files that are opened ahead, at most (one file may have more)."""


class Indexer:
    """Writes documents into one catalog, for each of its open generations."""

    def __init__(
        self,
        catalog: Catalog,
        targets: Sequence[Target],
        reader: FileReader,
        settings: IndexerSettings,
        refresh: Callable[[], Sequence[Target]] | None = None,
    ) -> None:
        """`targets`: the open generations, the live one first. `refresh` gives them anew after a
        generation was swapped; without it that ends a run with GenerationMismatch."""
        self.catalog = catalog
        self.targets = tuple(targets)
        self.reader = reader
        self.settings = settings
        self._refresh = refresh

    def refreshed(self) -> tuple[Target, ...]:
        """The open generations as they are now."""
        if self._refresh is not None:
            self.targets = tuple(self._refresh())
        return self.targets

    def close(self) -> None:
        """End the reader's processes."""
        self.reader.close()

    def index_paths(
        self,
        collection: str,
        bm25_language: str,
        roots: Sequence[Path],
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        labels: Labels | None = None,
        prune: bool = False,
        missing_is_gone: bool = False,
        again: bool = False,
        only: Sequence[Path] = (),
        known: Mapping[str, Source] | None = None,
        on_result: OnResult = ignore_result,
        on_passages: OnPassages = ignore_passages,
        supervisor: Supervisor | None = None,
    ) -> Counter[Outcome]:
        """Bring a collection up to date with files and folders; returns how many ended how.

        `prune` removes documents whose file lay under `roots` and no longer exists. It removes none
        of a root that is not there, or holds nothing at all: that is how a drive looks which is not
        mounted; Conflict says so when all else is done. A root that is not there is NotFound at
        once, unless `missing_is_gone`. A document that was deleted by hand stays deleted while its
        file does not change; `again` reads every file anew. `only`: the paths below `roots` that
        may have changed. `known`: files by key, where the caller needs not have them looked up.
        What `supervisor` raises ends the run; what was reported stays.
        """
        there = [root for root in roots if root.exists()] if missing_is_gone else roots
        supervisor = supervisor or Unsupervised()
        run = Run(
            self,
            collection,
            bm25_language,
            labels or Labels(),
            on_result,
            on_passages,
            supervisor,
        )
        known = self.catalog.sources(collection) if known is None else known
        seen: set[str] = set()
        ahead = _Ahead(self, run, supervisor, Sidecars([root.resolve() for root in roots]))
        try:
            for source in walk(there, include, exclude, only):
                seen.add(source.key)
                supervisor.check()
                ahead.add(source, known.get(source.key), again=again)
            ahead.drain()
            run.finish()
        except BaseException:
            ahead.close()
            run.abandon()
            raise
        if prune:
            gone = [key for key in known if key not in seen and _is_gone(key, only or roots)]
            doubtful = [root for root in roots if _may_be_unmounted(root.resolve(), only)]
            kept = {key for key in gone if _is_below(key, doubtful)}
            for key in gone:
                if key not in kept:
                    supervisor.check()
                    count = self.catalog.remove_source(known[key])
                    run.report(FileResult(key, Outcome.REMOVED, document_count=count))
            if kept:
                raise Conflict(
                    f"{', '.join(map(str, doubtful))} is not there, or empty, and {len(kept):,} "
                    "files came from it: none of their documents was removed.",
                    "Is a drive not mounted? If it is meant to be empty, put any file into it; "
                    "longleaf documents delete and longleaf collections delete remove documents.",
                )
        return run.counts

    def index_bytes(
        self,
        collection: str,
        bm25_language: str,
        data: bytes,
        name: str,
        *,
        key: str | None = None,
        labels: Labels | None = None,
        on_passages: OnPassages = ignore_passages,
        supervisor: Supervisor | None = None,
    ) -> FileResult:
        """Index an upload; durable when this returns. Without `key`, its content hash is the key.

        The result tells rejections as well; nothing that the bytes contain raises.
        """
        results: list[FileResult] = []
        supervisor = supervisor or Unsupervised()
        run = Run(
            self,
            collection,
            bm25_language,
            labels or Labels(),
            results.append,
            on_passages,
            supervisor,
        )
        sha256 = hashlib.sha256(data).hexdigest()
        file = FileUnderWay(
            source=None,
            key=key or f"sha256:{sha256}",
            name=name,
            sha256=sha256,
            size_bytes=len(data),
            mtime_ns=0,
            ingest_version=run.ingest_version,
            data=data,
        )
        try:
            self._open(file, supervisor)
            run.take(file)
            run.finish()
        except BaseException:
            run.abandon()
            raise
        return results[0]

    def _open(self, file: FileUnderWay, supervisor: Supervisor) -> None:
        """Begin to read a file, or note why it cannot be."""
        reason = supervisor.given_up(file.key)
        if reason is not None:
            failure = FileFailure(Outcome.REJECTED, RejectReason.CRASHED.value, reason)
            file.failures.append(failure)
            return
        supervisor.under_way(file.key, "parse", 0, 0)

        def on_progress(phase: str, done: int, total: int) -> None:
            supervisor.under_way(file.key, phase, done, total)

        try:
            file.opened = self.reader.open(file.data, file.name, on_progress)
        except Rejected as error:
            failure = FileFailure(Outcome.REJECTED, error.reason.value, str(error))
            file.failures.append(failure)


class _Ahead:
    """Files that are open while earlier ones are embedded, in the order of the walk."""

    def __init__(
        self, indexer: Indexer, run: Run, supervisor: Supervisor, sidecars: Sidecars
    ) -> None:
        self._indexer = indexer
        self._run = run
        self._sidecars = sidecars
        self._supervisor = supervisor
        self._files: deque[FileUnderWay] = deque()
        self._most_files = 1 + max(1, getattr(indexer.reader, "workers", 1))
        self._lacking = set(run.lacking)

    def add(self, source: SourceFile, known: Source | None, *, again: bool = False) -> None:
        """Open a file of the walk unless it is unchanged."""
        run, indexer = self._run, self._indexer
        if not source.problem and self._sidecars.is_sidecar(source.path):
            if known is not None:  # it was a document before there was a file that it describes
                count = indexer.catalog.remove_source(known)
                run.report(FileResult(source.key, Outcome.REMOVED, document_count=count))
            if problem := self._sidecars.problem(source.path):
                run.report(FileResult(source.key, Outcome.INDEXED_WITH_WARNINGS, detail=problem))
            return
        described = "" if source.problem else self._sidecars.fingerprint(source.path)
        version = f"{run.ingest_version}:{described}" if described else run.ingest_version
        settled = (
            known is not None
            and not again
            and self._is_as_read(known, version)
            and known.outcome is not Outcome.INTERRUPTED
            and known.reason not in _MAY_PASS
        )
        times = (source.size_bytes, source.mtime_ns)
        is_known = known is not None and settled and was_read_here(known.ingest_version)
        if known is not None and is_known and (known.size_bytes, known.mtime_ns) == times:
            run.report(_unchanged(known))
            return
        file = FileUnderWay(source, source.key, source.path.name, "", *times, version)
        if described:
            file.sidecar = self._sidecars.for_file(source.path)
        self._make_room(source.size_bytes)
        try:
            file.data = read_bytes(source, indexer.settings.max_file_bytes)
        except Rejected as error:
            failure = FileFailure(Outcome.REJECTED, error.reason.value, str(error))
            file.failures.append(failure)
        else:
            file.sha256 = hashlib.sha256(file.data).hexdigest()
            if known is not None and settled and known.sha256 == file.sha256:
                indexer.catalog.touch_source(known, *times)
                run.report(_unchanged(known))
                return
            indexer._open(file, self._supervisor)
        self._files.append(file)

    def _is_as_read(self, known: Source, version: str) -> bool:
        """Whether the file would be read today as it was, with no program more than then."""
        version_then = known.ingest_version.removeprefix(IMPORTED_MARK)
        read_as, _, lacked = version_then.partition(WITHOUT)
        return read_as == version and set(filter(None, lacked.split(","))) <= self._lacking

    def drain(self) -> None:
        """Take all that is open."""
        while self._files:
            self._run.take(self._files.popleft())

    def close(self) -> None:
        """Give up reading what is open."""
        for file in self._files:
            if file.opened is not None:
                file.opened.close()

    def _make_room(self, size_bytes: int) -> None:
        while self._files and (
            len(self._files) >= self._most_files
            or sum(len(file.data) for file in self._files) + size_bytes > _AHEAD_BYTES
        ):
            self._run.take(self._files.popleft())


def _unchanged(known: Source) -> FileResult:
    """A file that was not read again; one that could not be taken still cannot."""
    failed = known.outcome in (Outcome.REJECTED, Outcome.NO_TEXT)
    outcome = known.outcome if failed else Outcome.UNCHANGED
    detail = known.detail
    if not failed and known.document_count == 0:
        detail = DELETED_BEFORE
    return FileResult(known.key, outcome, known.reason, detail, known.document_count)


def _is_below(key: str, roots: Sequence[Path]) -> bool:
    path = path_of(key)
    return any(path == root or root in path.parents for root in (r.resolve() for r in roots))


def _may_be_unmounted(root: Path, only: Sequence[Path]) -> bool:
    """Whether a root looks like a drive that is not there, and not like files that went.

    A folder whose files were named as gone (`only`) may be empty after that.
    """
    if only and root not in {path.resolve() for path in only}:
        return not root.exists()
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except NotADirectoryError:
        return False
    except OSError:
        return True


def _is_gone(key: str, roots: Sequence[Path]) -> bool:
    """Whether a source of these roots is not there any more.

    One that the walk left out (a pattern, a folder that cannot be listed now) is not gone.
    """
    path = path_of(key)
    if not _is_below(key, roots):
        return False
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
