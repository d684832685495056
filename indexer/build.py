"""Sources to catalog, resumable: walk, skip what is unchanged, prepare, embed, commit.

Documents are gathered across files until there are enough passages for full batches, embedded
together and committed in one transaction with the outcome of every file that is complete by
then. A result is reported only after its commit: reported means durable. A kill at any moment
loses the batch under way and nothing else, and the next run goes on from the catalog.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from longleaf.core.catalog import (
    Catalog,
    ContentWrite,
    DocumentWrite,
    Generation,
    PutResult,
    Source,
    SourceWrite,
)
from longleaf.core.catalog.writes import ContentGone
from longleaf.core.config import IndexerSettings
from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.protocols import Chunker, Embedder, FileReader
from longleaf.core.types import Outcome, PassageVectors
from longleaf.indexer.prepare import (
    FileFailure,
    Labels,
    Prepared,
    embed_inputs,
    prepare_file,
)
from longleaf.indexer.sources import SourceFile, path_of, read_bytes, walk

INGEST_VERSION = "1"
"""Raised when a parser gets better: files are then read again even if they did not change."""


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


@dataclass(slots=True)
class _File:
    """A file under way."""

    source: SourceFile | None
    key: str
    name: str
    sha256: str
    size_bytes: int
    mtime_ns: int
    ingest_version: str
    upload: bytes | None = None
    original: str | None = None
    keys: list[str] = field(default_factory=list)
    results: list[PutResult] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failures: list[FileFailure] = field(default_factory=list)

    @property
    def source_key(self) -> str:
        """The key under which the catalog remembers this file."""
        return self.key if self.source is not None else f"upload:{self.key}"


_MAY_PASS = frozenset(
    reason.value
    for reason in (RejectReason.UNREADABLE, RejectReason.TOO_LARGE, RejectReason.INTERNAL)
)
"""Rejections that say nothing about the file's content: it is tried again on every run."""

_WAITING_CHARS = 8_000_000
"""Text held for the next commit at most; documents that need no embedding fill it, too."""

OnResult = Callable[[FileResult], None]
OnPassages = Callable[[int], None]
"""Called with how many passages have just become durable."""


def _ignore_result(_result: FileResult) -> None: ...


def _ignore_passages(_count: int) -> None: ...


class Indexer:
    """Writes documents into one catalog with one generation's chunker and embedder."""

    def __init__(
        self,
        catalog: Catalog,
        generation: Generation,
        chunker: Chunker,
        embedder: Embedder,
        reader: FileReader,
        settings: IndexerSettings,
    ) -> None:
        self.catalog = catalog
        self.generation = generation
        self.chunker = chunker
        self.embedder = embedder
        self.reader = reader
        self.settings = settings

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
        on_result: OnResult = _ignore_result,
        on_passages: OnPassages = _ignore_passages,
    ) -> Counter[Outcome]:
        """Bring a collection up to date with files and folders; returns how many ended how.

        `prune` removes documents whose file lay under `roots` and no longer exists. A document
        that was deleted by hand stays deleted while its file does not change.
        """
        run = _Run(self, collection, bm25_language, labels or Labels(), on_result, on_passages)
        known = self.catalog.sources(collection)
        seen: set[str] = set()
        for source in walk(roots, include, exclude):
            seen.add(source.key)
            run.take(source, known.get(source.key))
        run.finish()
        if prune:
            for key, gone in known.items():
                if key not in seen and _is_gone(key, roots):
                    count = self.catalog.remove_source(gone)
                    run.report(FileResult(key, Outcome.REMOVED, document_count=count))
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
    ) -> FileResult:
        """Index an upload; durable when this returns. Without `key`, its content hash is the key.

        The result tells rejections as well; nothing that the bytes contain raises.
        """
        results: list[FileResult] = []
        run = _Run(self, collection, bm25_language, labels or Labels(), results.append)
        sha256 = hashlib.sha256(data).hexdigest()
        run.take_bytes(
            _File(
                source=None,
                key=key or f"sha256:{sha256}",
                name=name,
                sha256=sha256,
                size_bytes=len(data),
                mtime_ns=0,
                ingest_version=run.ingest_version,
                upload=data,
            ),
            data,
        )
        run.finish()
        return results[0]


