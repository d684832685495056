"""Bringing the index up to date once, making it anew, and embedding everything anew.

All three work on a data folder without a server: an index belongs to one process, and these say
so when somebody else has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from longleaf.api import wire
from longleaf.api.running import find_server
from longleaf.core.catalog import Catalog, ContentWrite, DocumentText, Generation
from longleaf.core.config import Settings
from longleaf.core.errors import Conflict, IndexLocked
from longleaf.core.protocols import Chunker, Embedder, PassageIndex
from longleaf.core.types import Document
from longleaf.indexer.prepare import embed_inputs
from longleaf.indexer.signature import signature_of
from longleaf.retriever.follow import Follower

Progress = Callable[[int, int], None]
NamedProgress = Callable[[str, int, int], None]

OPTIMIZE_PASSAGES = 5_000
"""New passages that make it worth tidying the index: a plain scan of so many costs about 1 ms."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What an index holds after it was made anew."""

    documents: int
    passages: int
    generation: int


def follow_once(parts: wire.WriteSide, progress: Progress | None = None) -> str:
    """Bring the index up to date, or leave that to the server that owns it; says which."""
    if find_server(parts.settings.home) is not None:
        return "The running server adds them to its index within a second."
    try:
        index = wire.open_index(parts.settings, parts.catalog, parts.generation)
    except IndexLocked:
        return "Another process has the index open: it, or the next search, adds them."
    try:
        follower = _follower(parts.settings, parts.catalog, index, parts.generation)
        before = index.passage_count()
        applied = follower.catch_up(progress)
        if index.passage_count() - before >= OPTIMIZE_PASSAGES:
            index.optimize()
            # Whoever wrote meanwhile was told that this process has the index.
            applied += follower.catch_up(progress)
    finally:
        index.close()
    return f"The index is up to date ({applied:,} documents applied)."


def rebuild(
    settings: Settings, *, embed: bool, progress: NamedProgress = lambda *_: None
) -> Rebuilt:
    """Make the index anew from the catalog; with `embed`, passages and vectors first.

    Raises Conflict while a server runs on the data folder, and IndexLocked while any other
    process has the index open.
    """
    if find_server(settings.home) is not None:
        raise Conflict(
            "A server runs on this data folder and owns its index.", "Stop it and try again."
        )
    reasons: dict[str, str] = {}
    embedder, chunker = wire.open_models(settings, reasons)
    catalog = wire.open_catalog(settings)
    try:
        models = (chunker.fingerprint, embedder.fingerprint)
        generation = catalog.live_generation()
        if generation is None or not embed:
            generation = catalog.open_generation(
                *models, embedder.name, embedder.dim, embedder.token_dim
            )
        # Taken before the long work: whoever has the index open is told now, not after it.
        with wire.take_index(settings, generation) as taken:
            wire.drop_other_indexes(settings, catalog, generation)
            if (generation.chunker_fingerprint, generation.embedder_fingerprint) != models:
                generation = catalog.replace_generation(
                    *models, embedder.name, embedder.dim, embedder.token_dim
                )
                _embed_all(catalog, generation, chunker, embedder, progress)
                # A document that another process has written meanwhile lacks the new vectors.
                while not catalog.make_live(generation):
                    _embed_all(catalog, generation, chunker, embedder, progress)
            wire.drop_index(catalog, taken)
        index = wire.open_index(settings, catalog, generation)
        try:
            follower = _follower(settings, catalog, index, generation)
            documents = follower.catch_up(lambda done, total: progress("Index", done, total))
            index.optimize()
            return Rebuilt(documents, index.passage_count(), generation.id)
        finally:
            index.close()
    finally:
        catalog.close()


def _follower(
    settings: Settings, catalog: Catalog, index: PassageIndex, generation: Generation
) -> Follower:
    name = str(wire.index_folder(settings, generation))
    return Follower(catalog, index, generation, name, settings.retriever.flush_documents)


def _embed_all(
    catalog: Catalog,
    generation: Generation,
    chunker: Chunker,
    embedder: Embedder,
    progress: NamedProgress,
) -> None:
    """Fill a new generation from stored text; what has its vectors already is left alone.

    Interrupted, the live generation is untouched, and the next run goes on where this one ended.
    """
    total = catalog.content_count()
    done = 0

    def visit(digest: str, title: str, text: DocumentText) -> None:
        nonlocal done
        done += 1
        progress("Embed", done, total)
        if catalog.has_content(digest, generation):
            return
        document = Document(text.text, title, text.pages, text.sections, regions=text.regions)
        passages = chunker.chunk(document)
        vectors = tuple(embedder.embed_passages(embed_inputs(document, passages)))
        signature = signature_of(text.text)
        content = ContentWrite(digest, document, passages, vectors, signature=signature)
        catalog.add_vectors(generation, content)

    catalog.visit_contents(visit)
