"""Settings to concrete parts: the only place that names concrete classes.

Everything else speaks to protocols. A choice that depends on the machine is made here once, and
its reason is kept beside it (`Runtime.reasons`), shown in the log and by `/readyz`.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from longleaf.api.search import SearchEngine
from longleaf.core.catalog import Catalog, Generation
from longleaf.core.config import RerankerSettings, Settings
from longleaf.core.errors import ConfigError
from longleaf.core.protocols import Chunker, Embedder, PassageIndex, Reranker
from longleaf.indexer.build import Indexer, Target
from longleaf.retriever.follow import Follower, Following
from longleaf.retriever.retrieve import RetrievalSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from longleaf.core.types import Int8Array
    from longleaf.indexer.embed import MiniLMEmbedder
    from longleaf.indexer.embed_any import SentenceTransformerEmbedder
    from longleaf.indexer.sandbox.pool import SandboxReader
    from longleaf.retriever.index.edge_folder import TakenFolder
    from longleaf.retriever.index.process import IndexProcess

_log = structlog.get_logger(__name__)

DEFAULT_COLLECTION = "default"
_GENERATION = "generation-"


@dataclass(slots=True)
class WriteSide:
    """What indexing needs: no index, no reranker."""

    settings: Settings
    catalog: Catalog
    embedder: Embedder
    chunker: Chunker
    generation: Generation
    indexer: Indexer
    reasons: dict[str, str]

    def close(self) -> None:
        self.indexer.close()
        self.catalog.close()


@dataclass(slots=True)
class Runtime:
    """Everything that a process which searches needs; it, or its index process, owns the shard.

    `index_process` is the index and its follower where it follows the catalog by itself; None
    where whoever opened this calls `follower.catch_up()`.
    """

    settings: Settings
    catalog: Catalog
    embedder: Embedder
    generation: Generation
    indexer: Indexer
    engine: SearchEngine
    follower: Following
    index_process: IndexProcess | None
    reasons: Mapping[str, str]
    writer_lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        """Stop following, then let go of index and catalog."""
        self.engine.index.close()
        self.indexer.close()
        self.catalog.close()


def open_catalog(settings: Settings) -> Catalog:
    """The catalog of the data folder; made if this is the first time."""
    return Catalog(settings.home)


def open_write_side(settings: Settings) -> WriteSide:
    """What `longleaf index` needs. Raises GenerationMismatch when the models have changed."""
    reasons: dict[str, str] = {}
    embedder, chunker = open_models(settings, reasons)
    catalog = open_catalog(settings)
    try:
        generation = catalog.open_generation(
            chunker.fingerprint,
            embedder.fingerprint,
            embedder.name,
            embedder.dim,
            embedder.token_dim,
        )
    except BaseException:
        catalog.close()
        raise
    indexer = make_indexer(settings, catalog, generation, chunker, embedder)
    return WriteSide(settings, catalog, embedder, chunker, generation, indexer, reasons)


def open_runtime(settings: Settings, *, follow: bool) -> Runtime:
    """What searching needs. With `follow`, a process of its own keeps the index up to date.

    Raises IndexLocked when another process owns the index.
    """
    write_side = open_write_side(settings)
    try:
        return _with_index(write_side, follow)
    except BaseException:
        write_side.close()
        raise


def _with_index(write_side: WriteSide, follow: bool) -> Runtime:
    settings, catalog = write_side.settings, write_side.catalog
    generation, reasons = write_side.generation, write_side.reasons
    folder = index_folder(settings, generation)
    flush_documents = settings.retriever.flush_documents
    index: PassageIndex
    follower: Following
    process = None
    if follow:
        from longleaf.retriever.index.process import IndexProcess

        workers = settings.server.workers
        process = IndexProcess.open(catalog, generation, folder, flush_documents, workers)
        index = follower = process
    else:
        index = open_index(settings, catalog, generation)
        follower = Follower(catalog, index, generation, str(folder), flush_documents)
    try:
        engine = SearchEngine(
            catalog,
            generation,
            index,
            write_side.embedder,
            open_reranker(settings.reranker, catalog, generation, reasons),
            retrieval_settings(settings),
            settings.reranker.deadline_ms,
            seen_seq=lambda: follower.applied_seq,
        )
    except BaseException:
        index.close()
        raise
    for part, reason in reasons.items():
        _log.info("chosen", part=part, reason=reason)
    return Runtime(
        settings,
        catalog,
        write_side.embedder,
        generation,
        write_side.indexer,
        engine,
        follower,
        process,
        reasons,
    )


def open_models(settings: Settings, reasons: dict[str, str]) -> tuple[Embedder, Chunker]:
    """The configured embedder and the chunker that counts in its tokens."""
    from longleaf.indexer.chunk import PassageChunker

    chosen = settings.embedder
    embedder: MiniLMEmbedder | SentenceTransformerEmbedder
    threads = chosen.threads or None
    if chosen.model == "bundled":
        from longleaf.indexer.embed import MiniLMEmbedder

        embedder = MiniLMEmbedder(dtype=chosen.dtype, threads=threads)
    else:
        from longleaf.indexer.embed_any import SentenceTransformerEmbedder

        embedder = SentenceTransformerEmbedder(
            chosen.model,
            dtype=chosen.dtype,
            threads=threads,
            projection_file=Path(chosen.projection).expanduser() if chosen.projection else None,
        )
    reasons["embedder"] = f"{embedder.name} in {embedder.dtype}: {embedder.dtype_reason}"
    if embedder.without_tokens_because:
        reasons["token vectors"] = f"none: {embedder.without_tokens_because}"
    chunker = PassageChunker(
        embedder.tokenizer,
        embedder.tokenizer_id,
        settings.chunker.target_tokens,
        settings.chunker.overlap_tokens,
    )
    return embedder, chunker


def make_indexer(
    settings: Settings,
    catalog: Catalog,
    generation: Generation,
    chunker: Chunker,
    embedder: Embedder,
) -> Indexer:
    targets = [Target(generation, chunker, embedder)]
    return Indexer(catalog, targets, open_reader(settings, catalog), settings.indexer)


def open_reader(settings: Settings, catalog: Catalog) -> SandboxReader:
    """What reads files: parsers in processes of their own, started with the first file."""
    from longleaf.indexer.sandbox.pool import SandboxReader, find_programs

    programs = find_programs(settings.indexer)
    return SandboxReader(
        settings.indexer, programs=programs, store=catalog, private=[settings.home]
    )


def index_folder(settings: Settings, generation: Generation) -> Path:
    """Where the index of a generation lies."""
    return settings.home / "index" / f"{_GENERATION}{generation.id}"


def open_index(settings: Settings, catalog: Catalog, generation: Generation) -> PassageIndex:
    """The generation's index in this process; its follower fills one that was made anew."""
    from longleaf.retriever.index.edge import EdgeIndex

    folder = index_folder(settings, generation)
    return EdgeIndex.open(folder, generation.dim, generation.fingerprint, catalog)


