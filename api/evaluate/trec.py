"""TREC run files: written for each stage, read as a given first stage.

A run file has six white-space-separated columns (query Q0 document rank score tag), so an id with
white space cannot stand in it as it is: such an id is written percent-escaped, and `qrels.trec` is
written beside the runs with the same escapes, so that `trec_eval qrels.trec fused.trec` works as
it stands. trec_eval ignores the rank column and re-sorts by score in float32, ties by id; a score
that would not fall is lowered to the next float32, so that the file evaluates to the printed table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, unquote

from longleaf.api.evaluate.metrics import Ranking
from longleaf.core.errors import InvalidRequest, NotFound

_WHITE_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class GivenRun:
    """A first stage made elsewhere: query id to ranking, best first; `notes` say what was odd."""

    source: str
    rankings: Mapping[str, tuple[tuple[str, float], ...]]
    notes: tuple[str, ...] = ()


def escape_id(identifier: str) -> str:
    """The id as a run file holds it: unchanged, unless it holds white space (or nothing)."""
    if identifier and not _WHITE_SPACE.search(identifier):
        return identifier
    if not identifier:
        raise InvalidRequest("An empty id cannot stand in a TREC file.")
    return _WHITE_SPACE.sub(lambda space: quote(space[0], safe=""), identifier.replace("%", "%25"))


def read_run(path: Path, queries: Container[str], documents: Container[str]) -> GivenRun:
    """Read TREC's six columns, or query, passage, rank, score separated by tabs.

    The order is trec_eval's: falling score; equal scores by rank, then id. An id that is not among
    `queries` or `documents` is tried unescaped. Raises `InvalidRequest` with the line for wrong
    columns, a score that is no finite number, or a document twice in one query.
    """
    if not path.is_file():
        raise NotFound(f"There is no run file {path}.")
    found: dict[str, dict[str, tuple[float, int]]] = {}
    strangers: set[str] = set()
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8.", "Convert it to UTF-8.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        query_id, key, rank, score = _columns(path, number, line)
        query_id = query_id if query_id in queries else unquote(query_id)
        key = key if key in documents else unquote(key)
        if key not in documents:
            strangers.add(key)
        ranking = found.setdefault(query_id, {})
        if key in ranking:
            raise InvalidRequest(f"{path}, line {number}: {key} is there twice for {query_id}.")
        ranking[key] = (score, rank)
    rankings = {}
    reordered = 0
    for query_id, scores in found.items():
        ordered = sorted(scores.items(), key=lambda item: (-item[1][0], item[1][1], item[0]))
        reordered += any(a[1][1] > b[1][1] for a, b in pairwise(ordered))
        rankings[query_id] = tuple((key, score) for key, (score, _) in ordered)
    if not rankings:
        raise InvalidRequest(f"{path} holds no ranking.")
    notes = []
    if reordered:
        notes.append(f"given run: {reordered} queries have ranks against their scores: scores rule")
    if strangers:
        notes.append(f"given run: {len(strangers)} documents are not in the corpus")
    unknown = sum(query_id not in queries for query_id in rankings)
    if unknown:
        notes.append(f"given run: {unknown} queries are not evaluated here")
    return GivenRun(str(path), rankings, tuple(notes))


def write_runs(
    folder: Path,
    rankings: Mapping[str, Mapping[str, Ranking]],
    qrels: Mapping[str, Mapping[str, int]],
    tag: str = "longleaf",
) -> tuple[Path, ...]:
    """Write `<stage>.trec` for each stage (stage to query id to ranking) and `qrels.trec`.

    Files of that name are replaced. Two ids that would be written alike raise `InvalidRequest`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for query_id, grades in qrels.items():
        no_clash(query_id, qrels)
        for key in grades:
            no_clash(key, grades)
    written = [folder / "qrels.trec"]
    with written[0].open("w", encoding="utf-8", newline="\n") as out:
        for query_id, grades in qrels.items():
            for key, grade in grades.items():
                out.write(f"{escape_id(query_id)} 0 {escape_id(key)} {grade}\n")
    for stage, by_query in rankings.items():
        path = folder / f"{stage}.trec"
        with path.open("w", encoding="utf-8", newline="\n") as out:
            for query_id, ranking in by_query.items():
                keys = {key for key, _ in ranking}
                scores = _falling([score for _, score in ranking])
                for rank, ((key, _), score) in enumerate(zip(ranking, scores, strict=True), 1):
                    no_clash(key, keys)
                    columns = (escape_id(query_id), "Q0", escape_id(key), rank, f"{score:.9g}")
                    out.write(" ".join(map(str, (*columns, f"{tag}-{stage}"))) + "\n")
        written.append(path)
    return tuple(written)


def _columns(path: Path, number: int, line: str) -> tuple[str, str, int, float]:
    tabbed = [column.strip() for column in line.split("\t")]
    spaced = line.split()
    if len(tabbed) == 4:
        query_id, key, rank, score = tabbed
    elif len(tabbed) == 6:
        query_id, _, key, rank, score, _ = tabbed
    elif len(spaced) == 6:
        query_id, _, key, rank, score, _ = spaced
    else:
        raise InvalidRequest(
            f"{path}, line {number}: neither TREC's six columns nor four separated by tabs.",
            "Write: query Q0 document rank score tag; or query, document, rank, score with tabs.",
        )
    try:
        values = int(rank), float(score)
    except ValueError:
        problem = f"rank {rank!r} or score {score!r} is no number"
        raise InvalidRequest(f"{path}, line {number}: {problem}.") from None
    if not math.isfinite(values[1]):
        raise InvalidRequest(f"{path}, line {number}: the score {score!r} is not finite.")
    return query_id, key, *values


def _falling(scores: list[float]) -> list[float]:
    """The scores as float32, each below the one before it by at least one representable step."""
    import numpy as np

    falling: list[float] = []
    for score in scores:
        value = np.float32(score)
        if falling:
            value = min(value, np.nextafter(np.float32(falling[-1]), np.float32(-np.inf)))
        falling.append(float(value))
    return falling


def no_clash(identifier: str, others: Container[str]) -> None:
    written = escape_id(identifier)
    if written != identifier and written in others:
        raise InvalidRequest(
            f"The ids {identifier!r} and {written!r} are the same in a TREC file.",
            "Leave --run out, or rename one of them.",
        )
