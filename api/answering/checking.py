"""What can be checked of an answer without understanding it: its numbers, its quotes, its silence.

That a cited source exists and was sent, which sentences cite nothing, and whether words in
quotation marks stand in the source they are cited from. Not whether a source says what a sentence
says it does: a cited statement may still be wrong, and nothing here notices. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from longleaf.api.answering.prompt import DOES_NOT_SAY, harmless
from longleaf.api.answering.sources import Source
from longleaf.api.answering.splitting import Citation, Part, Text
from longleaf.api.finding import fold
from longleaf.indexer.sentences import sentence_spans

_QUOTE = re.compile(r"“([^“”\n]+)”|\"([^\"\n]+)\"|„([^„“”\n]+)[“”]|«([^«»\n]+)»|「([^「」\n]+)」")
_FEWEST_WORDS, _FEWEST_CHARS = 3, 12
"""Of a quote: shorter ones are names and words with a doubt, which nobody looks up."""
_GAP = re.compile(r"\.{3}|…|\[[^\]\n]{0,40}\]")
"""Where a quote leaves out or changes something: its parts are looked for, in their order."""
_WORD = re.compile(r"\w+")
_SILENCE = DOES_NOT_SAY.rstrip(".").casefold()


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the answer's text: characters, half-open."""

    start_char: int
    end_char: int
    text: str


@dataclass(frozen=True, slots=True)
class Quote(Span):
    """`numbers`: the sources that were looked into; all of them where none is cited."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """`text`: what is shown, citations as [n], unknown ones as [?]. `cited`: numbers in the order
    of their first use. `is_silent`: its first sentence is that the documents do not say it, or it
    begins so and cites nothing."""

    text: str
    cited: tuple[int, ...]
    unsupported: tuple[int, ...]
    uncited: tuple[Span, ...]
    sentence_count: int
    quotes_not_found: tuple[Quote, ...]
    is_silent: bool


def check(parts: Sequence[Part], sources: Iterable[Source]) -> Checked:
    """`parts` as `splitting.joined` gives them."""
    text = "".join(each.text for each in parts)
    plain, marks, places = _plain(parts)
    known = {each.number: each for each in sources}
    sentences = list(_sentences(plain, marks))

    def span(start: int, end: int) -> tuple[int, int, str]:
        first, last = places[start], places[end - 1] + 1
        return first, last, text[first:last]

    uncited = [
        Span(*span(start, end))
        for start, end, numbers in sentences
        if not numbers and _states(plain[start:end])
    ]
    quotes = []
    for match in _QUOTE.finditer(plain):
        quote = next(each for each in match.groups() if each is not None)
        if not _is_long(quote):
            continue
        cited = _cited_at(match.end() - 1, sentences)
        numbers = cited or tuple(known)
        if not any(_stands_in(quote, known[each].text) for each in numbers):
            quotes.append(Quote(*span(*match.span()), numbers))
    citations = [each for each in parts if isinstance(each, Citation)]
    return Checked(
        text=text,
        cited=tuple(dict.fromkeys(n for each in citations for n in each.numbers)),
        unsupported=tuple(dict.fromkeys(n for each in citations for n in each.unknown)),
        uncited=tuple(uncited),
        sentence_count=sum(_states(plain[start:end]) for start, end, _ in sentences),
        quotes_not_found=tuple(quotes),
        is_silent=_is_silent(plain, sentences),
    )


def _is_silent(plain: str, sentences: Sequence[tuple[int, int, tuple[int, ...]]]) -> bool:
    if not sentences:
        return False
    start, end, _ = sentences[0]
    if fold_words(plain[start:end]) == fold_words(_SILENCE):
        return True
    cites = any(numbers for _, _, numbers in sentences)
    return not cites and fold_words(plain).startswith(fold_words(_SILENCE))


def fold_words(text: str) -> str:
    """Words alone, as they are compared: " the documents do not say "."""
    return f" {' '.join(_WORD.findall(fold(text)))} "


def _plain(parts: Sequence[Part]) -> tuple[str, Mapping[int, tuple[int, ...]], list[int]]:
    """The text without citations; place in it -> the numbers cited there; and for each of its
    characters where it stands in the whole."""
    plain: list[str] = []
    marks: dict[int, tuple[int, ...]] = {}
    places: list[int] = []
    at = 0
    for part in parts:
        if isinstance(part, Text):
            plain.append(part.text)
            places += range(at, at + len(part.text))
        elif isinstance(part, Citation):
            marks[len(places)] = marks.get(len(places), ()) + part.numbers
        at += len(part.text)
    return "".join(plain), marks, places


def _sentences(
    plain: str, marks: Mapping[int, tuple[int, ...]]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """(start, end, numbers): a citation belongs to the sentence of the last character before it,
    behind a full stop as well; one before everything to the first."""
    spans = sentence_spans(plain, 0, len(plain))
    numbers: list[list[int]] = [[] for _ in spans]
    for place, cited in sorted(marks.items()):
        before = [n for n, (start, _) in enumerate(spans) if start < place]
        if spans:
            numbers[before[-1] if before else 0] += cited
    for (start, end), own in zip(spans, numbers, strict=True):
        yield start, end, tuple(dict.fromkeys(own))


def _cited_at(place: int, sentences: Sequence[tuple[int, int, tuple[int, ...]]]) -> tuple[int, ...]:
    return next((numbers for start, end, numbers in sentences if start <= place < end), ())


def _states(sentence: str) -> bool:
    """Whether it says something that could be cited: no silence, and no "as follows:"."""
    words = fold_words(sentence)
    return bool(words.strip()) and not sentence.endswith(":") and fold_words(_SILENCE) not in words


def _is_long(quote: str) -> bool:
    return len(quote) >= _FEWEST_CHARS and len(_WORD.findall(quote)) >= _FEWEST_WORDS


def _stands_in(quote: str, text: str) -> bool:
    """Whether all parts of a quote stand in the text, in their order, whatever the white space,
    the kind of brackets and quotation marks, and the punctuation at the ends of a part."""
    there = _compared(text)
    at = 0
    for part in _GAP.split(quote):
        wanted = _compared(part).strip(" .,;:!?")
        found = there.find(wanted, at)
        if found < 0:
            return False
        at = found + len(wanted)
    return True


def _compared(text: str) -> str:
    folded = fold(harmless(text)).replace("[", "(").replace("]", ")")
    return " ".join(folded.replace('"', "'").replace("- ", "-").split())
