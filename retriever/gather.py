"""One side of the first stage: the best passages until enough distinct documents are found.

The result has a meaning that does not depend on how it was fetched: walk that side's complete
ranking from the top, keep a passage when its document may be shown and has fewer than
`per_document` kept, stop when `wanted` documents are kept. Fetching is in growing batches, and a
document that is full is excluded from the next one: 60 documents of 500 passages each never give
100 documents, and without the exclusion every query would read all 30,000 passages (edge shard on
a busy machine, `retrieve` p50: 539-752 ms without, 112-125 ms with).

It knows neither vectors nor words: a side is a function from (excluded documents, how many) to a
ranking. Where a document stands in the index in two revisions at once, each counts for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from longleaf.core.ids import split_point_id
from longleaf.core.protocols import ScoredPoint
from longleaf.core.types import Scope
from longleaf.retriever.phrases import PhraseRule

_GROWTH = 4
_TEXTS_AT_ONCE = 32
"""Whole texts held at a time; a document is often 100,000 characters and may be a million."""


class DocumentLookup(Protocol):
    """What the first stage asks the catalog, which alone knows what is there and who may see it.

    `visible` maps revision ids to catalog document ids, leaving out those that no longer exist
    or that `scope` may not see. `texts` maps revision ids to whole document texts. `public_ids`
    maps catalog document ids to the ids that the filter field `document` compares with. All leave
    out what is unknown. `texts` and `public_ids` are asked only about what `visible` has named.
    """

    def visible(self, revision_ids: Sequence[int], scope: Scope) -> Mapping[int, int]: ...

    def texts(self, revision_ids: Sequence[int]) -> Mapping[int, str]: ...

    def public_ids(self, document_ids: Sequence[int]) -> Mapping[int, str]: ...


class Admission:
    """Which revisions may be in the answer: asked once each, remembered for both sides."""

    def __init__(self, lookup: DocumentLookup, scope: Scope, rule: PhraseRule) -> None:
        self._lookup = lookup
        self._scope = scope
        self._rule = rule
        self._visible: dict[int, int | None] = {}
        self._accepted: dict[int, bool] = {}

    @property
    def hidden(self) -> int:
        """How many revisions the catalog no longer has or does not show to this caller."""
        return sum(document_id is None for document_id in self._visible.values())

    @property
    def phrase_misses(self) -> int:
        """How many documents were left out because of phrases or excluded words."""
        return sum(not accepted for accepted in self._accepted.values())

    def look_up(self, revision_ids: Sequence[int]) -> None:
        """Ask the catalog about those revisions that are new, in one call."""
        new = [revision for revision in revision_ids if revision not in self._visible]
        if new:
            visible = self._lookup.visible(new, self._scope)
            self._visible.update((revision, visible.get(revision)) for revision in new)

    def document_of(
        self, revision_id: int, ranking: Sequence[int] = (), place: int = 0
    ) -> int | None:
        """The catalog's document id, or None when the document must not be in the answer.

        Every id has been looked up. When its text must be read, so are those of some revisions
        that follow in the `ranking`, where this one stands at `place`.
        """
        document_id = self._visible[revision_id]
        if document_id is None or self._rule.trivial:
            return document_id
        if revision_id not in self._accepted:
            self._read([revision_id, *islice(ranking, place + 1, place + 10 * _TEXTS_AT_ONCE)])
        return document_id if self._accepted[revision_id] else None

    def refused(self) -> list[int]:
        """Documents that may be seen but fail the phrases: no use in fetching them again."""
        return [
            document_id
            for revision, accepted in self._accepted.items()
            if not accepted and (document_id := self._visible[revision]) is not None
        ]

    def public_ids(self, document_ids: Sequence[int]) -> tuple[str, ...]:
        """The public ids of documents, sorted."""
        return tuple(sorted(self._lookup.public_ids(document_ids).values()))

    def _read(self, revision_ids: Sequence[int]) -> None:
        unread = (
            revision
            for revision in revision_ids
            if revision not in self._accepted and self._visible[revision] is not None
        )
        chosen = list(islice(unread, _TEXTS_AT_ONCE))
        texts = self._lookup.texts(chosen)
        for revision in chosen:
            # A text that has just been erased can no longer be shown to hold the phrase.
            self._accepted[revision] = revision in texts and self._rule.accepts(texts[revision])


Search = Callable[[tuple[str, ...], int], list[ScoredPoint]]
"""(public ids of documents to leave out, how many passages) -> best passages, best first."""


@dataclass(slots=True)
class Gathered:
    """Kept passages, best first; `exhausted` when the side had no more to give."""

    kept: list[ScoredPoint] = field(default_factory=list)
    exhausted: bool = False


def gather(
    search: Search,
    admission: Admission,
    wanted: int,
    per_document: int | None,
    first_batch_passages: int,
) -> Gathered:
    """Walk one side's ranking until `wanted` documents are kept.

    At most `per_document` passages of each are kept; None means that passages are ranked, not
    documents: any number of each, and `wanted` counts passages.
    """
    result = Gathered()
    documents: set[int] = set()
    kept_of: dict[int, int] = {}
    seen: set[int] = set()
    limit = first_batch_passages
    full: list[int] = []
    while True:
        without = admission.public_ids(full) if full else ()
        found = search(without, limit)
        revisions = list(dict.fromkeys(split_point_id(point.point_id)[0] for point in found))
        admission.look_up(revisions)
        position = {revision: place for place, revision in enumerate(revisions)}
        for point in found:
            revision, _ = split_point_id(point.point_id)
            if point.point_id in seen:
                continue
            seen.add(point.point_id)
            if per_document is not None and kept_of.get(revision, 0) >= per_document:
                continue
            document_id = admission.document_of(revision, revisions, position[revision])
            if document_id is None:
                continue
            kept_of[revision] = kept_of.get(revision, 0) + 1
            documents.add(document_id)
            result.kept.append(point)
            if (len(result.kept) if per_document is None else len(documents)) >= wanted:
                return result
        if len(found) < limit:
            result.exhausted = True
            return result
        limit *= _GROWTH
        full = admission.refused()
        if per_document is not None:
            full += [
                document_id
                for revision, kept in kept_of.items()
                if kept >= per_document and (document_id := admission.document_of(revision))
            ]
