"""Which documents stand behind a hit because their text is nearly the same: a search's `collapse`.

It asks the catalog for the candidates' signatures (100: one look-up, 2 ms) and for the heads of
those that an answer shows. Only the window of candidates is collapsed and it is not filled up
again: an answer with 40 copies of one text has 61 hits at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from longleaf.api.collapse import Member, collapse
from longleaf.core.catalog import Catalog, DocumentHead
from longleaf.core.types import HitVersion

if TYPE_CHECKING:
    from longleaf.api.search import StageRun


def collapsed(catalog: Catalog, run: StageRun) -> dict[int, list[Member]]:
    """Numbers of the candidates that lead, in final order, with the places behind each."""
    order = run.reading.order
    contents = [run.heads[revision_of(run, place)].content_id for place in range(len(order))]
    signatures = catalog.signatures(contents)
    groups = collapse(contents, [signatures.get(each) for each in contents])
    return {order[place]: members for place, members in groups.items()}


def revision_of(run: StageRun, place: int) -> int:
    """The revision at a place of the final order."""
    return run.retrieval.candidates[run.reading.order[place]].revision_id


def hit_versions(
    run: StageRun, members: Sequence[Member], heads: Mapping[int, DocumentHead]
) -> tuple[HitVersion, ...]:
    """The documents behind a hit, best first; those that are gone by now are left out."""
    found = [(member, heads.get(revision_of(run, member.place))) for member in members]
    return tuple(
        HitVersion(
            rank=member.place + 1,
            similarity=member.similarity,
            document_id=head.public_id,
            collection=head.collection,
            key=head.key,
            title=head.title,
            revision=head.revision,
            source=head.source,
        )
        for member, head in found
        if head is not None
    )
