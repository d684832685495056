"""Catalog to export: one snapshot, in the order of document ids, as a stream.

Equal catalogs give equal exports but for the moment they were made, so an export can be compared
and its import proven. It holds a read transaction for as long as it runs; documents that come or go
meanwhile are in the next one. An original that is erased meanwhile is left out and said so.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

import longleaf
from longleaf.api.transfer import archive, form
from longleaf.core.catalog import Catalog, DocumentHead, Generation, reads, schema
from longleaf.core.catalog.writes import IMPORTED_MARK
from longleaf.core.errors import InvalidRequest, NotFound
from longleaf.core.types import Scope

_HEADS_AT_ONCE = 200

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What goes along. `collections` None: all; vectors spare an import the embedding."""

    collections: Sequence[str] | None = None
    originals: bool = True
    vectors: bool = False


@dataclass(slots=True)
class Exported:
    """How much went out, and what was left out and why."""

    target: Path
    collections: int = 0
    documents: int = 0
    contents: int = 0
    originals: int = 0
    sources: int = 0
    bytes: int = 0
    left_out: list[str] = field(default_factory=list)


def export(
    catalog: Catalog, target: Path, options: Options, progress: Progress = lambda *_: None
) -> Exported:
    """Write an export. Raises NotFound for an unknown collection, Conflict for a taken target."""
    scope = Scope.all()
    names = sorted(catalog.collection_languages(scope, options.collections))
    generation = catalog.live_generation() if options.vectors else None
    if options.vectors and generation is None:
        raise InvalidRequest("There are no vectors to export yet.", "Leave out --vectors.")
    done = Exported(target)
    with archive.writing(target) as out, catalog._database.reading() as connection:
        _Export(catalog, connection, out, names, generation, options, done, progress).run()
    return done


@dataclass(slots=True)
class _Part:
    """What waits to be written together."""

    contents: list[bytes] = field(default_factory=list)
    vectors: list[bytes] = field(default_factory=list)
    documents: list[bytes] = field(default_factory=list)
    bytes: int = 0

    def is_full(self) -> bool:
        return self.bytes >= form.PART_BYTES or len(self.documents) >= form.PART_DOCUMENTS


