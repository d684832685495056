"""A late-interaction checkpoint beside the embedder: wire.py's part that opens and tries one.

A checkpoint that was converted badly answers as quickly as a whole one, and embedding everything
anew takes hours. So it is tried when it is loaded: four questions, each with a text that answers it
and one that has nothing to do with it. Ranking nonsense first is a warning and no refusal, because
the questions are English and a model need not be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from longleaf.api.reading import LateCalibration
from longleaf.core.embedder_settings import EmbedderSettings
from longleaf.core.errors import ConfigError
from longleaf.core.protocols import Embedder
from longleaf.core.types import EmbedInput

if TYPE_CHECKING:
    from longleaf.indexer.embed_late import LateTokens, PairedEmbedder

_log = structlog.get_logger(__name__)

OF_LATE_MODELS = LateCalibration(first_stage_weight=1.0)
"""Nothing was measured of them: both stages have the same say, and no score is a match or none."""
DOUBT = "token vectors in doubt"
"""The part of the reasons that says what was wrong with them; not there when all is well."""


def check_late_settings(chosen: EmbedderSettings) -> None:
    """Raise ConfigError for settings that would do nothing."""
    if chosen.late_model and chosen.projection:
        raise ConfigError(
            "embedder.projection is for embedder.model's token vectors, but embedder.late_model "
            "makes them.",
            "Set one of both.",
        )
    if chosen.late_document_tokens and not chosen.late_model:
        raise ConfigError(
            "embedder.late_document_tokens is set, but embedder.late_model is not.",
            "Set embedder.late_model, or leave embedder.late_document_tokens at 0.",
        )


def with_late_model(
    chosen: EmbedderSettings, dense: Embedder, reasons: dict[str, str]
) -> PairedEmbedder:
    """`dense` with the token vectors of embedder.late_model; `reasons` say what it is.

    Raises ModelUnavailable and ConfigError as `LateTokens` does.
    """
    from longleaf.indexer.embed_late import LateTokens, pair

    tokens = LateTokens(
        chosen.late_model, dtype=chosen.dtype, document_tokens=chosen.late_document_tokens
    )
    filled = "" if tokens.query_tokens is None else f", queries filled up to {tokens.query_tokens}"
    reasons["token vectors"] = (
        f"{tokens.name} in {tokens.dtype}: {tokens.dtype_reason}; {tokens.token_dim} bytes a token,"
        f" passages of more than {tokens.document_tokens:,} tokens in windows{filled}"
    )
    reasons.pop(DOUBT, None)
    if doubt := _doubt(tokens):
        reasons[DOUBT] = doubt
        _log.warning("late_model.in_doubt", model=tokens.name, reason=doubt)
    return pair(dense, tokens)


def _doubt(tokens: LateTokens) -> str:
    """What is wrong with how the model ranks; empty when nothing is."""
    from longleaf.reranker.maxsim import maxsim
    from longleaf.reranker.qwen3.check import PROBES

    wrong = []
    for probe in PROBES:
        asked = tokens.embed_query(probe.query).tokens
        relevant, irrelevant = (
            maxsim(each.token_codes, asked)
            for each in tokens.embed_passages(
                [EmbedInput("", probe.relevant), EmbedInput("", probe.irrelevant)]
            )
        )
        if relevant <= irrelevant:
            wrong.append(probe)
    if not wrong:
        return ""
    return (
        f"{tokens.name} ranks nonsense above sense in {len(wrong)} of {len(PROBES)} English "
        f"questions ({wrong[0].query!r} for one): it is damaged, was converted badly, or is for "
        "another language"
    )
