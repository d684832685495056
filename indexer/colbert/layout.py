"""Texts to the ids that a late-interaction model reads, and which keep a vector; no tensors.

A passage is [CLS] marker title text [SEP], a query [CLS] marker words [SEP] [MASK] … up to the
length that the model was trained with (Khattab & Zaharia 2020, section 3.2). Two rules differ from
the libraries, because they cut without a word: a text that is longer than the model's documents is
read in windows of about equal length, each with markers and title of its own, and a query that is
longer than its fill is read whole. What a window costs is its markers and title; that a token sees
no neighbour across a border is the price of small models.

Kept are the vectors that the libraries keep: all of a window but punctuation (where the checkpoint
says so), markers too; without what overlap and title count elsewhere. A window without a word of
the text keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.control_tokens import ControlTokens
from longleaf.core.errors import ConfigError, ModelUnavailable
from longleaf.core.types import EmbedInput
from longleaf.indexer import sequence
from longleaf.indexer.colbert.checkpoint import CHOOSE, SETTING, Checkpoint, Side

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

LEAST_TEXT_TOKENS = 16
QUERY_MAX_TOKENS = 512
"""Of a query beyond the checkpoint's own length: MaxSim costs time by the query's token."""
_TITLE_SHARE = 4
"""Where a text takes several windows, its title takes at most one part in so many of each."""
_SEAM_TOKENS = 2
"""Slack: title and text may tokenize longer together than apart."""


@dataclass(frozen=True, slots=True)
class Window:
    """`ids` as the model reads them; `kept`: positions in it whose vectors are stored."""

    ids: tuple[int, ...]
    kept: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LaidPassage:
    """A passage's windows in text order. The first window's first `prefix_tokens` kept are the
    title's. `places`: (start_char, end_char) in the input's text of each other kept token, in
    order; a marker stands nowhere, its start and end are both where its window begins or ends."""

    windows: tuple[Window, ...]
    prefix_tokens: int
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class LaidQuery:
    """`attended`: how many of `ids`, from the first, the others see. `truncated_tokens` of the
    query did not fit."""

    ids: tuple[int, ...]
    attended: int
    kept: NDArray[np.int64]
    truncated_tokens: int


class Layout:
    """Lays out passages and queries for one checkpoint.

    `positions`: the longest sequence that the model can take. `document_tokens`: the setting, 0 for
    the checkpoint's own. `mask_id`: of the tokenizer's mask token. Raises ModelUnavailable for a
    tokenizer that does not fit the checkpoint, ConfigError for lengths that cannot be.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        checkpoint: Checkpoint,
        *,
        positions: int,
        mask_id: int | None,
        document_tokens: int = 0,
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # A document that spells "[SEP]" means the letters, never the model's own token.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        # That switch knows nothing of markers, which are added tokens like any word.
        self._control_tokens = ControlTokens(tokenizer)
        around = tokenizer.encode("", add_special_tokens=True).ids
        if len(around) != 2:
            raise ModelUnavailable(
                f"The model puts {len(around)} tokens of its own around a text, not [CLS] and "
                "[SEP].",
                CHOOSE,
            )
        self._first, self._last = around
        self._query = _Begin.of(tokenizer, checkpoint.query)
        self._document = _Begin.of(tokenizer, checkpoint.document)
        self._skipped = _skipped(tokenizer, checkpoint.skipped_words)
        self._skips_in_queries = checkpoint.skips_in_queries
        self.document_tokens = _document_tokens(checkpoint, document_tokens, positions)
        taken = 2 + self._document.tokens
        self._room = self.document_tokens - taken
        if self._room < LEAST_TEXT_TOKENS:
            raise ConfigError(
                f"{self.document_tokens} tokens of a document, of which {taken} are markers, leave "
                "no room for a text.",
                "Set embedder.late_document_tokens to 48 or more, or to 0.",
            )
        own = checkpoint.query_tokens
        self.query_tokens = min(positions, own or QUERY_MAX_TOKENS)
        self._most_query_tokens = min(positions, max(self.query_tokens, QUERY_MAX_TOKENS))
        self._expansion = _expansion(tokenizer, checkpoint, mask_id)
        self.fills_queries = self._expansion is not None
        self._attends = checkpoint.attends_to_expansion

    def passages(self, inputs: Sequence[EmbedInput]) -> list[LaidPassage]:
        """One for each input, in order."""
        as_letters = self._control_tokens.as_letters
        texts = [as_letters(sequence.encodable(item.text)) for item in inputs]
        alone = self._tokenizer.encode_batch(
            [text.strip() for text in texts], add_special_tokens=False
        )
        return [
            self._passage(item, text, len(encoding.ids))
            for item, text, encoding in zip(inputs, texts, alone, strict=True)
        ]

    def _passage(self, item: EmbedInput, text: str, alone_tokens: int) -> LaidPassage:
        stripped = text.strip()
        before = len(text) - len(text.lstrip())
        # What is cut must not depend on the title: who asks for places has none.
        if alone_tokens <= self._room:
            capacity = self._room
            title_tokens = self._room - alone_tokens - _SEAM_TOKENS
        else:
            title_tokens = self._room // _TITLE_SHARE
            capacity = self._room - title_tokens
        title = self._title(item.prefix, min(title_tokens, sequence.PREFIX_MAX_TOKENS))
        lead_chars = len(self._document.lead)
        start = lead_chars + len(title)
        encoding = self._tokenizer.encode(
            self._document.lead + title + stripped, add_special_tokens=False
        )
        lead = sequence.covering(encoding, 0, lead_chars)
        titled = sequence.covering(encoding, lead_chars, start)
        own = sequence.covering(encoding, start, start + len(stripped))
        first_kept = start + max(0, item.overlap_chars - before)
        head = [*self._document.marker, *(encoding.ids[n] for n in (*lead, *titled))]
        title_from = 1 + len(self._document.marker) + len(lead)
        windows: list[Window] = []
        places: list[tuple[int, int]] = []
        prefix_tokens = 0
        for part in _parts(own, encoding, capacity):
            inner = [
                n
                for n in part
                if encoding.offsets[n][1] > first_kept and encoding.ids[n] not in self._skipped
            ]
            if not inner:
                continue
            ids = (self._first, *head, *(encoding.ids[n] for n in part), self._last)
            assert len(ids) <= self.document_tokens, (len(ids), self.document_tokens)
            text_from = 1 + len(head)
            kept_title: list[int] = []
            if item.keep_prefix and not windows:
                kept_title = self._unskipped(ids, range(title_from, text_from))
                prefix_tokens = len(kept_title)
            heads = self._unskipped(ids, range(title_from))
            kept = [*kept_title, *heads, *(text_from + n - part[0] for n in inner), len(ids) - 1]
            windows.append(Window(ids, np.array(kept, np.int64)))
            spans = [
                (max(begin - start, 0) + before, end - start + before)
                for begin, end in (encoding.offsets[n] for n in (part[0], *inner, part[-1]))
            ]
            places += [(spans[0][0], spans[0][0])] * len(heads) + spans[1:-1]
            places.append((spans[-1][1], spans[-1][1]))
        return LaidPassage(tuple(windows), prefix_tokens, tuple(places))

    def _title(self, prefix: str, tokens: int) -> str:
        """As much of it as fits, on a line of its own: there every tokenizer begins a new word, so
        the text's tokens are the same with and without."""
        joined = sequence.joined_prefix(sequence.encodable(prefix))
        joined = self._control_tokens.as_letters(joined)
        fitting = sequence.shortened(self._tokenizer, joined, max(tokens - 1, 0)).rstrip()
        return fitting + "\n" if fitting else ""

    def _unskipped(self, ids: Sequence[int], positions: range) -> list[int]:
        return [n for n in positions if ids[n] not in self._skipped]

    def query(self, text: str) -> LaidQuery:
        """Longer than the model's own length: read whole, up to `QUERY_MAX_TOKENS`."""
        own = self._control_tokens.as_letters(sequence.encodable(text).strip())
        words = self._tokenizer.encode(self._query.lead + own, add_special_tokens=False).ids
        room = self._most_query_tokens - 2 - len(self._query.marker)
        ids = [self._first, *self._query.marker, *words[:room], self._last]
        kept = list(range(len(ids)))
        if self._skips_in_queries:
            kept = self._unskipped(ids, range(len(ids)))
        attended = len(ids)
        if self._expansion is not None and attended < self.query_tokens:
            ids += [self._expansion] * (self.query_tokens - attended)
            kept += range(attended, len(ids))
        if self._attends:
            attended = len(ids)
        return LaidQuery(tuple(ids), attended, np.array(kept, np.int64), max(0, len(words) - room))


