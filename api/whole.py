"""What of a whole document goes to the reranker: all of it, or the passages nearest to the query.

Made for a few candidates at a time, when their turn comes: a deadline that ends before costs
nothing. The nearest are told by the dense index, which scores any passages exactly, without
searching; bibliographies and tables of contents come last. What was kept is remembered, because an
answer names passages that the first stage has not found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from longleaf.core.catalog import CandidateHead, Catalog, DocumentSize, Generation
from longleaf.core.ids import point_id, split_point_id
from longleaf.core.protocols import PassageIndex, Reranker
from longleaf.core.types import Candidate, PassageText, QueryVectors, ReadingInput
from longleaf.core.waiting import CATALOG, INDEX, stage
from longleaf.reranker.evidence import choose, own_tokens


class WholeDocuments:
    """`reranker.read.WholeDocuments` of one search's candidates."""

    def __init__(
        self,
        catalog: Catalog,
        index: PassageIndex,
        generation: Generation,
        reranker: Reranker,
        candidates: Sequence[Candidate],
        heads: Mapping[int, CandidateHead],
        sizes: Mapping[int, DocumentSize],
        vectors: QueryVectors | None,
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._generation = generation
        self._reranker = reranker
        self._by_rank = {candidate.rank: candidate for candidate in candidates}
        self._heads = heads
        self._sizes = sizes
        self._vectors = vectors
        self.dense: dict[int, float] = {}
        """Cosines of the passages that were looked at, by point id."""

    def __call__(self, ranks: Sequence[int]) -> list[ReadingInput]:
        """Inputs of depth "document", in the order asked. A document that has just been deleted
        has no passages."""
        with stage(f"{CATALOG} or {INDEX}"):
            return self._inputs(ranks)

    def _inputs(self, ranks: Sequence[int]) -> list[ReadingInput]:
        candidates = [self._by_rank[rank] for rank in ranks]
        heads = {each.revision_id: self._heads[each.revision_id] for each in candidates}
        passages = self._passages(heads)
        limits = self._reranker.document_limits
        counts = {revision_id: own_tokens(own) for revision_id, own in passages.items()}
        too_long = [
            revision_id
            for revision_id, tokens in counts.items()
            if limits.tokens is not None and sum(tokens) > limits.tokens
        ]
        self._look_at([p.point_id for revision_id in too_long for p in passages[revision_id]])
        chosen = dict(passages)
        for candidate in candidates:
            revision_id = candidate.revision_id
            if revision_id in too_long:
                own, tokens = passages[revision_id], counts[revision_id]
                ranked = self._ranked(candidate, own)
                places = choose(tokens, ranked, limits.tokens, beside=limits.beside)
                chosen[revision_id] = [own[place] for place in places]
        if self._reranker.reads_text:
            points = [passage.point_id for own in chosen.values() for passage in own]
            texts, _ = self._catalog.hydrate(heads, points, self._generation)
            chosen = {
                revision_id: [texts[p.point_id] for p in own if p.point_id in texts]
                for revision_id, own in chosen.items()
            }
        return [
            ReadingInput(
                rank=candidate.rank,
                title=self._heads[candidate.revision_id].title,
                document_tokens=self._sizes[candidate.revision_id].token_count,
                first_passage_id=self._sizes[candidate.revision_id].first_passage_id or 0,
                passages=tuple(chosen[candidate.revision_id]),
                depth="document",
            )
            for candidate in candidates
        ]

    def _passages(self, heads: Mapping[int, CandidateHead]) -> dict[int, list[PassageText]]:
        """All passages of these revisions in order, without their words."""
        asked = [
            point_id(revision_id, ordinal)
            for revision_id in heads
            for ordinal in range(self._sizes[revision_id].passage_count)
        ]
        found, _ = self._catalog.hydrate(heads, asked, self._generation, with_text=False)
        passages: dict[int, list[PassageText]] = {revision_id: [] for revision_id in heads}
        for point in asked:
            if point in found:
                revision_id, ordinal = split_point_id(point)
                passage = found[point]
                named = point_id(revision_id, ordinal, passage.role.is_aside)
                passages[revision_id].append(replace(passage, point_id=named))
        return passages

    def _look_at(self, points: Sequence[int]) -> None:
        """Ask for the cosines of these passages, all at once."""
        if points and self._vectors is not None:
            self.dense |= self._index.score_dense(self._vectors.dense, points)

    def _ranked(self, candidate: Candidate, own: Sequence[PassageText]) -> list[int]:
        """Places by nearness to the query; by the first stage's order where it has no vector."""
        if self._vectors is None:
            places = {passage.point_id: place for place, passage in enumerate(own)}
            found = [each.point_id for each in candidate.passages]
            return [places[point] for point in found if point in places]

        def nearness(place: int) -> tuple[bool, float, int]:
            passage = own[place]
            return (passage.role.is_aside, -self.dense.get(passage.point_id, -2.0), place)

        return sorted(range(len(own)), key=nearness)
