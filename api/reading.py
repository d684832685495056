"""Settings to a second stage: wire.py's part that names the concrete rerankers.

`auto` looks at the machine once: Qwen3-Reranker where there is a GPU and its weights are here
already (nothing is downloaded that nobody asked for), else `late`. The reason is kept beside the
choice. A kind that was asked for by name and cannot be had is an error, never another kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.errors import ConfigError, LongleafError, ModelUnavailable, NotFound
from longleaf.core.logs import reason_of
from longleaf.core.protocols import (
    DistantReranker,
    Embedder,
    QueuedReranker,
    Reranker,
    TwoModels,
)
from longleaf.core.reranker_settings import RerankerSettings
from longleaf.core.types import DepthChoice
from longleaf.reranker.cache import CachedReranker, cached

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from longleaf.core.types import Int8Array
    from longleaf.reranker.qwen3.check import Verdict
    from longleaf.reranker.qwen3.stored import PassageTokenizer
    from longleaf.reranker.remote import RemoteReranker
    from longleaf.reranker.services.reader import ServiceReranker

_log = structlog.get_logger(__name__)

QWEN3_MODEL = "Qwen/Qwen3-Reranker-0.6B"
"""What kind qwen3 reads with where reranker.model is not set."""
_CHECK_TOKENS = 2_048
_DEPTHS: Mapping[str, DepthChoice] = {
    # Measured: whole documents win 0.006 nDCG@10 on one collection of three and cost four times as
    # much (docs/depth.md).
    "late": "passage",
    # Not measured: no weights were at hand.
    "qwen3": "passage",
    "cross-encoder": "passage",
}


@dataclass(frozen=True, slots=True)
class LateCalibration:
    """What is known of `late` with the model that made the token vectors: the weight of the first
    stage where reranker.first_stage_weight is not set, and the least score of a match."""

    first_stage_weight: float = 2.0
    min_score: float | None = None


def depth_of(reranker: Reranker | None) -> DepthChoice:
    """What a reranker reads of a candidate where neither search nor settings say."""
    name = "" if reranker is None else reranker.name.removeprefix("remote:")
    return _DEPTHS.get(name, "passage")


def open_reranker(
    settings: RerankerSettings,
    catalog: Catalog,
    generation: Generation,
    reasons: dict[str, str],
    *,
    calibration: LateCalibration = LateCalibration(),
) -> Reranker | None:
    """The configured second stage; None for "none". `reasons["reranker"]` says why it is that.

    `calibration`: of `late` with the model that made the vectors.
    """
    chosen = _open(settings, catalog, generation, reasons, calibration=calibration)
    return None if chosen is None else cached(chosen, settings.cached_readings)


def _open(
    settings: RerankerSettings,
    catalog: Catalog,
    generation: Generation,
    reasons: dict[str, str],
    *,
    calibration: LateCalibration,
) -> Reranker | None:
    kind = settings.kind
    if settings.url and kind != "remote":
        raise ConfigError(
            f"reranker.url is set, but reranker.kind is {kind}: nobody would be asked.",
            'Set reranker.kind to "remote", or leave reranker.url empty.',
        )
    if settings.dialect != "longleaf" and kind != "remote":
        raise ConfigError(
            f"reranker.dialect is {settings.dialect}, but reranker.kind is {kind}.",
            'Set reranker.kind to "remote" and reranker.url, or leave reranker.dialect out.',
        )
    if kind == "auto":
        return _open_best(settings, catalog, generation, reasons, calibration=calibration)
    reasons["reranker"] = f"{kind}: set by reranker.kind"
    if kind == "none":
        return None
    if kind == "late":
        return _open_late(settings, catalog, generation, calibration=calibration)
    if kind == "qwen3":
        reranker, reason = _open_qwen3(settings, catalog)
        reasons["reranker"] = f"{reason}; set by reranker.kind"
        return reranker
    if kind == "remote":
        return _open_remote(settings, reasons)
    if not settings.model:
        raise ConfigError(
            "reranker.kind is cross-encoder, but reranker.model is not set.",
            "Set it to the folder or hub id of a sentence-transformers CrossEncoder.",
        )
    from longleaf.reranker.crossencoder import CrossEncoderReranker

    if settings.first_stage_weight is None:
        return CrossEncoderReranker(settings.model)
    return CrossEncoderReranker(settings.model, first_stage_weight=settings.first_stage_weight)


def _open_remote(settings: RerankerSettings, reasons: dict[str, str]) -> Reranker:
    if not settings.url:
        raise ConfigError(
            "reranker.kind is remote, but reranker.url is not set.",
            "Set it to the address of the Longleaf or service that reads: http://HOST:PORT.",
        )
    reranker = (
        _open_longleaf(settings) if settings.dialect == "longleaf" else _open_service(settings)
    )
    reasons["reranker"] = f"{reranker.where}; set by reranker.kind"
    return reranker


def _open_longleaf(settings: RerankerSettings) -> RemoteReranker:
    from longleaf.reranker.remote import RemoteReranker

    return RemoteReranker(
        settings.url,
        api_key=settings.api_key,
        timeout_seconds=settings.timeout_seconds,
        first_stage_weight=settings.first_stage_weight,
        instruction=settings.instruction or None,
    )


def _open_service(settings: RerankerSettings) -> ServiceReranker:
    from longleaf.reranker.services.dialects import SERVICES
    from longleaf.reranker.services.reader import ServiceReranker

    return ServiceReranker(
        settings.url,
        SERVICES[settings.dialect],
        model=settings.model,
        api_key=settings.api_key,
        timeout_seconds=settings.timeout_seconds,
        request_documents=settings.request_documents,
        item_tokens=settings.item_tokens,
        request_tokens=settings.request_tokens,
        first_stage_weight=settings.first_stage_weight,
        instruction=settings.instruction or None,
    )


def check_remote(settings: RerankerSettings) -> str:
    """Who reads elsewhere by these settings, after it was asked what a start asks. Raises as
    `open_reranker` does, ConfigError where they name nobody."""
    if settings.kind != "remote":
        raise ConfigError(
            f"No model is given to check, and reranker.kind is {settings.kind}.",
            "Give a Qwen3-Reranker's folder or hub id, or set reranker.kind to remote.",
        )
    reasons: dict[str, str] = {}
    close_reranker(_open_remote(settings, reasons))
    return reasons["reranker"]


def check_model(model: str) -> tuple[str, tuple[Verdict, ...]]:
    """What was chosen for a model here, and its probes. Raises ModelUnavailable when one is wrong.

    Runs on the CPU where there is no GPU.
    """
    from longleaf.reranker.qwen3.check import require_sense
    from longleaf.reranker.qwen3.load import Qwen3Options, open_qwen3

    options = Qwen3Options(model=model, allow_cpu=True, max_pair_tokens=_CHECK_TOKENS)
    loaded = open_qwen3(options, check=False)
    try:
        return loaded.reason, require_sense(loaded.scorer, model)
    finally:
        loaded.close()


def reader_of_texts(reranker: Reranker | None, embedder: Embedder) -> Reranker:
    """What reads texts that are stored nowhere as `reranker` reads stored passages.

    Raises NotFound where nothing reads here, or another machine does: asking that one is shorter,
    and two that ask each other would never end.
    """
    from longleaf.reranker.late import LateInteraction
    from longleaf.reranker.late_texts import LateOfTexts

    if isinstance(reranker, CachedReranker):
        reranker = reranker.inner
    if reranker is None:
        raise NotFound(
            "Nothing reads here: reranker.kind is none.",
            "Set reranker.kind on this server, or ask one that has a second stage.",
        )
    if isinstance(reranker, DistantReranker):
        raise NotFound(
            "This server does not read itself: its reranker.kind is remote.",
            "Ask the server that reranker.url names there.",
        )
    if isinstance(reranker, LateInteraction):
        of_tokens = embedder.of_tokens if isinstance(embedder, TwoModels) else embedder
        return LateOfTexts(reranker, of_tokens)
    return reranker


def close_reranker(reranker: Reranker | None) -> None:
    """Let go of a reranker's thread and device, or its connections, where it has any."""
    if isinstance(reranker, QueuedReranker | DistantReranker):
        reranker.close()


