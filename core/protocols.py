"""The seams: what each replaceable part promises, in 2-5 methods each.

Implementations live in indexer, retriever and reranker; `api/wire.py` is the only place that names
them. This module knows none of them. Every implementation of a protocol runs the same contract
suite (tests/contracts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from longleaf.core.filters import Filter
from longleaf.core.types import (
    Document,
    DocumentLimits,
    EmbedInput,
    MetaValue,
    OcrWord,
    Passage,
    PassageVectors,
    QueryVectors,
    ReaderLoad,
    Reading,
    ReadingInput,
    Rejection,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from longleaf.core.budget import Budget
    from longleaf.core.types import FloatArray, Int8Array


class PageReader(Protocol):
    """Reads the text on a picture of a page (OCR).

    `engine` names program, version and languages: what it has read stays valid while it stays the
    same. `read_page` gives the words of page `number` in reading order; `render` makes the picture,
    a PNG with its resolution inside, and is not called when the page is known already. Raises
    `core.errors.Rejected` when the program fails.
    """

    engine: str

    def read_page(self, number: int, render: Callable[[], bytes]) -> tuple[OcrWord, ...]: ...


class OcrStore(Protocol):
    """Keeps what OCR has read of a file's pages, so that a page is read once.

    `original` is the SHA-256 of the file, `engine` what a `PageReader` says of itself. Both methods
    may be called from any thread; what was put is durable on return, and is gone with the original.
    """

    def ocr_pages(self, original: str, engine: str) -> Mapping[int, tuple[OcrWord, ...]]: ...

    def put_ocr_page(
        self, original: str, engine: str, page: int, words: tuple[OcrWord, ...]
    ) -> None: ...


def _no_progress(_phase: str, _done: int, _total: int) -> None: ...


@dataclass(frozen=True, slots=True)
class ParseContext:
    """What a parser may use beside the bytes; by default nothing.

    `ocr` reads pages without text; `why_no_ocr` says in the user's words why there is none.
    `convert` makes a DOCX of an office file in another format: (bytes, suffix) -> bytes, raising
    `Rejected`. `on_progress` hears (phase, units done, units in all).
    """

    ocr: PageReader | None = None
    why_no_ocr: str = ""
    convert: Callable[[bytes, str], bytes] | None = None
    on_progress: Callable[[str, int, int], None] = _no_progress


NO_CONTEXT = ParseContext()


class Parser(Protocol):
    """Bytes to documents.

    `parse` yields one `Document` for an ordinary file and many for a container (JSONL, a mail with
    attachments), and a `Rejection` for each bad member of a container. It raises
    `core.errors.Rejected` when nothing of the file can be read and `core.errors.NoTextFound` when
    it opens but holds no text. `name` is the file's name as the user knows it; it is never opened.
    A parser touches no disk and no network beyond what its context does for it, and never yields a
    document whose text is empty or only white space.
    """

    media_type: str
    suffixes: tuple[str, ...]

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]: ...


class OpenedFile(Protocol):
    """A file that is being read: what is in it, in file order, as it is found.

    Iterating raises what `Parser.parse` raises. `media_type` is its parser's; where that runs
    elsewhere it may have to be waited for. `close` gives up reading; closing twice is fine.
    """

    @property
    def media_type(self) -> str: ...

    def __iter__(self) -> Iterator[Document | Rejection]: ...

    def close(self) -> None: ...


class FileReader(Protocol):
    """Files to documents, wherever their parsers run.

    `open` begins at once where it can (in another process), so that a caller who opens several
    files has them read side by side; those are best iterated in the order they were opened. A type
    that nobody reads is `Rejected`, here or when the file is iterated. Whatever a file does to its
    parser, it ends as one of `Parser.parse`'s errors, and the reader lives on.
    """

    def open(
        self, data: bytes, name: str, on_progress: Callable[[str, int, int], None] = _no_progress
    ) -> OpenedFile: ...

    def close(self) -> None: ...


class Chunker(Protocol):
    """A document's text to passages: exact slices, in order, covering all but white space.

    `fingerprint` changes whenever the same document would give other passages.
    """

    fingerprint: str

    def chunk(self, document: Document) -> tuple[Passage, ...]: ...


@runtime_checkable
class LoneSpans(Protocol):
    """What a `Chunker` may know of many short texts at once, without cutting each.

    For each text whose `chunk` is exactly one passage and that is plain to see: (start_char,
    end_char, token_count) of it; None for the others.
    """

    def lone_spans(self, texts: Sequence[str]) -> list[tuple[int, int, int] | None]: ...


class Embedder(Protocol):
    """Passages and queries to vectors.

    `fingerprint` covers everything that a stored vector depends on: weights hash, prompts,
    pooling, normalisation, projection, quantization. `dim` and `token_dim` are the sizes of dense
    and token vectors (`token_dim` 0: this embedder makes no token vectors, so `late` cannot read).
    `embed_passages` yields one `PassageVectors` for each input, in input order; it may read ahead.
    `truncated_tokens` is honest: a text longer than the model takes is cut and counted.
    `languages`: ISO 639-1 codes of what the model was trained on, None when not known.
    `takes_instruction`: whether an instruction changes a query's vectors.
    """

    fingerprint: str
    name: str
    dim: int
    token_dim: int
    languages: frozenset[str] | None
    takes_instruction: bool

    def embed_passages(self, inputs: Iterable[EmbedInput]) -> Iterator[PassageVectors]: ...

    def embed_query(self, text: str, instruction: str | None = None) -> QueryVectors: ...


@runtime_checkable
class DistantEmbedder(Protocol):
    """An `Embedder` that has another machine compute: embedding is waiting, and no work here."""

    waits_elsewhere: bool


@runtime_checkable
class TwoModels(Protocol):
    """An `Embedder` whose token vectors are another model's: `of_tokens` makes those alone."""

    @property
    def of_tokens(self) -> Embedder: ...