class _Run:
    """One run over many files: what waits for its batch, and what is already durable."""

    def __init__(
        self,
        indexer: Indexer,
        collection: str,
        bm25_language: str,
        labels: Labels,
        on_result: OnResult,
        on_passages: OnPassages = _ignore_passages,
    ) -> None:
        self.indexer = indexer
        self.collection = collection
        self.bm25_language = bm25_language
        self.labels = labels
        self.counts: Counter[Outcome] = Counter()
        stated = json.dumps([sorted(labels.groups), sorted(labels.metadata.items())])
        digest = hashlib.sha256(stated.encode()).hexdigest()[:12]
        self.ingest_version = f"{INGEST_VERSION}:{digest}"
        self._on_result = on_result
        self._on_passages = on_passages
        self._waiting: list[tuple[_File, Prepared]] = []
        self._ended: list[_File] = []
        self._passages = 0
        self._chars = 0

    def report(self, result: FileResult) -> None:
        self.counts[result.outcome] += 1
        self._on_result(result)

    def take(self, source: SourceFile, known: Source | None) -> None:
        """Read a file of the walk unless it is unchanged."""
        settled = (
            known is not None
            and known.ingest_version == self.ingest_version
            and known.outcome is not Outcome.INTERRUPTED
            and known.reason not in _MAY_PASS
        )
        times = (source.size_bytes, source.mtime_ns)
        if known is not None and settled and (known.size_bytes, known.mtime_ns) == times:
            self.report(_unchanged(known))
            return
        file = _File(source, source.key, source.path.name, "", *times, self.ingest_version)
        try:
            data = read_bytes(source, self.indexer.settings.max_file_bytes)
        except Rejected as error:
            failure = FileFailure(Outcome.REJECTED, error.reason.value, str(error))
            file.failures.append(failure)
            self._end(file)
            return
        file.sha256 = hashlib.sha256(data).hexdigest()
        if known is not None and settled and known.sha256 == file.sha256:
            self.indexer.catalog.touch_source(known, *times)
            self.report(_unchanged(known))
            return
        self.take_bytes(file, data)

    def take_bytes(self, file: _File, data: bytes) -> None:
        """Prepare a file's documents, committing whenever a batch is full."""
        indexer = self.indexer
        prepared: Iterator[Prepared | FileFailure] = prepare_file(
            data,
            file.name,
            file.key,
            reader=indexer.reader,
            chunker=indexer.chunker,
            labels=self.labels,
            bm25_language=self.bm25_language,
            model_languages=indexer.embedder.languages,
            known=lambda digest: indexer.catalog.has_content(digest, indexer.generation),
        )
        for item in prepared:
            if isinstance(item, FileFailure):
                file.failures.append(item)
                continue
            if not file.keys and indexer.settings.keep_originals:
                file.original = indexer.catalog.blobs.put(data)
            file.keys.append(item.key)
            file.warnings += item.warnings
            self._waiting.append((file, item))
            self._passages += len(item.passages or ())
            self._chars += len(item.document.text)
            if self._is_full():
                self._commit()
        self._end(file)

    def finish(self) -> None:
        """Commit what still waits."""
        self._commit()

    def _end(self, file: _File) -> None:
        self._ended.append(file)
        if self._is_full():
            self._commit()

    def _is_full(self) -> bool:
        enough = self.indexer.settings.commit_passages
        return (
            self._passages >= enough
            or self._chars >= _WAITING_CHARS
            or len(self._waiting) + len(self._ended) >= enough
        )

    def _commit(self) -> None:
        if not self._waiting and not self._ended:
            return
        catalog, generation = self.indexer.catalog, self.indexer.generation
        contents = self._embed({})
        while True:
            try:
                results = catalog.commit(
                    generation,
                    [self._write(file, item, contents) for file, item in self._waiting],
                    [self._source_write(file) for file in self._ended],
                )
                break
            except ContentGone:
                # Another process erased what we counted on: make all of it ourselves.
                self._store_originals_again()
                contents = self._embed(contents, whole=True)
        for (file, _), result in zip(self._waiting, results, strict=True):
            file.results.append(result)
            if result.replaced_source is not None:
                file.warnings.append(
                    f"the key {_key_of(file, result)!r} came from {result.replaced_source} before; "
                    "this file's document replaced it"
                )
        done, self._passages, self._chars = self._passages, 0, 0
        ended, self._waiting, self._ended = self._ended, [], []
        self._on_passages(done)
        for file in ended:
            self.report(_result(file))

    def _store_originals_again(self) -> None:
        for file, _ in self._waiting:
            if file.original is None or self.indexer.catalog.blobs.exists(file.original):
                continue
            data = file.upload
            if data is None and file.source is not None:
                with contextlib.suppress(Rejected):
                    data = read_bytes(file.source, self.indexer.settings.max_file_bytes)
            if data is None or hashlib.sha256(data).hexdigest() != file.original:
                file.original = None
                file.warnings.append("the file changed while it was indexed; no original is kept")
            else:
                self.indexer.catalog.blobs.put(data)

    def _embed(
        self, have: dict[str, ContentWrite], *, whole: bool = False
    ) -> dict[str, ContentWrite]:
        """Contents by digest: each once, even if several files hold the same text."""
        contents = dict(have)
        todo: dict[str, Prepared] = {}
        for _, item in self._waiting:
            if item.digest not in contents and (whole or item.passages is not None):
                todo.setdefault(item.digest, item)
        chunked = {
            digest: item.passages
            if item.passages is not None
            else self.indexer.chunker.chunk(item.document)
            for digest, item in todo.items()
        }
        vectors = self.indexer.embedder.embed_passages(
            each
            for digest, item in todo.items()
            for each in embed_inputs(item.document, chunked[digest])
        )
        for digest, item in todo.items():
            mine: tuple[PassageVectors, ...] = tuple(next(vectors) for _ in chunked[digest])
            contents[digest] = ContentWrite(digest, item.document, chunked[digest], mine)
            if cut := sum(vector.truncated_tokens for vector in mine):
                warning = f"{cut} tokens of {item.key!r} did not fit the embedder and were not read"
                for file, each in self._waiting:
                    if each.digest == digest:
                        file.warnings.append(warning)
        return contents

    def _write(
        self,
        file: _File,
        item: Prepared,
        contents: dict[str, ContentWrite],
    ) -> DocumentWrite:
        return DocumentWrite(
            collection=self.collection,
            key=item.key,
            digest=item.digest,
            metadata=item.metadata,
            groups=self.labels.groups,
            source=file.key if file.source is not None else file.name,
            media_type=item.media_type,
            original=file.original,
            language=item.language,
            warnings=item.warnings,
            source_key=file.source_key,
            content=contents.get(item.digest),
        )

    def _source_write(self, file: _File) -> SourceWrite:
        outcome, reason, detail = _ending(file)
        return SourceWrite(
            self.collection,
            file.source_key,
            file.sha256 or None,
            file.size_bytes,
            file.mtime_ns,
            file.ingest_version,
            outcome,
            reason,
            detail,
            len(file.keys),
            # What was indexed from this file before stays while the file cannot be read to its
            # end: a failed upload or a passing error must not delete a good document.
            keep_keys=None if _was_not_read(file) else frozenset(file.keys),
        )