@dataclass(frozen=True, slots=True)
class _Begin:
    """`marker` ids, the words that stand before a text, and how many tokens both are at most."""

    marker: tuple[int, ...]
    lead: str
    tokens: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, side: Side) -> _Begin:
        marker, lead = side.marker, side.lead
        if side.is_text:
            # Saved as words, but one of the tokenizer's own tokens where they begin with it.
            added = [each.content for each in tokenizer.get_added_tokens_decoder().values()]
            marker = max((each for each in added if lead.startswith(each)), key=len, default="")
            lead = lead[len(marker) :]
        number = None
        if marker:
            number = tokenizer.token_to_id(marker)
            if number is None:
                number = tokenizer.token_to_id(marker.strip())
            if number is None:
                raise ModelUnavailable(
                    f"The checkpoint marks texts with {marker!r}, which its tokenizer does not "
                    "have.",
                    f"Its tokenizer files belong to another model. {CHOOSE}",
                )
        ids = () if number is None else (number,)
        words = tokenizer.encode(lead, add_special_tokens=False).ids
        return cls(ids, lead, len(ids) + len(words))


def _skipped(tokenizer: Tokenizer, words: Sequence[str]) -> frozenset[int]:
    """Their ids; a word that is no token of its own is none (the unknown token stays)."""
    ids = (tokenizer.token_to_id(word) for word in words)
    return frozenset(number for number in ids if number is not None)