@runtime_checkable
class TokenPlaces(Protocol):
    """What an `Embedder` with token vectors may know beside them: where their tokens stand.

    For each input, (start_char, end_char) in its `text` of every token that `embed_passages` keeps
    a vector of, in the same order, the prefix's left out; start and end are the same for a token
    of the model's own, which stands nowhere. Runs no model.
    """

    def token_places(self, inputs: Sequence[EmbedInput]) -> list[list[tuple[int, int]]]: ...


@dataclass(frozen=True, slots=True)
class IndexPassage:
    """A passage as an index stores it.

    `text` is what BM25 reads: title, headings and passage. `phrase_text` is what a phrase is
    looked for in: the passage and a little of what follows, so that a phrase across the border is
    found. `dense`: (dim,) float32, unit length.
    """

    point_id: int
    text: str
    phrase_text: str
    dense: FloatArray


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A document as an index stores it: all its passages and everything that filters see.

    `document_id` and `revision_id` are the catalog's integers; `public_id`, `key`, `title`,
    `source`, `media_type` and `collection` answer the built-in filter fields; `language` is the
    text's (ISO 639-1, None where nobody could tell), `bm25_language` its collection's.
    """

    document_id: int
    revision_id: int
    public_id: str
    collection: str
    key: str
    title: str
    source: str
    media_type: str
    bm25_language: str
    groups: tuple[str, ...]
    passages: tuple[IndexPassage, ...]
    metadata: Mapping[str, MetaValue] = field(default_factory=dict)
    language: str | None = None


@dataclass(frozen=True, slots=True)
class LexicalQuery:
    """What BM25 looks for: free text, read with one collection language's stemmer."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class IndexFilter:
    """What a search may return: the scope, the user's filter and the phrase pre-filter.

    `collections`: non-empty names (always given). `groups`: None for a caller who sees all;
    otherwise documents without groups or with one of these. A passage must hold at least one of
    `phrases` (when there are any) and none of `excluded` phrases, both compared by the index's
    word tokenizer, lower-cased, unstemmed. (That a document holds *all* phrases and nowhere an
    excluded one is checked by the retriever on the document's text.)
    """

    collections: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    where: Filter | None = None
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoredPoint:
    """A passage and its score in one retriever; higher is better."""

    point_id: int
    score: float


