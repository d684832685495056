"""A chat model behind OpenAI's `/v1/chat/completions`: messages in, pieces of text out.

It knows the protocol and its dialects, and nothing of sources and questions. Asked is for a stream;
a service that has none answers whole, and one that refuses an option is asked without it and
remembered (`_Form`). Thoughts (`reasoning_content`) are counted and not handed on. What a service
says of its errors may hold what it was sent: only its status and code word leave here.
Trade-off: an answer that was begun is never asked for again.
"""

from __future__ import annotations

import codecs
import json
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from longleaf.core.answer_settings import AnswerSettings
from longleaf.core.distant import Lost, code_of, openai_base
from longleaf.core.distant_stream import DistantStream, NobodyWaits
from longleaf.core.errors import ConfigError, LongleafError, RemoteRefused, RemoteUnavailable

_PATH = "/chat/completions"
_MOST_REPLY_BYTES = 32 * 1024 * 1024
_GOODBYE_SECONDS = 2.0
"""A service that keeps its connection open behind its answer is not waited for longer."""
_MOST_LINE_CHARS = 1024 * 1024
_MOST_CHARS_PER_TOKEN = 24
"""A service that writes on beyond `max_tokens` is stopped at so many characters for each."""
_REFUSED_OPTION = frozenset({400, 405, 415, 422, 501})
_TOO_LONG = re.compile(
    r"context|too long|too many tokens|maximum.{0,30}length|n_ctx", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the service counts them; None where it does not say."""

    prompt_tokens: int | None = None
    answer_tokens: int | None = None


@dataclass(slots=True)
class Told:
    """What is known of an answer beside its words, filled while they come.

    `end`: the service's word for why it ended ("stop", "length"). `thought_chars`: reasoning that
    came apart from the text.
    """

    model: str = ""
    end: str = ""
    usage: Usage = Usage()
    thought_chars: int = 0
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class _Form:
    """What a service takes, as far as its refusals have told."""

    stream: bool = True
    usage: bool = True
    temperature: bool = True
    tokens_name: str = "max_tokens"


class ChatModel:
    """The configured service. Thread-safe; it is asked for nothing until somebody asks."""

    def __init__(self, settings: AnswerSettings) -> None:
        """Raises ConfigError for an address, a key or a missing model that cannot be used."""
        if not settings.model:
            raise ConfigError(
                "answer.url is set, but answer.model is not.",
                "Set it to what the service calls its model.",
            )
        self._service = DistantStream(
            openai_base(settings.url, _PATH),
            "answer",
            settings.api_key,
            most_reply_bytes=_MOST_REPLY_BYTES,
        )
        self._settings = settings
        self._form = _Form()

    @property
    def model(self) -> str:
        return self._settings.model

    @property
    def url(self) -> str:
        """Where it is asked, without the key."""
        return self._service.url

    @property
    def where(self) -> str:
        """For people: who writes answers, and what goes there."""
        return f"{self.model} at {self.url} (question and passages are sent there, when asked)"

    def write(
        self,
        messages: Sequence[Mapping[str, str]],
        told: Told,
        *,
        within_seconds: float,
        given_up: Callable[[], bool] = lambda: False,
    ) -> Generator[str, None, None]:
        """The model's words as they come; the rest into `told`.

        Raises RemoteUnavailable and RemoteRefused, in the middle too, with `told.is_late` where
        time was up; NobodyWaits when `given_up` says so. Close the iterator to end it early.
        """
        form = self._form
        until = time.monotonic() + within_seconds
        ended: list[float] = []  # when it had said all that it has to say

        def is_enough() -> bool:
            return given_up() or bool(ended and time.monotonic() > ended[0] + _GOODBYE_SECONDS)

        while True:
            begun = False
            pieces = self._service.listen(
                _PATH,
                self._body(messages, form),
                within_seconds=until - time.monotonic(),
                given_up=is_enough,
            )
            try:
                with closing(pieces):
                    for word in self._words(pieces, told, ended):
                        begun = True
                        yield word
            except NobodyWaits:
                if not ended or given_up():
                    raise
                self._form = form
                return
            except RemoteRefused as refused:
                other = _other_form(form, refused)
                if begun or other is None:
                    raise _explained(refused) from None
                form = other
            except RemoteUnavailable as error:
                told.is_late = isinstance(error.__cause__, Lost) and error.__cause__.is_late
                raise
            else:
                self._form = form
                return

    def close(self) -> None:
        """Let go of the connections."""
        self._service.close()

    def _body(self, messages: Sequence[Mapping[str, str]], form: _Form) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            form.tokens_name: self._settings.max_answer_tokens,
            "stream": form.stream,
        }
        if form.temperature:
            body["temperature"] = self._settings.temperature
        if form.stream and form.usage:
            body["stream_options"] = {"include_usage": True}
        return body

    def _words(self, pieces: Iterable[bytes], told: Told, ended: list[float]) -> Iterator[str]:
        most_chars = self._settings.max_answer_tokens * _MOST_CHARS_PER_TOKEN
        written = 0
        for event in events(pieces):
            word = self._word(event, told)
            written += len(word)
            if told.end and not ended:
                ended.append(time.monotonic())
            if word:
                yield word
            if max(written, told.thought_chars) > most_chars:
                told.end = "length"
                return
        if not told.end:
            raise RemoteUnavailable(
                f"{self.url} stopped in the middle of its answer.", "Ask again, or look at its log."
            )

    def _word(self, event: Any, told: Told) -> str:
        """The text of one event (or of a whole answer); notes what else it says."""
        if event is DONE:
            told.end = told.end or "stop"
            return ""
        if not isinstance(event, dict):
            raise self._nonsense("what it sends is not JSON")
        if event.get("error") is not None or event.get("object") == "error":
            code = self._service.keyless(code_of(event))
            raise RemoteUnavailable(
                f"{self.url} failed while it answered{f' ({code})' if code else ''}.",
                "Ask again, or look at its log.",
            )
        if isinstance(event.get("model"), str):
            told.model = self._service.keyless(event["model"])[:200]
        if isinstance(event.get("usage"), dict):
            told.usage = Usage(
                _count(event["usage"].get("prompt_tokens")),
                _count(event["usage"].get("completion_tokens")),
            )
        choices = event.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(first, dict):
            return ""  # the last event has usage alone
        said = first.get("delta") or first.get("message") or {}
        reason = first.get("finish_reason")
        if isinstance(reason, str) and reason:
            # A word must be left: it says that the answer ended.
            told.end = self._service.keyless(reason)[:40] or "stop"
        if not isinstance(said, dict):
            raise self._nonsense("its answer has no message")
        if said.get("tool_calls"):
            raise self._nonsense("it wants to call a tool, and was given none")
        for name in ("reasoning_content", "reasoning"):
            if isinstance(said.get(name), str):
                told.thought_chars += len(said[name])
        content = said.get("content") or ""
        if not isinstance(content, str):
            raise self._nonsense("its message is no text")
        return content

    def _nonsense(self, what: str) -> RemoteRefused:
        return RemoteRefused(
            f"{self.url} cannot be used: {what}.",
            "Look at the service, answer.url and answer.model.",
        )


DONE = object()
"""The event that ends a stream."""


def events(pieces: Iterable[bytes]) -> Generator[Any, None, None]:
    """Server-sent events of a chat service as JSON, DONE at their end; or one whole answer in JSON.

    Which of them it is, the first character tells: content types are often wrong. An event that is
    not JSON is None.
    """
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    waiting, whole = "", None
    for piece in pieces:
        waiting += decode(piece)
        if whole is None:
            waiting = waiting.lstrip("\ufeff \r\n")
            whole = waiting.startswith("{") if waiting else None
        if whole is not False:
            continue
        *lines, waiting = waiting.split("\n")
        for line in lines:
            yield from _event(line)
        if len(waiting) > _MOST_LINE_CHARS:
            yield None
            return
    if whole:
        yield _parsed(waiting)
        yield DONE
    else:
        yield from _event(waiting)


def _event(line: str) -> Iterator[Any]:
    """Of the fields of an event only its data matter here; each stands on one line."""
    if not line.startswith("data:"):
        return
    data = line.removeprefix("data:").strip()
    if data == "[DONE]":
        yield DONE
    elif data:
        yield _parsed(data)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _other_form(form: _Form, refused: RemoteRefused) -> _Form | None:
    """What to ask for instead, after the service's own words; None: nothing would help."""
    if refused.status not in _REFUSED_OPTION:
        return None
    said = refused.said.lower()
    if "max_completion_tokens" in said and form.tokens_name == "max_tokens":
        return replace(form, tokens_name="max_completion_tokens")
    if "temperature" in said and form.temperature:
        return replace(form, temperature=False)
    if "stream_options" in said and form.stream and form.usage:
        return replace(form, usage=False)
    if ("stream" in said or refused.status in (405, 501)) and form.stream:
        return replace(form, stream=False)
    return None


def _explained(refused: RemoteRefused) -> LongleafError:
    if refused.status in (400, 413, 422) and _TOO_LONG.search(refused.said):
        return RemoteRefused(
            refused.message,
            "Its context may be too short for what was sent: lower answer.max_tokens_context.",
            status=refused.status,
        )
    return refused
