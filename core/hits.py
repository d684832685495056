"""What an answer says of a document: the last noun on the way out, frozen as the others.

Apart from `types.py` because no stage below the answer makes or reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longleaf.core.types import MetaValue, PassageText, Reading

if TYPE_CHECKING:
    from longleaf.core.layout import Rectangle


@dataclass(frozen=True, slots=True)
class HitSentence:
    """A sentence that carries a passage's score: characters in the document.

    `score`: the mean over the query's tokens of the best cosine in this sentence. `rectangles`:
    where it stands on the pages, None where that was not asked for or is not known.
    """

    start_char: int
    end_char: int
    score: float
    rectangles: tuple[Rectangle, ...] | None = None


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A deciding passage as numbers: which it is and what every stage said of it.

    `point_id` names it in one generation only. The first stage's scores are None where only reading
    the whole document has found it; the z-scores where nobody asked for an explanation.
    """

    point_id: int
    dense_score: float | None
    bm25_score: float | None
    dense_rank: int | None
    bm25_rank: int | None
    fused_score: float | None
    reading_score: float | None
    dense_z: float | None
    bm25_z: float | None


@dataclass(frozen=True, slots=True)
class HitPassage:
    """A deciding passage: exact offsets, pages, text, and highlights as offsets in the document.

    `suspicious`: the reasons of `core.suspicion` why it seems to be written for a machine.
    `found`: what the stages said of it. `sentences`: those that carry the score, in text order;
    None where they were not asked for, or nobody can tell (no token vectors).
    """

    passage: PassageText
    highlights: tuple[tuple[int, int], ...]
    found: FoundPassage
    sentences: tuple[HitSentence, ...] | None = None
    suspicious: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HitVersion:
    """A document that stands behind a hit because its text is nearly the same.

    `rank` is its own without collapsing; `similarity` the texts' estimated Jaccard similarity.
    """

    rank: int
    similarity: float
    document_id: str
    collection: str
    key: str
    title: str
    revision: int
    source: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A document in the answer, with the passages that decided and every stage's rank and score.

    `versions` are other documents of nearly the same text, where they were asked to be collapsed.
    `earlier` is the reading of its passages that came before `reading` where that is of the whole.
    `suspicious`: the reasons of its passages, its title, and of its file as the parser saw it.
    """

    rank: int
    score: float
    document_id: str
    collection: str
    key: str
    title: str
    revision: int
    metadata: Mapping[str, MetaValue]
    source: str
    first_stage_rank: int
    first_stage_score: float
    reading: Reading | None
    passages: tuple[HitPassage, ...]
    versions: tuple[HitVersion, ...] = ()
    earlier: Reading | None = None
    suspicious: tuple[str, ...] = ()
