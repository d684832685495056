"""Windows as they would be without one field's own filter, for facets in which something is chosen.

Counted in the window itself, a chosen value would be the only one of its field, and nobody could
go from it to another. So each filtered field is counted in a window of a search of its own: the
same question and vectors, without what the filter's top level says of that field alone (for
`collection` also without the choice of collections). What the query's own words say (`year:2021`)
stays: it is part of the question. Trade-off: each costs a first stage; it is read again only where
`min_score` says that documents count by their reading. Where nothing is chosen nothing is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from longleaf.api.minimum import only_good
from longleaf.api.searched import SearchRequest, StageRun
from longleaf.api.versions import collapsed
from longleaf.core.filters import And, Filter, Not, Or

if TYPE_CHECKING:
    from longleaf.api.search import SearchEngine


def filtered_fields(engine: SearchEngine, request: SearchRequest) -> list[str]:
    """The fields that the request filters by themselves, sorted."""
    alone = {field for part in _parts(request.where) if (field := _only_field(part)) is not None}
    if request.collections is not None:
        everywhere = engine.catalog.collection_languages(request.scope, None)
        if set(request.collections) != set(everywhere):
            alone.add("collection")
    return sorted(alone)


def revisions_without(
    engine: SearchEngine, run: StageRun, request: SearchRequest, field: str, least: float | None
) -> list[int]:
    """Revisions of the window of `run` as it would be without the filter of `field`.

    `least`: see minimum.py. Raises what a search raises.
    """
    others = tuple(part for part in _parts(request.where) if _only_field(part) != field)
    wider = replace(
        request,
        where=And(others) if others else None,
        collections=None if field == "collection" else request.collections,
        instruction=run.instruction,
        rerank=request.rerank and least is not None,
        depth="passage",
        explain=False,
    )
    if least is None:
        wider = replace(wider, reranker=None, min_score=None)
    found = only_good(engine.run(wider, asked=run), least)
    order: Sequence[int] = found.reading.order
    if request.collapse:
        order = list(collapsed(engine.catalog, found))
    return [found.retrieval.candidates[index].revision_id for index in order]


def _parts(where: Filter | None) -> Iterator[Filter]:
    """What must hold together."""
    if isinstance(where, And):
        for part in where.filters:
            yield from _parts(part)
    elif where is not None:
        yield where


def _only_field(part: Filter) -> str | None:
    """The one field that it tests; None where it tests several, or none."""
    fields = set(_fields(part))
    return fields.pop() if len(fields) == 1 else None


def _fields(tree: Filter) -> Iterator[str]:
    match tree:
        case And(filters) | Or(filters):
            for part in filters:
                yield from _fields(part)
        case Not(negated):
            yield from _fields(negated)
        case _:
            yield tree.field
