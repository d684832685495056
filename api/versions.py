"""Which documents stand behind a hit because their text is nearly the same: a search's `collapse`.

It asks the catalog for the candidates' signatures (100: one look-up, 2 ms). Only the window of
candidates is collapsed and it is not filled up again: an answer with 40 copies of one text has 61
hits at most.
"""

from __future__ import annotations

from longleaf.api.collapse import Member, collapse
from longleaf.api.hits import revision_of
from longleaf.api.searched import StageRun
from longleaf.core.catalog import Catalog


def collapsed(catalog: Catalog, run: StageRun) -> dict[int, list[Member]]:
    """Numbers of the candidates that lead, in final order, with the places behind each."""
    order = run.reading.order
    contents = [run.heads[revision_of(run, place)].content_id for place in range(len(order))]
    signatures = catalog.signatures(contents)
    groups = collapse(contents, [signatures.get(each) for each in contents])
    return {order[place]: members for place, members in groups.items()}
