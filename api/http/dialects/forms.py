"""What rerank dialects have in common: the seam, scores, the order, and what the headers tell.

A dialect is a value of five parts: its name, its request model, and three functions. It knows no
web framework and no reranker; it turns a body into `GivenTexts`, and `GivenReadings` into JSON.
Whatever a dialect's answer has no room for stands in headers, the same for all (`notes`).

Trade-off: names are kept exactly, numbers are ours. No dialect says how its scores are made, so a
client's threshold is as good as the reranker behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from longleaf.api.given import NOTHING_IN_IT, GivenDocument, GivenReadings, GivenTexts
from longleaf.api.http.errors import Say
from longleaf.api.http.rerank_schemas import MAX_DOCUMENTS, Text
from longleaf.api.searched import MAX_QUERY_CHARS
from longleaf.core.errors import InvalidRequest, LongleafError, Overloaded, TooLarge
from longleaf.core.protocols import LogitScores, Reranker
from longleaf.core.scores import sigmoid
from longleaf.core.types import Reading
from longleaf.retriever.query import readable

MODEL_HEADER = "X-Longleaf-Model"
_LISTED = 200
"""Texts that a header names, beyond which it only counts: some clients take 8 kB of headers."""
_MOST_TOKENS = 1 << 40

BodyT = TypeVar("BodyT", bound=BaseModel)
QueryText = Annotated[Text, Field(max_length=MAX_QUERY_CHARS)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)]
MixedTexts = Annotated[
    list[Text | dict[str, Any]], Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)
]
"""Texts, or objects with one."""
Tokens = Annotated[int, Field(ge=1, lt=_MOST_TOKENS)]
Instruction = Annotated[Text, Field(max_length=2000)]
ModelName = Annotated[Text, Field(max_length=200)]


def _told_of_nulls(schema: dict[str, Any]) -> None:
    """Say of every key that may be left out that it may be null."""
    for name, part in schema.get("properties", {}).items():
        taken = [part, *part.get("anyOf", ())]
        if name not in schema.get("required", ()) and {"type": "null"} not in taken:
            kept = {
                key: part.pop(key) for key in ("default", "description", "title") if key in part
            }
            schema["properties"][name] = {"anyOf": [part, {"type": "null"}], **kept}


class Lenient(BaseModel):
    """A request whose unknown keys are ignored, as most servers do. A key that is null was left
    out: many clients write down all keys that they know."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, json_schema_extra=_told_of_nulls)

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, given: Any) -> Any:
        return without_nulls(given)


def without_nulls(given: Any) -> Any:
    """A JSON object without the keys that are null; anything else as it is."""
    if not isinstance(given, dict):
        return given
    return {name: value for name, value in given.items() if value is not None}


def _never(_: Any) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Dialect(Generic[BodyT]):
    """A way to ask for a reranking.

    `given` makes of a valid body what is to be read: one for each query, and raises LongleafError
    for what cannot be honoured. `answer` gets body, readings and request id, and makes JSON; it
    raises TooLarge where the dialect forbids to cut what was cut. `say` puts a problem into the
    dialect's words. `empty_is_ok`: an answer without results is one (each text is accounted for).
    """

    name: str
    body: type[BodyT]
    given: Callable[[BodyT], Sequence[GivenTexts]]
    answer: Callable[[BodyT, GivenReadings, str], Any]
    say: Say | None
    empty_is_ok: bool = False
    is_raw: Callable[[BodyT], bool] = _never
    logits_stay: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """One text in the order of the reranker: its place among the given ones, and its score."""

    index: int
    score: float
    reading: Reading


def documents_of(texts: Sequence[str]) -> list[GivenDocument]:
    """Plain texts as the reader takes them."""
    return [GivenDocument(each) for each in texts]


def results(found: GivenReadings, most: int | None = None, *, raw: bool = False) -> list[Result]:
    """Best first, ties in the order in which the texts came; `most` of them.

    `raw`: the model's own number; else 0 to 1 where there is such a thing (`relevance`).
    """
    order = sorted(found.readings, key=lambda place: (-found.readings[place].score, place))
    scored = _raw if raw else _relevance_of(found.reader)
    return [
        Result(place, scored(found.readings[place]), found.readings[place])
        for place in order[:most]
    ]


def relevance(reader: Reranker, reading: Reading) -> float:
    """The model's probability; else the sigmoid of its logit; else its own number as it is.

    `late` has the last: a mean of cosines, which is no probability and is not dressed up as one.
    """
    return _relevance_of(reader)(reading)


def _raw(reading: Reading) -> float:
    return reading.score