def _open_best(
    settings: RerankerSettings,
    catalog: Catalog,
    generation: Generation,
    reasons: dict[str, str],
    *,
    calibration: LateCalibration,
) -> Reranker | None:
    from longleaf.reranker.qwen3.load import sees_gpu, why_not_here

    instead = ""
    if sees_gpu():
        instead = why_not_here(settings.model or QWEN3_MODEL)
        if not instead:
            try:
                reranker, reason = _open_qwen3(settings, catalog)
            except (ModelUnavailable, ConfigError) as error:
                instead = str(error)
                _log.warning("reranker.fallback", reason=instead)
            else:
                reasons["reranker"] = f"{reason}; chosen because there is a GPU"
                return reranker
        instead = f" (there is a GPU, but not qwen3: {instead})"
    if generation.token_dim:
        why = "the embedder stores token vectors and no GPU is needed"
        reasons["reranker"] = f"late: {why}{instead}"
        return _open_late(settings, catalog, generation, calibration=calibration)
    why = "this embedder stores no token vectors; set reranker.kind to cross-encoder or remote"
    reasons["reranker"] = f"none: {why}{instead}"
    return None


def _open_late(
    settings: RerankerSettings,
    catalog: Catalog,
    generation: Generation,
    *,
    calibration: LateCalibration,
) -> Reranker:
    from longleaf.reranker.late import LateInteraction

    reader = _TokenVectors(catalog, generation)
    weight = settings.first_stage_weight
    weight = calibration.first_stage_weight if weight is None else weight
    return LateInteraction(reader, first_stage_weight=weight, min_score=calibration.min_score)


