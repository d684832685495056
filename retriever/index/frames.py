"""What a serving process and its index process say to each other, in `core.frames`.

It knows the arrays and filters that searches are made of; what a frame is made of stands there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.filters import And, Eq, Filter, In, Not, Or, Prefix, Range
from longleaf.core.frames import Frame, encode, error_from_json, error_to_json, receive
from longleaf.core.protocols import IndexFilter
from longleaf.retriever.filters import filter_to_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Frame",
    "encode",
    "error_from_json",
    "error_to_json",
    "ids_array",
    "index_filter_from_json",
    "index_filter_to_json",
    "receive",
    "scores_array",
]


def ids_array(point_ids: Sequence[int]) -> NDArray[np.uint64]:
    return np.array(point_ids, "<u8")


def scores_array(scores: Sequence[float]) -> NDArray[np.float32]:
    """The engine computes in float32, so this loses nothing."""
    return np.array(scores, "<f4")


def index_filter_to_json(index_filter: IndexFilter) -> dict[str, Any]:
    where = index_filter.where
    return {
        "collections": index_filter.collections,
        "groups": index_filter.groups,
        "where": None if where is None else filter_to_json(where),
        "phrases": index_filter.phrases,
        "excluded": index_filter.excluded,
    }


def index_filter_from_json(value: Mapping[str, Any]) -> IndexFilter:
    groups, where = value["groups"], value["where"]
    return IndexFilter(
        collections=tuple(value["collections"]),
        groups=None if groups is None else tuple(groups),
        where=None if where is None else _tree(where),
        phrases=tuple(value["phrases"]),
        excluded=tuple(value["excluded"]),
    )


def _tree(value: Mapping[str, Any]) -> Filter:
    """What `filter_to_json` was given.

    `filter_from_json` holds requests to limits; this tree has passed them, and has since grown by
    the documents that the retriever wants no more of.
    """
    match value:
        case {"and": parts}:
            return And(tuple(map(_tree, parts)))
        case {"or": parts}:
            return Or(tuple(map(_tree, parts)))
        case {"not": part}:
            return Not(_tree(part))
        case {"field": field, "eq": scalar}:
            return Eq(field, scalar)
        case {"field": field, "in": choices}:
            return In(field, tuple(choices))
        case {"field": field, "prefix": prefix}:
            return Prefix(field, prefix)
        case {"field": field, **bounds}:
            return Range(field, **bounds)
    raise ValueError("a filter of no known form")