class PassageIndex(Protocol):
    """A rebuildable follower of the catalog that finds passages.

    Writes are idempotent. `put` replaces each entry's document whole and ignores an entry whose
    document is already there in a newer revision. `delete` takes the catalog's document ids;
    unknown ones are fine. `flush(seq)` makes everything so far durable and only then records
    `seq` inside the index; `indexed_seq()` is the last one recorded (0 for a new index).
    Searches are thread-safe, see everything that was put, and return descending scores, ties by
    point id; `score_*` return one score per given id that passes (dense cosine; BM25, 0.0 where
    no term occurs), as a mapping; unknown ids are left out.
    """

    fingerprint: str

    def indexed_seq(self) -> int: ...

    def put(self, entries: Sequence[IndexEntry]) -> None: ...

    def delete(self, document_ids: Sequence[int]) -> None: ...

    def flush(self, seq: int) -> None: ...

    def search_dense(
        self, vector: FloatArray, index_filter: IndexFilter, limit: int
    ) -> list[ScoredPoint]: ...

    def search_bm25(
        self, query: LexicalQuery, index_filter: IndexFilter, limit: int
    ) -> list[ScoredPoint]: ...

    def score_dense(self, vector: FloatArray, point_ids: Sequence[int]) -> dict[int, float]: ...

    def score_bm25(
        self, query: LexicalQuery, index_filter: IndexFilter, point_ids: Sequence[int]
    ) -> dict[int, float]: ...

    def scroll(self, index_filter: IndexFilter, limit: int) -> list[int]:
        """Point ids that pass, ascending, at most `limit`: a query with filters but no words."""
        ...

    def passage_count(self) -> int: ...

    def optimize(self) -> bool:
        """Tidy up after many writes; True if there was anything to do.

        May stop every thread of the process for seconds, so never where requests are answered.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ReaderQuery:
    """The query as a reranker sees it: the words, an optional instruction, the query's vectors.

    `vectors` is None when the embedder failed; a reranker that needs it then raises. `is_bulk`:
    nobody waits at a screen, so a reranker with a queue takes all others first.
    """

    text: str
    instruction: str | None
    vectors: QueryVectors | None
    is_bulk: bool = False


class TokenVectorReader(Protocol):
    """Stored token vectors by passage id (implemented by the catalog)."""

    def token_vectors(
        self, passage_ids: Sequence[int]
    ) -> tuple[Int8Array, NDArray[np.int64], NDArray[np.int64]]:
        """Codes of many passages in one array.

        Returns (codes, starts, prefix_tokens): codes (n_tokens, token_dim) int8, passages one
        after the other in the order asked; starts (n_passages + 1,) int64 offsets into codes;
        prefix_tokens (n_passages,) how many of a passage's first tokens are the title's. A
        passage without token vectors has an empty range.
        """
        ...


@runtime_checkable
class Reranker(Protocol):
    """Candidates to readings.

    `read` takes inputs in first-stage order and yields a `Reading` for each it has read (any order,
    none twice). Before each unit of work it asks `budget.begin_unit()` (or, where a queue does the
    work, `budget.spent()` after each pass) and stops when the budget is gone; what it has not
    yielded by then stays unread. It never drops or invents a candidate, gives equal inputs equal
    scores whatever stands beside them, and raises `LongleafError` when it cannot read at all.
    `takes_instruction` says whether an instruction changes anything. `reads_text`: whether it looks
    at the passages' words; where not, they come as "". `default_instruction` stands where a query
    has none (words or a preset's name; None: the model's own). `document_limits` says how it reads
    inputs of depth "document", and `document_weight` how much such a reading's z-score adds to what
    the passages gave it, found by measurement too. `min_score`: what a passage reading's score must
    be for a document to have something to do with the query, calibrated on judged collections; None
    where nobody has done that. `first_stage_weight` is how much the first stage's z-score adds to
    this model's z-score in the final order (0: the model alone decides), found by measurement and
    documented where it is set.
    """

    name: str
    fingerprint: str
    takes_instruction: bool
    reads_text: bool
    first_stage_weight: float
    document_limits: DocumentLimits
    document_weight: float
    min_score: float | None
    default_instruction: str | None

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]: ...


@runtime_checkable
class LogitScores(Protocol):
    """What a `Reranker` says whose scores are logits of one label: a sigmoid makes them 0 to 1, as
    its model was trained (binary cross-entropy), and keeps their order."""

    scores_are_logits: bool


@runtime_checkable
class QueuedReranker(Reranker, Protocol):
    """A Reranker with a thread and a device of its own, which may die and must be closed.

    `failure` says why it will never read again, None while it can. Where more waits than can be
    done soon, `read` raises `Overloaded`. `close` ends what waits with an error; twice is fine.
    """

    @property
    def failure(self) -> str | None: ...

    def load(self) -> ReaderLoad: ...

    def close(self) -> None: ...


@runtime_checkable
class DistantReranker(Reranker, Protocol):
    """A Reranker that has another machine read.

    `trouble` says why that one is not asked at this moment, None while it is; searches meanwhile
    lack the second stage and say so. `close` lets go of connections; twice is fine.
    """

    @property
    def trouble(self) -> str | None: ...

    def close(self) -> None: ...
