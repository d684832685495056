"""What each MCP tool takes. The descriptions are what a model reads before it calls one."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from longleaf.api.http.search_schemas import Query
from longleaf.api.searched import MAX_QUERY_CHARS
from longleaf.core.types import DepthChoice

MOST_DOCUMENTS = 20
MOST_READ_CHARS = 40_000
_MOST_CHAR = 1 << 40

DocumentId = Annotated[
    str, Field(min_length=1, max_length=64, description="`document_id` of an answer of `search`.")
]
Revision = Annotated[
    int | None,
    Field(
        description="`revision` that came with the offsets. If the document has changed since, the "
        "call fails instead of answering from other places."
    ),
]


class Arguments(BaseModel):
    """Base of them: an unknown name is a mistake and not ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class SearchArguments(Arguments):
    """search"""

    query: Query = Field(
        max_length=MAX_QUERY_CHARS,
        description='A question, or words. Also "phrase" (must occur), -word (must not occur), '
        "field:value and year:2019..2022 (metadata). Exact names such as § 12(b)(iii) or a case "
        "number are found as they stand.",
    )
    collections: list[str] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Where to look, by names that `list_collections` tells; left out: everywhere.",
    )
    limit: int = Field(5, ge=1, le=MOST_DOCUMENTS, description="Documents in the answer.")
    passages: int = Field(
        2, ge=1, le=8, description="Passages shown of each document; the best come first."
    )
    filter: dict[str, Any] | None = Field(
        None,
        description="A condition on metadata, as a tree: leaves test a field (eq, in, prefix, gte, "
        "gt, lte, lt); and, or, not join them.",
        examples=[{"and": [{"field": "year", "gte": 2019}, {"field": "court", "eq": "ca9"}]}],
    )
    depth: DepthChoice | None = Field(
        None,
        description="What the second stage reads of each candidate: `passage` (fast), `document` "
        "(all of it), or `auto`. Left out: as configured.",
    )
    instruction: str | None = Field(
        None,
        max_length=2000,
        description="What counts as an answer, in a sentence, for a second stage that takes one; "
        "one that does not says so in `warnings`.",
    )


class ReadPassageArguments(Arguments):
    """read_passage"""

    document_id: DocumentId
    start_char: int | None = Field(
        None,
        ge=0,
        le=_MOST_CHAR,
        description="A character in the passage, such as a found passage's `start_char`.",
    )
    number: int | None = Field(
        None, ge=0, le=1 << 20, description="Instead: the passage's number in its document, from 0."
    )
    before: int = Field(0, ge=0, le=5, description="So many passages before it as well.")
    after: int = Field(0, ge=0, le=5, description="So many passages behind it as well.")
    revision: Revision = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.start_char is None) == (self.number is None):
            raise ValueError("give either start_char or number")
        return self


class ReadDocumentArguments(Arguments):
    """read_document"""

    document_id: DocumentId
    start_char: int = Field(
        0,
        ge=0,
        le=_MOST_CHAR,
        description="The first character; `next_char` of an answer goes on.",
    )
    end_char: int | None = Field(
        None, ge=1, le=_MOST_CHAR, description="Behind the last character; left out: the end."
    )
    first_page: int | None = Field(
        None, ge=1, le=1 << 31, description="Read only these pages; counts from 1."
    )
    last_page: int | None = Field(
        None, ge=1, le=1 << 31, description="Left out: `first_page` alone."
    )
    max_chars: int = Field(
        8_000,
        ge=1,
        le=MOST_READ_CHARS,
        description="Most characters in the answer; it says where the rest begins.",
    )
    outline: bool = Field(
        True, description="Also the document's sections, when reading begins at its start."
    )
    revision: Revision = None


class ListCollectionsArguments(Arguments):
    """list_collections"""
