"""The form of an export, and what it takes to be one: names, lines, limits.

A folder or an uncompressed .tar of JSON lines, originals and, if wished, vectors:

    export.json                       format, version, what made the vectors
    collections.jsonl                 one `CollectionLine` each
    originals/ab/cdef…                bytes, named by their SHA-256
    parts/000001/contents.jsonl       one `ContentLine` each: text, pages, sections, layout
    parts/000001/vectors.bin          of those contents, one after the other (only with vectors)
    parts/000001/documents.jsonl      one `DocumentLine` each, of contents of this part or before
    sources.jsonl                     one `SourceLine` each: how files ended
    end.json                          counts: without it the export is not whole

In a .tar the members stand in that order, the originals of a part before it. Everything is checked
on the way in, because an export may come from anybody: types and sizes here, offsets in `content`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from longleaf.core.types import DepthChoice, Outcome

FORMAT, VERSION = "longleaf-export", 1
HEADER, COLLECTIONS, SOURCES, END = "export.json", "collections.jsonl", "sources.jsonl", "end.json"
CONTENTS, VECTORS, DOCUMENTS = "contents.jsonl", "vectors.bin", "documents.jsonl"

PART = re.compile(
    r"parts/(?P<number>[0-9]{6})/(?P<file>contents\.jsonl|vectors\.bin|documents\.jsonl)"
)
ORIGINAL = re.compile(r"originals/(?P<begin>[0-9a-f]{2})/(?P<rest>[0-9a-f]{62})")

PART_BYTES = 16 * 1024 * 1024
PART_DOCUMENTS = 1000
"""A part ends with the document that passes one of these: what an import holds at a time."""

MOST_PASSAGES_WITH_VECTORS = 4000
"""A longer text's vectors stay out (100 MB and more at a time): an import makes them anew."""

MOST_LINE_BYTES = 256 * 1024 * 1024
"""What a line may hold: the only bound on texts and lists in it, because all are in memory then."""

_BIG = 2**53

Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Words = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=_BIG)]
Small = Annotated[int, Field(ge=0, le=2**31 - 1)]
Number = Annotated[int, Field(ge=1, le=2**31 - 1)]
Seconds = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
Value = bool | int | Annotated[float, Field(allow_inf_nan=False)] | str | list[str]


class Strict(BaseModel):
    """Types as they are written, and no field that is not named."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class MadeBy(Strict):
    """What made passages and vectors: they are used where the same made those that are there."""

    chunker: str
    embedder: str
    embedder_name: str
    dim: Annotated[int, Field(ge=1, le=65536)]
    token_dim: Annotated[int, Field(ge=0, le=65535)]


class Header(Strict):
    """`export.json`. `vectors` is None when none are in the export."""

    format: Literal["longleaf-export"]
    version: Literal[1]
    longleaf: str
    created_at: Seconds
    vectors: MadeBy | None


class RerankLine(Strict):
    """How a collection is read; null: as configured."""

    depth: DepthChoice | None = None
    candidates: Annotated[int, Field(ge=1, le=1000)] | None = None
    deadline_ms: Annotated[float, Field(gt=0)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None


class CollectionLine(Strict):
    name: Name
    language: str
    description: str
    instruction: str = ""
    rerank: RerankLine = RerankLine()


class PassageLine(Strict):
    """A passage with its vectors' sizes; its ordinal is its place in the list.

    `vectors.bin` has for each passage, in order: `dim` half floats, then `tokens` x `token_dim`
    signed bytes, little-endian; `vector_crc32` is of both together.
    """

    start_char: Count
    end_char: Count
    token_count: Small
    first_page: Number | None
    last_page: Number | None
    headings: list[str]
    overlap_chars: Count
    role: str
    tokens: Small | None
    prefix_tokens: Annotated[int, Field(ge=0, le=65535)]
    truncated_tokens: Small
    vector_crc32: Count


class ContentLine(Strict):
    """A text with where its pages, sections and words are. `layout` is base64.

    Pages are [number, start, end], sections [title, level, start, end], regions [role, start, end].
    `passages` come with vectors only.
    """

    digest: Hash
    title: str
    text: Words
    pages: list[tuple[Number, Count, Count]]
    sections: list[tuple[str, Number, Count, Count]]
    regions: list[tuple[str, Count, Count]]
    layout: str | None
    passages: list[PassageLine] | None


class DocumentLine(Strict):
    """A document: whose text, under which name, with which labels."""

    collection: Name
    key: Words
    content: Hash
    metadata: dict[str, Value]
    groups: list[Words]
    source: str
    media_type: str
    original: Hash | None
    language: str | None
    warnings: list[str]
    source_key: Words | None
    revision: Number
    created_at: Seconds
    updated_at: Seconds


class SourceLine(Strict):
    """How a file ended, so that the next `longleaf index` of the same files skips them."""

    collection: Name
    key: Words
    sha256: Hash | None
    size_bytes: Annotated[int, Field(ge=-1, le=_BIG)]
    mtime_ns: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
    ingest_version: str
    outcome: Annotated[Outcome, Field(strict=False)]
    reason: str
    detail: str
    document_count: Count


class End(Strict):
    """`end.json`: how much there was."""

    collections: Count
    documents: Count
    contents: Count
    originals: Count
    sources: Count