def _document_tokens(checkpoint: Checkpoint, asked: int, positions: int) -> int:
    wanted = asked or checkpoint.document_tokens or positions
    if wanted > positions:
        said = f"{SETTING.partition('.')[0]}.late_document_tokens" if asked else "the checkpoint"
        raise ConfigError(
            f"{said} says {wanted:,} tokens of a document, but the model has only {positions:,} "
            "positions.",
            f"Set embedder.late_document_tokens to {positions:,} or less.",
        )
    return wanted


def _expansion(tokenizer: Tokenizer, checkpoint: Checkpoint, mask_id: int | None) -> int | None:
    """The id that fills queries up; None where they are not."""
    if not checkpoint.expands:
        return None
    number = mask_id
    if checkpoint.expansion is not None:
        number = tokenizer.token_to_id(checkpoint.expansion)
    if number is None:
        raise ModelUnavailable(
            "The checkpoint fills queries up with a token that its tokenizer does not have "
            f"({checkpoint.expansion or 'the mask token'}).",
            f"Its tokenizer files belong to another model. {CHOOSE}",
        )
    return number


def _parts(own: Sequence[int], encoding: Encoding, capacity: int) -> list[Sequence[int]]:
    """`own` tokens in as few parts of at most `capacity` as can be, of about the same length, cut
    before a word where one begins there."""
    parts: list[Sequence[int]] = []
    words = encoding.word_ids
    begin = 0
    while begin < len(own):
        left = len(own) - begin
        count = -(-left // capacity)
        end = wanted = begin + -(-left // count)
        while count > 1 and end > begin and words[own[end]] == words[own[end - 1]]:
            end -= 1
        # One word longer than a part is cut inside.
        end = end if end > begin else wanted
        parts.append(own[begin:end])
        begin = end
    return parts
