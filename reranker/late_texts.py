"""`late` over texts that are stored nowhere: embedded when they are read, then MaxSim as ever.

For texts that a caller brings along. It knows the embedder as a protocol and the arithmetic as
`late.LateInteraction`. What stored vectors save is what this costs: a forward pass over every text,
seconds for 100 passages on a CPU where `late` takes milliseconds. So the budget is asked after
every `_UNIT_TOKENS`, about what a batch of the bundled model holds, and before each passage that
the embedder takes: a document whose end was not embedded in time stays unread.

The scores are those of `late` within the noise of padding, but for the title: its vectors come from
the pass over the first passage that was given, and not over the document's first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.budget import Budget
from longleaf.core.types import EmbedInput, PassageVectors, Reading, ReadingInput
from longleaf.reranker.instructions import instruction_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.core.protocols import Embedder, ReaderQuery
    from longleaf.core.types import DocumentLimits, Int8Array
    from longleaf.reranker.late import LateInteraction

_UNIT_TOKENS = 2_048
"""Between two looks at the budget; at least one document."""


class LateOfTexts:
    """`core.protocols.Reranker`. Thread-safe when the embedder is.

    A query that comes without vectors is embedded here; given ones must be the same embedder's. A
    text in which the tokenizer finds nothing stays unread.
    """

    name = "late"
    reads_text = True
    default_instruction: str | None = None

    def __init__(self, late: LateInteraction, embedder: Embedder) -> None:
        self._late = late
        self._embedder = embedder
        self.fingerprint = f"{late.fingerprint} {embedder.fingerprint}"
        self.takes_instruction = embedder.takes_instruction
        self.first_stage_weight = late.first_stage_weight
        self.document_limits: DocumentLimits = late.document_limits
        self.document_weight = late.document_weight
        self.min_score = late.min_score

    def with_vectors(self, query: ReaderQuery) -> ReaderQuery:
        """The query embedded, where it is not yet: who embeds it sees how much of it was cut."""
        if query.vectors is not None:
            return query
        words = instruction_text(query.instruction) if query.instruction else None
        return replace(query, vectors=self._embedder.embed_query(query.text, words))

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        """See core.protocols.Reranker."""
        if not inputs or budget.spent() is not None:
            return
        query = self.with_vectors(query)
        position = 0
        while position < len(inputs) and budget.begin_unit() is None:
            unit = _next_unit(inputs[position:], budget)
            position += len(unit)
            store = _Embedded.of(unit, self._embedder, budget)
            readable = [item for item in unit if store.holds(item)]
            for reading in self._late.over(store).read(query, readable, Budget()):
                budget.use(reading.tokens_read)
                yield replace(reading, truncated_tokens=store.truncated_tokens(unit, reading.rank))


def _next_unit(inputs: Sequence[ReadingInput], budget: Budget) -> Sequence[ReadingInput]:
    """The documents to embed before the budget is asked again; at least one."""
    room_tokens = _UNIT_TOKENS
    if budget.max_tokens is not None:
        room_tokens = min(room_tokens, budget.max_tokens - budget.tokens_used)
    for count, item in enumerate(inputs, start=1):
        room_tokens -= sum(passage.token_count for passage in item.passages)
        if room_tokens <= 0:
            return inputs[:count]
    return inputs


class _Embedded:
    """A `core.protocols.TokenVectorReader` over what was just embedded."""

    def __init__(self, vectors: dict[int, PassageVectors], token_dim: int) -> None:
        self._vectors = vectors
        self._token_dim = token_dim

    @classmethod
    def of(cls, inputs: Sequence[ReadingInput], embedder: Embedder, budget: Budget) -> _Embedded:
        """Embed the passages of `inputs`, each as indexing does, until time is over or nobody
        waits."""
        passages = [passage for item in inputs for passage in item.passages]

        def given() -> Iterator[EmbedInput]:
            for item in inputs:
                for passage in item.passages:
                    if budget.spent() is not None:
                        return
                    yield EmbedInput(
                        prefix=". ".join((item.title, *passage.headings)),
                        text=passage.text,
                        overlap_chars=passage.overlap_chars,
                        keep_prefix=passage.passage_id == item.first_passage_id,
                    )

        made = embedder.embed_passages(given())
        vectors = {each.passage_id: one for each, one in zip(passages, made, strict=False)}
        return cls(vectors, embedder.token_dim)

    def holds(self, item: ReadingInput) -> bool:
        """Whether all of it is here, with a token of the text itself and not only of its title."""
        made = [self._vectors.get(each.passage_id) for each in item.passages]
        return all(each is not None for each in made) and any(
            len(each.token_codes) > each.prefix_tokens for each in made if each is not None
        )

    def truncated_tokens(self, inputs: Sequence[ReadingInput], rank: int) -> int:
        """Tokens of an input that the embedder could not take."""
        (item,) = (each for each in inputs if each.rank == rank)
        return sum(self._vectors[each.passage_id].truncated_tokens for each in item.passages)

    def token_vectors(
        self, passage_ids: Sequence[int]
    ) -> tuple[Int8Array, NDArray[np.int64], NDArray[np.int64]]:
        """See core.protocols.TokenVectorReader."""
        nothing = np.zeros((0, self._token_dim), np.int8)
        made = [self._vectors[passage_id] for passage_id in passage_ids]
        lengths = [len(each.token_codes) for each in made]
        codes = [each.token_codes for each in made if len(each.token_codes)]
        return (
            np.concatenate(codes or [nothing]),
            np.cumsum([0, *lengths]).astype(np.int64),
            np.array([each.prefix_tokens for each in made], np.int64),
        )
