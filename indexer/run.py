"""One run over files: prepared documents gather until a batch is full, then embed and commit.

Three things happen side by side: the reader parses files that were opened ahead (in processes of
its own), this thread cuts and embeds, and a writer thread commits the batch before. A result is
reported only after its commit: reported means durable. A kill at any moment loses the batches
under way and nothing else.

A document with more passages than two batches is written slice by slice before it is put, so that
memory does not grow with its vectors (a 10,000-page PDF has 4 GB of them); killed in the middle,
the next run goes on where its vectors end. It knows no folders and no file formats.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from longleaf.core.catalog import ContentWrite, DocumentWrite, Generation, SourceWrite
from longleaf.core.catalog.writes import ContentGone
from longleaf.core.errors import Conflict, GenerationMismatch, Rejected
from longleaf.core.types import Outcome, Passage
from longleaf.indexer.prepare import FileFailure, Labels, Prepared, embed_inputs, prepare_file
from longleaf.indexer.records import (
    FileResult,
    FileUnderWay,
    OnPassages,
    OnResult,
    Supervisor,
    Target,
)
from longleaf.indexer.sources import read_bytes

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from longleaf.core.catalog import PutResult
    from longleaf.indexer.build import Indexer

INGEST_VERSION = "3"
"""Raised when a parser gets better: files are then read again even if they did not change."""

_WAITING_CHARS = 8_000_000
"""Text held for the next commit at most; documents that need no embedding fill it, too."""

_SLICES = 2
"""A document of more than so many batches is written in slices."""


@dataclass(slots=True)
class _Batch:
    """Documents that are embedded and committed together, and files that end with them."""

    waiting: list[tuple[FileUnderWay, Prepared]] = field(default_factory=list)
    ended: list[FileUnderWay] = field(default_factory=list)
    passages: int = 0
    chars: int = 0


WITHOUT = "|without "
"""In a source's version: programs that were not there when a file was read, and may be to blame for
what it lacks. It is read again when one of them is there."""

Contents = Mapping[tuple[str, int], ContentWrite]
"""(digest, generation id) -> what was made of it."""


class Run:
    """One run into one collection. Used by one thread; `finish` or `abandon` ends it."""

    def __init__(
        self,
        indexer: Indexer,
        collection: str,
        bm25_language: str,
        labels: Labels,
        on_result: OnResult,
        on_passages: OnPassages,
        supervisor: Supervisor,
    ) -> None:
        self.counts: Counter[Outcome] = Counter()
        stated = json.dumps([sorted(labels.groups), sorted(labels.metadata.items())])
        digest = hashlib.sha256(stated.encode()).hexdigest()[:12]
        self.ingest_version = f"{INGEST_VERSION}:{digest}"
        self.lacking = tuple(sorted(getattr(indexer.reader, "lacking", ())))
        self._indexer = indexer
        self._collection = collection
        self._bm25_language = bm25_language
        self._labels = labels
        self._on_result = on_result
        self._on_passages = on_passages
        self._supervisor = supervisor
        self._targets: tuple[Target, ...] = tuple(indexer.targets)
        self._batch = _Batch()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._committing: Future[list[PutResult]] | None = None
        self._being_committed = _Batch()
        self._slice: Future[None] | None = None
        self._slice_passages = 0

    def report(self, result: FileResult) -> None:
        """A file ended and nothing of it is still to be committed."""
        self.counts[result.outcome] += 1
        self._on_result(result)

    def take(self, file: FileUnderWay) -> None:
        """Prepare an opened file's documents, committing whenever a batch is full."""
        main = self._targets[0]
        if file.opened is not None:
            prepared = prepare_file(
                file.opened,
                file.name,
                file.key,
                chunker=main.chunker,
                labels=self._labels,
                bm25_language=self._bm25_language,
                model_languages=main.embedder.languages,
                known=self._is_known,
                sidecar=file.sidecar,
            )
            self._take_documents(file, prepared)
        file.opened = None
        if file.source is not None:  # it can be read again
            file.data = b""
        self._batch.ended.append(file)
        if self._is_full():
            self._commit()

    def _take_documents(
        self, file: FileUnderWay, prepared: Iterator[Prepared | FileFailure]
    ) -> None:
        settings = self._indexer.settings
        for item in prepared:
            self._supervisor.check()
            if isinstance(item, FileFailure):
                file.failures.append(item)
                continue
            if not file.keys and settings.keep_originals:
                file.original = self._indexer.catalog.blobs.put(file.data)
            file.keys.append(item.key)
            file.warnings += item.warnings
            if len(item.passages or ()) > _SLICES * settings.commit_passages:
                self._commit()
                item = self._write_in_slices(file, item)
            self._batch.waiting.append((file, item))
            count = len(item.passages or ())
            file.found_passages += count
            self._batch.passages += count
            self._batch.chars += len(item.document.text)
            if self._is_full():
                self._commit()

    def finish(self) -> None:
        """Commit what still waits, and wait until it is durable."""
        try:
            self._commit()
            self._settle()
        finally:
            self._writer.shutdown()

    def abandon(self) -> None:
        """Give up what is not being committed; what is, is waited for and reported."""
        with contextlib.suppress(Exception):  # what ended the run is told by whoever abandons it
            self._settle()
        self._writer.shutdown(wait=True, cancel_futures=True)

    # --- deciding when -------------------------------------------------------------------------

    def _is_known(self, digest: str) -> bool:
        """Whether this content needs no vectors from us: it has them, or will with the batches
        under way. (Should those fail, the commit says so and everything is made again.)"""
        under_way = (*self._batch.waiting, *self._being_committed.waiting)
        if any(item.digest == digest and item.passages is not None for _, item in under_way):
            return True
        catalog = self._indexer.catalog
        return all(catalog.has_content(digest, target.generation) for target in self._targets)

    def _is_full(self) -> bool:
        enough = self._indexer.settings.commit_passages
        batch = self._batch
        return (
            batch.passages >= enough
            or batch.chars >= _WAITING_CHARS
            or len(batch.waiting) + len(batch.ended) >= enough
        )

    # --- embedding and committing --------------------------------------------------------------

    def _commit(self) -> None:
        """Embed the batch here and hand it to the writer, once the batch before is durable."""
        if not self._batch.waiting and not self._batch.ended:
            return
        batch, self._batch = self._batch, _Batch()
        contents = self._embed(batch, {})
        self._settle()
        # Nobody else looks at them now: a generation that others have begun is fed from here on.
        fresh = tuple(self._indexer.refreshed())
        if _generations(fresh) != _generations(self._targets):
            self._targets = fresh
            contents = self._embed(batch, contents)
        self._supervisor.check()
        self._being_committed = batch
        self._committing = self._writer.submit(self._write, batch, contents)

    def _settle(self) -> None:
        """Wait for the commit under way and report what it made durable."""
        if self._committing is None:
            return
        committing, self._committing = self._committing, None
        batch, self._being_committed = self._being_committed, _Batch()
        try:
            results = committing.result()
        except Conflict:
            self._indexer.catalog.let_go(
                [file.original for file, _ in batch.waiting if file.original],
                [item.digest for _, item in batch.waiting],
            )
            raise
        for (file, _), result in zip(batch.waiting, results, strict=True):
            file.results.append(result)
            if result.replaced_source is not None:
                file.warnings.append(
                    f"the key {file.keys[len(file.results) - 1]!r} came from "
                    f"{result.replaced_source} before; this file's document replaced it"
                )
        if batch.passages:
            self._on_passages(batch.passages)
        for file in batch.ended:
            self.report(file.result(self._collection))

    def _write(self, batch: _Batch, contents: Contents) -> list[PutResult]:
        """The commit, in the writer's thread; makes everything anew when it was overtaken."""
        while True:
            try:
                return self._indexer.catalog.commit(
                    self._targets[0].generation,
                    [self._document(file, item, contents) for file, item in batch.waiting],
                    [self._source(file) for file in batch.ended],
                    functools.partial(self._ended, batch),
                )
            except ContentGone:
                # Another process erased what we counted on.
                self._store_originals_again(batch)
            except GenerationMismatch:
                self._targets = self._fresh_targets()
            contents = self._embed(batch, contents, whole=True)

    def _ended(self, batch: _Batch, connection: Connection, results: Sequence[PutResult]) -> None:
        """Inside the transaction: how the batch's files end, this commit's results included.

        Raises Conflict, so that nothing is written, where what the labels say is out of date.
        """
        changed: Counter[int] = Counter()
        for (file, _), result in zip(batch.waiting, results, strict=True):
            known = self._labels.revisions.get(result.public_id)
            if known is not None and result.changed and result.revision != known + 1:
                raise Conflict(
                    f"The document {result.public_id} was deleted or changed while its file was "
                    "read; it is left so.",
                    "Have it read again, if it is still there.",
                )
            changed[id(file)] += result.changed
        self._supervisor.ended(
            connection, [file.result(self._collection, changed[id(file)]) for file in batch.ended]
        )

    def _store_originals_again(self, batch: _Batch) -> None:
        for file, _ in batch.waiting:
            if file.original is None or self._indexer.catalog.blobs.exists(file.original):
                continue
            data = file.data
            if file.source is not None:
                with contextlib.suppress(Rejected):
                    data = read_bytes(file.source, self._indexer.settings.max_file_bytes)
            if hashlib.sha256(data).hexdigest() != file.original:
                file.original = None
                file.warnings.append("the file changed while it was indexed; no original is kept")
            else:
                self._indexer.catalog.blobs.put(data)

    def _embed(
        self, batch: _Batch, have: Contents, *, whole: bool = False
    ) -> dict[tuple[str, int], ContentWrite]:
        """What each target needs of each content: once, even if several files hold the same text.

        `whole`: nothing in the catalog may be counted on.
        """
        made = dict(have)
        for target in self._targets:
            todo: dict[str, Prepared] = {}
            for _, item in batch.waiting:
                known = (item.digest, target.generation.id) in made or (
                    item.passages is None and not whole
                )
                if not known:
                    todo.setdefault(item.digest, item)
            self._embed_for(target, todo, batch, made)
        return made

    def _embed_for(
        self,
        target: Target,
        todo: Mapping[str, Prepared],
        batch: _Batch,
        made: dict[tuple[str, int], ContentWrite],
    ) -> None:
        cut = {digest: self._passages(item, target) for digest, item in todo.items()}
        vectors = target.embedder.embed_passages(
            each
            for digest, item in todo.items()
            for each in embed_inputs(item.document, cut[digest])
        )
        files = {item.digest: file for file, item in batch.waiting}
        for digest, item in todo.items():
            self._supervisor.check()
            file = files[digest]
            done = file.embedded_passages
            self._supervisor.under_way(file.key, "embed", done, file.all_passages)
            mine = tuple(islice(vectors, len(cut[digest])))
            if target is self._targets[0]:
                file.embedded_passages += len(mine)
            made[digest, target.generation.id] = ContentWrite(
                digest, item.document, cut[digest], mine, signature=item.signature
            )
            if cut_tokens := sum(vector.truncated_tokens for vector in mine):
                for other, each in batch.waiting:
                    if each.digest == digest:
                        other.warnings.append(_cut(cut_tokens, item))

    def _passages(self, item: Prepared, target: Target) -> tuple[Passage, ...]:
        if item.passages is not None and item.cut_by == target.chunker.fingerprint:
            return item.passages
        return target.chunker.chunk(item.document)

    def _write_in_slices(self, file: FileUnderWay, item: Prepared) -> Prepared:
        """Write a long document's vectors for all targets; what is left is to put the document."""
        self._settle()
        while True:
            try:
                for target in self._targets:
                    self._write_slices_for(target, file, item)
                return replace(item, passages=None)
            except GenerationMismatch:
                self._targets = self._fresh_targets()

    def _write_slices_for(self, target: Target, file: FileUnderWay, item: Prepared) -> None:
        catalog = self._indexer.catalog
        passages = self._passages(item, target)
        done = catalog.vectors_written(item.digest, target.generation)
        vectors = target.embedder.embed_passages(
            islice(embed_inputs(item.document, passages), done, None)
        )
        cut_tokens = 0
        while done < len(passages):
            self._supervisor.check()
            self._supervisor.under_way(file.key, "embed", done, len(passages))
            mine = tuple(islice(vectors, self._indexer.settings.commit_passages))
            cut_tokens += sum(vector.truncated_tokens for vector in mine)
            self._settle_slice()
            content = ContentWrite(item.digest, item.document, passages, mine, done, item.signature)
            self._slice_passages = len(mine)
            self._slice = self._writer.submit(catalog.write_slice, target.generation, content)
            done += len(mine)
        self._settle_slice()
        if cut_tokens:
            file.warnings.append(_cut(cut_tokens, item))

    def _settle_slice(self) -> None:
        """Wait until the slice before is durable."""
        if self._slice is not None:
            written, self._slice = self._slice, None
            written.result()
            self._on_passages(self._slice_passages)

    def _fresh_targets(self) -> tuple[Target, ...]:
        """The open generations now. Raises GenerationMismatch when they are the same as before."""
        fresh = tuple(self._indexer.refreshed())
        if _generations(fresh) == _generations(self._targets):
            raise GenerationMismatch(
                "The documents here have been embedded anew with other models meanwhile.",
                "Run the command again with the settings that the data folder uses now.",
            )
        return fresh

    def _document(self, file: FileUnderWay, item: Prepared, contents: Contents) -> DocumentWrite:
        main, *others = self._targets
        made = [
            (target.generation, contents.get((item.digest, target.generation.id)))
            for target in others
        ]
        return DocumentWrite(
            collection=self._collection,
            key=item.key,
            digest=item.digest,
            metadata=item.metadata,
            groups=self._labels.groups,
            source=file.key if file.source is not None else file.name,
            media_type=item.media_type,
            original=file.original,
            language=item.language,
            warnings=item.warnings,
            source_key=file.source_key,
            content=contents.get((item.digest, main.generation.id)),
            others=tuple((generation, content) for generation, content in made if content),
        )

    def _source(self, file: FileUnderWay) -> SourceWrite:
        outcome, reason, detail = file.ending()
        version = file.ingest_version
        if self.lacking and outcome is not Outcome.INDEXED:
            version += WITHOUT + ",".join(self.lacking)
        return SourceWrite(
            self._collection,
            file.source_key,
            file.sha256 or None,
            file.size_bytes,
            file.mtime_ns,
            version,
            outcome,
            reason,
            detail,
            len(file.keys),
            # What was indexed from this file before stays while the file cannot be read to its
            # end: a failed upload or a passing error must not delete a good document.
            keep_keys=None if file.was_not_read else frozenset(file.keys),
        )


def _generations(targets: Sequence[Target]) -> list[Generation]:
    return [target.generation for target in targets]


def _cut(tokens: int, item: Prepared) -> str:
    return f"{tokens} tokens of {item.key!r} did not fit the embedder and were not read"
