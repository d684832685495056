"""A service elsewhere that answers piece by piece: `Distant`'s rules for an answer that is long.

The same address, key, breaker and refusals as `Distant`; beside it, a request that ends at once
when nobody waits for it any more: its connection is closed, and the service can stop. A thread that
reads a socket cannot be told so, therefore one event loop in a thread of its own holds the
connections, and whoever asks looks every `_LOOK_SECONDS` whether to go on. It knows bytes, not what
they mean. Trade-off: that thread, started with the first question.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import Future
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from longleaf.core.distant import Distant, Lost, wait_of
from longleaf.core.errors import RemoteRefused, RemoteUnavailable

if TYPE_CHECKING:
    import httpx

_LOOK_SECONDS = 0.2
_TRIES = 2
_CONNECT_SECONDS = 5.0
_KEPT_CONNECTIONS = 32


class NobodyWaits(Exception):
    """Whoever asked has left; the request was ended."""


class DistantStream(Distant):
    """One service that streams. Thread-safe."""

    _loop: asyncio.AbstractEventLoop | None = None
    _streaming: httpx.AsyncClient | None = None

    def listen(
        self,
        path: str,
        body: Any,
        *,
        within_seconds: float,
        given_up: Callable[[], bool] = lambda: False,
    ) -> Generator[bytes, None, None]:
        """POST `body` as JSON; the body of the answer as it comes, in pieces of any length.

        Asked again once where nothing came at all; never behind the first piece. `within_seconds`
        bounds everything, `given_up` is asked on the way. Raises what `ask` raises, also in the
        middle (`Lost` as the cause says whether time was up), and NobodyWaits. A reader that stops
        early closes the iterator, and with it the request.
        """
        if within_seconds <= 0:
            raise RemoteUnavailable(
                f"Time was up before {self.url} could be asked.",
                f"Ask again, or raise {self._section}.timeout_seconds.",
            )
        until = self._clock() + within_seconds
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        with self._let_in(False):
            for number in range(1, _TRIES + 1):
                has_begun = False
                try:
                    with closing(self._pieces(path, content, until, given_up)) as pieces:
                        for piece in pieces:
                            has_begun = True
                            yield piece
                except Lost as lost:
                    # An answer takes as long as it is long: late is nobody's failure.
                    if not lost.is_late:
                        self._note_failure(lost)
                    wait_seconds = wait_of(number, lost)
                    left = until - self._clock()
                    if has_begun or lost.is_late or number == _TRIES or wait_seconds >= left:
                        raise self._unavailable(lost, number) from lost
                    self._rest(wait_seconds, given_up)
                except RemoteRefused as refused:
                    if refused.status is not None:
                        self._note_answer()
                    raise
                else:
                    self._note_answer()
                    return

    def close(self) -> None:
        """Let go of the connections and the thread that holds them."""
        super().close()
        with self._lock:
            loop, client = self._loop, self._streaming
            self._loop = self._streaming = None
        if loop is not None:
            _stop(loop, client)

    def _rest(self, seconds: float, given_up: Callable[[], bool]) -> None:
        while seconds > 0:
            if given_up():
                raise NobodyWaits
            self._sleep(min(seconds, _LOOK_SECONDS))
            seconds -= _LOOK_SECONDS

    def _pieces(
        self, path: str, content: bytes, until: float, given_up: Callable[[], bool]
    ) -> Generator[bytes, None, None]:
        pieces: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
        patience = max(0.001, until - self._clock())

        async def pump() -> None:
            try:
                async with asyncio.timeout(patience):
                    async for piece in self._received(path, content, patience):
                        pieces.put(piece)
                pieces.put(None)
            except TimeoutError:
                pieces.put(Lost(f"no whole answer within {patience:.3g} s", is_late=True))
            except asyncio.CancelledError:
                pieces.put(self._let_go())
                raise
            except Exception as error:  # whatever it is must not leave the reader waiting
                pieces.put(error)

        running: Future[None] = asyncio.run_coroutine_threadsafe(pump(), self._started())
        try:
            while True:
                try:
                    piece = pieces.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    if given_up():
                        raise NobodyWaits from None
                    continue
                if piece is None:
                    return
                if isinstance(piece, BaseException):
                    raise piece
                if given_up():
                    raise NobodyWaits
                yield piece
        finally:
            running.cancel()

    async def _received(self, path: str, content: bytes, patience: float) -> AsyncIterator[bytes]:
        import httpx

        headers = self._headers(content) | {"accept": "text/event-stream, application/json"}
        timeout = httpx.Timeout(patience, connect=min(patience, _CONNECT_SECONDS))
        received_bytes = 0
        began = bytearray()  # of what is no answer, and read whole
        client = self._streaming
        if client is None:
            raise self._let_go()
        try:
            async with client.stream(
                "POST", self.url + path, content=content, headers=headers, timeout=timeout
            ) as response:
                self._check_coding(response)
                async for piece in response.aiter_raw():
                    received_bytes += len(piece)
                    self._check_length(response, received_bytes)
                    if response.status_code == 200:
                        yield piece
                    else:
                        began += piece
        except httpx.HTTPError as error:
            raise self._lost_on_the_way(error, patience) from error
        if response.status_code != 200:
            self._answer(response, bytes(began))

    def _let_go(self) -> RemoteUnavailable:
        return RemoteUnavailable(f"{self.url} was let go of while it answered.")

    def _started(self) -> asyncio.AbstractEventLoop:
        import httpx

        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=[loop], name="streams", daemon=True).start()
                self._loop = loop
                self._streaming = httpx.AsyncClient(
                    trust_env=False,
                    follow_redirects=False,
                    limits=httpx.Limits(max_keepalive_connections=_KEPT_CONNECTIONS),
                )
                weakref.finalize(self, _end, loop)
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient | None) -> None:
    async def finish() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if client is not None:
            await client.aclose()

    asyncio.run_coroutine_threadsafe(finish(), loop).result()
    _end(loop)


def _end(loop: asyncio.AbstractEventLoop) -> None:
    with suppress(RuntimeError):  # it is closed already
        loop.call_soon_threadsafe(loop.stop)
