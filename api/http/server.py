"""The server around the app: uvicorn with deadlines for clients and an end in order.

The first signal (SIGTERM, SIGINT) begins draining and the process ends with 0; the second ends it
at once, which loses nothing that was acknowledged. What still hangs long after everybody was told
(a thread that waits for a service elsewhere) does not keep the process: it ends with 1.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import structlog
import uvicorn

from longleaf.api.http.draining import Draining
from longleaf.api.http.patience import patient
from longleaf.core.serving_settings import ServingSettings

_log = structlog.get_logger(__name__)

_LAST_SECONDS = 2
"""For connections to close once no request is under way."""
_HANGING_SECONDS = 60.0
"""After requests were given up: a worker may take 30 to finish its batch."""

_OTHER_FILES = 256
"""Files open for other things than connections: catalog, index, models, uploads."""


class Server(uvicorn.Server):
    """uvicorn's server, which drains before it ends. `on_begin` is called once, in its loop."""

    def __init__(
        self,
        config: uvicorn.Config,
        draining: Draining,
        on_begin: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self.draining = draining
        self._on_begin: Callable[[], None] | None = on_begin

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's own keeps the signal and raises it at the end, which ends the process before
        anything is closed."""
        if self.draining.has_begun:
            signal.signal(sig, signal.SIG_DFL)
            os.kill(os.getpid(), sig)
            return
        self.draining.begin()

    async def on_tick(self, counter: int) -> bool:
        if await super().on_tick(counter):
            return True
        if self.draining.has_begun and self._on_begin is not None:
            on_begin, self._on_begin = self._on_begin, None
            on_begin()
        return self.draining.is_done()


def settle() -> None:
    """Before serving: what was made until now stays, and no full garbage collection, which stops
    all threads, looks at it again (300,000 objects, 0.2 s)."""
    gc.collect()
    gc.freeze()


def end_hanging_later(seconds: float) -> None:
    """End this process after so long, should it still be there: for who was told to end."""
    ends = threading.Timer(seconds + _HANGING_SECONDS, _end_hanging)
    ends.daemon = True
    ends.start()


def _end_hanging() -> None:
    hanging = sorted(each.name for each in threading.enumerate() if not each.daemon)
    _log.error("server.hangs", threads=hanging)
    os._exit(1)


def allow_connections(wanted: int) -> int:
    """Let this process have so many connections open; returns how many it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    most = wanted + _OTHER_FILES
    if soft < most:
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = max(1, min(wanted, soft - _OTHER_FILES))
    if allowed < wanted:
        _log.warning("server.fewer_connections", wanted=wanted, allowed=allowed, files=soft)
    return allowed


def make_server(
    app: Any,
    serving: ServingSettings,
    draining: Draining,
    *,
    note_cut: Callable[[str], None] = lambda _what: None,
    on_begin: Callable[[], None] = lambda: None,
    look_seconds: float = 1.0,
    **config: Any,
) -> Server:
    """A server for `app` that has these limits. `config`: further ones of `uvicorn.Config`."""
    protocol = patient(serving, note_cut, look_seconds)
    made = uvicorn.Config(
        app,
        http=protocol,
        timeout_graceful_shutdown=_LAST_SECONDS,
        server_header=False,
        # A request's task may begin inside another's: of one written behind it, or after a body for
        # which reading had stopped. It must not begin with that one's caller, log and trace.
        reset_contextvars=True,
        **config,
    )
    return Server(made, draining, on_begin)
