"""Texts that a caller brings along, read by this server's own second stage: no index is asked.

Texts, query and budget go in, readings come out, with what was cut and what was not read and why;
the forms in which others ask (`http/dialects/`) stand on top. Nothing is stored, and no reading is
kept: the cache knows passages by the catalog's ids, which these do not have.

A text is cut into passages by this server's chunker where the reranker reads passages (`late`,
`cross-encoder`), so that its end counts as much as its beginning, and is read as one where it reads
long texts (`qwen3`). Another Longleaf gives passages that are cut already.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from longleaf.api.reading import reader_of_texts
from longleaf.api.searched import MAX_QUERY_CHARS
from longleaf.core.budget import Budget
from longleaf.core.errors import InvalidRequest
from longleaf.core.protocols import Chunker, Embedder, LoneSpans, ReaderQuery, Reranker
from longleaf.core.types import Depth, Document, PassageText, Reading, ReadingInput
from longleaf.core.waiting import EMBEDDER, stage
from longleaf.reranker.evidence import own_tokens
from longleaf.reranker.late_texts import LateOfTexts
from longleaf.reranker.read import collect

if TYPE_CHECKING:
    from longleaf.api.search import SearchEngine

_TEXTS_AHEAD = 64
"""Short texts that are tokenized together: 100 texts of 20 tokens take a third of what they take
one by one (5 against 17 ms of CPU)."""

CHARS_PER_TOKEN = 4
"""Of English; other scripts have fewer."""

MakeChunker = Callable[[Embedder], Chunker]


@dataclass(frozen=True, slots=True)
class GivenPassage:
    """A passage as its owner cut it. `token_count`: in the owner's tokens; None: counted here."""

    text: str
    headings: tuple[str, ...] = ()
    start_char: int | None = None
    token_count: int | None = None
    overlap_chars: int = 0


@dataclass(frozen=True, slots=True)
class GivenDocument:
    """A text, or passages of a document and at which depth they are to be read.

    `token_count`: of the whole document; None: of what was given.
    """

    text: str = ""
    title: str = ""
    passages: tuple[GivenPassage, ...] | None = None
    depth: Depth = "passage"
    token_count: int | None = None


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class GivenTexts:
    """What is asked. `began`: `time.perf_counter()` when it came, from which the deadline counts;
    a wait for a thread is part of it.

    `reranker`: the one that must read, by name (None: whichever is here). Texts are cut after
    `max_tokens_per_document`, and so that query and text together have `max_pair_tokens` at most;
    the query after `max_query_tokens`: all in the embedder's tokens.
    """

    query: str
    documents: Sequence[GivenDocument]
    instruction: str | None = None
    reranker: str | None = None
    max_tokens_per_document: int | None = None
    max_pair_tokens: int | None = None
    max_query_tokens: int | None = None
    deadline_ms: float | None = None
    max_tokens: int | None = None
    is_bulk: bool = False
    given_up: Callable[[], bool] = _never
    began: float = field(default_factory=time.perf_counter)


def about_tokens(given: GivenTexts) -> int:
    """What reading the texts takes, by their length and without a tokenizer."""
    chars = sum(
        len(each.text) + sum(len(passage.text) for passage in each.passages or ())
        for each in given.documents
    )
    tokens = chars // CHARS_PER_TOKEN
    return tokens if given.max_tokens is None else min(tokens, given.max_tokens)


@dataclass(frozen=True, slots=True)
class GivenReadings:
    """What became of it: each document is in `readings` or in `unread`, by its place.

    A reading's `passage_scores` go by the passage's place in its document.
    `query_truncated_tokens`: tokens of the query that were not read.
    """

    reader: Reranker
    readings: Mapping[int, Reading]
    unread: Mapping[int, str]
    elapsed_ms: float
    query_truncated_tokens: int = 0


NOTHING_IN_IT = "nothing in it to read"
"""Why a text is unread that holds no words."""


