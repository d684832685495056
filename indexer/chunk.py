"""Documents to passages: whole sentences packed inside sections up to a token target.

Pure: it knows the embedder's tokenizer and nothing else of the model, no file and no store. The
document is tokenized once, in blocks, with character offsets; packing then only counts where tokens
start. Three rules, in order of weight:

1. `token_count <= target_tokens` and length <= `max_chars`, for any text. (WordPiece calls a word
   of more than 100 characters one token, so the character bound must hold by itself.)
2. A section begins a passage, unless what runs is below a quarter of both bounds: then it flows on
   into the next section, so that a heading never stands alone while text follows, and keeps the
   heading path of its start. If the next sentence does not fit behind such a short beginning, the
   sentence is cut at a clause, or at white space, to fill the passage.
3. Sentences stay whole; one that is too long is cut as `sentences.cut_sentence` says.

The counts are exact: a passage whose edge may lie inside a word, and every passage of a tokenizer
that reads a word differently after a space (byte-level BPE), is counted again on its own. With
WordPiece that costs English and Chinese text nothing, with byte-level BPE a second tokenization.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from longleaf.core.errors import ConfigError, Rejected, RejectReason
from longleaf.core.ids import MAX_PASSAGES_PER_DOCUMENT
from longleaf.core.types import Document, Page, Passage, Section
from longleaf.indexer.sentences import cut_at_space, cut_sentence, sentence_spans, trim

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ALGORITHM_VERSION = 1
"""Raise it whenever the same document would give other passages, the sentence rules included."""

MIN_TARGET_TOKENS = 40
"""A single character can make 18 tokens (U+FDFA under NFKC); each must fit into half a target."""

_BLOCK_CHARS = 4096
_BLOCKS_PER_BATCH = 32
_CHARS_PER_TOKEN = 16
_MAX_TITLE_CHARS = 200
_MAX_HEADINGS = 6
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class _Piece(NamedTuple):
    """A sentence, or a part of one. Token numbers count from the start of the text."""

    start: int
    end: int
    first_token: int
    end_token: int
    opens_section: bool


class _Span(NamedTuple):
    """A passage to be; `body` is where its own text starts, behind the overlap."""

    start: int
    end: int
    body: int
    tokens: int


class PassageChunker:
    """The `Chunker` for every embedder that has a `tokenizers` tokenizer.

    `tokenizer` is copied, so the caller's truncation and padding stay as they are; `tokenizer_id`
    names its content in the fingerprint. `overlap_tokens` lets a passage begin with whole trailing
    sentences (or cut clauses) of the previous one in the same section, never more than that many
    tokens; they count towards the target. `max_chars` defaults to 16 characters per target token.
    Raises `ConfigError` for sizes that cannot work.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        tokenizer_id: str,
        target_tokens: int = 200,
        overlap_tokens: int = 0,
        max_chars: int | None = None,
    ) -> None:
        max_chars = _CHARS_PER_TOKEN * target_tokens if max_chars is None else max_chars
        for name, given, low, high in (
            ("target of {} tokens", target_tokens, MIN_TARGET_TOKENS, 1 << 20),
            ("overlap of {} tokens", overlap_tokens, 0, target_tokens // 2),
            ("limit of {} characters", max_chars, target_tokens, 1 << 30),
        ):
            if not low <= given <= high:
                raise ConfigError(
                    f"A passage {name.format(given)} cannot work.", f"Use {low:,} to {high:,}."
                )
        self._tokenizer = type(tokenizer).from_str(tokenizer.to_str())
        self._tokenizer.encode_special_tokens = tokenizer.encode_special_tokens
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._target_tokens = target_tokens
        self._overlap_tokens = overlap_tokens
        self._max_chars = max_chars
        whole, *slices = (
            self._tokenizer.encode(text, add_special_tokens=False).ids
            for text in ("The law of  land.\n\nA law", "The law", "of  land.", "A law")
        )
        self._space_keeps_counts = bool(whole == [token for ids in slices for token in ids])
        added = self._tokenizer.get_added_tokens_decoder().values()
        self._standing_alone = {char: False for token in added for char in token.content}
        # Byte-level BPE counts a word without the space before it anew, a token more or less.
        slack_tokens = 0 if self._space_keeps_counts else 2
        self._room_tokens = target_tokens - overlap_tokens - slack_tokens
        self._tiny_tokens = target_tokens // 4
        parts = (ALGORITHM_VERSION, target_tokens, overlap_tokens, max_chars, tokenizer_id)
        self.fingerprint = hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    def chunk(self, document: Document) -> tuple[Passage, ...]:
        """The passages of a document, in order; none for a text of only white space.

        Raises `Rejected` (too large) for more than `MAX_PASSAGES_PER_DOCUMENT` passages.
        """
        text = document.text
        borders = {0, len(text)}
        for section in document.sections:
            borders |= {section.start_char, section.end_char}
        units = [
            (start, end, i == 0)
            for left, right in pairwise(sorted(at for at in borders if 0 <= at <= len(text)))
            for i, (start, end) in enumerate(sentence_spans(text, left, right))
        ]
        blocks = list(self._blocks(text, units))
        torn = [end for _, end in blocks if not self._is_word_edge(text, end)]
        groups = self._pack(text, units, self._token_starts(text, blocks))
        spans = self._exact(text, self._overlapped(groups), torn)
        if len(spans) > MAX_PASSAGES_PER_DOCUMENT:
            raise Rejected(
                RejectReason.TOO_LARGE,
                f"{len(spans):,} passages; at most {MAX_PASSAGES_PER_DOCUMENT:,} fit.",
                "Split the document into several files, or use larger passages.",
            )
        return tuple(_passages(document, spans))

    # --- tokens --------------------------------------------------------------------------------

    def _token_starts(self, text: str, blocks: Sequence[tuple[int, int]]) -> array[int]:
        """(n_tokens,) ascending character positions where the text's tokens start."""
        starts = array("q")
        for at in range(0, len(blocks), _BLOCKS_PER_BATCH):
            batch = blocks[at : at + _BLOCKS_PER_BATCH]
            slices = [_encodable(text[a:b]) for a, b in batch]
            encodings = self._tokenizer.encode_batch(slices, add_special_tokens=False)
            for (a, _), encoding in zip(batch, encodings, strict=True):
                starts.extend([a + left for left, _ in encoding.offsets])
        return starts

    def _blocks(
        self, text: str, units: Sequence[tuple[int, int, bool]]
    ) -> Iterator[tuple[int, int]]:
        """Spans that cover all units, short enough for a tokenizer that is not linear."""
        begin = at = units[0][0] if units else 0
        for start, end, _ in units:
            if at - begin >= _BLOCK_CHARS // 2 and self._is_word_edge(text, at):
                yield begin, at
                begin = start
            while end - begin > _BLOCK_CHARS:
                cut = cut_at_space(text, begin, begin + _BLOCK_CHARS)
                yield begin, cut
                begin = cut
            at = end
        if begin < at:
            yield begin, at

    def _is_word_edge(self, text: str, at: int) -> bool:
        """Whether both sides of `at` are tokenized as if the other were not there.

        Control characters are no white space here: BERT deletes them and joins their neighbours.
        """
        if not self._space_keeps_counts:
            return False
        if at in (0, len(text)) or text[at - 1] in " \t\n\r" or text[at] in " \t\n\r":
            return True
        stands_alone = self._stands_alone(text[at - 1]) or self._stands_alone(text[at])
        return stands_alone and unicodedata.category(text[at])[0] != "M"

    def _stands_alone(self, char: str) -> bool:
        """Whether the tokenizer makes `char` a word of its own wherever it stands (BERT: ideographs
        and punctuation); the characters of special tokens are left out."""
        known = self._standing_alone.get(char)
        if known is None:
            probe = [_encodable(text) for text in (f"a{char}a", "a", char)]
            joined, a, alone = (
                encoding.ids
                for encoding in self._tokenizer.encode_batch(probe, add_special_tokens=False)
            )
            known = self._standing_alone[char] = joined == a + alone + a
        return known

    def _counts(self, text: str, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Each slice's own tokens."""
        counts: list[int] = []
        for at in range(0, len(spans), _BLOCKS_PER_BATCH):
            slices = [_encodable(text[a:b]) for a, b in spans[at : at + _BLOCKS_PER_BATCH]]
            encodings = self._tokenizer.encode_batch_fast(slices, add_special_tokens=False)
            counts += [len(encoding) for encoding in encodings]
        return counts

    def _exact(self, text: str, spans: Sequence[_Span], torn: Sequence[int]) -> list[_Span]:
        """The same spans with their own token counts, cut further where one exceeds the target.

        `torn` are the places where a block's end cut a word.
        """
        doubtful = [
            i
            for i, span in enumerate(spans)
            if not self._is_word_edge(text, span.start)
            or not self._is_word_edge(text, span.end)
            or bisect_left(torn, span.start) != bisect_left(torn, span.end)
        ]
        counts = self._counts(text, [spans[i][:2] for i in doubtful])
        counted = dict(zip(doubtful, counts, strict=True))
        exact: list[_Span] = []
        for i, span in enumerate(spans):
            todo = [span._replace(tokens=counted.get(i, span.tokens))]
            if exact and span.start <= exact[-1].start:  # what it overlaps was cut just now
                (own,) = self._counts(text, [(span.body, span.end)])
                todo = [_Span(span.body, span.end, span.body, own)]
            while todo:
                start, end, body, tokens = todo.pop()
                if tokens <= self._target_tokens:
                    exact.append(_Span(start, end, body, tokens))
                    continue
                cut = cut_sentence(text, start, (start + end + 1) // 2, inside_words=True)
                assert cut is not None
                halves = trim(text, start, cut), trim(text, cut, end)
                for (a, b), count in reversed(
                    [*zip(halves, self._counts(text, halves), strict=True)]
                ):
                    if b > body:  # the other half holds nothing but overlap
                        todo.append(_Span(a, b, max(a, body), count))
        return exact

    # --- packing -------------------------------------------------------------------------------

    def _pack(
        self, text: str, units: Iterable[tuple[int, int, bool]], starts: array[int]
    ) -> list[list[_Piece]]:
        """Greedy: fill a passage until the next sentence does not fit or a section begins."""

        def piece(start: int, end: int, opens_section: bool) -> _Piece:
            tokens = bisect_left(starts, start), bisect_left(starts, end)
            return _Piece(start, end, *tokens, opens_section)

        closed: list[list[_Piece]] = []
        running: list[_Piece] = []
        for unit in units:
            rest = piece(*unit)
            if rest.opens_section and running:
                if closed and self._is_tiny(running):
                    self._balance(closed[-1], running)
                if not self._is_tiny(running):
                    closed.append(running)
                    running = []
            while not self._fits(first := running[0] if running else rest, rest):
                cut = None
                if not running or self._is_tiny(running):
                    full = first.first_token + self._room_tokens
                    spare = rest.end_token - self._tiny_tokens  # leaves no tiny rest
                    full = min(full, spare) if spare > rest.first_token else full
                    limit = starts[full] if full < len(starts) else rest.end
                    limit = limit if running else max(limit, rest.start + 1)
                    limit = min(limit, first.start + self._max_chars, rest.end - 1)
                    cut = cut_sentence(text, rest.start, limit, inside_words=not running)
                if cut is None:
                    assert running, "a character has more tokens than a passage"
                else:
                    running.append(piece(*trim(text, rest.start, cut), rest.opens_section))
                    rest = piece(*trim(text, cut, rest.end), False)
                closed.append(running)
                running = []
            running.append(rest)
        if closed and running and self._is_tiny(running):
            self._balance(closed[-1], running)
            if self._is_tiny(running) and self._fits(closed[-1][0], running[-1]):
                return [*closed[:-1], closed[-1] + running]
        return [*closed, running] if running else closed

    def _is_tiny(self, pieces: Sequence[_Piece]) -> bool:
        tokens = pieces[-1].end_token - pieces[0].first_token
        chars = pieces[-1].end - pieces[0].start
        return tokens < self._tiny_tokens and chars < self._max_chars // 4

    def _fits(self, first: _Piece, last: _Piece) -> bool:
        tokens = last.end_token - first.first_token
        return tokens <= self._room_tokens and last.end - first.start <= self._max_chars

    def _balance(self, previous: list[_Piece], last: list[_Piece]) -> None:
        """Move sentences from `previous` to a tiny `last` of its section, while that evens out."""
        while (
            not last[0].opens_section
            and len(previous) > 1
            and not self._is_tiny(previous[:-1])
            and self._fits(previous[-1], last[-1])
            and last[-1].end_token - previous[-1].first_token
            < previous[-1].end_token - previous[0].first_token
        ):
            last.insert(0, previous.pop())

    def _overlapped(self, groups: Sequence[Sequence[_Piece]]) -> list[_Span]:
        spans: list[_Span] = []
        previous: Sequence[_Piece] = ()
        for group in groups:
            begin, end = group[0], group[-1]
            for piece in reversed(previous[1:]):
                too_many = group[0].first_token - piece.first_token > self._overlap_tokens
                if begin.opens_section or too_many or end.end - piece.start > self._max_chars:
                    break
                begin = piece
            tokens = end.end_token - begin.first_token
            spans.append(_Span(begin.start, end.end, group[0].start, tokens))
            previous = group if self._overlap_tokens else ()
        return spans


def _encodable(text: str) -> str:
    """`text` as the tokenizer can take it, character by character: lone surrogates replaced."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def _passages(document: Document, spans: Iterable[_Span]) -> Iterator[Passage]:
    pages = sorted(document.pages, key=lambda page: page.start_char)
    page_starts = [page.start_char for page in pages]
    sections = sorted(document.sections, key=lambda section: (section.start_char, section.level))
    opened: list[Section] = []
    following = 0
    for ordinal, span in enumerate(spans):
        while following < len(sections) and sections[following].start_char <= span.body:
            opened.append(sections[following])
            following += 1
        opened = [section for section in opened if section.end_char > span.body]
        yield Passage(
            ordinal=ordinal,
            start_char=span.start,
            end_char=span.end,
            token_count=span.tokens,
            first_page=_page_number(pages, page_starts, span.start),
            last_page=_page_number(pages, page_starts, span.end - 1),
            headings=_heading_path(opened),
            overlap_chars=span.body - span.start,
        )


def _page_number(pages: Sequence[Page], page_starts: Sequence[int], at: int) -> int | None:
    """The page that holds the character `at`; between two pages, the one before."""
    return pages[max(bisect_right(page_starts, at) - 1, 0)].number if pages else None


def _heading_path(opened: Sequence[Section]) -> tuple[str, ...]:
    """The innermost titles, outermost first, a cut one ending in "…"."""
    titles = [title for section in opened if (title := " ".join(section.title.split()))]
    return tuple(
        title if len(title) <= _MAX_TITLE_CHARS else title[: _MAX_TITLE_CHARS - 1] + "…"
        for title in titles[-_MAX_HEADINGS:]
    )
