"""From a question and its sources to a checked answer: asks the model, splits, checks, and says how
it ended.

A model that fails is no failed request: the passages that were found are an answer by themselves,
and the reply says why there is nothing more. Without a source nobody is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

import structlog

from longleaf.api.answering.chat import ChatModel, Told, Usage
from longleaf.api.answering.checking import Checked, check
from longleaf.api.answering.prompt import messages, visible
from longleaf.api.answering.sources import Chosen
from longleaf.api.answering.splitting import Part, Splitter, joined
from longleaf.core.errors import LongleafError, RemoteRefused, RemoteUnavailable

State = Literal["answered", "documents_do_not_say", "nothing_found", "failed"]

_log = structlog.get_logger(__name__)

_SUSPICIOUS_SHARE = 0.6
"""A service that says it read fewer tokens than this share of the sources has cut them: two
tokenizers rarely differ by so much."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a question. `checked` is about the text as far as it was written, also where
    the state is failed (`failure` says why). `is_cut`: the text ends before the answer does.
    `first_ms`: from asking the model to its first word."""

    state: State
    chosen: Chosen
    checked: Checked
    is_cut: bool = False
    warnings: tuple[str, ...] = ()
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    failure: LongleafError | None = None
    first_ms: float | None = None


def nothing_found(chosen: Chosen) -> Reply:
    """The reply where there is no passage to answer from; no model was asked."""
    warnings = ["No passage that was found fits into answer.max_tokens_context: raise it."]
    return Reply(
        "nothing_found", chosen, check((), ()), warnings=tuple(warnings if chosen.left_out else ())
    )


def write(
    chat: ChatModel,
    question: str,
    chosen: Chosen,
    *,
    within_seconds: float,
    tell: Callable[[Part], None] = lambda _: None,
    given_up: Callable[[], bool] = lambda: False,
) -> Reply:
    """Have `chat` answer from `chosen`, which has sources; `tell` is given each part as it comes.

    Raises NobodyWaits when `given_up` says so.
    """
    splitter = Splitter([each.number for each in chosen.sources])
    parts: list[Part] = []
    told = Told()
    failure: LongleafError | None = None
    first_ms: float | None = None

    def take(some: list[Part]) -> None:
        for part in some:
            tell(part)
        parts.extend(some)

    began = time.perf_counter()
    asked = messages(question, chosen.sources)
    try:
        words = chat.write(asked, told, within_seconds=within_seconds, given_up=given_up)
        with closing(words):
            for word in words:
                take(splitter.feed(visible(word)))
                if parts and first_ms is None:
                    first_ms = (time.perf_counter() - began) * 1000.0
    except (RemoteUnavailable, RemoteRefused) as error:
        failure = error
        _log.warning("answer.failed", reason=error.message)
    take(splitter.end())
    checked = check(joined(parts), chosen.sources)
    is_cut = told.end == "length" or told.is_late
    if told.is_late and checked.text:
        failure = None  # what there is, is kept
    if failure is None and not checked.text:
        failure = _wordless(chat, told, thought=bool(told.thought_chars or splitter.thought_chars))
    state: State = "documents_do_not_say" if checked.is_silent else "answered"
    return Reply(
        state="failed" if failure else state,
        chosen=chosen,
        checked=checked,
        is_cut=bool(checked.text) and (is_cut or failure is not None),
        warnings=tuple(_warnings(told, chosen, within_seconds)) if checked.text else (),
        model=told.model or chat.model,
        usage=told.usage,
        failure=failure,
        first_ms=first_ms,
    )


def _wordless(chat: ChatModel, told: Told, *, thought: bool) -> LongleafError:
    if thought and told.end == "length":
        return RemoteRefused(
            f"{chat.model} spent all of its tokens on reasoning and wrote no answer.",
            "Raise answer.max_answer_tokens, or turn its reasoning off.",
        )
    return RemoteRefused(
        f"{chat.model} wrote nothing{f' ({told.end})' if told.end.isidentifier() else ''}.",
        "Ask again, or look at the service; answer.model names the model.",
    )


def _warnings(told: Told, chosen: Chosen, within_seconds: float) -> list[str]:
    warnings = [
        f"Source {each.number} is suspicious ({'; '.join(each.suspicious)}): it was sent as data, "
        "and the model may have believed it all the same."
        for each in chosen.sources
        if each.suspicious
    ]
    if told.is_late:
        warnings.append(
            f"The answer was cut: its time was up (answer.timeout_seconds), {within_seconds:.0f} s "
            "after the model was asked."
        )
    elif told.end == "length":
        warnings.append("The answer was cut where its tokens ended (answer.max_answer_tokens).")
    elif told.end == "content_filter":
        warnings.append("The service left out a part of the answer (content_filter).")
    read = told.usage.prompt_tokens
    if read is not None and 0 < read < _SUSPICIOUS_SHARE * chosen.tokens:
        warnings.append(
            f"The service says that it read {read:,} tokens, and the passages alone have about "
            f"{chosen.tokens:,}: it may have cut them. Give it a longer context, or lower "
            "answer.max_tokens_context."
        )
    return warnings