def take_index(settings: Settings, generation: Generation) -> TakenFolder:
    """Keep all others from a generation's index, be it damaged or not there yet.

    Raises IndexLocked while anybody has it open.
    """
    from longleaf.retriever.index import edge_folder

    folder = index_folder(settings, generation)
    edge_folder.make_if_missing(folder, generation.dim, generation.fingerprint)
    return edge_folder.TakenFolder(folder)


def drop_index(catalog: Catalog, taken: TakenFolder) -> None:
    """Delete an index, whatever state it is in."""
    # Forgotten first: a crash in between leaves an index that the log's horizon betrays, not a
    # follower that holds back the log.
    catalog.forget_follower(str(taken.folder))
    taken.remove()


def drop_other_indexes(settings: Settings, catalog: Catalog, live: Generation) -> None:
    """Delete what interrupted rebuilds left: indexes that are not the live generation's.

    Raises IndexLocked while anybody has one of them open.
    """
    from longleaf.retriever.index import edge_folder

    keep = index_folder(settings, live)
    for folder in sorted(keep.parent.iterdir()):
        if folder.name.startswith(edge_folder.OLD_PREFIX):
            shutil.rmtree(folder)
        elif folder.name.startswith(_GENERATION) and folder != keep:
            with edge_folder.TakenFolder(folder) as taken:
                drop_index(catalog, taken)


def check_language(name: str) -> str:
    """A BM25 language as the index spells it. Raises ConfigError that lists the languages."""
    from longleaf.retriever.index.sparse import encoder

    lowered = name.strip().lower()
    encoder(lowered)
    return lowered


def retrieval_settings(settings: Settings) -> RetrievalSettings:
    chosen = settings.retriever
    return RetrievalSettings(
        candidates=chosen.candidates,
        passages_per_document=chosen.passages_per_document,
        fusion=chosen.fusion,
        weight_bm25=chosen.bm25_weight,
    )


def open_reranker(
    settings: RerankerSettings,
    catalog: Catalog,
    generation: Generation,
    reasons: dict[str, str],
) -> Reranker | None:
    """The configured second stage; None for "none"."""
    kind = settings.kind
    if kind == "auto":
        kind = "late" if generation.token_dim else "none"
        reasons["reranker"] = (
            "late: the embedder stores token vectors and no GPU is needed"
            if generation.token_dim
            else "none: this embedder stores no token vectors; set reranker.kind to cross-encoder"
        )
    else:
        reasons["reranker"] = f"{kind}: set by reranker.kind"
    weight = settings.first_stage_weight
    if kind == "none":
        return None
    if kind == "late":
        from longleaf.reranker.late import LateInteraction

        reader = _TokenVectors(catalog, generation)
        if weight is None:
            return LateInteraction(reader)
        return LateInteraction(reader, first_stage_weight=weight)
    if not settings.model:
        raise ConfigError(
            "reranker.kind is cross-encoder, but reranker.model is not set.",
            "Set it to the folder or hub id of a sentence-transformers CrossEncoder.",
        )
    from longleaf.reranker.crossencoder import CrossEncoderReranker

    if weight is None:
        return CrossEncoderReranker(settings.model)
    return CrossEncoderReranker(settings.model, first_stage_weight=weight)


@dataclass(frozen=True, slots=True)
class _TokenVectors:
    """The catalog's token vectors of one generation, as `late` reads them."""

    catalog: Catalog
    generation: Generation

    def token_vectors(
        self, passage_ids: Sequence[int]
    ) -> tuple[Int8Array, NDArray[np.int64], NDArray[np.int64]]:
        return self.catalog.token_vectors(passage_ids, self.generation)
