"""Settings to concrete parts: with reading.py the only place that names concrete classes.

Everything else speaks to protocols. A choice that depends on the machine is made here once, and
its reason is kept beside it (`Runtime.reasons`), shown in the log and by `/readyz`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from longleaf.api import indexes, targets
from longleaf.api.answering.chat import ChatModel
from longleaf.api.indexes import Followed
from longleaf.api.late_model import OF_LATE_MODELS, check_late_settings, with_late_model
from longleaf.api.reading import LateCalibration, close_reranker, depth_of, open_reranker
from longleaf.api.rendering import Pages
from longleaf.api.search import SearchEngine, StageLimits
from longleaf.api.targets import Models
from longleaf.core.catalog import Catalog, Generation, generations
from longleaf.core.config import Settings
from longleaf.core.errors import ConfigError, GenerationMismatch, LongleafError
from longleaf.core.protocols import Chunker, Embedder, TwoModels
from longleaf.indexer.build import Indexer, Target
from longleaf.retriever.follow import Following
from longleaf.retriever.retrieve import RetrievalSettings

if TYPE_CHECKING:
    from longleaf.indexer.embed import MiniLMEmbedder
    from longleaf.indexer.embed_any import SentenceTransformerEmbedder
    from longleaf.indexer.sandbox.pool import SandboxReader

_log = structlog.get_logger(__name__)

DEFAULT_COLLECTION = "default"


@dataclass(slots=True)
class WriteSide:
    """What indexing needs: no index, no reranker. `settings` are completed by the stored ones."""

    settings: Settings
    catalog: Catalog
    embedder: Embedder
    chunker: Chunker
    generation: Generation
    indexer: Indexer
    models: Models
    reasons: dict[str, str]

    def close(self) -> None:
        self.indexer.close()
        self.catalog.close()


@dataclass(slots=True, eq=False)
class Side:
    """What answers from one generation. `under_way` searches have been begun with it."""

    generation: Generation
    embedder: Embedder
    engine: SearchEngine
    followed: Followed
    under_way: int = 0

    def close(self) -> None:
        self.followed.close()


@dataclass(slots=True)
class Runtime:
    """Everything that a process which searches needs; it, or its index process, owns the shard.

    `side` is replaced whole when another generation takes over, between two searches (`generations`
    does that).
    """

    settings: Settings
    catalog: Catalog
    indexer: Indexer
    models: Models
    side: Side
    process: str
    reasons: dict[str, str]
    pages: Pages
    chat: ChatModel | None = None
    writer_lock: threading.Lock = field(default_factory=threading.Lock)
    _switching: threading.Lock = field(default_factory=threading.Lock)

    @property
    def generation(self) -> Generation:
        return self.side.generation

    @property
    def embedder(self) -> Embedder:
        return self.side.embedder

    @property
    def engine(self) -> SearchEngine:
        return self.side.engine

    @property
    def follower(self) -> Following:
        return self.side.followed.follower

    @contextmanager
    def answering(self) -> Iterator[SearchEngine]:
        """The engine for one search, which it may finish whatever takes over meanwhile."""
        with self._switching:
            side = self.side
            side.under_way += 1
        try:
            yield side.engine
        finally:
            with self._switching:
                side.under_way -= 1

    def switch_to(self, side: Side) -> Side:
        """Answer from `side` from now on; returns the one before, with searches under way."""
        with self._switching:
            old, self.side = self.side, side
        return old

    def close(self) -> None:
        """Stop following, then let go of index, reranker and catalog."""
        self.pages.close()
        if self.chat is not None:
            self.chat.close()
        self.side.close()
        close_reranker(self.engine.reranker)
        with suppress(LongleafError):  # a minute later nobody believes it any more
            self.catalog.generations.answer_no_more(self.process)
        self.indexer.close()
        self.catalog.close()


def open_catalog(settings: Settings) -> Catalog:
    """The catalog of the data folder, or the one that it shares; made if this is the first time."""
    return Catalog(settings.home, settings.catalog)


def open_write_side(settings: Settings) -> WriteSide:
    """What `longleaf index` needs. Raises GenerationMismatch when the models have changed."""
    reasons: dict[str, str] = {}
    catalog = open_catalog(settings)
    try:
        models = make_models(settings, catalog, reasons)
        live = targets.enter(catalog, models)
    except BaseException:
        catalog.close()
        raise
    indexer = make_indexer(models.settings, catalog, models, live)
    return WriteSide(
        models.settings,
        catalog,
        live.embedder,
        live.chunker,
        live.generation,
        indexer,
        models,
        reasons,
    )


def make_models(
    settings: Settings, catalog: Catalog, reasons: dict[str, str] | None = None
) -> Models:
    """What loads the models of any generation; unset settings are those of the live one."""
    wanted = targets.as_indexed(settings, catalog)
    if wanted.embedder.url and wanted.embedder.kind == "local":
        raise ConfigError(
            "embedder.url is set, but embedder.kind is local: nobody would be asked.",
            'Set embedder.kind to "openai", or leave embedder.url empty.',
        )
    check_late_settings(wanted.embedder)
    said = {} if reasons is None else reasons
    return Models(wanted, lambda chosen: open_models(chosen, said), open_chunker, _stated_files)


def _stated_files(settings: Settings) -> str | None:
    from longleaf.indexer.models import stated_files

    chosen, stated = settings.embedder, []
    if chosen.kind == "local":  # a service has no files here: `targets.check_probe` compares
        stated.append(stated_files(chosen.model))
    if chosen.late_model:
        from longleaf.indexer.embed_late import stated_late_files

        stated.append(stated_late_files(chosen.late_model))
    known = [each for each in stated if each is not None]
    return " ".join(known) if known and len(known) == len(stated) else None


def open_targets(settings: Settings, catalog: Catalog) -> tuple[Target, ...]:
    """Every open generation with the chunker and embedder that it was made with."""
    return targets.open_targets(catalog, make_models(settings, catalog))


def open_runtime(settings: Settings, *, follow: bool) -> Runtime:
    """What searching needs. With `follow`, a process of its own keeps the index up to date.

    Raises IndexLocked when another process owns the index.
    """
    chat = open_chat(settings)
    parts = open_write_side(settings)
    process = generations.process_name()
    try:
        # Said before the index is opened: from here on nobody takes its vectors away.
        if not parts.catalog.generations.answer_from(process, parts.generation):
            raise GenerationMismatch(
                "The documents here were embedded anew at this moment.", "Start again."
            )
        target = Target(parts.generation, parts.chunker, parts.embedder)
        side = open_side(parts.settings, parts.catalog, target, parts.reasons, follow=follow)
    except BaseException:
        parts.close()
        raise
    parts.reasons["answers"] = who_answers(chat)
    for part, reason in parts.reasons.items():
        _log.info("chosen", part=part, reason=reason)
    return Runtime(
        parts.settings,
        parts.catalog,
        parts.indexer,
        parts.models,
        side,
        process,
        parts.reasons,
        Pages(parts.catalog, parts.settings),
        chat,
    )


def open_chat(settings: Settings) -> ChatModel | None:
    """Who writes answers; None where nobody is set up. It is asked nothing here."""
    if settings.answer.url:
        return ChatModel(settings.answer)
    if settings.answer.model:
        raise ConfigError(
            "answer.model is set, but answer.url is not: nobody would be asked.",
            "Set answer.url to the service, or leave answer.model empty.",
        )
    return None


def who_answers(chat: ChatModel | None) -> str:
    """For people: who writes answers, and what is sent there."""
    return chat.where if chat else "nobody writes any: answer.url is not set"


def open_side(
    settings: Settings,
    catalog: Catalog,
    target: Target,
    reasons: dict[str, str],
    *,
    follow: bool,
    beside: Side | None = None,
) -> Side:
    """What answers from one generation; its index may still have to be filled.

    A reranker that reads texts, whatever generation they are cut for, is shared with `beside`.
    """
    generation = target.generation
    place = indexes.place(settings, catalog, generation)
    followed = place.serve() if follow else place.open()
    follower = followed.follower
    reasons["index"] = followed.told
    try:
        reranker = beside.engine.reranker if beside is not None else None
        if reranker is None or not reranker.reads_text:
            reranker = open_reranker(
                settings.reranker,
                catalog,
                generation,
                reasons,
                calibration=_calibration(target.embedder),
            )
        engine = SearchEngine(
            catalog,
            generation,
            followed.index,
            target.embedder,
            reranker,
            retrieval_settings(settings),
            settings.reranker.deadline_ms,
            settings.reranker.depth or depth_of(reranker),
            seen_seq=lambda: follower.applied_seq,
            slots=threading.BoundedSemaphore(settings.server.workers),
            marks_suspicious=settings.suspicion.mark,
            limits=StageLimits(settings.serving.stage_seconds, settings.reranker.stall_seconds),
        )
    except BaseException:
        followed.close()
        raise
    return Side(generation, target.embedder, engine, followed)


def _calibration(embedder: Embedder) -> LateCalibration:
    """Asked of the model and not of the settings: a running server may have changed to another."""
    from longleaf.indexer.embed import MiniLMEmbedder
    from longleaf.reranker.late import MINILM_MIN_SCORE

    if isinstance(embedder, MiniLMEmbedder):
        return LateCalibration(min_score=MINILM_MIN_SCORE)
    return OF_LATE_MODELS if isinstance(embedder, TwoModels) else LateCalibration()


def open_models(settings: Settings, reasons: dict[str, str]) -> tuple[Embedder, Chunker]:
    """The configured embedder and the chunker that counts in its tokens."""
    chosen = settings.embedder
    dense = _open_dense(settings, reasons)
    embedder = with_late_model(chosen, dense, reasons) if chosen.late_model else dense
    return embedder, open_chunker(settings, embedder)


def _open_dense(settings: Settings, reasons: dict[str, str]) -> Embedder:
    """What makes dense vectors, and token vectors too where no other model is set for them."""
    chosen = settings.embedder
    if chosen.kind == "openai":
        return _open_remote_embedder(settings, reasons)
    embedder: MiniLMEmbedder | SentenceTransformerEmbedder
    threads = chosen.threads or None
    if chosen.model == "bundled":
        from longleaf.indexer.embed import MiniLMEmbedder

        if chosen.dimensions:
            raise ConfigError(
                "The bundled model was not trained for shorter vectors (embedder.dimensions).",
                "Set embedder.dimensions to 0, or embedder.model to a model that was.",
            )
        embedder = MiniLMEmbedder(dtype=chosen.dtype, threads=threads)
    else:
        from longleaf.indexer.embed_any import SentenceTransformerEmbedder

        embedder = SentenceTransformerEmbedder(
            chosen.model,
            dtype=chosen.dtype,
            threads=threads,
            projection_file=Path(chosen.projection).expanduser() if chosen.projection else None,
            dimensions=chosen.dimensions or None,
        )
    reasons["embedder"] = f"{embedder.name} in {embedder.dtype}: {embedder.dtype_reason}"
    if embedder.without_tokens_because:
        reasons["token vectors"] = f"none: {embedder.without_tokens_because}"
    return embedder


def _open_remote_embedder(settings: Settings, reasons: dict[str, str]) -> Embedder:
    from longleaf.indexer.embed_remote import RemoteEmbedder

    chosen = settings.embedder
    if not chosen.url or chosen.model == "bundled":
        missing = "embedder.model" if chosen.url else "embedder.url"
        raise ConfigError(
            f"embedder.kind is openai, but {missing} is not set.",
            "Set embedder.url to the service and embedder.model to what it calls its model.",
        )
    embedder = RemoteEmbedder(
        chosen.url,
        chosen.model,
        api_key=chosen.api_key,
        dimensions=chosen.dimensions or None,
        query_prompt=chosen.query_prompt,
        passage_prompt=chosen.passage_prompt,
        tokenizer_file=Path(chosen.tokenizer) if chosen.tokenizer else None,
        request_texts=chosen.request_texts,
        timeout_seconds=chosen.timeout_seconds,
        query_timeout_seconds=chosen.query_timeout_seconds,
    )
    reasons["embedder"] = embedder.where
    reasons["token vectors"] = f"none: {embedder.without_tokens_because}"
    return embedder


def open_chunker(settings: Settings, embedder: Embedder) -> Chunker:
    """The configured chunker, counting in the embedder's tokens."""
    from longleaf.indexer.chunk import PassageChunker

    tokenizing: Any = embedder
    return PassageChunker(
        tokenizing.tokenizer,
        tokenizing.tokenizer_id,
        settings.chunker.target_tokens,
        settings.chunker.overlap_tokens,
    )


def make_indexer(settings: Settings, catalog: Catalog, models: Models, live: Target) -> Indexer:
    """Writes for each open generation; those beside the live one load with the first commit."""
    fresh = targets.FreshTargets(catalog, models)
    return Indexer(catalog, [live], open_reader(settings, catalog), settings.indexer, fresh)


def open_reader(settings: Settings, catalog: Catalog) -> SandboxReader:
    """What reads files: parsers in processes of their own, started with the first file."""
    from longleaf.indexer.sandbox.pool import SandboxReader, find_programs

    programs = find_programs(settings.indexer)
    return SandboxReader(
        settings.indexer, programs=programs, store=catalog, private=[settings.home]
    )


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
