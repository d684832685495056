"""The catalog: the truth that every index follows.

It holds collections, documents, revisions, texts, passages, dense vectors, sources and the change
log in one SQLite file, with originals (blobs) and token vectors (segments) beside it. A write is
acknowledged when `commit` returns, not before. Every read for a user takes a `Scope`; the feed
for indexes does not, because an index holds everything and is filtered when asked.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, func, insert, select, update

from longleaf.core.catalog import feed, generations, reads, schema, writes
from longleaf.core.catalog.blobs import BlobFolder
from longleaf.core.catalog.database import Database
from longleaf.core.catalog.records import (
    CatalogCounts,
    Change,
    Collection,
    ContentWrite,
    DocumentHead,
    DocumentSize,
    DocumentText,
    DocumentWrite,
    Generation,
    PutResult,
    Source,
    SourceWrite,
)
from longleaf.core.catalog.segments import SegmentReader, SegmentRef, SegmentWriter
from longleaf.core.errors import Conflict, GenerationMismatch, InvalidRequest, NotFound
from longleaf.core.types import Outcome, PassageText, Scope

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from longleaf.core.protocols import IndexEntry
    from longleaf.core.types import Int8Array

COLLECTION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Catalog:
    """One data folder. Thread-safe for reading; one writer thread per instance."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.blobs = BlobFolder(folder / "originals")
        segment_folder = folder / "token-vectors"
        segment_folder.mkdir(exist_ok=True)
        self._segment_writer = SegmentWriter(segment_folder)
        self._segment_reader = SegmentReader(segment_folder)
        self._segment_names: dict[int, str] = {}
        self._database = Database(folder / "catalog.sqlite3")

    def close(self) -> None:
        self._segment_writer.close()
        self._database.close()

    # --- collections ---------------------------------------------------------------------------

    def create_collection(
        self, name: str, language: str = "english", description: str = ""
    ) -> Collection:
        """Make a collection. Raises InvalidRequest for a bad name, Conflict if it is there."""
        if not COLLECTION_NAME.fullmatch(name):
            raise InvalidRequest(
                f"{name!r} cannot name a collection.",
                "Use 1 to 64 letters, digits, dots, dashes and underscores.",
            )
        row = {
            "name": name,
            "language": language,
            "description": description,
            "created_at": time.time(),
        }
        with self._database.writing() as connection:
            if _collection_row(connection, name) is not None:
                raise Conflict(f"There is a collection {name!r} already.")
            connection.execute(insert(schema.collections).values(**row))
        return Collection(name, language, description, float(str(row["created_at"])))

    def collections(self, scope: Scope) -> list[Collection]:
        """The collections that `scope` may see, by name, with the documents it may see in each."""
        with self._database.reading() as connection:
            return [
                Collection(
                    row.name,
                    row.language,
                    row.description,
                    row.created_at,
                    reads.count_documents(connection, scope.narrowed([row.name])),
                )
                for row in reads.known_collections(connection)
                if scope.collections is None or row.name in scope.collections
            ]

    def collection_languages(self, scope: Scope, names: Sequence[str] | None) -> dict[str, str]:
        """name -> BM25 language of the collections asked for (None: all that may be seen).

        Raises NotFound for a name that is not there or may not be seen.
        """
        with self._database.reading() as connection:
            seen = {
                row.name: str(row.language)
                for row in reads.known_collections(connection)
                if scope.collections is None or row.name in scope.collections
            }
        if names is None:
            return seen
        for name in names:
            if name not in seen:
                raise NotFound(
                    f"There is no collection {name!r}.",
                    f"Collections: {', '.join(sorted(seen)) or 'none yet'}.",
                )
        return {name: seen[name] for name in sorted(set(names))}

    def metadata_fields(self, collections: Sequence[str]) -> set[str]:
        """The metadata fields that documents of these collections have or had."""
        table = schema.metadata_fields
        with self._database.reading() as connection:
            query = select(table.c.name).where(table.c.collection.in_(collections)).distinct()
            return {row.name for row in connection.execute(query)}

    def delete_collection(self, name: str, scope: Scope) -> int:
        """Delete a collection with all its documents; returns how many there were."""
        self.collection_languages(scope, [name])
        with self._database.writing() as connection:
            found = select(schema.documents.c.id).where(schema.documents.c.collection == name)
            document_ids = [row.id for row in connection.execute(found)]
            self._delete(connection, document_ids)
            sources = schema.sources
            connection.execute(delete(sources).where(sources.c.collection == name))
            fields = schema.metadata_fields
            connection.execute(delete(fields).where(fields.c.collection == name))
            connection.execute(delete(schema.collections).where(schema.collections.c.name == name))
        return len(document_ids)

    # --- generations ---------------------------------------------------------------------------

    def live_generation(self) -> Generation | None:
        """The generation that searches answer from, None before anything was indexed."""
        with self._database.reading() as connection:
            return generations.live_generation(connection)

    def open_generation(
        self, chunker: str, embedder: str, embedder_name: str, dim: int, token_dim: int
    ) -> Generation:
        """The live generation of these fingerprints, made if this is the first.

        Raises GenerationMismatch when the catalog's vectors were made otherwise.
        """
        live = self.live_generation()
        if live is None:
            with self._database.writing() as connection:
                live = generations.live_generation(connection) or generations.create_generation(
                    connection, chunker, embedder, embedder_name, dim, token_dim
                )
        if (live.chunker_fingerprint, live.embedder_fingerprint) != (chunker, embedder):
            which = "chunker" if live.chunker_fingerprint != chunker else "embedder"
            raise GenerationMismatch(
                f"The documents here were indexed with another {which} than the configured one.",
                "Set it back (longleaf config shows the settings), or embed everything anew: "
                "longleaf rebuild --embed",
            )
        return live

    def replace_generation(
        self, chunker: str, embedder: str, embedder_name: str, dim: int, token_dim: int
    ) -> Generation:
        """A new generation in state "building", to be filled and then made live."""
        with self._database.writing() as connection:
            return generations.create_generation(
                connection, chunker, embedder, embedder_name, dim, token_dim, state="building"
            )

    def make_live(self, generation: Generation) -> None:
        """Answer from `generation` from now on; the one before is retired and its vectors go."""
        with self._database.writing() as connection:
            generations.make_live(connection, generation)

    # --- writing -------------------------------------------------------------------------------

    def has_content(self, digest: str, generation: Generation) -> bool:
        """Whether this content already has the generation's vectors."""
        with self._database.reading() as connection:
            return writes.find_content(connection, digest, generation) is not None

    def commit(
        self,
        generation: Generation,
        documents: Sequence[DocumentWrite],
        sources: Sequence[SourceWrite] = (),
    ) -> list[PutResult]:
        """Put documents, and say how files ended, in one durable transaction.

        Raises `writes.ContentGone` when a document counts on content that has been erased
        meanwhile; nothing is written then.
        """
        refs = [self._append_tokens(write.content) for write in documents]
        self._segment_writer.sync()
        results: list[PutResult] = []
        entries: list[tuple[int, str, int, str]] = []
        with self._database.writing() as connection:
            for write, write_refs in zip(documents, refs, strict=True):
                writes.require_collection(connection, write.collection)
                if write.original is not None and not self.blobs.exists(write.original):
                    raise writes.ContentGone(write.digest)
                if write.content is not None:
                    content_id = writes.put_content(
                        connection, write.content, write_refs, generation
                    )
                else:
                    found = writes.find_content(connection, write.digest, generation)
                    if found is None:
                        raise writes.ContentGone(write.digest)
                    content_id = found
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
            writes.append_log(connection, entries)
            left = {each.replaced_original for each in results if each.replaced_original}
            for name in writes.unused_originals(connection, left):
                self.blobs.delete(name)
        return results

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
        for batch in reads.batches(document_ids):
            entries, orphans = writes.delete_documents(connection, batch)
            writes.append_log(connection, entries)
            for name in orphans:
                self.blobs.delete(name)

    def delete_document(self, public_id: str, scope: Scope) -> None:
        """Delete one document. Raises NotFound when the scope may not see it."""
        with self._database.writing() as connection:
            head = reads.document_head(connection, public_id, scope)
            if head is None:
                raise _no_document(public_id)
            self._delete(connection, [head.document_id])

    # --- sources -------------------------------------------------------------------------------

    def sources(self, collection: str) -> dict[str, Source]:
        """Every file that was ever indexed into the collection, by key."""
        table = schema.sources
        with self._database.reading() as connection:
            rows = connection.execute(select(table).where(table.c.collection == collection))
            return {
                row.key: Source(**{**row._mapping, "outcome": Outcome(row.outcome)}) for row in rows
            }

    def touch_source(self, source: Source, size_bytes: int, mtime_ns: int) -> None:
        """The file's bytes are the same, only its time or size entry changed."""
        table = schema.sources
        with self._database.writing() as connection:
            connection.execute(
                update(table)
                .where(table.c.id == source.id)
                .values(size_bytes=size_bytes, mtime_ns=mtime_ns)
            )

    def remove_source(self, source: Source) -> int:
        """Delete a file's documents and forget the file; returns how many documents there were."""
        table = schema.documents
        with self._database.writing() as connection:
            found = select(table.c.id).where(table.c.source_id == source.id)
            document_ids = [row.id for row in connection.execute(found)]
            self._delete(connection, document_ids)
            connection.execute(delete(schema.sources).where(schema.sources.c.id == source.id))
        return len(document_ids)

    # --- reading -------------------------------------------------------------------------------

    def document(self, public_id: str, scope: Scope) -> DocumentHead:
        """One document's head. Raises NotFound when there is none or the scope may not see it."""
        with self._database.reading() as connection:
            head = reads.document_head(connection, public_id, scope)
        if head is None:
            raise _no_document(public_id)
        return head

    def documents(
        self, scope: Scope, after: str | None = None, limit: int = 100
    ) -> list[DocumentHead]:
        """Heads in the order of public ids, from behind `after`."""
        with self._database.reading() as connection:
            return reads.list_heads(connection, scope, after, limit)

    def count(self, scope: Scope) -> CatalogCounts:
        """How much there is within the scope (passages and seq: in all)."""
        with self._database.reading() as connection:
            return CatalogCounts(
                collections=sum(
                    scope.collections is None or row.name in scope.collections
                    for row in reads.known_collections(connection)
                ),
                documents=reads.count_documents(connection, scope),
                passages=int(
                    connection.execute(
                        select(func.coalesce(func.sum(schema.chunkings.c.passage_count), 0))
                    ).scalar_one()
                ),
                head_seq=feed.head_seq(connection),
            )

    def text(self, head: DocumentHead) -> DocumentText:
        """A document's whole text (the head proves that the scope was checked)."""
        with self._database.reading() as connection:
            return reads.document_text(connection, head.content_id)

    def passages(
        self, head: DocumentHead, generation: Generation, first: int = 0, limit: int = 100
    ) -> list[PassageText]:
        """A document's passages in order, from ordinal `first`."""
        with self._database.reading() as connection:
            rows = reads.passage_rows(connection, head.content_id, generation, first, limit)
            spans = [(row.content_id, row.start_char, row.end_char) for row in rows]
            texts = reads.slices(connection, spans)
        return [
            reads.passage_text(row, text, head.revision_id << 20 | row.ordinal)
            for row, text in zip(rows, texts, strict=True)
        ]

    def heads(self, revision_ids: Sequence[int], scope: Scope) -> dict[int, DocumentHead]:
        """revision_id -> head, of those that still exist and that the scope may see."""
        with self._database.reading() as connection:
            return reads.heads_by_revision(connection, revision_ids, scope)

    def visible(self, revision_ids: Sequence[int], scope: Scope) -> Mapping[int, int]:
        """revision_id -> document_id, of those that still exist and that the scope may see."""
        with self._database.reading() as connection:
            return reads.visible_revisions(connection, revision_ids, scope)

    def texts(self, revision_ids: Sequence[int]) -> Mapping[int, str]:
        """revision_id -> whole text (for revisions that `visible` has let through)."""
        with self._database.reading() as connection:
            contents = reads.content_ids_by_revision(connection, revision_ids)
            texts = reads.content_texts(connection, list(contents.values()))
        return {revision_id: texts[content_id] for revision_id, content_id in contents.items()}

    def public_ids(self, document_ids: Sequence[int]) -> Mapping[int, str]:
        """Catalog document id -> public id (for documents that `visible` has let through)."""
        table = schema.documents
        found: dict[int, str] = {}
        with self._database.reading() as connection:
            for batch in reads.batches(list(document_ids)):
                query = select(table.c.id, table.c.public_id).where(table.c.id.in_(batch))
                found |= {row.id: row.public_id for row in connection.execute(query)}
        return found

    def hydrate(
        self, heads: Mapping[int, DocumentHead], point_ids: Sequence[int], generation: Generation
    ) -> tuple[dict[int, PassageText], dict[int, DocumentSize]]:
        """Passages by point id, and document sizes by revision id, for heads already checked."""
        content_by_revision = {head.revision_id: head.content_id for head in heads.values()}
        with self._database.reading() as connection:
            found = reads.passages_by_point(connection, point_ids, content_by_revision, generation)
            sizes = reads.document_sizes(connection, list(content_by_revision.values()), generation)
        return found, {
            revision_id: sizes.get(content_id, DocumentSize(None, 0, 0))
            for revision_id, content_id in content_by_revision.items()
        }

    def token_vectors(
        self, passage_ids: Sequence[int], generation: Generation
    ) -> tuple[Int8Array, NDArray[np.int64], NDArray[np.int64]]:
        """See `core.protocols.TokenVectorReader`."""
        table = schema.vectors
        found: dict[int, SegmentRef] = {}
        with self._database.reading() as connection:
            for batch in reads.batches(list(passage_ids)):
                for row in connection.execute(
                    select(table.c.passage_id, table.c.segment_id, table.c.segment_offset).where(
                        table.c.passage_id.in_(batch),
                        table.c.embedder_id == generation.embedder_id,
                        table.c.segment_id.is_not(None),
                    )
                ):
                    name = self._segment_name(connection, row.segment_id)
                    found[row.passage_id] = SegmentRef(name, row.segment_offset)
        return self._segment_reader.gather([found.get(each) for each in passage_ids])

    def _segment_name(self, connection: Connection, segment_id: int) -> str:
        name = self._segment_names.get(segment_id)
        if name is None:
            table = schema.segments
            name = str(
                connection.execute(
                    select(table.c.name).where(table.c.id == segment_id)
                ).scalar_one()
            )
            self._segment_names[segment_id] = name
        return name

    # --- the feed for indexes ------------------------------------------------------------------

    def head_seq(self) -> int:
        """The newest change's seq."""
        with self._database.reading() as connection:
            return feed.head_seq(connection)

    def log_horizon(self) -> int:
        """A follower whose seq is below this one has missed changes and must rebuild."""
        with self._database.reading() as connection:
            return feed.log_horizon(connection)

    def changes_since(self, seq: int, limit: int = 1000) -> list[Change]:
        """Log rows after `seq`, oldest first."""
        with self._database.reading() as connection:
            return feed.changes_since(connection, seq, limit)

    def all_document_ids(self) -> tuple[list[int], int]:
        """Every document's integer id, with the head seq of the same snapshot."""
        with self._database.reading() as connection:
            return feed.all_document_ids(connection), feed.head_seq(connection)

    def index_entries(
        self, document_ids: Sequence[int], generation: Generation
    ) -> Iterator[IndexEntry]:
        """The current state of those documents that still exist."""
        with self._database.reading() as connection:
            yield from feed.index_entries(connection, document_ids, generation)

    def content_count(self) -> int:
        """How many different contents there are."""
        with self._database.reading() as connection:
            table = schema.contents
            return int(connection.execute(select(func.count()).select_from(table)).scalar_one())

    def visit_contents(self, visit: Callable[[str, str, DocumentText], None]) -> None:
        """Call `visit(digest, title, text)` for every content that still exists, oldest first."""
        table = schema.contents
        last = 0
        while True:
            with self._database.reading() as connection:
                row = connection.execute(
                    select(table.c.id, table.c.digest, table.c.title)
                    .where(table.c.id > last)
                    .order_by(table.c.id)
                    .limit(1)
                ).first()
                if row is None:
                    return
                text = reads.document_text(connection, row.id)
            last = row.id
            visit(row.digest, row.title, text)

    def add_vectors(self, generation: Generation, content: ContentWrite) -> None:
        """Give a content that is already there the passages and vectors of `generation`."""
        refs = self._append_tokens(content)
        self._segment_writer.sync()
        with self._database.writing() as connection:
            known = select(schema.contents.c.id).where(schema.contents.c.digest == content.digest)
            if connection.execute(known).first() is not None:
                writes.put_content(connection, content, refs, generation)

    def record_follower(self, name: str, seq: int) -> None:
        """Note how far a follower has come, then clear up what all of them have passed."""
        with self._database.writing() as connection:
            feed.record_follower(connection, name, seq)
            for blob in feed.collect_garbage(connection):
                self.blobs.delete(blob)

    def forget_follower(self, name: str) -> None:
        """A follower is gone for good (its index was deleted)."""
        with self._database.writing() as connection:
            feed.forget_follower(connection, name)


def _no_document(public_id: str) -> NotFound:
    return NotFound(f"There is no document {public_id!r}.", "Search or list documents for its id.")


def _collection_row(connection: Connection, name: str) -> object | None:
    table = schema.collections
    return connection.execute(select(table).where(table.c.name == name)).first()
