"""What goes into the catalog and what comes out of it, as frozen values."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, get_args

from longleaf.core.errors import InvalidRequest
from longleaf.core.types import (
    DepthChoice,
    Document,
    MetaValue,
    Outcome,
    Page,
    Passage,
    PassageVectors,
    Region,
    Section,
)

if TYPE_CHECKING:
    from longleaf.core.similarity import Signature


def content_digest(document: Document) -> str:
    """The SHA-256 of all that is stored with a content: text, title, pages, sections, regions.

    Its layout as well: two files of one text may set it on their pages differently.
    """
    return stored_content_digest(
        document.title,
        [[page.number, page.start_char, page.end_char] for page in document.pages],
        [[s.title, s.level, s.start_char, s.end_char] for s in document.sections],
        [[each.role, each.start_char, each.end_char] for each in document.regions],
        None if document.layout is None else document.layout.digest(),
        document.text,
    )


def stored_content_digest(
    title: str,
    pages: Sequence[Sequence[object]],
    sections: Sequence[Sequence[object]],
    regions: Sequence[Sequence[object]],
    layout_digest: bytes | None,
    text: str,
) -> str:
    """`content_digest` from the lists that are stored, so that what is stored can be checked."""
    body = json.dumps([title, pages, sections, regions], ensure_ascii=True)
    hashed = hashlib.sha256(body.encode("ascii"))
    if layout_digest is not None:
        hashed.update(layout_digest)
    hashed.update(text.encode("utf-8", "surrogatepass"))
    return hashed.hexdigest()


@dataclass(frozen=True, slots=True)
class Generation:
    """One (chunker, embedder) pair that passages and vectors were made with."""

    id: int
    chunker_id: int
    embedder_id: int
    chunker_fingerprint: str
    embedder_fingerprint: str
    dim: int
    token_dim: int

    @property
    def fingerprint(self) -> str:
        """What an index made from this generation must carry."""
        joined = f"{self.chunker_fingerprint}|{self.embedder_fingerprint}"
        return hashlib.sha256(joined.encode()).hexdigest()[:16]


_MOST_CANDIDATES = 1000


@dataclass(frozen=True, slots=True)
class ReadingDefaults:
    """How a collection's documents are read unless a search says otherwise; None: as configured.

    `depth` is what is read of a candidate, `candidates` how many, `deadline_ms` and `max_tokens`
    the budget.
    """

    depth: DepthChoice | None = None
    candidates: int | None = None
    deadline_ms: float | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        """Raises InvalidRequest, whoever it comes from."""
        depths = get_args(DepthChoice)
        if self.depth is not None and self.depth not in depths:
            raise InvalidRequest(f"{self.depth!r} is no depth.", f"Use {', '.join(depths)}.")
        if self.candidates is not None and not 1 <= self.candidates <= _MOST_CANDIDATES:
            raise InvalidRequest(f"candidates: 1 to {_MOST_CANDIDATES:,} can be read.")
        if self.deadline_ms is not None and not 0 < self.deadline_ms < math.inf:
            raise InvalidRequest("deadline_ms: a number of milliseconds above 0 is taken.")
        if self.max_tokens is not None and not 1 <= self.max_tokens < 1 << 63:
            raise InvalidRequest("max_tokens: a whole number of 1 or more is taken.")

    def stored(self) -> dict[str, object]:
        """What is set, as the catalog keeps it."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of documents. `language` is what BM25's stemmer reads ("none": no stemming)."""

    name: str
    language: str
    description: str
    created_at: float
    document_count: int = 0
    instruction: str = ""
    rerank: ReadingDefaults = ReadingDefaults()


@dataclass(frozen=True, slots=True)
class ContentWrite:
    """A parsed text with everything made from it for one generation.

    `vectors` are those of the passages from ordinal `first` on: all of them, or a slice of a long
    document, which is written in several transactions and shown to nobody before it is whole.
    `signature` tells versions of the text (`core.similarity`); None where they are not asked for.
    """

    digest: str
    document: Document
    passages: tuple[Passage, ...]
    vectors: tuple[PassageVectors, ...]
    first: int = 0
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class DocumentWrite:
    """A document to put. `content` is None when the catalog already holds `digest`'s vectors.

    `others`: the same content as further open generations need it. `revision`, `created_at` and
    `updated_at` are what an import brings from elsewhere (0, None: count on, now).
    """

    collection: str
    key: str
    digest: str
    metadata: Mapping[str, MetaValue]
    groups: tuple[str, ...]
    source: str
    media_type: str
    original: str | None
    language: str | None
    warnings: tuple[str, ...]
    source_key: str | None = None
    content: ContentWrite | None = None
    others: tuple[tuple[Generation, ContentWrite], ...] = ()
    revision: int = 0
    created_at: float | None = None
    updated_at: float | None = None


@dataclass(frozen=True, slots=True)
class SourceWrite:
    """How a file ended: written in the same transaction as the last of its documents.

    `keep_keys`: documents that came from this file before and whose keys are not among these are
    deleted in that transaction (None: keep all).
    """

    collection: str
    key: str
    sha256: str | None
    size_bytes: int
    mtime_ns: int
    ingest_version: str
    outcome: Outcome
    reason: str = ""
    detail: str = ""
    document_count: int = 0
    keep_keys: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Source(SourceWrite):
    """A source as stored."""

    id: int = 0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class PutResult:
    """What a put did: `changed` is False when the document was already exactly so.

    `replaced_source`: the file that the document came from before; `replaced_original`: the
    original that an unchanged document no longer refers to.
    """

    public_id: str
    document_id: int
    revision_id: int
    revision: int
    changed: bool
    replaced_source: str | None = None
    replaced_original: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentHead:
    """Everything about a document but its text, as hydration and lists need it."""

    document_id: int
    revision_id: int
    content_id: int
    public_id: str
    collection: str
    key: str
    title: str
    revision: int
    metadata: Mapping[str, MetaValue]
    groups: tuple[str, ...]
    source: str
    media_type: str
    original: str | None
    language: str | None
    warnings: tuple[str, ...]
    text_chars: int
    created_at: float
    updated_at: float


class CandidateHead(NamedTuple):
    """The little that ranking needs of a document: read for every candidate, so it is cheap."""

    document_id: int
    revision_id: int
    content_id: int
    key: str
    title: str


@dataclass(frozen=True, slots=True)
class DocumentText:
    """A document's text with where its pages and sections lie."""

    text: str
    pages: tuple[Page, ...] = ()
    sections: tuple[Section, ...] = ()
    regions: tuple[Region, ...] = ()

    @property
    def page_count(self) -> int:
        """Pages, not runs of text on them: a page whose footnotes stand elsewhere has two."""
        return max((page.number for page in self.pages), default=0)


@dataclass(frozen=True, slots=True)
class DocumentSize:
    """How long a document is in one generation. `first_passage_id` is None without passages."""

    first_passage_id: int | None
    passage_count: int
    token_count: int


@dataclass(frozen=True, slots=True)
class Versions:
    """Documents whose text is near another's, with the estimated Jaccard similarity.

    Most similar first; equal texts are 1.0. `compared` is False for a text without a usable
    signature: only equal texts could be found. `more`: there are, or may be, others.
    """

    found: tuple[tuple[DocumentHead, float], ...]
    compared: bool
    more: bool


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the change log."""

    seq: int
    document_id: int
    op: str


@dataclass(frozen=True, slots=True)
class CatalogCounts:
    """How much there is (within a scope)."""

    collections: int
    documents: int
    passages: int
    head_seq: int
    bytes_by_part: Mapping[str, int] = field(default_factory=dict)