class TextReading:
    """Reads given texts with whatever engine answers at the moment. Thread-safe."""

    def __init__(self, make_chunker: MakeChunker) -> None:
        self._make_chunker = make_chunker
        self._lock = threading.Lock()
        self._chunker: tuple[Embedder, Chunker] | None = None

    def read(self, engine: SearchEngine, given: GivenTexts) -> GivenReadings:
        """Raises NotFound where nothing reads here, InvalidRequest for what makes no sense, and
        what the reranker raises when it cannot read at all."""
        reader = reader_of_texts(engine.reranker, engine.embedder)
        if not given.query.strip():
            raise InvalidRequest("The query is empty.", "Ask with words.")
        if len(given.query) > MAX_QUERY_CHARS:
            raise InvalidRequest(
                f"The query has {len(given.query):,} characters; {MAX_QUERY_CHARS:,} are taken.",
                "Send what is asked for, and the rest as a document.",
            )
        if given.reranker not in (None, reader.name):
            raise InvalidRequest(
                f"The reranker here is {reader.name}, not {given.reranker}.",
                "Leave model out, or set reranker.kind.",
            )
        if given.instruction is not None and not reader.takes_instruction:
            raise InvalidRequest(
                f"{reader.name} takes no instruction.", "Leave it out, or put it into the query."
            )
        given, cut_tokens = _with_query_cut(given, _tokenizer_of(engine.embedder))
        laid_out = _Layout(reader, self._chunker_of(engine.embedder), engine.embedder, given)
        query = ReaderQuery(given.query, given.instruction, None, given.is_bulk)
        if isinstance(reader, LateOfTexts):
            with stage(EMBEDDER):
                query = reader.with_vectors(query)
        if query.vectors is not None:
            cut_tokens += query.vectors.truncated_tokens
        deadline_ms = given.deadline_ms
        if deadline_ms is not None:
            deadline_ms -= (time.perf_counter() - given.began) * 1000.0
        budget = Budget(
            deadline_ms,
            given.max_tokens,
            given_up=given.given_up,
            stall_seconds=engine.limits.reading_seconds,
        )
        inputs, empty = [], set()
        for place in range(len(given.documents)):
            if place and budget.spent() is not None:
                break
            item = laid_out.input(place)
            if item is None:
                empty.add(place)
            else:
                inputs.append(item)
        found = collect(reader, query, inputs, budget)
        readings = {rank - 1: laid_out.told(reading) for rank, reading in found.items()}
        spent = budget.spent()
        why = budget.stopped_because or (f"{spent} reached" if spent else NOTHING_IN_IT)
        return GivenReadings(
            reader,
            readings,
            {
                place: NOTHING_IN_IT if place in empty else why
                for place in range(len(given.documents))
                if place not in readings
            },
            (time.perf_counter() - given.began) * 1000.0,
            cut_tokens,
        )

    def _chunker_of(self, embedder: Embedder) -> Chunker:
        """Made once for an embedder: it copies the tokenizer."""
        with self._lock:
            if self._chunker is None or self._chunker[0] is not embedder:
                self._chunker = (embedder, self._make_chunker(embedder))
            return self._chunker[1]


def _tokenizer_of(embedder: Embedder) -> Any:
    tokenizing: Any = embedder
    return tokenizing.tokenizer


