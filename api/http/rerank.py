"""GET /v1/rerank: which reranker reads here, as another Longleaf asks at its start.

Reading itself is `dialects/`: Longleaf's own form is one of many.
"""

from __future__ import annotations

from fastapi import APIRouter

from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.guard import RERANK_BODY_BYTES
from longleaf.api.http.rerank_schemas import MAX_DOCUMENTS, MAX_PASSAGES, ReaderLimits, RerankAbout
from longleaf.api.http.service import Served
from longleaf.api.reading import reader_of_texts

router = APIRouter(prefix="/v1", tags=["rerank"], responses=PROBLEM_RESPONSES)


@router.get("/rerank", summary="Which reranker reads here?")
async def get_rerank(service: Served) -> RerankAbout:
    """Name, fingerprint, limits and calibration of the reranker, for whoever uses it from
    elsewhere; `model`, `fingerprint` and weights stay the same while the server runs.
    """
    with service.runtime.answering() as engine:
        reader = reader_of_texts(engine.reranker, engine.embedder)
    limits = reader.document_limits
    return RerankAbout(
        model=reader.name,
        fingerprint=reader.fingerprint,
        takes_instruction=reader.takes_instruction,
        default_instruction=reader.default_instruction,
        first_stage_weight=reader.first_stage_weight,
        document_limits=ReaderLimits(
            documents=limits.documents, tokens=limits.tokens, beside=limits.beside
        ),
        document_weight=reader.document_weight,
        min_score=reader.min_score,
        max_documents=MAX_DOCUMENTS,
        max_passages=MAX_PASSAGES,
        max_body_bytes=RERANK_BODY_BYTES,
        chosen=service.runtime.reasons.get("reranker", ""),
    )
