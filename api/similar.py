"""Documents about the same as one that is here: the search, asked with the document's own words.

The question is the title and the passage that says most of what the title names (the one nearest to
it, bibliographies left out); without a title, the first passage; of both at most what a query may
have. It is an ordinary search in two
stages, so everything that an answer tells is told, the question among it. Versions of the same text
are found by their words instead (versions.py).
"""

from __future__ import annotations

from dataclasses import replace

from longleaf.api.search import MAX_QUERY_CHARS, SearchAnswer, SearchEngine, SearchRequest
from longleaf.core.catalog import DocumentHead
from longleaf.core.errors import InvalidRequest
from longleaf.core.filters import And, Eq, Not

_PASSAGES = 2_000
"""Of a document that are looked at for the one to ask with."""


def similar(engine: SearchEngine, head: DocumentHead, request: SearchRequest) -> SearchAnswer:
    """Answer `request` with the question that `head` makes, itself left out.

    The request's own query is not used. Raises InvalidRequest for a document without text.
    """
    other = Not(Eq("document", head.public_id))
    asked = replace(
        request,
        query=question_of(engine, head),
        plain=True,
        where=And((request.where, other)) if request.where is not None else other,
    )
    return engine.search(asked)


def question_of(engine: SearchEngine, head: DocumentHead) -> str:
    """The title and the passage that is asked with."""
    passages = engine.catalog.passages(head, engine.generation, 0, _PASSAGES)
    body = [passage for passage in passages if not passage.role.is_aside] or passages
    if not body:
        raise InvalidRequest(f"{head.title or head.key} has no passages to ask with.")
    title = head.title.strip()
    best = engine.nearest(title, body) if title else body[0]
    return f"{title}\n{best.text}".strip()[:MAX_QUERY_CHARS]
