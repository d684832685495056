"""The catalog: the truth that every index follows.

It holds collections, documents, revisions, texts, passages, dense vectors, sources and the change
log in one database, with originals (blobs) and token vectors (segments) beside it. A write is
acknowledged when `commit` returns, not before. Every read for a user takes a `Scope`; the feed
for indexes does not, because an index holds everything and is filtered when asked.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, insert, select, update

from longleaf.core.catalog import (
    bounds,
    content_rows,
    erasure,
    feed,
    generations,
    job_traces,
    pages,
    reader_ids,
    reads,
    schema,
    signing,
    writes,
)
from longleaf.core.catalog.audit import Audit
from longleaf.core.catalog.jobs import Jobs
from longleaf.core.catalog.judgements import Judgements
from longleaf.core.catalog.keys import Keys
from longleaf.core.catalog.leases import Leases
from longleaf.core.catalog.ownership import claim_folder
from longleaf.core.catalog.page_images import PageImages
from longleaf.core.catalog.reader import _IN_THE_FOLDER, CatalogReader, no_document
from longleaf.core.catalog.records import (
    Collection,
    ContentWrite,
    DocumentWrite,
    Generation,
    PutResult,
    ReadingDefaults,
    Source,
    SourceWrite,
)
from longleaf.core.catalog.segments import SegmentRef, SegmentWriter
from longleaf.core.errors import Conflict, GenerationMismatch, InvalidRequest, NotFound
from longleaf.core.store_settings import CatalogSettings
from longleaf.core.types import OcrWord, Scope

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AS_CONFIGURED = ReadingDefaults()
COLLECTION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Catalog(CatalogReader):
    """See `CatalogReader`. Thread-safe for reading; one writer thread per instance."""

    def __init__(self, folder: Path, settings: CatalogSettings = _IN_THE_FOLDER) -> None:
        super().__init__(folder, settings)
        self._claim_folders()
        self.jobs = Jobs(self._database)
        self.judgements = Judgements(self._database)
        self.leases = Leases(self._database)
        self.keys = Keys(self._database)
        self.audit = Audit(self._database)
        self.page_images = PageImages(folder)
        self.erasure = erasure.Erasure(
            self._database, self.blobs, folder, self.segment_folder, self.page_images
        )
        self._segment_writer = SegmentWriter(self.segment_folder, on_take=self.erasure.wipe_taken)
        self.generations = generations.Generations(self._database, self.erasure.settle)
        with suppress(Conflict):  # what a crash kept from being done; somebody else does it then
            self.erasure.settle()

    def _claim_folders(self) -> None:
        """Raises ConfigError where another catalog keeps its files in this one's places.

        Those in the data folder of a SQLite file are its own, and go with it into a backup.
        """
        try:
            name = signing.catalog_name(self._database)
            shared = bool(self.settings.url)
            self.blobs.claim(name, take=shared or bool(self.settings.originals))
            take = shared or bool(self.settings.token_vectors)
            claim_folder(self.segment_folder, name, "catalog.token_vectors", take=take)
        except BaseException:
            super().close()
            raise

    def close(self) -> None:
        """Finish the segment under way and let go of the database."""
        self._segment_writer.close()
        super().close()

    def put_reader_ids(self, tokenizer: str, made: Mapping[int, NDArray[np.uint32]]) -> int:
        """Store passages' token ids; returns of how many, some may have been deleted meanwhile."""
        with self._database.writing() as connection:
            return reader_ids.put(connection, tokenizer, made)

    # --- collections ---------------------------------------------------------------------------

    def signing_key(self) -> bytes:
        """What whoever shares this catalog signs and checks with (32 bytes, see signing.py)."""
        return signing.signing_key(self._database)

    def create_collection(
        self,
        name: str,
        language: str = "english",
        description: str = "",
        instruction: str = "",
        rerank: ReadingDefaults = _AS_CONFIGURED,
    ) -> Collection:
        """Make a collection. Raises InvalidRequest for a bad name, Conflict if it is there."""
        if not COLLECTION_NAME.fullmatch(name):
            raise InvalidRequest(
                f"{name!r} cannot name a collection.",
                "Use 1 to 64 letters, digits, dots, dashes and underscores.",
            )
        said = {"language": language, "description": description, "instruction": instruction}
        for what, text in said.items():
            bounds.check_text(what, text)
        row = {
            "name": name,
            **said,
            "rerank": rerank.stored(),
            "created_at": time.time(),
        }
        with self._database.writing() as connection:
            if _collection_row(connection, name) is not None:
                raise Conflict(f"There is a collection {name!r} already.")
            connection.execute(insert(schema.collections).values(**row))
        created_at = float(str(row["created_at"]))
        return Collection(
            name, language, description, created_at, instruction=instruction, rerank=rerank
        )

    def describe_collection(
        self,
        name: str,
        scope: Scope,
        *,
        description: str | None = None,
        instruction: str | None = None,
        rerank: ReadingDefaults | None = None,
    ) -> None:
        """Change what is said of a collection; None leaves a part as it is (`rerank` is one part).
        Raises NotFound."""
        if scope.groups is not None:
            raise NotFound(f"There is no collection {name!r} that you may change.")
        self.collection_languages(scope, [name])
        for what, text in (("description", description), ("instruction", instruction)):
            bounds.check_text(what, text or "")
        parts = {
            "description": description,
            "instruction": instruction,
            "rerank": None if rerank is None else rerank.stored(),
        }
        wanted = {part: value for part, value in parts.items() if value is not None}
        if wanted:
            table = schema.collections
            with self._database.writing() as connection:
                connection.execute(update(table).where(table.c.name == name).values(**wanted))

    def delete_collection(self, name: str, scope: Scope) -> int:
        """Delete a collection with all its documents; returns how many there were.

        Raises NotFound for a caller who may not see all of it.
        """
        if scope.groups is not None:
            raise NotFound(f"There is no collection {name!r} that you may delete.")
        self.collection_languages(scope, [name])
        with self._database.writing() as connection:
            found = select(schema.documents.c.id).where(schema.documents.c.collection == name)
            document_ids = [row.id for row in connection.execute(found)]
            self._delete(connection, document_ids)
            job_traces.forget_collection(connection, name)
            sources = schema.sources
            connection.execute(delete(sources).where(sources.c.collection == name))
            fields = schema.metadata_fields
            connection.execute(delete(fields).where(fields.c.collection == name))
            connection.execute(delete(schema.collections).where(schema.collections.c.name == name))
            erasure.note_deletion(connection)
        self.erasure.settle()
        return len(document_ids)

    # --- generations ---------------------------------------------------------------------------

    def open_generation(
        self,
        chunker: str,
        embedder: str,
        embedder_name: str,
        dim: int,
        token_dim: int,
        settings: Mapping[str, Any] | None = None,
    ) -> Generation:
        """The live generation of these fingerprints, made if this is the first.

        `settings` are kept with one that is made, so that any process can load its models.
        Raises GenerationMismatch when the catalog's vectors were made otherwise.
        """
        live = self.live_generation()
        if live is None:
            with self._database.writing() as connection:
                live = generations.live_generation(connection) or generations.create_generation(
                    connection, chunker, embedder, embedder_name, dim, token_dim, settings or {}
                )
        same = (chunker, embedder, dim, token_dim)
        if (live.chunker_fingerprint, live.embedder_fingerprint, live.dim, live.token_dim) != same:
            which = "chunker" if live.chunker_fingerprint != chunker else "embedder"
            raise GenerationMismatch(
                f"The documents here were indexed with another {which} than the configured one.",
                "Set it back (longleaf config shows the settings), or embed everything anew: "
                f"{generations.REINDEX}",
            )
        return live

    # --- writing -------------------------------------------------------------------------------

    def commit(
        self,
        generation: Generation,
        documents: Sequence[DocumentWrite],
        sources: Sequence[SourceWrite] = (),
        also: Callable[[Connection, Sequence[PutResult]], None] = lambda _connection, _results: (
            None
        ),
    ) -> list[PutResult]:
        """Put documents, and say how files ended, in one durable transaction.

        `also` writes what belongs to it (the state of a job), and whatever it raises leaves nothing
        written. Raises `writes.ContentGone` when a document counts on content that has been erased
        meanwhile; nothing is written then.
        """
        for write in documents:
            bounds.check_document(write)
        named = [write.source_key for write in documents if write.source_key is not None]
        bounds.check_sources([*named, *(each.key for each in sources)], writes.UPLOAD_MARK)
        refs = [self._append_tokens(write.content) for write in documents]
        other_refs = [
            [self._append_tokens(content) for _, content in write.others] for write in documents
        ]
        appended = [*refs, *(each for some in other_refs for each in some)]
        results: list[PutResult] = []
        entries: list[tuple[int, str, int, str]] = []
        with self._referring_to(appended) as connection:
            generations.require_covered(connection, generation, documents)
            gone = self.blobs.missing({each.original for each in documents if each.original})
            for write, write_refs, more_refs in zip(documents, refs, other_refs, strict=True):
                writes.require_collection(connection, write.collection)
                if write.original in gone:
                    raise writes.ContentGone(write.digest)
                if write.content is not None:
                    content_id = content_rows.put_content(
                        connection, write.content, write_refs, generation
                    )
                else:
                    found = content_rows.find_content(connection, write.digest, generation)
                    if found is None:
                        raise writes.ContentGone(write.digest)
                    content_id = found
                for (other, content), refs_of_it in zip(write.others, more_refs, strict=True):
                    if generations.is_open(connection, other):
                        content_rows.put_content(connection, content, refs_of_it, other)
                    else:
                        erasure.note_records(connection, filter(None, refs_of_it))
                source_id = (
                    writes.source_id(connection, write.collection, write.source_key)
                    if write.source_key is not None
                    else None
                )
                result, logged = writes.put_document(connection, write, content_id, source_id)
                results.append(result)
                entries += logged
            writes.note_fields(connection, documents)
            for source in sources:
                source_id = writes.put_source(connection, source)
                if source.keep_keys is not None:
                    self._delete_stale(connection, source_id, source.keep_keys)
            also(connection, results)
            writes.append_log(connection, entries)
            left = {each.replaced_original for each in results if each.replaced_original}
            erasure.note_originals(connection, left)
        self.erasure.settle()
        return results

    @contextmanager
    def _referring_to(self, refs: Sequence[Sequence[SegmentRef | None]]) -> Iterator[Connection]:
        """A transaction that refers to token vectors just appended, which are durable before it.

        When it fails they are given up, and overwritten: those that nothing refers to, because a
        commit whose answer was lost has been made all the same.
        """
        self._segment_writer.sync()
        try:
            with self._database.writing() as connection:
                yield connection
        except BaseException:
            with suppress(Exception), self._database.writing() as connection:
                erasure.note_given_up(connection, [ref for some in refs for ref in some if ref])
            with suppress(Exception):
                self.erasure.settle()
            raise
        finally:
            self._segment_writer.settled()

    def write_slice(self, generation: Generation, content: ContentWrite) -> None:
        """A part of a long content's vectors (and its text, with the first), durable on return.

        Nobody sees the content before a document is put with it. Writing what is there already is
        fine, so two processes may write the same content at once.
        """
        refs = self._append_tokens(content)
        with self._referring_to([refs]) as connection:
            generations.require_open(connection, generation)
            content_rows.put_content(connection, content, refs, generation)

    def keep_upload(self, data: bytes) -> str:
        """Store the bytes of an upload durably, for a job to read; returns their name."""
        return self.blobs.put(data)

    def drop_upload(self, name: str) -> None:
        """The job has read them: they go unless a document keeps them as its original."""
        with self._database.writing() as connection:
            erasure.note_originals(connection, [name])
        self.erasure.settle()

    def let_go(self, originals: Sequence[str], digests: Sequence[str]) -> None:
        """What was written for documents that were then not put, unless others refer to it."""
        with self._database.writing() as connection:
            ids = select(schema.contents.c.id).where(schema.contents.c.digest.in_(digests))
            if content_rows.drop_unused_contents(connection, connection.execute(ids).scalars()):
                erasure.note_deletion(connection)
            erasure.note_originals(connection, originals)
        self.erasure.settle()

    def _append_tokens(self, content: ContentWrite | None) -> list[SegmentRef | None]:
        if content is None:
            return []
        return [
            self._segment_writer.append(vector.token_codes, vector.prefix_tokens)
            if vector.token_codes.size
            else None
            for vector in content.vectors
        ]

    def _delete_stale(
        self, connection: Connection, source_id: int, keep_keys: frozenset[str]
    ) -> None:
        table = schema.documents
        stale = [
            row.id
            for row in connection.execute(
                select(table.c.id, table.c.key).where(table.c.source_id == source_id)
            )
            if row.key not in keep_keys
        ]
        self._delete(connection, stale)

    def _delete(self, connection: Connection, document_ids: Sequence[int]) -> None:
        """Delete documents; `erasure.settle` does the rest once the transaction is durable."""
        for batch in reads.batches(document_ids):
            entries, unused = writes.delete_documents(connection, batch)
            writes.append_log(connection, entries)
            erasure.note_originals(connection, unused)

    def put_ocr_page(
        self, original: str, engine: str, page: int, words: tuple[OcrWord, ...]
    ) -> None:
        """See `core.protocols.OcrStore`; unlike other writes, from any thread."""
        with self._database.writing() as connection:
            pages.put(connection, original, engine, page, words)

    def forget_unused_pages(self) -> int:
        """Drop what OCR read of files that became no document, unless a job is under way; returns
        of how many. For the end of a run: until then it saves reading them again after a crash.
        """
        with self._database.reading() as connection:
            # Mostly there is nothing, and a writer would wait for whoever writes.
            if not pages.has_any(connection):
                return 0
        with self._database.writing() as connection:
            forgotten = pages.forget_unused(connection)
            if forgotten:
                erasure.note_deletion(connection)
            return forgotten

    def delete_document(self, public_id: str, scope: Scope) -> None:
        """Delete one document. Raises NotFound when the scope may not see it.

        The copy of a file that held it beside others (a mail, a JSONL) goes as well: they stay.
        """
        with self._database.writing() as connection:
            head = reads.document_head(connection, public_id, scope)
            if head is None:
                raise no_document(public_id)
            table = schema.documents
            of_it = select(table.c.source_id).where(table.c.id == head.document_id)
            source_id = connection.execute(of_it).scalar()
            self._delete(connection, [head.document_id])
            if source_id is not None:
                writes.forget_part(connection, int(source_id), head.original)
        self.erasure.settle()

    # --- sources -------------------------------------------------------------------------------

    def touch_source(self, source: Source, size_bytes: int, mtime_ns: int) -> None:
        """The file's bytes are the same, only its time or size entry changed, or an import named it
        first."""
        table = schema.sources
        with self._database.writing() as connection:
            connection.execute(
                update(table)
                .where(table.c.id == source.id)
                .values(
                    size_bytes=size_bytes,
                    mtime_ns=mtime_ns,
                    ingest_version=source.ingest_version.removeprefix(writes.IMPORTED_MARK),
                )
            )

    def remove_source(self, source: Source) -> int:
        """Delete a file's documents and forget the file; returns how many documents there were."""
        table = schema.documents
        with self._database.writing() as connection:
            found = select(table.c.id).where(table.c.source_id == source.id)
            document_ids = [row.id for row in connection.execute(found)]
            self._delete(connection, document_ids)
            connection.execute(delete(schema.sources).where(schema.sources.c.id == source.id))
            erasure.note_deletion(connection)
        self.erasure.settle()
        return len(document_ids)

    # --- followers -------------------------------------------------------------------------------

    def add_vectors(self, generation: Generation, contents: Sequence[ContentWrite]) -> None:
        """Give contents that are there already passages and vectors of `generation`.

        Those that have been erased meanwhile stay so.
        """
        appended = [self._append_tokens(content) for content in contents]
        with self._referring_to(appended) as connection:
            generations.require_open(connection, generation)
            table = schema.contents
            for content, refs in zip(contents, appended, strict=True):
                known = select(table.c.id).where(table.c.digest == content.digest)
                if connection.execute(known).first() is not None:
                    content_rows.put_content(connection, content, refs, generation)
                else:
                    erasure.note_records(connection, filter(None, refs))
        self.erasure.settle()

    def record_follower(self, name: str, seq: int) -> None:
        """Note how far a follower has come, then clear up what all of them have passed."""
        with self._database.writing() as connection:
            feed.record_follower(connection, name, seq)
            feed.collect_garbage(connection)
        self.erasure.settle()

    def forget_follower(self, name: str) -> None:
        """A follower is gone for good (its index was deleted)."""
        with self._database.writing() as connection:
            feed.forget_follower(connection, name)

    def forget_followers_in(self, folder: str) -> None:
        """Forget followers of what crashes left in an index's folder."""
        with self._database.writing() as connection:
            feed.forget_followers_in(connection, folder)

    def ask_for_compaction(self) -> int:
        """Have every index that follows make its files anew soon; returns the request's number."""
        with self._database.writing() as connection:
            return feed.ask_for_compaction(connection)

    def note_compaction_failure(self, reason: str) -> None:
        """Say why an index could not be made anew, for whoever asked for it."""
        with self._database.writing() as connection:
            feed.note_compaction_failure(connection, reason)


def _nothing_else(_connection: Connection, _results: Sequence[PutResult]) -> None: ...


def _collection_row(connection: Connection, name: str) -> object | None:
    table = schema.collections
    return connection.execute(select(table).where(table.c.name == name)).first()
