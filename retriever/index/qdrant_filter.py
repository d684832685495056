"""Filters in the classes of qdrant-client; `payload` says what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from longleaf.retriever.index import payload


class QdrantSpelling:
    """`payload.Spelling` for a server. `is_indexed` says whether a range over a key can be asked.

    A collection refuses filters over keys without an index (strict mode). A key that no passage has
    needs none: nothing passes a range over it.
    """

    def __init__(self, is_indexed: Callable[[str], bool]) -> None:
        from qdrant_client import models

        self._models = models
        self._is_indexed = is_indexed

    def all_of(self, must: Iterable[Any], must_not: Iterable[Any] = ()) -> Any:
        return self._models.Filter(must=list(must), must_not=list(must_not))

    def any_of(self, should: Iterable[Any]) -> Any:
        # An empty `should` would pass everything.
        return self._models.Filter(should=[self.ids(()), *should])

    def values(self, key: str, texts: Iterable[str]) -> Any:
        match = self._models.MatchAny(any=list(texts))
        return self._models.FieldCondition(key=key, match=match)

    def begins(self, key: str, prefix: str) -> Any:
        match = self._models.MatchPrefix(prefix=prefix)
        return self._models.FieldCondition(key=key, match=match)

    def phrase(self, key: str, text: str) -> Any:
        match = self._models.MatchPhrase(phrase=text)
        return self._models.FieldCondition(key=key, match=match)

    def word(self, key: str, word: str) -> Any:
        match = self._models.MatchTextAny(text_any=word)
        return self._models.FieldCondition(key=key, match=match)

    def numbers(self, key: str, bounds: Mapping[str, float]) -> Any:
        return self._range(key, self._models.Range(**bounds))

    def dates(self, key: str, bounds: Mapping[str, str]) -> Any:
        return self._range(key, self._models.DatetimeRange.model_validate(dict(bounds)))

    def ids(self, point_ids: Iterable[int]) -> Any:
        return self._models.HasIdCondition(has_id=list(point_ids))

    def _range(self, key: str, bounds: Any) -> Any:
        if not self._is_indexed(key):
            return self.any_of(())
        return self._models.FieldCondition(key=key, range=bounds)


def first_indexes() -> dict[str, Any]:
    """The payload indexes that every collection has from the start.

    Only the collection a document is in gets a part of the graph of its own (`enable_hnsw`): the
    others have too many values for that to pay.
    """
    from qdrant_client import models

    words_as_given = models.TextIndexParams(
        type=models.TextIndexType.TEXT,
        tokenizer=models.TokenizerType.WHITESPACE,
        lowercase=False,
        phrase_matching=True,
        memory=models.Memory.COLD,
        enable_hnsw=False,
    )
    keyword, integer = models.KeywordIndexType.KEYWORD, models.IntegerIndexType.INTEGER
    return {
        payload.DOCUMENT: models.IntegerIndexParams(
            type=integer, lookup=True, range=False, enable_hnsw=False
        ),
        payload.ACCESS: models.KeywordIndexParams(type=keyword, enable_hnsw=False),
        payload.COLLECTION: models.KeywordIndexParams(type=keyword, is_tenant=True),
        payload.FIELDS: models.KeywordIndexParams(
            type=keyword, prefix=True, memory=models.Memory.COLD, enable_hnsw=False
        ),
        payload.TEXT: words_as_given,
        payload.FENCE: models.IntegerIndexParams(
            type=integer, lookup=False, range=True, enable_hnsw=False
        ),
    }


def range_index(key: str) -> Any | None:
    """The index for a payload key that holds a field's numbers or dates; None for other keys."""
    from qdrant_client import models

    cold = {"memory": models.Memory.COLD, "enable_hnsw": False}
    match payload.range_kind(key):
        case "numbers":
            return models.FloatIndexParams(type=models.FloatIndexType.FLOAT, **cold)
        case "dates":
            return models.DatetimeIndexParams(type=models.DatetimeIndexType.DATETIME, **cold)
    return None