def _relevance_of(reader: Reranker) -> Callable[[Reading], float]:
    # Asked once for all readings: a protocol is looked up by its names each time.
    are_logits = isinstance(reader, LogitScores) and reader.scores_are_logits

    def of(reading: Reading) -> float:
        if reading.probability is not None:
            return reading.probability
        return sigmoid(reading.score) if are_logits else reading.score

    return of


def score_kind(found: GivenReadings, *, is_raw: bool, logits_stay: bool) -> str:
    """What scores are here: "probability", "sigmoid" or "raw"; see `Dialect`."""
    if is_raw:
        return "raw"
    if any(each.probability is not None for each in found.readings.values()):
        return "probability"
    reader = found.reader
    are_logits = isinstance(reader, LogitScores) and reader.scores_are_logits
    return "sigmoid" if are_logits and not logits_stay else "raw"


def tokens_read(found: GivenReadings) -> int:
    """Of all texts together; the query's own are not counted."""
    return sum(each.tokens_read for each in found.readings.values())


def truncated(found: GivenReadings) -> dict[int, int]:
    """Place of each text that was cut -> its tokens that were not read."""
    return {
        place: reading.truncated_tokens
        for place, reading in sorted(found.readings.items())
        if reading.truncated_tokens
    }


def require_whole(found: GivenReadings, key: str, what_to_do: str) -> None:
    """Raise TooLarge where anything was cut: for dialects that do not cut unasked.

    `key`: what texts are called in the request.
    """
    cut = truncated(found)
    if cut:
        place, tokens = next(iter(cut.items()))
        more = f", as do {len(cut) - 1} others" if len(cut) > 1 else ""
        raise TooLarge(
            f"{key}[{place}] has {tokens:,} tokens more than are read{more}.", what_to_do
        )
    if found.query_truncated_tokens:
        raise TooLarge(
            f"The query has {found.query_truncated_tokens:,} tokens more than are read.", what_to_do
        )


def unread_error(found: GivenReadings) -> LongleafError:
    """What to raise where an answer without the unread texts would be taken for something else."""
    late = {place: why for place, why in found.unread.items() if why != NOTHING_IN_IT}
    if late:
        return Overloaded(
            f"{len(late)} of {len(found.unread) + len(found.readings)} texts were not read: "
            f"{next(iter(late.values()))}.",
            "Send fewer texts, or give this server more time (reranker.deadline_ms).",
        )
    places = listed([str(place) for place in sorted(found.unread)])
    return InvalidRequest(f"There is nothing to read in these texts: {places}.", "Leave them out.")


def cut_header(by_place: Mapping[int, int], query_tokens: int = 0) -> dict[str, str]:
    """The header that tells how many tokens of a query and of texts were cut; none for none."""
    cut = [f"query={query_tokens}"] if query_tokens else []
    cut += [f"{place}={tokens}" for place, tokens in by_place.items() if tokens]
    return {"X-Longleaf-Truncated": listed(cut)} if cut else {}


def notes(found: GivenReadings, dialect: Dialect[BodyT], body: BodyT) -> dict[str, str]:
    """Headers: who read, what the scores sent are, and what was cut or not read at all."""
    headers = {
        MODEL_HEADER: header_text(found.reader.name),
        "X-Longleaf-Dialect": dialect.name,
        "X-Longleaf-Score": score_kind(
            found, is_raw=dialect.is_raw(body), logits_stay=dialect.logits_stay
        ),
    }
    headers |= cut_header(truncated(found), found.query_truncated_tokens)
    if found.unread:
        places = listed([str(place) for place in sorted(found.unread)])
        why = sorted(set(found.unread.values()))
        headers["X-Longleaf-Unread"] = header_text(f"{places}: {'; '.join(why)}"[:4000])
    return headers


def header_text(text: str) -> str:
    """What a header can hold of a text: printable ASCII."""
    return "".join(each if " " <= each <= "~" else "?" for each in text)


def listed(parts: Sequence[str]) -> str:
    """For a header: comma-separated, and how many more there are."""
    more = len(parts) - _LISTED
    return ",".join(parts[:_LISTED]) + (f",+{more} more" if more > 0 else "")


def only_text(parts: Any, where: str) -> str:
    """The text of content parts ([{"type": "text", "text": ...}]). Raises InvalidRequest for a
    picture or anything else that is no text."""
    texts = []
    for part in parts if isinstance(parts, list) else [parts]:
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(text, str):
            raise InvalidRequest(
                f"{where}: only text is read here, no pictures or other content.",
                'Send a string, or {"text": "..."}.',
            )
        texts.append(text)
    return readable("\n".join(texts))