def _ends(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """(start_char, end_char) of each token."""
    offsets: list[tuple[int, int]] = tokenizer.encode(text, add_special_tokens=False).offsets
    return offsets


def _cut(tokenizer: Any, text: str, most_tokens: int) -> tuple[str, int]:
    """The text's first tokens, and how many there were more."""
    ends = _ends(tokenizer, text)
    if len(ends) <= most_tokens:
        return text, 0
    return text[: ends[most_tokens - 1][1]], len(ends) - most_tokens


def _with_query_cut(given: GivenTexts, tokenizer: Any) -> tuple[GivenTexts, int]:
    """With a query of no more tokens than it may have, and how many it has lost."""
    if given.max_query_tokens is None:
        return given, 0
    query, cut_tokens = _cut(tokenizer, given.query, given.max_query_tokens)
    return replace(given, query=query), cut_tokens


class _Layout:
    """Given documents as a reranker takes them, and its readings as the caller knows them."""

    def __init__(
        self, reader: Reranker, chunker: Chunker, embedder: Embedder, given: GivenTexts
    ) -> None:
        self._reads_long_texts = reader.document_limits.beside
        self._chunker = chunker
        self._tokenizer = _tokenizer_of(embedder)
        self._given = given
        self._most_tokens = given.max_tokens_per_document
        if given.max_pair_tokens is not None:
            room_tokens = max(1, given.max_pair_tokens - len(_ends(self._tokenizer, given.query)))
            self._most_tokens = min(room_tokens, self._most_tokens or room_tokens)
        # Below zero, where no passage of the catalog is: a reranker that knows stored passages by
        # their ids must not take these for some of them.
        self._ids = itertools.count(-1, -1)
        self._lone: dict[int, tuple[int, int, int] | None] = {}
        self._cut_tokens: dict[int, int] = {}
        self._places: dict[int, int] = {}

    def input(self, place: int) -> ReadingInput | None:
        """The document at `place`; None where there is nothing to read in it."""
        document = self._given.documents[place]
        if document.passages is None:
            passages = list(self._of_text(place, document))
        else:
            passages = list(self._of_passages(document.passages))
        if not any(passage.text.strip() for passage in passages):
            return None
        self._places.update({each.point_id: n for n, each in enumerate(passages)})
        tokens = sum(own_tokens(passages))
        return ReadingInput(
            rank=place + 1,
            title=document.title,
            document_tokens=tokens if document.token_count is None else document.token_count,
            first_passage_id=passages[0].passage_id,
            passages=tuple(passages),
            depth=document.depth,
        )

    def told(self, reading: Reading) -> Reading:
        """With what was cut before the reranker saw it, and passages by their places."""
        cut_tokens = self._cut_tokens.get(reading.rank - 1, 0)
        return replace(
            reading,
            tokens_total=reading.tokens_total + cut_tokens,
            truncated_tokens=reading.truncated_tokens + cut_tokens,
            passage_scores=tuple(
                (self._places[point], score) for point, score in reading.passage_scores
            ),
        )

    def _lone_span(self, place: int) -> tuple[int, int, int] | None:
        """See core.protocols.LoneSpans; some texts ahead, for they are tokenized together."""
        if place not in self._lone and isinstance(self._chunker, LoneSpans):
            ahead = self._given.documents[place : place + _TEXTS_AHEAD]
            spans = self._chunker.lone_spans([each.text for each in ahead])
            self._lone = dict(enumerate(spans, start=place))
        return self._lone.get(place)

    def _of_text(self, place: int, document: GivenDocument) -> Iterator[PassageText]:
        text = document.text
        lone = self._lone_span(place)
        if lone is not None and (self._most_tokens is None or lone[2] <= self._most_tokens):
            start, end, tokens = (0, len(text), lone[2]) if self._reads_long_texts else lone
            yield self._passage(text[start:end], (), start, tokens, 0)
            return
        if self._most_tokens is not None:
            text, self._cut_tokens[place] = _cut(self._tokenizer, text, self._most_tokens)
        cut = self._chunker.chunk(Document(text, document.title))
        if cut and self._reads_long_texts:
            tokens = sum(each.token_count for each in cut)
            yield self._passage(text, (), 0, tokens, 0)
            return
        for each in cut:
            slice_ = text[each.start_char : each.end_char]
            yield self._passage(slice_, (), each.start_char, each.token_count, each.overlap_chars)

    def _of_passages(self, passages: Sequence[GivenPassage]) -> Iterator[PassageText]:
        if self._most_tokens is not None:
            raise InvalidRequest(
                "max_tokens_per_doc cuts texts, and passages are cut already.",
                "Leave it out, or give texts.",
            )
        position = 0
        for each in passages:
            start = position if each.start_char is None else each.start_char
            position = start + len(each.text) + 1
            count = each.token_count
            if count is None:
                count = len(self._tokenizer.encode(each.text, add_special_tokens=False).ids)
            yield self._passage(each.text, each.headings, start, count, each.overlap_chars)

    def _passage(
        self, text: str, headings: tuple[str, ...], start: int, tokens: int, overlap_chars: int
    ) -> PassageText:
        number = next(self._ids)
        return PassageText(
            point_id=number,
            passage_id=number,
            start_char=start,
            end_char=start + len(text),
            first_page=None,
            last_page=None,
            headings=headings,
            token_count=tokens,
            text=text,
            overlap_chars=overlap_chars,
        )
