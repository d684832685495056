"""What is left of a window as a signed token, so that any replica can go on with it.

The token holds the documents in their order (revision, character offsets, every stage's scores),
the query as it was understood, whose sight it was made in and the generation that found it. It
holds no text of documents; it is signed and not encrypted, so whoever has it can read the query.
Nothing is kept on the server. Trade-off: a window of 100 documents of 3 passages makes about 12,000
characters, so long windows want POST.

Format: zlib-compressed JSON, signed as `sealing` does it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any

from longleaf.api.sealing import sealed, unsealed
from longleaf.api.searched import (
    Explanation,
    Found,
    FoundVersion,
    Highlight,
    SearchAnswer,
)
from longleaf.api.showing import Span
from longleaf.core.errors import InvalidRequest
from longleaf.core.hits import FoundPassage
from longleaf.core.ids import point_id, split_point_id
from longleaf.core.types import Degradation, Reading, Scope
from longleaf.retriever.filters import filter_from_stored, filter_to_json
from longleaf.retriever.query import ParsedQuery

_VERSION = 1
# (dataclasses.astuple copies every value and takes ten times as long.)
_PASSAGE_NAMES = tuple(FoundPassage.__dataclass_fields__)[1:]
_passage_values = attrgetter(*_PASSAGE_NAMES)
_version_values = attrgetter(*FoundVersion.__dataclass_fields__)
_READING_NAMES = tuple(
    n for n in Reading.__dataclass_fields__ if n not in ("rank", "passage_scores")
)
_reading_values = attrgetter(*_READING_NAMES)
MAX_CURSOR_CHARS = 900_000
"""A request's body may have 1 MiB."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left of a window, and what all its pages say alike.

    `answer` is the first page's; its hits and facets are not kept. `spans`: where the passages lie,
    by point id, because points are another generation's after a `longleaf reindex`; a passage
    without is left out.
    """

    answer: SearchAnswer
    found: tuple[Found, ...]
    spans: Mapping[int, Span]
    limit: int
    scope: Scope
    generation: str
    highlight: Highlight
    instruction: str | None


def seal(rest: Rest, key: bytes) -> str:
    """The token. Raises InvalidRequest for a window too large for one."""
    body = {
        "version": _VERSION,
        "limit": rest.limit,
        "scope": [_names(rest.scope.collections), _names(rest.scope.groups)],
        "generation": rest.generation,
        "highlight": rest.highlight,
        "instruction": rest.instruction,
        "answer": _answer_to_json(rest.answer),
        "found": [_found_to_json(each, rest.spans) for each in rest.found],
    }
    packed = zlib.compress(json.dumps(body, separators=(",", ":"), allow_nan=False).encode())
    token = sealed(packed, key)
    if len(token) > MAX_CURSOR_CHARS:
        raise InvalidRequest(
            f"A cursor for this window would have {len(token):,} characters; "
            f"{MAX_CURSOR_CHARS:,} are taken.",
            "Ask for fewer candidates or passages_per_document, or page with offset.",
        )
    return token


def unseal(token: str, key: bytes) -> Rest:
    """What `seal` was given. Raises InvalidRequest for anything that it did not make."""
    packed = unsealed(token, key)
    if packed is None:
        raise _no_cursor()
    body = json.loads(zlib.decompress(packed))
    if body["version"] != _VERSION:
        raise _no_cursor()
    collections, groups = body["scope"]
    spans: dict[int, Span] = {}
    return Rest(
        answer=_answer_from_json(body["answer"]),
        found=tuple(_found_from_json(each, spans) for each in body["found"]),
        spans=spans,
        limit=body["limit"],
        scope=Scope(
            None if collections is None else frozenset(collections),
            None if groups is None else frozenset(groups),
        ),
        generation=body["generation"],
        highlight=body["highlight"],
        instruction=body["instruction"],
    )


def _no_cursor() -> InvalidRequest:
    return InvalidRequest(
        "The cursor is none of this catalog's, or was changed on its way.",
        "Search again for a new one: cursors end when a backup is restored, and with updates of "
        "Longleaf that change their form.",
    )


def _names(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def _answer_to_json(answer: SearchAnswer) -> dict[str, Any]:
    """Without what differs from page to page, and without facets, which the first page has told."""
    query = answer.query
    where = filter_to_json(query.where) if query.where is not None else None
    return {
        "query": [query.text, query.phrases, query.excluded, where, query.original],
        "found_count": answer.found_count,
        "exhausted": answer.exhausted,
        "reranker": answer.reranker,
        "reranked_count": answer.reranked_count,
        "whole_count": answer.whole_count,
        "degraded": [(each.stage, each.reason) for each in answer.degraded],
        "warnings": answer.warnings,
        "seen_seq": answer.seen_seq,
        "explanation": asdict(answer.explanation) if answer.explanation else None,
        "min_score": answer.min_score,
        "below_min_count": answer.below_min_count,
    }


def _answer_from_json(body: dict[str, Any]) -> SearchAnswer:
    text, phrases, excluded, where, original = body.pop("query")
    tree = filter_from_stored(where) if where is not None else None
    degraded = tuple(Degradation(*each) for each in body.pop("degraded"))
    explained = body.pop("explanation")
    warnings = tuple(body.pop("warnings"))
    return SearchAnswer(
        hits=(),
        query=ParsedQuery(text, tuple(phrases), tuple(excluded), tree, original),
        degraded=degraded,
        warnings=warnings,
        timings_ms={},
        explanation=Explanation(**explained) if explained else None,
        **body,
    )


def _found_to_json(found: Found, spans: Mapping[int, Span]) -> list[Any]:
    return [
        found.rank,
        found.score,
        found.revision_id,
        found.first_stage_rank,
        found.first_stage_score,
        _reading_to_json(found.reading),
        _reading_to_json(found.earlier),
        [
            [split_point_id(each.point_id)[1], *spans[each.point_id], *_passage_values(each)]
            for each in found.passages
            if each.point_id in spans
        ],
        [_version_values(each) for each in found.versions],
    ]


def _found_from_json(body: list[Any], spans: dict[int, Span]) -> Found:
    *numbers, reading, earlier, passages, versions = body
    rank, score, revision_id, first_stage_rank, first_stage_score = numbers
    found = []
    for ordinal, start, end, *scores in passages:
        point = point_id(revision_id, ordinal)
        spans[point] = (start, end)
        found.append(FoundPassage(point, *scores))
    return Found(
        rank=rank,
        score=score,
        revision_id=revision_id,
        first_stage_rank=first_stage_rank,
        first_stage_score=first_stage_score,
        reading=_reading_from_json(reading, first_stage_rank),
        earlier=_reading_from_json(earlier, first_stage_rank),
        passages=tuple(found),
        versions=tuple(FoundVersion(*each) for each in versions),
    )


def _reading_to_json(reading: Reading | None) -> list[Any] | None:
    """Without the scores of its passages: those that are shown have them."""
    return None if reading is None else list(_reading_values(reading))


def _reading_from_json(body: list[Any] | None, rank: int) -> Reading | None:
    if body is None:
        return None
    return Reading(rank=rank, **dict(zip(_READING_NAMES, body, strict=True)))