def _ending(file: _File) -> tuple[Outcome, str, str]:
    """Outcome, reason and detail of a file whose documents are all in."""
    details = [
        f"{f.where}: {f.reason}: {f.detail}" if f.where else f"{f.reason or f.outcome}: {f.detail}"
        for f in file.failures
    ]
    if not file.keys and file.failures:
        first = file.failures[0]
        return first.outcome, first.reason, first.detail
    problems = [*details, *dict.fromkeys(file.warnings)]
    if not file.keys:
        return Outcome.REJECTED, "empty", "the file holds no document"
    outcome = Outcome.INDEXED_WITH_WARNINGS if problems else Outcome.INDEXED
    return outcome, "", "; ".join(problems[:20]) + ("; …" if len(problems) > 20 else "")


def _was_not_read(file: _File) -> bool:
    """Whether the file as a whole failed (some bad members of a container do not count)."""
    return any(not failure.where for failure in file.failures)


def _result(file: _File) -> FileResult:
    outcome, reason, detail = _ending(file)
    return FileResult(
        file.key,
        outcome,
        reason,
        detail,
        len(file.keys),
        sum(result.changed for result in file.results),
        tuple(result.public_id for result in file.results),
        tuple(dict.fromkeys(file.warnings)),
    )


def _key_of(file: _File, result: PutResult) -> str:
    return file.keys[len(file.results) - 1] if file.results else result.public_id


def _unchanged(known: Source) -> FileResult:
    """A file that was not read again; one that could not be taken still cannot."""
    failed = known.outcome in (Outcome.REJECTED, Outcome.NO_TEXT)
    outcome = known.outcome if failed else Outcome.UNCHANGED
    return FileResult(known.key, outcome, known.reason, known.detail, known.document_count)


def _is_gone(key: str, roots: Sequence[Path]) -> bool:
    """Whether a source of these roots is not there any more.

    One that the walk left out (a pattern, a folder that cannot be listed now) is not gone.
    """
    path = path_of(key)
    if not any(path == root or root in path.parents for root in (r.resolve() for r in roots)):
        return False
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