class _Export:
    """One export under way, on one snapshot."""

    def __init__(
        self,
        catalog: Catalog,
        connection: Connection,
        out: archive.Writer,
        names: Sequence[str],
        generation: Generation | None,
        options: Options,
        done: Exported,
        progress: Progress,
    ) -> None:
        self._catalog = catalog
        self._connection = connection
        self._out = out
        self._names = names
        self._generation = generation
        self._options = options
        self._done = done
        self._progress = progress
        self._part = _Part()
        self._part_number = 0
        self._written: set[str] = set()
        self._originals: set[str] = set()

    def run(self) -> None:
        self._add(form.HEADER, _plain(self._header()))
        self._add(form.COLLECTIONS, b"".join(map(_line, self._collections())))
        self._documents()
        self._end_part()
        self._add(form.SOURCES, b"".join(map(_line, self._sources())))
        done = self._done
        end = form.End(
            collections=done.collections,
            documents=done.documents,
            contents=done.contents,
            originals=done.originals,
            sources=done.sources,
        )
        self._add(form.END, _plain(end))

    def _add(self, name: str, data: bytes) -> None:
        self._out.add(name, data)
        self._done.bytes += len(data)

    def _header(self) -> form.Header:
        made_by = None
        if (live := self._generation) is not None:
            table = schema.embedders
            name = select(table.c.name).where(table.c.id == live.embedder_id)
            made_by = form.MadeBy(
                chunker=live.chunker_fingerprint,
                embedder=live.embedder_fingerprint,
                embedder_name=str(self._connection.execute(name).scalar()),
                dim=live.dim,
                token_dim=live.token_dim,
            )
        return form.Header(
            format="longleaf-export",
            version=1,
            longleaf=longleaf.__version__,
            created_at=time.time(),
            vectors=made_by,
        )

    def _collections(self) -> list[form.CollectionLine]:
        found = [
            form.CollectionLine(
                name=row.name,
                language=row.language,
                description=row.description,
                instruction=row.instruction,
                rerank=form.RerankLine(**row.rerank),
            )
            for row in reads.known_collections(self._connection)
            if row.name in self._names
        ]
        self._done.collections = len(found)
        return found

    def _documents(self) -> None:
        scope = Scope(frozenset(self._names))
        total = reads.count_documents(self._connection, scope)
        after = None
        while heads := reads.list_heads(self._connection, scope, after, _HEADS_AT_ONCE):
            after = heads[-1].public_id
            digests, sources = self._digests(heads), self._source_keys(heads)
            for head in heads:
                self._progress("Documents", self._done.documents, total)
                self._document(head, digests[head.content_id], sources.get(head.document_id))

    def _document(self, head: DocumentHead, digest: str, source_key: str | None) -> None:
        if digest not in self._written and not self._content(head, digest):
            return
        line = form.DocumentLine(
            collection=head.collection,
            key=head.key,
            content=digest,
            metadata={
                name: list(value) if isinstance(value, tuple) else value
                for name, value in sorted(head.metadata.items())
            },
            groups=list(head.groups),
            source=head.source,
            media_type=head.media_type,
            original=self._original(head),
            language=head.language,
            warnings=list(head.warnings),
            source_key=source_key,
            revision=head.revision,
            created_at=head.created_at,
            updated_at=head.updated_at,
        )
        self._part.documents.append(_line(line))
        self._part.bytes += len(self._part.documents[-1])
        self._done.documents += 1
        if self._part.is_full():
            self._end_part()

    def _original(self, head: DocumentHead) -> str | None:
        """Write the original beside the document; None when there is none (any more)."""
        name = head.original
        if name is None or not self._options.originals:
            return None
        if name not in self._originals:
            member = f"originals/{name[:2]}/{name[2:]}"
            path = self._catalog.blobs.file(name)
            try:
                if path is None:
                    data = self._catalog.blobs.get(name)
                    size = len(data)
                    self._out.add(member, data)
                else:
                    size = path.stat().st_size
                    self._out.add_file(member, path)
            except (FileNotFoundError, NotFound):
                self._done.left_out.append(f"the original of {head.key!r}: it is not there")
                return None
            self._originals.add(name)
            self._done.originals += 1
            self._done.bytes += size
        return name

    def _content(self, head: DocumentHead, digest: str) -> bool:
        """Add a text to the part; False when it has no form that an import would take."""
        text = reads.document_text(self._connection, head.content_id)
        assert text is not None, "it is in the same snapshot"
        layouts = schema.layouts
        stored = select(layouts.c.data).where(layouts.c.content_id == head.content_id)
        layout = self._connection.execute(stored).scalar()
        passages, vectors = self._passages(head)
        line = _line(
            form.ContentLine.model_construct(
                digest=digest,
                title=head.title,
                text=text.text,
                pages=[(page.number, page.start_char, page.end_char) for page in text.pages],
                sections=[(s.title, s.level, s.start_char, s.end_char) for s in text.sections],
                regions=[
                    (each.role.value, each.start_char, each.end_char) for each in text.regions
                ],
                layout=None if layout is None else base64.b64encode(layout).decode("ascii"),
                passages=passages,
            )
        )
        if len(line) > form.MOST_LINE_BYTES:
            self._done.left_out.append(f"{head.key!r}: its text is too large ({len(line):,} bytes)")
            return False
        self._part.contents.append(line)
        self._part.vectors.append(vectors)
        self._part.bytes += len(line) + len(vectors)
        self._written.add(digest)
        self._done.contents += 1
        return True

    def _passages(self, head: DocumentHead) -> tuple[list[form.PassageLine] | None, bytes]:
        """Passages and the bytes of their vectors; none where they are too many to hold."""
        generation = self._generation
        if generation is None:
            return None, b""
        table, vectors = schema.passages, schema.vectors
        rows = self._connection.execute(
            select(table, vectors.c.dense, vectors.c.truncated_tokens)
            .join(vectors, vectors.c.passage_id == table.c.id)
            .where(
                table.c.content_id == head.content_id,
                table.c.chunker_id == generation.chunker_id,
                vectors.c.embedder_id == generation.embedder_id,
            )
            .order_by(table.c.ordinal)
        ).all()
        chunkings = schema.chunkings
        stated = select(chunkings.c.passage_count).where(
            chunkings.c.content_id == head.content_id,
            chunkings.c.chunker_id == generation.chunker_id,
        )
        whole = len(rows) == self._connection.execute(stated).scalar()
        if not whole or len(rows) > form.MOST_PASSAGES_WITH_VECTORS:
            return None, b""
        codes, starts, prefixes = self._catalog.token_vectors([row.id for row in rows], generation)
        lines, parts = [], []
        for number, row in enumerate(rows):
            mine = codes[starts[number] : starts[number + 1]] if generation.token_dim else codes[:0]
            parts.append(row.dense + mine.tobytes())
            lines.append(
                form.PassageLine(
                    start_char=row.start_char,
                    end_char=row.end_char,
                    token_count=row.token_count,
                    first_page=row.first_page,
                    last_page=row.last_page,
                    headings=row.headings,
                    overlap_chars=row.overlap_chars,
                    role=row.role,
                    tokens=len(mine),
                    prefix_tokens=int(prefixes[number]),
                    truncated_tokens=row.truncated_tokens,
                    vector_crc32=zlib.crc32(parts[-1]),
                )
            )
        return lines, b"".join(parts)

    def _end_part(self) -> None:
        if not self._part.documents:
            return
        self._part_number += 1
        folder = f"parts/{self._part_number:06}"
        self._add(f"{folder}/{form.CONTENTS}", b"".join(self._part.contents))
        if self._generation is not None:
            self._add(f"{folder}/{form.VECTORS}", b"".join(self._part.vectors))
        self._add(f"{folder}/{form.DOCUMENTS}", b"".join(self._part.documents))
        self._part = _Part()

    def _digests(self, heads: Sequence[DocumentHead]) -> dict[int, str]:
        table = schema.contents
        query = select(table.c.id, table.c.digest).where(
            table.c.id.in_(reads.among([head.content_id for head in heads]))
        )
        return {row.id: row.digest for row in self._connection.execute(query)}

    def _source_keys(self, heads: Sequence[DocumentHead]) -> dict[int, str]:
        documents, sources = schema.documents, schema.sources
        query = (
            select(documents.c.id, sources.c.key)
            .join(sources, sources.c.id == documents.c.source_id)
            .where(documents.c.id.in_(reads.among([head.document_id for head in heads])))
        )
        return {row.id: row.key for row in self._connection.execute(query)}

    def _sources(self) -> list[form.SourceLine]:
        table = schema.sources
        query = (
            select(table)
            .where(table.c.collection.in_(self._names))
            .order_by(table.c.collection, table.c.key)
        )
        names = set(form.SourceLine.model_fields)
        found = [
            form.SourceLine.model_validate(
                {name: value for name, value in row._mapping.items() if name in names}
                | {"ingest_version": row.ingest_version.removeprefix(IMPORTED_MARK)}
            )
            for row in self._connection.execute(query)
        ]
        self._done.sources = len(found)
        return found


def _plain(line: Any) -> bytes:
    body: dict[str, Any] = line.model_dump(mode="json")
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


_line = _plain