def open_passage_tokenizer(settings: RerankerSettings, catalog: Catalog) -> PassageTokenizer | None:
    """What stores token ids for a second stage that reads text in its own; None where none does.

    Raises ModelUnavailable when the model that was asked for by name is not here.
    """
    from longleaf.reranker.hub import model_folder
    from longleaf.reranker.qwen3.load import SETTING, open_template, sees_gpu, why_not_here

    model = settings.model or QWEN3_MODEL
    chosen = settings.kind == "qwen3" or (
        # In this order: torch is not loaded where there is no model to ask it for.
        settings.kind == "auto" and not why_not_here(model) and sees_gpu()
    )
    if not chosen:
        return None
    from longleaf.reranker.qwen3.stored import PassageTokenizer

    return PassageTokenizer(open_template(model_folder(model, SETTING)), catalog)


def store_reader_ids(settings: RerankerSettings, catalog: Catalog) -> int:
    """Give passages their token ids where the second stage wants them; returns of how many.

    That they cannot be had is logged and no error: a query makes those that it lacks.
    """
    try:
        tokenizer = open_passage_tokenizer(settings, catalog)
        return 0 if tokenizer is None else tokenizer.fill()
    except LongleafError as error:
        _log.warning("reader_ids.not_stored", reason=reason_of(error))
        return 0


def _open_qwen3(settings: RerankerSettings, catalog: Catalog) -> tuple[Reranker, str]:
    from longleaf.reranker.qwen3.load import Qwen3Options, open_qwen3

    options = Qwen3Options(
        model=settings.model or QWEN3_MODEL,
        allow_cpu=settings.allow_cpu,
        max_pair_tokens=settings.max_pair_tokens,
        batch_tokens=settings.batch_tokens,
        waiting_tokens=settings.waiting_tokens,
        deterministic=settings.deterministic,
        window_score=settings.window_score,
    )
    loaded = open_qwen3(
        options,
        stored=catalog,
        first_stage_weight=settings.first_stage_weight or 0.0,
        instruction=settings.instruction or None,
    )
    return loaded.reranker, loaded.reason


@dataclass(frozen=True, slots=True)
class _TokenVectors:
    """The catalog's token vectors of one generation, as `late` reads them."""

    catalog: Catalog
    generation: Generation

    def token_vectors(
        self, passage_ids: Sequence[int]
    ) -> tuple[Int8Array, NDArray[np.int64], NDArray[np.int64]]:
        return self.catalog.token_vectors(passage_ids, self.generation)
