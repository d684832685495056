"""Sentences to passages: which stand together, by sizes alone; pure.

Greedy: a passage is filled until the next sentence does not fit or a section begins. The rules:

1. A section begins a passage, unless what runs is below a quarter of both bounds: then it flows on
   into the next section, so that a heading never stands alone while text follows. If the next
   sentence does not fit behind such a short beginning, the sentence is cut at a clause, or at white
   space, to fill the passage.
2. A numbered clause with all its sub-items stays in one passage if it fits into one; so does a
   sub-item of a clause that does not. What runs is closed for it, however short that leaves it,
   but for a bare heading or lead-in ("The tenant shall:"): behind these it is cut, before its
   sub-items first.
3. Sentences stay whole; one that is too long is cut as `sentences.cut_sentence` says.

It knows sentences by their place, token numbers and labels, and neither tokenizer nor document.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from longleaf.indexer.sentences import cut_sentence, trim


class Piece(NamedTuple):
    """A sentence, or a part of one. Token numbers count from the start of the text.

    `opens_section`: the first of its section. `is_heading`: nothing but the section's title.
    `depth` and `labelled` are its place among numbered clauses (`clauses.Unit`).
    """

    start: int
    end: int
    first_token: int = 0
    end_token: int = 0
    opens_section: bool = False
    is_heading: bool = False
    depth: int = 0
    labelled: bool = False


class Span(NamedTuple):
    """A passage to be; `body` is where its own text starts, behind the overlap."""

    start: int
    end: int
    body: int
    tokens: int


class _Clause(NamedTuple):
    """Pieces that are to stand together. `opens_long`: the clause that it begins is longer."""

    pieces: list[Piece]
    opens_long: bool = False


class _Group(list[_Clause]):
    """A passage that is being filled."""

    @property
    def first(self) -> Piece:
        return self[0].pieces[0]

    @property
    def last(self) -> Piece:
        return self[-1].pieces[-1]


@dataclass(frozen=True, slots=True)
class Packer:
    """Sizes of passages. `room_tokens` is what a passage's own text may take, without overlap."""

    room_tokens: int
    tiny_tokens: int
    max_chars: int
    overlap_tokens: int

    def pack(self, text: str, pieces: Sequence[Piece], starts: array[int]) -> list[Span]:
        """The passages of consecutive `pieces`; `starts` are the text's token starts, ascending."""
        return self._overlapped(self._groups(text, pieces, starts)) if pieces else []

    def _groups(self, text: str, pieces: Sequence[Piece], starts: array[int]) -> list[_Group]:
        closed: list[_Group] = []
        running = _Group()
        waiting = deque(self._clauses(pieces))
        while waiting:
            clause = waiting.popleft()
            first, last = clause.pieces[0], clause.pieces[-1]
            if running and first.opens_section:
                if closed and self._is_tiny(running):
                    self._balance(closed[-1], running)
                if not self._is_tiny(running):
                    closed.append(running)
                    running = _Group()
            if running and clause.opens_long and not self._is_tiny(running):
                closed.append(running)
                running = _Group()
            if self._fits(running.first if running else first, last):
                running.append(clause)
            elif _is_whole(clause) and self._fits(first, last) and not self._leads(running, first):
                self._close(closed, running)
                running = _Group([clause])
            elif len(clause.pieces) > 1:
                waiting.extendleft(reversed([_Clause(each) for each in _apart(clause.pieces)]))
            else:
                *full, running = self._cut(text, running, first, starts)
                closed += full
        if closed and running and self._is_tiny(running):
            self._close(closed, running)
        elif running:
            closed.append(running)
        return closed

    def _clauses(self, pieces: Sequence[Piece]) -> Iterator[_Clause]:
        """The pieces in clauses that fit into a passage, and single pieces where none does."""
        begin = 0
        for at in range(1, len(pieces) + 1):
            if at == len(pieces) or pieces[at].depth == 0:
                yield from self._fitting(list(pieces[begin:at]), opens_long=False)
                begin = at

    def _fitting(self, clause: list[Piece], *, opens_long: bool) -> Iterator[_Clause]:
        if len(clause) == 1 or self._fits(clause[0], clause[-1]):
            yield _Clause(clause, opens_long)
            return
        for number, part in enumerate(_apart(clause)):
            yield from self._fitting(part, opens_long=number == 0)

    def _cut(self, text: str, running: _Group, rest: Piece, starts: array[int]) -> Iterator[_Group]:
        """Passages with a sentence that does not fit behind what runs; the last goes on running."""

        def part(start: int, end: int, opens_section: bool) -> Piece:
            start, end = trim(text, start, end)
            tokens = bisect_left(starts, start), bisect_left(starts, end)
            return Piece(start, end, *tokens, opens_section, depth=rest.depth)

        while not self._fits(running.first if running else rest, rest):
            cut = None
            if not running or self._is_tiny(running):
                first = running.first if running else rest
                full = first.first_token + self.room_tokens
                spare = rest.end_token - self.tiny_tokens  # leaves no tiny rest
                full = min(full, spare) if spare > rest.first_token else full
                limit = starts[full] if full < len(starts) else rest.end
                limit = limit if running else max(limit, rest.start + 1)
                limit = min(limit, first.start + self.max_chars, rest.end - 1)
                cut = cut_sentence(text, rest.start, limit, inside_words=not running)
            if cut is None:
                assert running, "a character has more tokens than a passage"
            else:
                running.append(_Clause([part(rest.start, cut, rest.opens_section)]))
                rest = part(cut, rest.end, False)
            yield running
            running = _Group()
        running.append(_Clause([rest]))
        yield running

    def _is_tiny(self, group: _Group) -> bool:
        first, last = group.first, group.last
        few_tokens = last.end_token - first.first_token < self.tiny_tokens
        return few_tokens and last.end - first.start < self.max_chars // 4

    def _fits(self, first: Piece, last: Piece) -> bool:
        tokens = last.end_token - first.first_token
        return tokens <= self.room_tokens and last.end - first.start <= self.max_chars

    def _leads(self, running: _Group, clause: Piece) -> bool:
        """Whether what runs is a mere heading of what `clause` begins, or the words before it."""
        if not running or not self._is_tiny(running):
            return False
        pieces = [piece for each in running for piece in each.pieces]
        bare = all(piece.is_heading for piece in pieces)
        beside = any(piece.labelled and piece.depth >= clause.depth for piece in pieces)
        return bare or (clause.depth > 0 and not beside)

    def _close(self, closed: list[_Group], running: _Group) -> None:
        """Close what runs; where it is tiny, it takes from the passage before or joins it."""
        if closed and self._is_tiny(running):
            self._balance(closed[-1], running)
            if self._is_tiny(running) and self._fits(closed[-1].first, running.last):
                closed[-1] += running
                return
        closed.append(running)

    def _balance(self, previous: _Group, last: _Group) -> None:
        """Move clauses from `previous` to a tiny `last` of its section, while that evens out."""
        while (
            not last.first.opens_section
            and len(previous) > 1
            and not self._is_tiny(_Group(previous[:-1]))
            and self._fits(previous[-1].pieces[0], last.last)
            and last.last.end_token - previous[-1].pieces[0].first_token
            < previous.last.end_token - previous.first.first_token
        ):
            last.insert(0, previous.pop())

    def _overlapped(self, groups: Sequence[_Group]) -> list[Span]:
        spans: list[Span] = []
        previous: list[Piece] = []
        for group in groups:
            own, begin, last = group.first, group.first, group.last
            for piece in reversed(previous[1:]):
                too_many = own.first_token - piece.first_token > self.overlap_tokens
                if begin.opens_section or too_many or last.end - piece.start > self.max_chars:
                    break
                begin = piece
            spans.append(Span(begin.start, last.end, own.start, last.end_token - begin.first_token))
            previous = [piece for each in group for piece in each.pieces]
            previous = previous if self.overlap_tokens else []
        return spans


def _is_whole(clause: _Clause) -> bool:
    return len(clause.pieces) > 1 or clause.pieces[0].labelled


def _apart(clause: Sequence[Piece]) -> list[list[Piece]]:
    """A clause cut where the fewest sub-items are cut with it: between the outermost ones."""
    outermost = min(piece.depth for piece in clause[1:])
    parts: list[list[Piece]] = [[clause[0]]]
    for piece in clause[1:]:
        if piece.depth == outermost:
            parts.append([])
        parts[-1].append(piece)
    return parts
