"""With what an answer was made: the part of an explanation that all its hits share."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from longleaf.api.searched import Explanation, SearchRequest, StageRun
from longleaf.reranker.instructions import instruction_text

if TYPE_CHECKING:
    from longleaf.api.search import SearchEngine


def explanation(engine: SearchEngine, run: StageRun, request: SearchRequest) -> Explanation:
    """What `engine` made `run` with, as `request` asked it to."""
    settings = engine.settings_for(request)
    embedder = engine.embedder
    reranker = engine.reranker if run.depth is not None else None
    words = None
    if reranker is not None and reranker.takes_instruction:
        words = instruction_text(run.instruction or reranker.default_instruction)
    elif embedder.takes_instruction and run.instruction:
        words = instruction_text(run.instruction)
    return Explanation(
        embedder=embedder.name,
        embedder_fingerprint=embedder.fingerprint,
        reranker_fingerprint=reranker.fingerprint if reranker is not None else None,
        depth=run.depth,
        instruction=words,
        instruction_sha256=hashlib.sha256(words.encode()).hexdigest() if words else None,
        fusion=settings.fusion,
        weight_bm25=settings.weight_bm25,
        aside_penalty=settings.aside_penalty,
        first_stage_weight=reranker.first_stage_weight if reranker is not None else None,
        document_weight=reranker.document_weight if reranker is not None else None,
        counts=run.retrieval.counts,
    )
