"""Named instructions: what "relevant" means, in words that an instruction-following model takes.

A search names one or writes its own. The default is the model card's. Instructions are best written
in English, even where documents are not (Qwen3-Reranker's README: 1-5 % gain). It knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT = "web"

PRESETS: Mapping[str, str] = {
    "web": "Given a web search query, retrieve relevant passages that answer the query",
    "legal-cases": "Given a legal question or the facts of a dispute, retrieve court decisions "
    "that decide the same legal issue",
    "statutes": "Given a legal question, retrieve the statutory provisions that govern it",
    "contract-clauses": "Given a question about a contract, retrieve the clauses that settle it",
    "scientific-claims": "Given a scientific claim, retrieve documents that support or refute it",
    "biomedical-questions": "Given a biomedical question, retrieve passages that answer it",
}


def instruction_text(given: str | None) -> str:
    """The words of an instruction: a preset's by its name, any other text as it is."""
    return PRESETS.get(given or DEFAULT, given or PRESETS[DEFAULT])
