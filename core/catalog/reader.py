"""The reading half of the catalog: everything that changes nothing.

Reads for a user take a `Scope`; the feed for indexes does not, because an index holds everything
and is filtered when asked. Thread-safe.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from longleaf.core.catalog import (
    content_rows,
    feed,
    generations,
    listing,
    pages,
    reader_ids,
    reads,
    schema,
    title_words,
    uploads,
    versions,
)
from longleaf.core.catalog.database import Database
from longleaf.core.catalog.listing import ListedDocument, Order
from longleaf.core.catalog.objects import open_blobs
from longleaf.core.catalog.records import (
    CandidateHead,
    CatalogCounts,
    Change,
    Collection,
    DocumentHead,
    DocumentSize,
    DocumentText,
    Generation,
    ReadingDefaults,
    Source,
    Versions,
)
from longleaf.core.catalog.segments import SegmentReader, SegmentRef
from longleaf.core.catalog.standing import Standing, standing
from longleaf.core.catalog.uploads import Upload
from longleaf.core.errors import NotFound
from longleaf.core.store_settings import CatalogSettings
from longleaf.core.types import Document, OcrWord, Outcome, PassageText, Scope

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from longleaf.core.catalog.reader_ids import TitledText
    from longleaf.core.catalog.title_words import TitleMatches
    from longleaf.core.layout import Layout
    from longleaf.core.protocols import IndexEntry
    from longleaf.core.similarity import Signature
    from longleaf.core.types import Int8Array

SEGMENT_FOLDER = "token-vectors"
_NODE = "node-name"
_IN_THE_FOLDER = CatalogSettings()


class CatalogReader:
    """One catalog, opened for reading (and made if it is not there).

    `folder` is this machine's data folder, where everything lies that `settings` puts nowhere else.
    """

    def __init__(self, folder: Path, settings: CatalogSettings = _IN_THE_FOLDER) -> None:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.settings = settings
        self.blobs = open_blobs(folder, settings.originals)
        self.segment_folder = folder / SEGMENT_FOLDER
        if settings.token_vectors:
            self.segment_folder = Path(settings.token_vectors).expanduser()
        self.segment_folder.mkdir(parents=True, exist_ok=True)
        self._segment_reader = SegmentReader(self.segment_folder)
        self._segment_names: dict[int, str] = {}
        self._database = Database.open(folder, settings.url)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def follower_name(self, folder: Path) -> str:
        """What the follower of the index in `folder` is called here.

        The folder's name, and on a catalog that other machines share, what tells this one's data
        folder from theirs: two containers may well keep their indexes under the same path.
        """
        return str(folder) if self._database.file else f"{node_name(self.folder)}:{folder}"

    def followed_here(self, name: str) -> Path | None:
        """The index folder of a follower by that name; None when it is another machine's."""
        mine = "" if self._database.file else f"{node_name(self.folder)}:"
        path = Path(name.removeprefix(mine))
        return path if name.startswith(mine) and path.is_absolute() else None

    @property
    def database(self) -> Database:
        """What keeps the rows: for looking at it, not around it."""
        return self._database

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
                    row.instruction,
                    ReadingDefaults(**row.rerank),
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

    def collection_defaults(self, names: Iterable[str]) -> dict[str, tuple[str, ReadingDefaults]]:
        """name -> what counts as an answer in that collection ("" where nothing was said), and how
        it is read."""
        wanted = set(names)
        with self._database.reading() as connection:
            known = reads.known_collections(connection)
        return {
            row.name: (str(row.instruction), ReadingDefaults(**row.rerank))
            for row in known
            if row.name in wanted
        }

    def metadata_fields(self, collections: Sequence[str]) -> set[str]:
        """The metadata fields that documents of these collections have or had."""
        table = schema.metadata_fields
        with self._database.reading() as connection:
            query = select(table.c.name).where(table.c.collection.in_(collections)).distinct()
            return {row.name for row in connection.execute(query)}

    def live_generation(self) -> Generation | None:
        """The generation that searches answer from, None before anything was indexed."""
        with self._database.reading() as connection:
            return generations.live_generation(connection)

    def has_content(self, digest: str, generation: Generation) -> bool:
        """Whether this content already has the generation's vectors."""
        with self._database.reading() as connection:
            return content_rows.find_content(connection, digest, generation) is not None

    def vectors_written(self, digest: str, generation: Generation) -> int:
        """How many passages of a content have this generation's vectors."""
        with self._database.reading() as connection:
            return content_rows.vectors_written(connection, digest, generation)

    def sources(self, collection: str) -> dict[str, Source]:
        """Every file that was ever indexed into the collection, by key."""
        table = schema.sources
        with self._database.reading() as connection:
            rows = connection.execute(select(table).where(table.c.collection == collection))
            return {
                row.key: Source(**{**row._mapping, "outcome": Outcome(row.outcome)}) for row in rows
            }

    def document(self, public_id: str, scope: Scope) -> DocumentHead:
        """One document's head. Raises NotFound when there is none or the scope may not see it."""
        with self._database.reading() as connection:
            head = reads.document_head(connection, public_id, scope)
        if head is None:
            raise no_document(public_id)
        return head

    def documents(
        self, scope: Scope, after: str | None = None, limit: int = 100
    ) -> list[DocumentHead]:
        """Heads in the order of public ids, from behind `after`."""
        with self._database.reading() as connection:
            return reads.list_heads(connection, scope, after, limit)

    def listed(
        self, scope: Scope, collection: str | None, order: Order, **how: Any
    ) -> list[ListedDocument]:
        """See `listing.listed`. Raises NotFound for a collection that may not be seen."""
        if collection is not None:
            self.collection_languages(scope, [collection])
        with self._database.reading() as connection:
            return listing.listed(connection, scope, collection, order, **how)

    def file_of(self, head: DocumentHead) -> listing.FileOf | None:
        """See `listing.file_of`."""
        with self._database.reading() as connection:
            return listing.file_of(connection, head.document_id)

    def uploads(
        self, scope: Scope, *, kinds: Sequence[str] = (uploads.KIND,), **which: Any
    ) -> tuple[list[Upload], int]:
        """See `uploads.uploads`; and how many are open in all."""
        with self._database.reading() as connection:
            found = uploads.uploads(connection, scope, kinds=kinds, **which)
            return found, uploads.open_count(connection, scope, kinds)

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

    def standing(self) -> Standing:
        """Jobs by state and their files by outcome, of all collections."""
        with self._database.reading() as connection:
            return standing(connection)

    def text(self, head: DocumentHead) -> DocumentText:
        """A document's whole text (the head proves that the scope was checked).

        Raises NotFound when the document was deleted since its head was read.
        """
        with self._database.reading() as connection:
            text = reads.document_text(connection, head.content_id)
        if text is None:
            raise no_document(head.public_id)
        return text

    def layout(self, head: DocumentHead) -> Layout | None:
        """Where a document's words stand on its pages; None where that is not known."""
        with self._database.reading() as connection:
            return reads.layout(connection, head.content_id)

    def versions(
        self, head: DocumentHead, scope: Scope, min_similarity: float, limit: int = 100
    ) -> Versions:
        """Other documents that the scope may see whose text is `head`'s, or near it."""
        with self._database.reading() as connection:
            return versions.versions_of(connection, head, scope, min_similarity, limit)

    def titles(self, typed: str, scope: Scope, limit: int, most_seconds: float) -> TitleMatches:
        """Documents whose title holds what was typed so far; see title_words.py."""
        with self._database.reading() as connection:
            return title_words.matching(connection, typed, scope, limit, most_seconds)

    def signatures(self, content_ids: Sequence[int]) -> dict[int, Signature]:
        """content_id -> signature, of those that have been signed (for heads already checked)."""
        with self._database.reading() as connection:
            return versions.read_signatures(connection, content_ids)

    def reader_ids(
        self, tokenizer: str, passage_ids: Sequence[int]
    ) -> dict[int, NDArray[np.uint32]]:
        """passage id -> (n,) token ids of its text, where this tokenizer's are stored."""
        with self._database.reading() as connection:
            return reader_ids.stored(connection, tokenizer, passage_ids)

    def newest_passage_id(self) -> int:
        """The highest id of a passage; 0 where there is none. Ids only grow."""
        with self._database.reading() as connection:
            return reader_ids.newest(connection)

    def lacking_reader_ids(
        self, tokenizer: str, after_id: int, limit: int
    ) -> tuple[TitledText, ...]:
        """Passages behind `after_id`, by id, whose text this tokenizer's ids are not stored of."""
        with self._database.reading() as connection:
            return reader_ids.lacking(connection, tokenizer, after_id, limit)

    def ocr_pages(self, original: str, engine: str) -> dict[int, tuple[OcrWord, ...]]:
        """See `core.protocols.OcrStore`."""
        with self._database.reading() as connection:
            return pages.known(connection, original, engine)

    def passages(
        self,
        head: DocumentHead,
        generation: Generation,
        first: int = 0,
        limit: int = 100,
        *,
        at_char: int | None = None,
    ) -> list[PassageText]:
        """A document's passages in order, from ordinal `first`, or the one that holds `at_char`."""
        with self._database.reading() as connection:
            rows = reads.passage_rows(
                connection, head.content_id, generation, first, limit, at_char
            )
            spans = [(row.content_id, row.start_char, row.end_char) for row in rows]
            texts = reads.slices(connection, spans)
        return [
            reads.passage_text(row, text, reads.point_of(row, head.revision_id))
            for row, text in zip(rows, texts, strict=True)
        ]

    def heads(
        self, revision_ids: Sequence[int], scope: Scope, *, only_current: bool = False
    ) -> dict[int, DocumentHead]:
        """revision_id -> head, of those that still exist and that the scope may see.

        A replaced revision exists until every index has passed it; `only_current` leaves it out.
        """
        with self._database.reading() as connection:
            return reads.heads_by_revision(
                connection, revision_ids, scope, only_current=only_current
            )

    def candidate_heads(
        self, revision_ids: Sequence[int], scope: Scope
    ) -> dict[int, CandidateHead]:
        """The same as `heads`, with only what ranking needs of each."""
        with self._database.reading() as connection:
            return reads.candidate_heads(connection, revision_ids, scope)

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
                query = select(table.c.id, table.c.public_id).where(
                    table.c.id.in_(reads.among(batch))
                )
                found |= {row.id: row.public_id for row in connection.execute(query)}
        return found

    def hydrate(
        self,
        heads: Mapping[int, DocumentHead] | Mapping[int, CandidateHead],
        point_ids: Sequence[int],
        generation: Generation,
        *,
        with_text: bool = True,
    ) -> tuple[dict[int, PassageText], dict[int, DocumentSize]]:
        """Passages by point id, and document sizes by revision id, for heads already checked."""
        content_by_revision = {head.revision_id: head.content_id for head in heads.values()}
        with self._database.reading() as connection:
            found = reads.passages_by_point(
                connection, point_ids, content_by_revision, generation, with_text=with_text
            )
            sizes = reads.document_sizes(connection, list(content_by_revision.values()), generation)
        return found, {
            revision_id: sizes.get(content_id, DocumentSize(None, 0, 0))
            for revision_id, content_id in content_by_revision.items()
        }

    def token_vectors(
        self, passage_ids: Sequence[int], generation: Generation
    ) -> tuple[Int8Array, NDArray[np.int64], NDArray[np.int64]]:
        """See `core.protocols.TokenVectorReader`."""
        found: dict[int, SegmentRef] = {}
        with self._database.reading() as connection:
            for batch in reads.batches(list(passage_ids)):
                asked = {"embedder": generation.embedder_id, "among": json.dumps(batch)}
                rows = connection.execute(reads.TOKEN_VECTORS, asked).all()
                for passage_id, segment_id, offset in rows:
                    found[passage_id] = SegmentRef(
                        self._segment_name(connection, segment_id), offset
                    )
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

    def head_seq(self) -> int:
        """The newest change's seq."""
        with self._database.reading() as connection:
            return feed.head_seq(connection)

    def epoch(self) -> str:
        """Names the log's history; an index that followed another one is made anew."""
        with self._database.reading() as connection:
            return feed.epoch(connection)

    def log_horizon(self) -> int:
        """A follower whose seq is below this one has missed changes and must rebuild."""
        with self._database.reading() as connection:
            return feed.log_horizon(connection)

    def compaction_asked(self) -> int:
        """The number of the last `ask_for_compaction`."""
        with self._database.reading() as connection:
            return feed.compaction_asked(connection)

    def compaction_failure(self) -> str | None:
        """Why an index could not be made anew since then; None when nothing went wrong."""
        with self._database.reading() as connection:
            return feed.compaction_failure(connection)

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

    def content_document(self, digest: str) -> Document | None:
        """A stored text as a parser gave it (without its layout); None when it has been erased."""
        table = schema.contents
        query = select(table.c.id, table.c.title).where(table.c.digest == digest)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
            text = reads.document_text(connection, row.id) if row is not None else None
        if row is None or text is None:
            return None
        return Document(text.text, row.title, text.pages, text.sections, regions=text.regions)


def node_name(home: Path) -> str:
    """A name for this data folder that no other one has, made when it is first asked for."""
    file = home / _NODE
    if file.exists():
        return file.read_text("ascii")
    with suppress(FileExistsError):
        # Made whole under another name first: nobody ever reads half of it.
        made = home / f"{_NODE}-{secrets.token_hex(4)}"
        made.write_text(secrets.token_hex(8), encoding="ascii")
        try:
            os.link(made, file)
        finally:
            made.unlink()
    return file.read_text("ascii")


def no_document(public_id: str) -> NotFound:
    """The same answer for a document that is not there and one that may not be seen."""
    return NotFound(f"There is no document {public_id!r}.", "Search or list documents for its id.")
