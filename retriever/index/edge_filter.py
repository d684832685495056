"""Payload indexes and filters in the embedded engine's words; `payload` says what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from longleaf.retriever.index import payload


def first_indexes() -> dict[str, Any]:
    """The payload indexes that every shard has from the start."""
    import qdrant_edge as qe

    words_as_given = qe.TextIndexParams(
        tokenizer=qe.TokenizerType.Whitespace,
        lowercase=False,
        phrase_matching=True,
        stopwords=qe.StopwordsSet(),
        stemmer=qe.DisabledStemmer(),
        memory=qe.Memory.Cold,
    )
    return {
        payload.DOCUMENT: qe.IntegerIndexParams(lookup=True, range=False),
        payload.ACCESS: qe.KeywordIndexParams(),
        payload.COLLECTION: qe.KeywordIndexParams(),
        payload.FIELDS: qe.KeywordIndexParams(prefix=True, memory=qe.Memory.Cold),
        payload.TEXT: words_as_given,
    }


def range_index(key: str) -> Any | None:
    """The index for a payload key that holds a field's numbers or dates; None for other keys."""
    import qdrant_edge as qe

    match payload.range_kind(key):
        case "numbers":
            return qe.FloatIndexParams(memory=qe.Memory.Cold)
        case "dates":
            return qe.DatetimeIndexParams(memory=qe.Memory.Cold)
    return None


class EdgeSpelling:
    """`payload.Spelling` in the classes of qdrant_edge."""

    def __init__(self) -> None:
        import qdrant_edge as qe

        self._qe = qe

    def all_of(self, must: Iterable[Any], must_not: Iterable[Any] = ()) -> Any:
        return self._qe.Filter(must=list(must), must_not=list(must_not))

    def any_of(self, should: Iterable[Any]) -> Any:
        # An empty `should` would pass everything.
        return self._qe.Filter(should=[self.ids(()), *should])

    def values(self, key: str, texts: Iterable[str]) -> Any:
        return self._qe.FieldCondition(key, match=self._qe.MatchAny(list(texts)))

    def begins(self, key: str, prefix: str) -> Any:
        return self._qe.FieldCondition(key, match=self._qe.MatchPrefix(prefix))

    def phrase(self, key: str, text: str) -> Any:
        return self._qe.FieldCondition(key, match=self._qe.MatchPhrase(text))

    def word(self, key: str, word: str) -> Any:
        return self._qe.FieldCondition(key, match=self._qe.MatchTextAny(word))

    def numbers(self, key: str, bounds: Mapping[str, float]) -> Any:
        return self._qe.FieldCondition(key, range=self._qe.RangeFloat(**bounds))

    def dates(self, key: str, bounds: Mapping[str, str]) -> Any:
        return self._qe.FieldCondition(key, range=self._qe.RangeDateTime(**bounds))

    def ids(self, point_ids: Iterable[int]) -> Any:
        return self._qe.HasIdCondition(set(point_ids))
