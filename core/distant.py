"""A service on another machine that is asked in JSON: retries, deadlines, and when to ask no more.

It speaks HTTP as a client and knows neither what is asked nor what an answer means. Only questions
that may be asked twice belong here: whatever was lost on the way is asked again, with exponential
back-off and jitter, or when the service says (Retry-After). After `_FAILURES_IN_A_ROW` it is not
asked for `_PAUSE_SECONDS` (a circuit breaker), because a search that waits for a dead machine's
time-out is worse than one that says at once what it lacks; then one caller asks, and the others
wait for what becomes of that. Whoever had less time than the service may take learns nothing about
it, and counts as no failure. Trade-off: a service that is back is found out up to that much later;
work that nobody waits for (`patient`) asks all the same.

What leaves this module in errors is the URL, a status and a code word: never a key, and never what
the service wrote, which may be the text that it was given.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from longleaf.core.errors import ConfigError, RemoteRefused, RemoteUnavailable
from longleaf.core.lengths import says_too_long

if TYPE_CHECKING:
    import httpx

_FAILURES_IN_A_ROW = 5
_PAUSE_SECONDS = 10.0
_MOST_PAUSE_SECONDS = 60.0
"""A service that wants to be left alone for longer is asked again all the same."""
_FIRST_WAIT_SECONDS = 0.5
_MOST_WAIT_SECONDS = 30.0
_CONNECT_SECONDS = 5.0
_KEPT_CONNECTIONS = 32
_AGAIN = frozenset({408, 429, 500, 502, 503, 504, 529})
_CODE_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Lost(Exception):
    """One try that brought nothing; `wait_seconds` is what the service asked for."""

    def __init__(
        self,
        why: str,
        wait_seconds: float | None = None,
        *,
        is_overloaded: bool = False,
        is_late: bool = False,
    ) -> None:
        super().__init__(why)
        self.why = why
        self.wait_seconds = wait_seconds
        self.is_overloaded = is_overloaded
        self.is_late = is_late


class Distant:
    """One service. Thread-safe; connections are kept and closed when this is let go of.

    `section` names its settings ("embedder": `embedder.url`, `embedder.api_key`). Proxies and
    certificates of the environment are not looked at, and redirections are not followed: a text
    goes to the machine that was named. Raises ConfigError for a URL that cannot be one.
    """

    def __init__(
        self,
        url: str,
        section: str,
        api_key: str = "",
        *,
        timeout_seconds: float = 30.0,
        most_reply_bytes: int = 64 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = _checked(url, section)
        self.timeout_seconds = timeout_seconds
        self._section = section
        self._api_key = _checked_key(api_key, section)
        self._most_reply_bytes = most_reply_bytes
        self._clock = clock
        self._sleep = sleep
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()
        self._failed_in_a_row = 0
        self._is_tried = False
        self._not_before = 0.0
        self._why = ""

    @property
    def trouble(self) -> str | None:
        """Why it is not asked at this moment, or None while it is."""
        with self._lock:
            left_seconds = self._not_before - self._clock()
            if left_seconds <= 0:
                return None
            return f"{self._why} It is asked again in {left_seconds:.0f} s."

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        within_seconds: float | None = None,
        tries: int = 3,
        patient: bool = False,
        again_when_late: bool = True,
        enough_seconds: float | None = None,
    ) -> Any:
        """What the service answers, as parsed JSON. `body` is sent as JSON, bytes as they are; then
        `headers` name their type.

        `within_seconds` bounds all tries together, beside the time-out of each. `patient`: nobody
        waits, so it is asked although it failed before. `again_when_late`: ask again what was not
        answered in time. `enough_seconds`: an answer that took longer is the service's failure
        (None: the time-out); with less time than that, nobody's. Raises RemoteUnavailable when it
        cannot be had and RemoteRefused (with its `status`) for an answer that asking again would
        not change.
        """
        enough = self.timeout_seconds if enough_seconds is None else enough_seconds
        until = None if within_seconds is None else self._clock() + within_seconds
        with self._let_in(patient):
            content: bytes | None = body if isinstance(body, bytes) else None
            if content is None and body is not None:
                content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
            for number in range(1, tries + 1):
                patience = self._patience(until)
                try:
                    answer = self._once(method, path, content, patience, headers or {})
                except Lost as lost:
                    if not (lost.is_late and patience < enough):
                        self._note_failure(lost)
                    wait_seconds = wait_of(number, lost)
                    left = None if until is None else until - self._clock()
                    if (
                        number == tries
                        or (lost.is_late and not again_when_late)
                        or wait_seconds > _MOST_PAUSE_SECONDS
                        or (left is not None and wait_seconds >= left)
                    ):
                        raise self._unavailable(lost, number) from lost.__cause__
                    self._sleep(wait_seconds)
                except RemoteRefused as refused:
                    if refused.status is not None:  # a refusal is an answer: it is there
                        self._note_answer()
                    raise
                else:
                    self._note_answer()
                    return answer
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def _let_in(self, patient: bool) -> Iterator[None]:
        """Raises RemoteUnavailable in a pause, and behind it while another caller tries."""
        if patient:
            yield
            return
        trouble = self.trouble
        with self._lock:
            failing = self._failed_in_a_row >= _FAILURES_IN_A_ROW
            if trouble is None and failing and self._is_tried:
                trouble = f"{self._why} Another search is trying it."
            if trouble is not None:
                raise RemoteUnavailable(f"{self.url} is not asked just now. {trouble}")
            self._is_tried = failing
        try:
            yield
        finally:
            if failing:
                with self._lock:
                    self._is_tried = False

    def keyless(self, word: str) -> str:
        """A word of the service's that may be shown; "" where it quotes the key it was given."""
        return "" if self._api_key and self._api_key in word else word

    def close(self) -> None:
        """Let go of the connections; asking again opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _patience(self, until: float | None) -> float:
        if until is None:
            return self.timeout_seconds
        return max(0.001, min(self.timeout_seconds, until - self._clock()))

    def _once(
        self,
        method: str,
        path: str,
        content: bytes | None,
        patience: float,
        more: Mapping[str, str],
    ) -> Any:
        import httpx

        from longleaf.core.timed import ending

        headers = self._headers(content) | {"accept": "application/json"} | dict(more)
        client = self._opened()  # which takes its time once, and none of the service's
        ends = time.monotonic() + patience
        timeout = httpx.Timeout(patience, connect=min(patience, _CONNECT_SECONDS))
        received = bytearray()
        try:
            with (
                ending(ends),
                client.stream(
                    method, self.url + path, content=content, headers=headers, timeout=timeout
                ) as response,
            ):
                self._check_coding(response)
                for piece in response.iter_raw():
                    received += piece
                    self._check_length(response, len(received))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._lost_on_the_way(error, patience) from error
        return self._answer(response, bytes(received))

    def _headers(self, content: bytes | None) -> dict[str, str]:
        headers = {"accept-encoding": "identity"}
        if content is not None:
            headers["content-type"] = "application/json"
        if self._api_key:
            headers["authorization"] = f"Bearer {self._api_key}"
        return headers

    def _check_coding(self, response: httpx.Response) -> None:
        coding = response.headers.get("content-encoding", "identity")
        if coding.lower() != "identity":  # which would grow when it is read
            raise self._refused(response.status_code, "its answer is compressed")

    def _check_length(self, response: httpx.Response, received_bytes: int) -> None:
        if received_bytes > self._most_reply_bytes:
            raise self._refused(
                response.status_code, f"its answer is larger than {self._most_reply_bytes:,} bytes"
            )

    def _lost_on_the_way(self, error: Exception, patience: float) -> Lost | RemoteRefused:
        """What a failure of the connection means."""
        import httpx

        if isinstance(error, httpx.TimeoutException):
            is_late = not isinstance(error, httpx.ConnectTimeout)
            return Lost(f"no answer within {patience:.3g} s", is_late=is_late)
        if isinstance(error, httpx.TransportError):
            return Lost(f"no connection ({type(error).__name__})")
        return self._refused(None, f"it cannot be asked ({type(error).__name__})")

    def _answer(self, response: httpx.Response, received: bytes) -> Any:
        status = response.status_code
        try:
            answer = json.loads(received)
        except (ValueError, RecursionError):
            answer = None
        said = _said(answer)
        # Before the statuses that are worth another try: some say with a 500 that a text is long.
        if status in _AGAIN and not (status == 500 and says_too_long(status, said)):
            wait_seconds = _retry_after(response.headers.get("retry-after", ""))
            raise Lost(f"status {status}", wait_seconds, is_overloaded=status == 429)
        if status != 200:
            code = self.keyless(code_of(answer))
            raise self._refused(status, f"status {status}{f' ({code})' if code else ''}", said)
        if answer is None:
            raise self._refused(status, "its answer is not JSON")
        return answer

    def _opened(self) -> httpx.Client:
        import httpx

        from longleaf.core.timed import timed_transport

        with self._lock:
            if self._client is None:
                limits = httpx.Limits(max_keepalive_connections=_KEPT_CONNECTIONS)
                self._client = httpx.Client(
                    trust_env=False, follow_redirects=False, transport=timed_transport(limits)
                )
                weakref.finalize(self, self._client.close)
            return self._client

    def _note_answer(self) -> None:
        with self._lock:
            self._failed_in_a_row = 0

    def _note_failure(self, lost: Lost) -> None:
        with self._lock:
            if lost.is_overloaded:
                if lost.wait_seconds is not None:
                    self._pause(min(lost.wait_seconds, _MOST_PAUSE_SECONDS), lost.why)
                return
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= _FAILURES_IN_A_ROW:
                times = f"{self._failed_in_a_row} times in a row"
                self._pause(_PAUSE_SECONDS, f"{lost.why}, {times}")

    def _pause(self, seconds: float, why: str) -> None:
        self._not_before = self._clock() + seconds
        self._why = f"It failed last: {why}."

    def _unavailable(self, lost: Lost, number: int) -> RemoteUnavailable:
        tried = "" if number == 1 else f" ({number} tries)"
        hint = (
            "It has more to do than it can."
            if lost.is_overloaded
            else f"Look whether it runs; {self._section}.url names it."
        )
        return RemoteUnavailable(f"{self.url} could not be asked: {lost.why}{tried}.", hint)

    def _refused(self, status: int | None, told: str, said: str = "") -> RemoteRefused:
        hint = f"Look at {self._section}.url."
        if status in (401, 403):
            variable = f"LONGLEAF_{self._section.upper()}__API_KEY"
            hint = f"Put its key into the environment: {variable}."
        elif status == 404:
            hint = f"Look at {self._section}.url, and whether the service has that model."
        return RemoteRefused(f"{self.url} cannot be used: {told}.", hint, status=status, said=said)


def openai_base(url: str, path: str) -> str:
    """The address in front of `path` (such as /embeddings), as OpenAI's clients take it: with /v1
    where it has no path of its own, without `path` where somebody wrote it whole."""
    base = url.strip().rstrip("/").removesuffix(path)
    return base if base.count("/") > 2 else f"{base}/v1"


def _checked_key(key: str, section: str) -> str:
    key = key.strip()
    if not (key.isascii() and (not key or key.isprintable())):
        raise ConfigError(
            f"The key for {section}.url holds characters that a header cannot.",
            f"Look at LONGLEAF_{section.upper()}__API_KEY: one line of plain ASCII.",
        )
    return key


def _checked(url: str, section: str) -> str:
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        parts = urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{section}.url holds a user or a password.",
            f"Put the key into the environment: LONGLEAF_{section.upper()}__API_KEY.",
        )
    try:
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    hint = "Write http://HOST:PORT or https://HOST, with a path if it has one."
    if parts.query or parts.fragment:  # which may be a key
        raise ConfigError(f"{section}.url has something behind a ? or a #.", hint)
    if not is_one:
        raise ConfigError(f"{section}.url = {url!r} is not the address of a service.", hint)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def wait_of(number: int, lost: Lost) -> float:
    """Seconds until the next try: what was asked for, else doubling, half of it by chance."""
    if lost.wait_seconds is not None:
        return lost.wait_seconds
    most: float = min(_FIRST_WAIT_SECONDS * 2 ** (number - 1), _MOST_WAIT_SECONDS)
    return most * random.uniform(0.5, 1.0)  # noqa: S311 - so that clients do not come together


def _retry_after(value: str) -> float | None:
    """Retry-After (RFC 9110, section 10.2.3) in seconds from now."""
    value = value.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        then = parsedate_to_datetime(value)
        return max(0.0, then.timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def code_of(answer: Any) -> str:
    """The code word of an error in JSON (OpenAI's form, or a problem's), if it is a plain word."""
    if not isinstance(answer, dict):
        return ""
    inner = answer.get("error")
    for holder in (inner, answer):
        if isinstance(holder, dict):
            for name in ("code", "type"):
                found = holder.get(name)
                if isinstance(found, str) and _CODE_WORD.fullmatch(found):
                    return found
    return ""


def _said(answer: Any) -> str:
    """All of an error's words, for the caller to recognise and never to show."""
    return json.dumps(answer)[:4000] if isinstance(answer, dict) else ""
