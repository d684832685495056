"""A chat service with OpenAI's `/v1/chat/completions` that says what a test tells it to.

A `Script` is what is answered once: words in pieces, and how it goes wrong. What was asked is kept,
and checked with OpenAI's own types. `Turn` holds an answer in the middle until the test lets it go.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import TypeAdapter

SOURCE = re.compile(r"^SOURCE (?P<number>\d+) (?P<fence>[0-9a-f]+)$", re.MULTILINE)


@dataclass(slots=True)
class Turn:
    """A place in an answer where the service waits; `reached` tells the test, `go` lets it on.

    `left` is set when the client's connection was found closed there.
    """

    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Script:
    """One answer. `pieces`: texts as deltas, a dict as the delta itself, bytes as they are, a Turn
    to wait at. `whole`: JSON at once, whatever was asked for. `status` other than 200: `pieces[0]`
    is the body of an error. `cuts_off` ends it without finish_reason and [DONE], `after` waits
    behind [DONE]."""

    pieces: Sequence[str | dict[str, Any] | bytes | Turn] = ()
    end: str = "stop"
    status: int = 200
    whole: bool = False
    cuts_off: bool = False
    usage: dict[str, int] | None = None
    after: Turn | None = None


Say = Callable[[dict[str, Any]], Script]


@dataclass(slots=True)
class Chat:
    """`says` answers the next questions; `asked` are the bodies, `headers` and `paths` beside."""

    url: str
    says: Say
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)

    def script(self, *pieces: Any, **more: Any) -> None:
        """Answer so from now on."""
        self.says = lambda _: Script(pieces, **more)

    @property
    def prompt(self) -> str:
        """The user's message of the last question."""
        text: str = self.asked[-1]["messages"][1]["content"]
        return text


def sources_of(prompt: str) -> dict[int, str]:
    """Number -> what stands between the fences, read as strictly as they are meant: with the one
    number of the request, in order, nothing but white space between two sources."""
    fences = {found["fence"] for found in SOURCE.finditer(prompt)}
    assert len(fences) == 1, fences
    fence = fences.pop()
    assert prompt.count(f"END {fence}") == len(SOURCE.findall(prompt))
    found, rest = {}, prompt
    while rest.startswith("SOURCE "):
        head, _, rest = rest.partition("\n")
        inside, end, rest = rest.partition(f"\nEND {fence}\n")
        assert end and fence not in inside
        found[int(head.split(" ")[1])] = inside
        rest = rest.lstrip("\n")
    assert rest.startswith("Question: ") and fence not in rest
    assert list(found) == list(range(1, len(found) + 1))
    return found


def check_request(body: dict[str, Any]) -> None:
    """Fail unless OpenAI's own client could send this: no unknown field, each of its type."""
    params = pytest.importorskip("openai.types.chat.completion_create_params")
    kind = params.CompletionCreateParamsStreaming
    if not body["stream"]:
        kind = params.CompletionCreateParamsNonStreaming
    assert set(body) <= kind.__required_keys__ | kind.__optional_keys__
    read: Any = TypeAdapter(kind).validate_python(body)
    assert len(list(read["messages"])) == 2, "they are read one by one"


@contextmanager
def chatting(*pieces: Any, **more: Any) -> Iterator[Chat]:
    """A service behind a real port; `pieces` and `more` as for `Script`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            chat.asked.append(body)
            chat.paths.append(self.path)
            chat.headers.append({name.lower(): value for name, value in self.headers.items()})
            chat.connections.add(self.client_address[1])
            script = chat.says(body)
            if script.status != 200:
                self._whole(script.pieces[0], script.status)
            elif script.whole or not body["stream"]:
                self._whole(_completion(body, script), 200)
            else:
                self._stream(body, script)

        def _whole(self, said: Any, status: int) -> None:
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, body: dict[str, Any], script: Script) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in script.pieces:
                if isinstance(piece, Turn):
                    self._wait(piece)
                elif isinstance(piece, bytes):
                    self._chunk(piece)
                else:
                    delta = piece if isinstance(piece, dict) else {"content": piece}
                    self._event(_delta(body, delta, None))
            if script.cuts_off:
                self.close_connection = True
                return
            self._event(_delta(body, {}, script.end))
            if script.usage and body.get("stream_options", {}).get("include_usage"):
                self._event(_delta(body, None, None) | {"choices": [], "usage": script.usage})
            self._chunk(b"data: [DONE]\n\n")
            if script.after:
                self._wait(script.after)
            self.wfile.write(b"0\r\n\r\n")

        def _wait(self, turn: Turn) -> None:
            turn.reached.set()
            while not turn.go.wait(0.02):
                try:
                    self._chunk(b": still here\n\n")
                except OSError:
                    turn.left.set()
                    raise

        def _event(self, data: Any) -> None:
            self._chunk(b"data: " + json.dumps(data).encode() + b"\n\n")

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None: ...

    listening = Quiet(("127.0.0.1", 0), Handler)
    first = Script(pieces, **more)
    chat = Chat(f"http://127.0.0.1:{listening.server_address[1]}", lambda _: first)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield chat
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def _delta(body: dict[str, Any], delta: dict[str, Any] | None, end: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": end}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": body["model"],
        "choices": [choice],
    }


def _completion(body: dict[str, Any], script: Script) -> dict[str, Any]:
    text = "".join(each for each in script.pieces if isinstance(each, str))
    more = {k: v for each in script.pieces if isinstance(each, dict) for k, v in each.items()}
    message = {"role": "assistant", "content": text, **more}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": script.end}],
        "usage": script.usage,
    }
