"""Export to catalog: in the order of the form, in parts, each durable before the next is read.

A document is added, replaced, unchanged, kept (there is another under its key) or refused, and told
so after its commit. Run again, it goes on: what is there already is unchanged. Texts come with
their vectors where the same models made those of this catalog; others are cut and embedded here.
Nothing of an export is believed (see `content`), but vectors that pass all checks can still be
anybody's: from somebody untrusted, leave them out with `embed`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from longleaf.api import wire
from longleaf.api.transfer import archive, content, form
from longleaf.api.transfer.archive import Member
from longleaf.api.transfer.fates import Fate, Imported, Options, Summary
from longleaf.api.transfer.reading import chunks, exactly, lines, one
from longleaf.core import ids
from longleaf.core.catalog import (
    Catalog,
    ContentWrite,
    DocumentHead,
    DocumentWrite,
    Generation,
    ReadingDefaults,
    Source,
    SourceWrite,
    reads,
    schema,
)
from longleaf.core.catalog.writes import IMPORTED_MARK, UPLOAD_MARK, ContentGone, was_read_here
from longleaf.core.errors import InvalidRequest
from longleaf.core.protocols import Chunker, Embedder
from longleaf.core.types import Document, MetaValue, Passage, PassageVectors, Scope
from longleaf.indexer.prepare import embed_inputs
from longleaf.indexer.signature import signature_of

SLICE_PASSAGES = 512
_SOURCES_AT_ONCE = 1000
_MOST_VECTOR_BYTES = 1024 * 1024 * 1024

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class _Text:
    """A content of the part that is being read: its lines, then what is made of it."""

    line: form.ContentLine
    document: Document
    made: dict[int, ContentWrite] = field(default_factory=dict)


class Import:
    """One import into one catalog, for all of its open generations.

    `models` opens what makes their passages and vectors; not called while the export brings them.
    """

    def __init__(
        self,
        catalog: Catalog,
        generations: Sequence[Generation],
        models: Callable[[Generation], tuple[Chunker, Embedder]],
        options: Options,
        most_original_bytes: int,
        on_result: Callable[[Imported], None] = lambda _: None,
        progress: Progress = lambda *_: None,
    ) -> None:
        self.summary = Summary()
        self._catalog = catalog
        self._generations = generations
        self._models = models
        self._options = options
        self._most_original_bytes = most_original_bytes
        self._on_result = on_result
        self._progress = progress
        self._header: form.Header | None = None
        self._texts: dict[str, _Text] = {}
        self._refused: dict[str, str] = {}
        self._lost_originals: set[str] = set()
        self._put_originals: list[str] = []
        self._touched: set[tuple[str, str]] = set()
        self._collections: set[str] = set()
        self._seen = Counter[str]()
        self._end: form.End | None = None

    def run(self, source: Path) -> Summary:
        """Take in all of it. Raises InvalidRequest where the export is none, or not whole."""
        for member in archive.members(source):
            self._member(member)
        if self._end is None:
            raise InvalidRequest(
                f"{source} is not whole: it has no {form.END}.",
                "What was reported is in. Copy the export again and import it again.",
            )
        for name, said in self._end.model_dump().items():
            if self._seen[name] != said:
                raise InvalidRequest(
                    f"{source} is not whole: {self._seen[name]:,} of {said:,} {name} are there.",
                    "What was reported is in. Copy the export again and import it again.",
                )
        for name in self._put_originals:
            self._catalog.drop_upload(name)  # unless a document has it now
        return self.summary

    def _member(self, member: Member) -> None:
        if member.name == form.HEADER:
            self._header = one(form.Header, member)
            return
        if self._header is None:
            raise InvalidRequest(f"The export does not begin with {form.HEADER}.")
        part = form.PART.fullmatch(member.name)
        original = form.ORIGINAL.fullmatch(member.name)
        if member.name == form.COLLECTIONS:
            for line in lines(form.CollectionLine, member):
                self._collection(line)
        elif original is not None:
            self._original(member, original["begin"] + original["rest"])
        elif part is not None and part["file"] == form.CONTENTS:
            self._read_texts(member)
        elif part is not None and part["file"] == form.VECTORS:
            self._read_vectors(member)
        elif part is not None:
            self._documents(list(lines(form.DocumentLine, member)))
            self._texts = {}
        elif member.name == form.SOURCES:
            self._sources(lines(form.SourceLine, member))
        elif member.name == form.END:
            self._end = one(form.End, member)

    def _collection(self, line: form.CollectionLine) -> None:
        self._seen["collections"] += 1
        language = wire.check_language(line.language)
        known = self._catalog.collection_languages(Scope.all(), None).get(line.name)
        if known is None:
            reading = ReadingDefaults(**line.rerank.model_dump())
            self._catalog.create_collection(
                line.name, language, line.description, line.instruction, reading
            )
            self.summary.collections += 1
        elif known != language:
            self.summary.problems.append(
                f"the collection {line.name} reads {known} here, and {language} in the export"
            )
        self._collections.add(line.name)

    def _original(self, member: Member, name: str) -> None:
        self._seen["originals"] += 1
        if self._catalog.blobs.exists(name):
            return
        if member.size > self._most_original_bytes:
            self._lost_originals.add(name)
            self.summary.problems.append(f"original {name} is too large ({member.size:,} bytes)")
            return
        data = b"".join(chunks(member))
        if hashlib.sha256(data).hexdigest() != name:
            self._lost_originals.add(name)
            self.summary.problems.append(f"original {name} is not what its name says")
            return
        self._put_originals.append(self._catalog.blobs.put(data))
        self.summary.originals += 1

    # --- texts -----------------------------------------------------------------------------------

    def _read_texts(self, member: Member) -> None:
        for line in lines(form.ContentLine, member):
            self._seen["contents"] += 1
            try:
                document = content.document_of(line)
                if line.passages is not None:
                    content.passages_of(line)
            except content.Refused as error:
                self._refused[line.digest] = f"its text has {error}"
                document = Document("", "")
            self._texts[line.digest] = _Text(line, document)

    def _read_vectors(self, member: Member) -> None:
        """Take the vectors that came, where they are wanted; read past the others."""
        assert self._header is not None
        made_by = self._header.vectors
        if made_by is None:
            raise InvalidRequest(f"The export has vectors, but {form.HEADER} names no models.")
        if member.size > _MOST_VECTOR_BYTES:
            raise InvalidRequest(f"{member.name} is larger than a part of an export can be.")
        matching = self._matching(made_by)
        for digest, text in self._texts.items():
            wanted = matching
            if digest in self._refused or (
                matching is not None and self._catalog.has_content(digest, matching)
            ):
                wanted = None
            try:
                self._take_vectors(member, text, made_by, wanted)
            except content.Refused as error:
                self._refused[digest] = f"it has {error}"
        if member.read(1):
            raise InvalidRequest(f"{member.name} is longer than the passages it is of.")

    def _take_vectors(
        self, member: Member, text: _Text, made_by: form.MadeBy, generation: Generation | None
    ) -> None:
        lines = text.line.passages or []
        passages = () if generation is None else content.passages_of(text.line)
        refused: content.Refused | None = None
        vectors: list[PassageVectors] = []
        for line in lines:
            size_bytes = content.vector_bytes(line, made_by)
            if size_bytes > member.size:
                raise InvalidRequest(f"{member.name} is shorter than the passages it is of.")
            data = exactly(member, size_bytes)
            if generation is None or refused is not None:
                continue  # the bytes of the texts behind it must be found all the same
            try:
                vectors.append(content.vectors_of(line, data, made_by))
            except content.Refused as error:
                refused = error
        if refused is not None:
            raise refused
        if generation is not None and lines:
            text.made[generation.id] = self._content(text, passages, vectors, 0)

    def _matching(self, made_by: form.MadeBy) -> Generation | None:
        """The open generation that the same models made."""
        if self._options.embed:
            return None
        wanted = (made_by.chunker, made_by.embedder, made_by.dim, made_by.token_dim)
        for found in self._generations:
            have = (found.chunker_fingerprint, found.embedder_fingerprint)
            if (*have, found.dim, found.token_dim) == wanted:
                return found
        return None

    def _content(
        self,
        text: _Text,
        passages: tuple[Passage, ...],
        vectors: Sequence[PassageVectors],
        first: int,
    ) -> ContentWrite:
        signature = signature_of(text.document.text)
        return ContentWrite(
            text.line.digest, text.document, passages, tuple(vectors), first, signature
        )

    def _embed(self, digests: Sequence[str]) -> None:
        """Cut and embed those texts of the part whose vectors did not come."""
        for generation in self._generations:
            for done, digest in enumerate(digests):
                text = self._texts[digest]
                known = generation.id in text.made
                if known or self._catalog.has_content(digest, generation):
                    continue
                self._progress("Embed", done, len(digests))
                self._embed_one(text, generation)

    def _embed_one(self, text: _Text, generation: Generation) -> None:
        chunker, embedder = self._models(generation)
        passages = chunker.chunk(text.document)
        inputs = embed_inputs(text.document, passages)
        if len(passages) <= SLICE_PASSAGES:
            vectors = tuple(embedder.embed_passages(inputs))
            text.made[generation.id] = self._content(text, passages, vectors, 0)
            return
        # A long text goes in slice by slice, so that memory does not grow with its vectors.
        first = self._catalog.vectors_written(text.line.digest, generation)
        stream = embedder.embed_passages(islice(inputs, first, None))
        while mine := tuple(islice(stream, SLICE_PASSAGES)):
            self._catalog.write_slice(generation, self._content(text, passages, mine, first))
            first += len(mine)

    # --- documents -------------------------------------------------------------------------------

    def _documents(self, lines: Sequence[form.DocumentLine]) -> None:
        """Commit a part's documents and tell what became of each."""
        self._seen["documents"] += len(lines)
        self._progress("Documents", self._seen["documents"], self._seen["documents"])
        known = self._known(lines)
        wanted: list[tuple[form.DocumentLine, Fate]] = []
        for line in lines:
            old = known.get(ids.document_id(line.collection, line.key))
            why = self._why_not(line)
            if why is not None:
                self._tell(line, Fate.REFUSED, why)
            elif old is not None and self._is_same(old, line):
                self._tell(line, Fate.UNCHANGED)
            elif old is not None and not self._options.replace:
                self._tell(line, Fate.KEPT, "another is here under its key (--replace takes it)")
            else:
                wanted.append((line, Fate.ADDED if old is None else Fate.REPLACED))
        self._embed(sorted({line.content for line, _ in wanted} & set(self._texts)))
        self._commit(wanted)

    def _known(self, lines: Sequence[form.DocumentLine]) -> dict[str, tuple[DocumentHead, str]]:
        """public id -> (head, digest) of documents that are there already."""
        public_ids = [ids.document_id(line.collection, line.key) for line in lines]
        digest = schema.contents.c.digest
        found = {}
        with self._catalog._database.reading() as connection:
            for batch in reads.batches(public_ids, 500):
                query = reads.head_query().add_columns(digest)
                for row in connection.execute(
                    query.where(schema.documents.c.public_id.in_(list(batch)))
                ):
                    found[row.public_id] = (reads.head_from_row(row), str(row.digest))
        return found

    def _why_not(self, line: form.DocumentLine) -> str | None:
        if line.collection not in self._collections:
            return f"the collection {line.collection!r} is not in the export"
        if line.content in self._refused:
            return self._refused[line.content]
        if line.content not in self._texts and not self._has_text(line.content):
            return "its text is not in the export"
        return None

    def _has_text(self, digest: str) -> bool:
        return all(self._catalog.has_content(digest, each) for each in self._generations)

    def _is_same(self, old: tuple[DocumentHead, str], line: form.DocumentLine) -> bool:
        head, digest = old
        write = self._write(line)
        return digest == line.content and _labels(head) == _labels(write)

    def _write(self, line: form.DocumentLine) -> DocumentWrite:
        metadata: dict[str, MetaValue] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in line.metadata.items()
        }
        original = line.original
        if original is not None and not self._catalog.blobs.exists(original):
            original = None
        return DocumentWrite(
            collection=line.collection,
            key=line.key,
            digest=line.content,
            metadata=metadata,
            groups=tuple(line.groups),
            source=line.source,
            media_type=line.media_type,
            original=original,
            language=line.language,
            warnings=tuple(line.warnings),
            source_key=line.source_key,
            revision=line.revision,
            created_at=line.created_at,
            updated_at=line.updated_at,
        )

    def _commit(self, wanted: list[tuple[form.DocumentLine, Fate]]) -> None:
        while wanted:
            main, *others = self._generations
            given: set[str] = set()
            writes = []
            for line, _ in wanted:
                write = self._write(line)
                text = self._texts.get(line.content)
                if text is not None and line.content not in given:
                    made = text.made
                    write = replace(
                        write,
                        content=made.get(main.id),
                        others=tuple((each, made[each.id]) for each in others if each.id in made),
                    )
                    given.add(line.content)
                writes.append(write)
            try:
                self._catalog.commit(main, writes)
                break
            except ContentGone as error:
                # Erased between two parts by somebody else: those documents have no text now.
                gone = [each for each in wanted if each[0].content == error.digest]
                wanted = [each for each in wanted if each[0].content != error.digest]
                for line, _ in gone:
                    self._tell(line, Fate.REFUSED, "its text was erased meanwhile: import again")
        for line, fate in wanted:
            if line.source_key is not None:
                self._touched.add((line.collection, line.source_key))
            lost = line.original in self._lost_originals
            self._tell(line, fate, "without its original" if lost else "")

    def _tell(self, line: form.DocumentLine, fate: Fate, detail: str = "") -> None:
        self.summary.counts[fate] += 1
        self._on_result(Imported(line.collection, line.key, fate, detail))

    # --- sources ---------------------------------------------------------------------------------

    def _sources(self, lines: Iterator[form.SourceLine]) -> None:
        known = {name: self._catalog.sources(name) for name in self._collections}
        writes: list[SourceWrite] = []
        for line in lines:
            self._seen["sources"] += 1
            mine = (line.collection, line.key) in self._touched
            if line.collection in known and (mine or line.key not in known[line.collection]):
                writes.append(_source(line, known[line.collection].get(line.key)))
            if len(writes) == _SOURCES_AT_ONCE:
                self._commit_sources(writes)
                writes = []
        self._commit_sources(writes)

    def _commit_sources(self, writes: Sequence[SourceWrite]) -> None:
        if writes:
            self._catalog.commit(self._generations[0], [], writes)
            self.summary.sources += len(writes)


def _source(line: form.SourceLine, before: Source | None) -> SourceWrite:
    """As the catalog keeps it: marked as an import's word, unless the file was read here before."""
    version = line.ingest_version.removeprefix(IMPORTED_MARK)
    was_read = before is not None and was_read_here(before.ingest_version)
    if not (was_read or line.key.startswith(UPLOAD_MARK)):
        version = IMPORTED_MARK + version
    return SourceWrite(**line.model_dump() | {"ingest_version": version})


def _labels(of: DocumentHead | DocumentWrite) -> str:
    """Everything but the text, so that 1, 1.0 and true differ."""
    said = [dict(of.metadata), sorted(of.groups), of.source, of.media_type, of.language]
    return json.dumps([*said, of.warnings], sort_keys=True)
