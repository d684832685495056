"""Documents to passages: whole sentences packed inside sections up to a token target.

Pure: it knows the embedder's tokenizer and nothing else of the model, no file and no store. The
document is tokenized once, in blocks, with character offsets; packing then only counts where tokens
start. What it promises for any text:

1. `token_count <= target_tokens` and length <= `max_chars`. (WordPiece calls a word of more than
   100 characters one token, so the character bound must hold by itself.)
2. A passage lies in one role: a bibliography or a table of contents, marked by the parser or found
   by its form (`roles`), shares no passage with the text around it.
3. Sections, numbered clauses and sentences stay together as `packing` says.

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
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from longleaf.core.errors import ConfigError, Rejected, RejectReason
from longleaf.core.ids import MAX_PASSAGES_PER_DOCUMENT
from longleaf.core.types import Document, Page, Passage, Region, Role, Section
from longleaf.indexer.clauses import Unit, clause_units
from longleaf.indexer.packing import Packer, Piece, Span
from longleaf.indexer.roles import regions_of
from longleaf.indexer.sentences import cut_at_space, cut_sentence, sentence_spans, trim

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ALGORITHM_VERSION = 2
"""Raise it whenever the same document would give other passages, the sentence rules included."""

MIN_TARGET_TOKENS = 40
"""A single character can make 18 tokens (U+FDFA under NFKC); each must fit into half a target."""

_BLOCK_CHARS = 4096
_BLOCKS_PER_BATCH = 32
_CHARS_PER_TOKEN = 16
_MAX_TITLE_CHARS = 200
_MAX_HEADINGS = 6
_HEADING_EXTRA_CHARS = 16  # what a heading has around its title: "## ", a number, a colon
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class PassageChunker:
    """The `Chunker` for every embedder that has a `tokenizers` tokenizer.

    `tokenizer` is copied, so the caller's truncation and padding stay as they are; `tokenizer_id`
    names its content in the fingerprint. `overlap_tokens` lets a passage begin with whole trailing
    sentences (or cut clauses) of the previous one in the same section, never more than that many
    tokens; they count towards the target. `max_chars` defaults to 16 characters per target token.
    `keep_clauses` False cuts numbered clauses like any text, as a baseline to measure against.
    Raises `ConfigError` for sizes that cannot work.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        tokenizer_id: str,
        target_tokens: int = 200,
        overlap_tokens: int = 0,
        max_chars: int | None = None,
        *,
        keep_clauses: bool = True,
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
        self._keep_clauses = keep_clauses
        whole, *slices = (
            self._tokenizer.encode(text, add_special_tokens=False).ids
            for text in ("The law of  land.\n\nA law", "The law", "of  land.", "A law")
        )
        self._space_keeps_counts = bool(whole == [token for ids in slices for token in ids])
        added = self._tokenizer.get_added_tokens_decoder().values()
        self._standing_alone = {char: False for token in added for char in token.content}
        # Byte-level BPE counts a word without the space before it anew, a token more or less.
        slack_tokens = 0 if self._space_keeps_counts else 2
        room_tokens = target_tokens - overlap_tokens - slack_tokens
        self._packer = Packer(room_tokens, target_tokens // 4, max_chars, overlap_tokens)
        sizes = (target_tokens, overlap_tokens, max_chars)
        parts = (ALGORITHM_VERSION, *sizes, keep_clauses, tokenizer_id)
        self.fingerprint = hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    def chunk(self, document: Document) -> tuple[Passage, ...]:
        """The passages of a document, in order; none for a text of only white space.

        Raises `Rejected` (too large) for more than `MAX_PASSAGES_PER_DOCUMENT` passages.
        """
        text = document.text
        regions = regions_of(document)
        units = self._units(document, regions)
        blocks = list(self._blocks(text, units))
        torn = [end for _, end in blocks if not self._is_word_edge(text, end)]
        starts = self._token_starts(text, blocks)
        spans: list[Span] = []
        for _, members in groupby(units, lambda unit: _role_at(regions, unit.start)):
            spans += self._packer.pack(text, [_piece(unit, starts) for unit in members], starts)
        spans = self._exact(text, spans, torn)
        if len(spans) > MAX_PASSAGES_PER_DOCUMENT:
            raise Rejected(
                RejectReason.TOO_LARGE,
                f"{len(spans):,} passages; at most {MAX_PASSAGES_PER_DOCUMENT:,} fit.",
                "Split the document into several files, or use larger passages.",
            )
        return tuple(_passages(document, spans, regions))

    def lone_spans(self, texts: Sequence[str]) -> list[tuple[int, int, int] | None]:
        """For each text whose only passage is plain to see (start_char, end_char, token_count).

        That of `chunk`, but tokenized together and without looking for sentences: one line that
        fits has nothing to be cut at. None: `chunk` must say.
        """
        longest = min(self._packer.max_chars, _BLOCK_CHARS // 2)
        spans = [
            trim(text, 0, len(text))
            if len(text) <= longest and len(text.splitlines()) == 1
            else None
            for text in texts
        ]
        found: list[tuple[int, int, int] | None] = [None] * len(texts)
        short = [place for place, span in enumerate(spans) if span and span[0] < span[1]]
        slices = [_encodable(texts[place])[slice(*(spans[place] or ()))] for place in short]
        encodings = self._tokenizer.encode_batch_fast(slices, add_special_tokens=False)
        for place, encoding in zip(short, encodings, strict=True):
            span = spans[place]
            if span and len(encoding) <= self._packer.room_tokens:
                found[place] = (*span, len(encoding))
        return found

    def _units(self, document: Document, regions: Sequence[Region]) -> list[Piece]:
        """The document's sentences in order, none across a border of a section or a role."""
        text = document.text
        borders = {0, len(text)}
        titles: dict[int, int] = {}
        for section in document.sections:
            borders |= {section.start_char, section.end_char}
            titles[section.start_char] = len(section.title) + _HEADING_EXTRA_CHARS
        for region in regions:
            borders |= {region.start_char, region.end_char}
        units: list[Piece] = []
        for left, right in pairwise(sorted(at for at in borders if 0 <= at <= len(text))):
            found = sentence_spans(text, left, right)
            if self._keep_clauses:
                places = clause_units(text, found)
            else:
                places = [Unit(0, False)] * len(found)
            units += [
                Piece(
                    start,
                    end,
                    opens_section=number == 0,
                    is_heading=number == 0 and end - start <= titles.get(left, 0),
                    depth=place.depth,
                    labelled=place.labelled,
                )
                for number, ((start, end), place) in enumerate(zip(found, places, strict=True))
            ]
        return units

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

    def _blocks(self, text: str, units: Sequence[Piece]) -> Iterator[tuple[int, int]]:
        """Spans that cover all units, short enough for a tokenizer that is not linear."""
        begin = at = units[0].start if units else 0
        for start, end, *_ in units:
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

    def _exact(self, text: str, spans: Sequence[Span], torn: Sequence[int]) -> list[Span]:
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
        exact: list[Span] = []
        for i, span in enumerate(spans):
            todo = [span._replace(tokens=counted.get(i, span.tokens))]
            if exact and span.start <= exact[-1].start:  # what it overlaps was cut just now
                (own,) = self._counts(text, [(span.body, span.end)])
                todo = [Span(span.body, span.end, span.body, own)]
            while todo:
                start, end, body, tokens = todo.pop()
                if tokens <= self._target_tokens:
                    exact.append(Span(start, end, body, tokens))
                    continue
                cut = cut_sentence(text, start, (start + end + 1) // 2, inside_words=True)
                assert cut is not None
                halves = trim(text, start, cut), trim(text, cut, end)
                for (a, b), count in reversed(
                    [*zip(halves, self._counts(text, halves), strict=True)]
                ):
                    if b > body:  # the other half holds nothing but overlap
                        todo.append(Span(a, b, max(a, body), count))
        return exact


def _encodable(text: str) -> str:
    """`text` as the tokenizer can take it, character by character: lone surrogates replaced."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def _piece(unit: Piece, starts: array[int]) -> Piece:
    """The unit with its token numbers."""
    first, end = bisect_left(starts, unit.start), bisect_left(starts, unit.end)
    return unit._replace(first_token=first, end_token=end)


def _role_at(regions: Sequence[Region], at: int) -> Role:
    place = bisect_right(regions, at, key=lambda region: region.start_char) - 1
    inside = place >= 0 and at < regions[place].end_char
    return regions[place].role if inside else Role.BODY


def _passages(
    document: Document, spans: Iterable[Span], regions: Sequence[Region]
) -> Iterator[Passage]:
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
            role=_role_at(regions, span.body),
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
