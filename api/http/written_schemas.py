"""An answer in words as JSON: what may be asked, and what is answered.

Offsets are characters (code points), half-open.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from longleaf.api.http.answer_schemas import AnswerView, DegradedView
from longleaf.api.http.errors import Problem
from longleaf.api.http.search_schemas import Query, SearchBody
from longleaf.api.searched import MAX_QUERY_CHARS


class AskBody(SearchBody):
    """A search, and what is to be done with what it finds."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": "When is the security deposit returned?", "collections": ["contracts"]},
                {"query": "Who may sublet?", "min_score": "calibrated", "stream": True},
            ]
        }
    )

    query: Query = Field(
        max_length=MAX_QUERY_CHARS,
        description="The question, in words; may have the syntax of a search.",
        json_schema_extra={"pattern": r"\S"},
    )
    stream: bool = Field(
        False, description="Answer as events; `Accept: text/event-stream` asks for the same."
    )
    max_sources: int | None = Field(
        None, ge=1, le=50, description="Passages to send at most (setting)."
    )

    @model_validator(mode="after")
    def _is_a_question(self) -> Self:
        if self.cursor is not None:
            raise ValueError("cursor: an answer is written from a window's first page")
        if self.offset:
            raise ValueError("offset: an answer is written from the best documents")
        if not self.query.strip():
            raise ValueError("query: an answer needs a question")
        return self


class SourceView(BaseModel):
    """A passage that was sent to the model, or whole sentences of it."""

    number: int = Field(description="As the text cites it: [1].")
    document_id: str
    revision: int
    collection: str
    key: str
    title: str
    rank: int = Field(description="The document's among the search's hits.")
    first_page: int | None
    last_page: int | None
    start_char: int
    end_char: int
    headings: list[str]
    text: str = Field(description="Exactly the document's text from start_char to end_char.")
    is_cut: bool = Field(description="The passage goes on: not all of its sentences were sent.")
    suspicious: list[str] = Field(
        description="Why the passage or its file seems to be written for a machine; `warnings` "
        "repeat it."
    )
    tokens: int = Field(description="The embedding model's.")
    url: str = Field(description="The document's page on this server, with the passage marked.")


class LeftOutView(BaseModel):
    """A deciding passage that was not sent."""

    document_id: str
    start_char: int
    end_char: int
    reason: Literal["same", "no room", "enough"] = Field(
        description="A source says nearly the same; the token budget is spent; as many as may be."
    )
    like: int | None = Field(description="The number of the source that says the same.")


class SpanView(BaseModel):
    """A part of the answer's text."""

    start_char: int
    end_char: int
    text: str


class QuoteView(SpanView):
    """Words in quotation marks that stand in none of the sources they are cited from."""

    numbers: list[int] = Field(description="Those sources; all, where the sentence cites none.")


class UsageView(BaseModel):
    """Tokens as the service counts them; null where it does not say."""

    prompt_tokens: int | None
    answer_tokens: int | None


class WrittenAnswer(BaseModel):
    """An answer in words, what it rests on, and what was checked of it."""

    state: Literal["answered", "documents_do_not_say", "nothing_found", "failed"]
    text: str = Field(
        description="Plain text; [1] cites source 1, [?] stands where it cited none that was sent."
    )
    citations: list[SourceView] = Field(description="Sources that it cites, by their first use.")
    unsupported_citations: list[int] = Field(description="Numbers it cited that no source has.")
    uncited_sentences: list[SpanView] = Field(description="Sentences that cite no source.")
    sentence_count: int = Field(description="Sentences that say something.")
    quotes_not_found: list[QuoteView]
    is_cut: bool = Field(description="The text ends before the answer does; `warnings` say why.")
    sources: list[SourceView] = Field(description="All that was sent, in the order of numbers.")
    left_out: list[LeftOutView] = Field(description="Passages of the hits that were not sent.")
    failure: Problem | None = Field(description="Why the state is failed.")
    model: str | None = Field(description="Who wrote; null: nobody was asked.")
    usage: UsageView
    degraded: list[DegradedView] = Field(description="The search's.")
    warnings: list[str] = Field(description="About the answer; the search's are in `search`.")
    timings_ms: dict[str, float] = Field(
        description="search, first_word (from asking the model), total."
    )
    search: AnswerView = Field(description="What POST /v1/search answers.")


class SourcesEvent(BaseModel):
    """An event `sources`: what is sent to the model now."""

    sources: list[SourceView]
    left_out: list[LeftOutView]
    search: AnswerView


class WordsEvent(BaseModel):
    """An event `token`: what the text goes on with; a citation is never divided.

    `restart`: what came before was no answer (a model that thought aloud); begin anew.
    """

    text: str
    restart: bool = False
