"""Connections that end with the time of who asks, whatever comes over them meanwhile.

A time-out of httpx counts from the last byte, so a head that drips, or interim answers (102) one
after the other, are waited for without end. Here each read and write gets what is left of one
moment, which a thread sets for the request that it makes. Not bounded: looking up a name.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

_PIECE_BYTES = 64 * 1024
"""Written at once: httpcore counts the time of a write from its last byte too."""

_local = threading.local()


@contextmanager
def ending(at: float) -> Iterator[None]:
    """What this thread reads and writes inside ends at `at` (`time.monotonic()`)."""
    _local.ends = at
    try:
        yield
    finally:
        del _local.ends


def timed_transport(limits: httpx.Limits) -> httpx.HTTPTransport:
    """httpx's own, without the environment's certificates, over connections of this kind."""
    transport = httpx.HTTPTransport(trust_env=False, limits=limits)
    # httpcore takes it as an argument, and httpx has none to hand it on.
    transport._pool._network_backend = _Backend()
    return transport


class _Backend(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, left, local_address, socket_options))


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE_BYTES):
            left = _left(timeout, httpcore.WriteTimeout)
            self._inner.write(buffer[start : start + _PIECE_BYTES], left)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _left(timeout: float | None, late: type[Exception]) -> float | None:
    """What is left of `timeout` and this thread's time; raises `late` where that is nothing."""
    ends: float | None = getattr(_local, "ends", None)
    if ends is None:
        return timeout
    left = ends - time.monotonic()
    if left <= 0:
        raise late("time is up")
    return left if timeout is None else min(timeout, left)
