"""The nouns that every stage shares, frozen and slotted.

One noun walks through all stages in the field's words: Document, Passage, Query, Candidate,
Reading, Hit. A stage returns new values and never edits its caller's. This module knows no
storage, no model and no web. Offsets are always characters (Python code points) in
`Document.text`, half-open: `text[start_char:end_char]`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from longleaf.core.layout import Layout

    FloatArray: TypeAlias = NDArray[np.float32]
    Int8Array: TypeAlias = NDArray[np.int8]

MetaValue: TypeAlias = str | int | float | bool | tuple[str, ...]
"""A metadata value. Dates are ISO 8601 strings; several values are a tuple of strings."""

NO_METADATA: Mapping[str, MetaValue] = {}


# --- the way in --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """A run of text on one page of the source: `number` counts from 1.

    In text order. A page whose footnotes were moved behind the text has more than one run.
    """

    number: int
    start_char: int
    end_char: int


@dataclass(frozen=True, slots=True)
class Section:
    """A headed part of the text, its own heading line included.

    `start_char` is where the heading begins, `end_char` where the next section of the same or a
    higher level begins (or the text ends), so sections nest. `level` counts from 1 (outermost).
    """

    title: str
    level: int
    start_char: int
    end_char: int


class Role(enum.StrEnum):
    """What a part of a text is for. All but the first are marked, so that they can be told apart.

    FOOTNOTE interrupts a page and is text like any other. REFERENCES (a bibliography) and CONTENTS
    (a table of contents) are aside: they name what a text is about without saying anything of it.
    """

    BODY = "body"
    FOOTNOTE = "footnote"
    REFERENCES = "references"
    CONTENTS = "contents"

    @property
    def is_aside(self) -> bool:
        """Whether a search should rather find something else."""
        return self in (Role.REFERENCES, Role.CONTENTS)


@dataclass(frozen=True, slots=True)
class Region:
    """`text[start_char:end_char]` has another role than BODY; regions never overlap."""

    role: Role
    start_char: int
    end_char: int


@dataclass(frozen=True, slots=True)
class Document:
    """What a parser makes of bytes: one text, and where its pages and sections lie.

    `key` names a document of a file that holds many (a JSONL line's id). `part` names one that
    belongs to its file (a mail's attachment): its key is the file's, "!/" and `part`. Neither: the
    file itself is the document and the source names it. `media_type` is that of a part, "" where it
    is the file's. `regions` mark what is not body text; `layout` says where words stand on the
    pages, where the parser knows.
    """

    text: str
    title: str
    pages: tuple[Page, ...] = ()
    sections: tuple[Section, ...] = ()
    metadata: Mapping[str, MetaValue] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    layout: Layout | None = None
    key: str | None = None
    part: str | None = None
    media_type: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OcrWord:
    """A word that OCR read on a page: its place in points, as `core.layout` counts them.

    `confidence` is the engine's, 0 to 100. Words of one `line` and `paragraph` share its number,
    which counts up in reading order.
    """

    text: str
    confidence: float
    paragraph: int
    line: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Rejection:
    """One document inside a file that could not be read, while the file's others could.

    `where` says which one in the user's words ("line 12"), `reason` is one of `core.errors`'
    rejection reasons, `detail` says what was wrong.
    """

    where: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Passage:
    """An exact slice of a document: `document.text[start_char:end_char]`.

    `headings` is the path of section titles above it, outermost first. `token_count` counts the
    slice's own tokens in the embedder's tokenizer, without title or headings.
    `overlap_chars` says how many of its first characters the previous passage holds as well.
    A passage lies in one role only.
    """

    ordinal: int
    start_char: int
    end_char: int
    token_count: int
    first_page: int | None = None
    last_page: int | None = None
    headings: tuple[str, ...] = ()
    overlap_chars: int = 0
    role: Role = Role.BODY


class Outcome(enum.StrEnum):
    """How a file ends. Terminal and visible; there is no other way for a file to end.

    INTERRUPTED is what a killed run leaves behind until the next run takes the file up again.
    """

    INDEXED = "indexed"
    INDEXED_WITH_WARNINGS = "indexed with warnings"
    UNCHANGED = "unchanged"
    NO_TEXT = "no text found (needs OCR)"
    REJECTED = "rejected"
    REMOVED = "removed"
    INTERRUPTED = "interrupted (run again)"


@dataclass(frozen=True, slots=True)
class EmbedInput:
    """One passage on its way to the embedder.

    The model reads `prefix` (title and heading path) followed by `text`. Token vectors are kept
    for the text from `overlap_chars` on, and for the prefix only when `keep_prefix` is set, so
    that overlap and title tokens count once in a document.
    """

    prefix: str
    text: str
    overlap_chars: int = 0
    keep_prefix: bool = False


@dataclass(frozen=True, slots=True)
class PassageVectors:
    """What one forward pass gives for one passage.

    `dense`: (dim,) float32, unit length. `token_codes`: (n_kept_tokens, token_dim) int8, the
    prefix's kept tokens first, `prefix_tokens` of them; (0, 0) when the embedder makes none.
    `truncated_tokens` counts tokens of the text that the model could not take (0 if all read).
    """

    dense: FloatArray
    token_codes: Int8Array
    prefix_tokens: int = 0
    truncated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class QueryVectors:
    """A query as the embedder sees it.

    `dense`: (dim,) float32, unit length. `tokens`: (n_query_tokens, token_dim) float32, scaled so
    that `token_codes @ tokens.T` is the cosine of stored token and query token, times the query
    token's weight where the embedder weighs them (weights average 1); (0, 0) if none.
    `truncated_tokens` of the query did not fit the model.
    """

    dense: FloatArray
    tokens: FloatArray
    truncated_tokens: int = 0


# --- who may see what --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scope:
    """Who may see what. Every catalog read and every search takes one.

    `collections`: the names that may be seen, None for all. `groups`: the access groups that the
    caller is in, None for all. A document without groups is open to everyone who may see its
    collection; one with groups, only to callers in at least one of them.
    """

    collections: frozenset[str] | None = None
    groups: frozenset[str] | None = None

    @classmethod
    def all(cls) -> Scope:
        """The local user: everything."""
        return cls(None, None)

    def narrowed(self, collections: Iterable[str]) -> Scope:
        """The same caller, looking only into `collections`; never wider than before."""
        return self.shared_with(Scope(frozenset(collections)))

    def shared_with(self, other: Scope) -> Scope:
        """What both may see; less where a document is in one group of each."""
        return Scope(
            _both(self.collections, other.collections),
            _both(self.groups, other.groups),
        )

    def allows(self, collection: str, groups: Sequence[str]) -> bool:
        """Whether a document of `collection` with access `groups` may be seen."""
        if self.collections is not None and collection not in self.collections:
            return False
        return self.groups is None or not groups or not self.groups.isdisjoint(groups)


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return one if other is None else other
    return one & other


# --- the way out -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CandidatePassage:
    """A passage that the first stage found, with what each retriever said of it.

    `point_id` is `core.ids.point_id(revision_id, ordinal)`. Scores are exact on both sides for
    every member of the union (an absent term is BM25 zero); ranks count from 1 and are None where
    that retriever's list did not hold the passage.
    """

    point_id: int
    dense_score: float
    bm25_score: float
    dense_rank: int | None
    bm25_rank: int | None
    fused_score: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document from the first stage (or a lone passage under `group: none`).

    `passages` are its best, best first, at most `passages_per_document`; `score` is the best
    one's fused score; `rank` counts from 1.
    """

    document_id: int
    revision_id: int
    rank: int
    score: float
    passages: tuple[CandidatePassage, ...]


@dataclass(frozen=True, slots=True)
class PassageText:
    """A hydrated passage: where it lies and what it says.

    `text` and `headings` are empty where they were not asked for (a reranker that reads vectors).
    `overlap_chars`: see `Passage`.
    """

    point_id: int
    passage_id: int
    start_char: int
    end_char: int
    first_page: int | None
    last_page: int | None
    headings: tuple[str, ...]
    token_count: int
    text: str
    role: Role = Role.BODY
    overlap_chars: int = 0


Depth = Literal["passage", "document"]
"""What of a candidate is read: the passages that the first stage found, or the whole document."""
DepthChoice = Literal["passage", "document", "auto"]
"""What may be asked for: one of them, or passages first and then the best documents whole."""


@dataclass(frozen=True, slots=True)
class ReadingInput:
    """What a reranker is asked to read of one candidate, in first-stage order.

    `passages` at depth "passage" are the first stage's, best first; at depth "document" they are
    the document's own in its order, all of them where the reranker takes so many.
    `document_tokens` counts the whole document's own tokens, so that a reading can say what part
    of it was read. `first_passage_id` names the passage that stores the title's token vectors.
    """

    rank: int
    title: str
    document_tokens: int
    first_passage_id: int
    passages: tuple[PassageText, ...]
    depth: Depth = "passage"


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """How a reranker reads whole documents.

    `documents`: so many in one search at most (None: as many as the budget lasts for). `tokens`: so
    many of one document, the passages that say most about the query first (None: all). `beside`:
    what stands beside such a passage goes before the next best one, because the reranker reads
    text and not each passage for itself.
    """

    documents: int | None
    tokens: int | None
    beside: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """One reranker's verdict on one candidate.

    `score` is the model's own, higher is better, comparable only within one model and query.
    `passage_scores` pairs point ids with the model's score for each passage, when it has them.
    `tokens_read` of `tokens_total` document tokens reached the model; `truncated_tokens` were
    meant to and did not fit. `probability` is the score as the model's makers mean it, 0 to 1, for
    models that have such a thing; the order follows `score`, which ties less. `windows` is in how
    many overlapping pieces the longest passage was read; the best piece's score counts, or
    the mean of all (`reranker.window_score`). `from_cache`: it was made for an earlier search.
    """

    rank: int
    score: float
    depth: Depth
    tokens_read: int
    tokens_total: int
    passage_scores: tuple[tuple[int, float], ...] = ()
    truncated_tokens: int = 0
    probability: float | None = None
    windows: int = 1
    from_cache: bool = False


@dataclass(frozen=True, slots=True)
class ReaderLoad:
    """What a reranker with a queue has done since it started, and what waits.

    `queue_seconds` is what requests waited for their first forward pass, `busy_seconds` time in
    passes, `tokens` what went through them. `utilisation`: arithmetic while busy, as a share of
    what this device's matrix products were measured to do.
    """

    waiting_requests: int
    waiting_tokens: int
    requests: int
    refused: int
    passes: int
    documents: int
    tokens: int
    out_of_memory: int
    queue_seconds: float
    tokenize_seconds: float
    busy_seconds: float
    utilisation: float


@dataclass(frozen=True, slots=True)
class Degradation:
    """Something that the answer lacks, in words a user can act on."""

    stage: str
    reason: str
