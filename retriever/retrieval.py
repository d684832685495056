"""What goes into the first stage and what comes out of it: frozen nouns, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from longleaf.core.errors import ConfigError
from longleaf.core.filters import Filter
from longleaf.core.types import Candidate, Degradation, Scope
from longleaf.retriever.fusion import RRF_K

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray


@dataclass(frozen=True, slots=True)
class RetrievalQuery:
    """What to look for, and who asks.

    `text` is what both sides read, without operators; blank means: list what the filter allows.
    `vector`: (dim,) float32, unit length; None when the embedder failed. A document must hold all
    `phrases` and none of the `excluded` words and phrases. `collections` maps the names of the
    collections to search, already narrowed to the scope and not empty, to their BM25 languages.
    """

    text: str
    vector: FloatArray | None
    scope: Scope
    collections: Mapping[str, str]
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    where: Filter | None = None


@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    """`candidates` counts distinct documents (passages when `group` is "none").

    `first_batch_passages` is what each side is asked for first, by default twice `candidates`;
    it changes the time, not the result. `weight_bm25` multiplies BM25's z-score against 1 for the
    dense one; RRF has no weights. `aside_penalty` is what bibliographies and tables of contents
    lose: 1 takes a third of them out of the ten best passages (7.2 % to 4.6 %) and leaves an entry
    that is asked for where it was (MRR 0.993 to 0.985); 2 takes two thirds and costs look-ups 0.036
    (docs/chunking.md). `explain` keeps the z-scores that were added. Raises ConfigError for values
    that make no sense.
    """

    candidates: int = 100
    passages_per_document: int = 3
    fusion: Literal["zscore", "rrf"] = "zscore"
    group: Literal["document", "none"] = "document"
    first_batch_passages: int | None = None
    weight_bm25: float = 1.0
    rrf_k: int = RRF_K
    aside_penalty: float = 1.0
    explain: bool = False

    def __post_init__(self) -> None:
        first = self.first_batch_passages
        for name, value in (
            ("candidates", self.candidates),
            ("passages_per_document", self.passages_per_document),
            ("first_batch_passages", 1 if first is None else first),
            ("rrf_k", self.rrf_k),
        ):
            if value < 1:
                raise ConfigError(f"{name} is {value}.", "Give at least 1.")
        for name, factor in (
            ("weight_bm25", self.weight_bm25),
            ("aside_penalty", self.aside_penalty),
        ):
            if not 0 <= factor < float("inf"):
                raise ConfigError(f"{name} is {factor}.", "Give 0 or a positive number.")
        for name, word, known in (
            ("fusion", self.fusion, ("zscore", "rrf")),
            ("group", self.group, ("document", "none")),
        ):
            if word not in known:
                raise ConfigError(f"Unknown {name} {word!r}.", f"Give one of {', '.join(known)}.")


class StageRank(NamedTuple):
    """A document in one side's ranking, with its best passage's score there."""

    document_id: int
    revision_id: int
    score: float


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What the first stage found.

    The rankings are each side's own documents by best passage, up to `candidates`, for
    evaluation. `exhausted`: both sides ran out before they had `candidates` documents, so there is
    nothing beyond these; otherwise there may be more. `counts` says how many passages each side
    kept and how many documents were left out; `timings_ms` has "dense", "bm25", "check" (the
    catalog: who may see what, phrases; and listing without words) and "fuse". `normalised`: with
    `explain`, each side's z-score of every passage that was fused, by "dense" and "bm25".
    """

    candidates: tuple[Candidate, ...]
    dense_ranking: tuple[StageRank, ...] = ()
    bm25_ranking: tuple[StageRank, ...] = ()
    exhausted: bool = True
    counts: Mapping[str, int] = field(default_factory=dict)
    degraded: tuple[Degradation, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    normalised: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
