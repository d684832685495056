"""Qdrant for tests: qdrant-client's own engine in memory, and a real server where there is one.

The engine in memory is the client's, so requests, models and answers are real; what it leaves out
(payload indexes, graph, quantization, consistency, shards) is listed in docs/stores.md. It is not
made for several threads, so each call waits for the one before.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote

from longleaf.core.protocols import PassageIndex
from longleaf.core.store_settings import QdrantSettings
from longleaf.retriever.index.followed import ChangeLog
from longleaf.retriever.index.qdrant import QdrantIndex
from longleaf.retriever.index.qdrant_schema import Place
from longleaf.retriever.index.qdrant_server import Server

_STAND_IN = "LONGLEAF_TEST_QDRANT_STAND_IN"
URL_VARIABLE = "LONGLEAF_TEST_QDRANT_URL"

_RUN_VARIABLE = "LONGLEAF_TEST_QDRANT_RUN"
_BEGAN = _RUN_VARIABLE not in os.environ
_RUN = os.environ.setdefault(_RUN_VARIABLE, secrets.token_hex(4))
"""In the names of this run's collections, so that no other run's are met; processes that this one
starts find it in the environment."""

_IN_MEMORY: dict[str, OneAtATime] = {}
"""By the folder that a test would keep an index in: opened again, it is what was left there."""


class OneAtATime:
    """A client in memory whose calls take turns and whose `close` forgets nothing."""

    def __init__(self) -> None:
        from qdrant_client import QdrantClient

        self.client = QdrantClient(":memory:")
        self._turn = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        def call(*arguments: Any, **more: Any) -> Any:
            with self._turn, warnings.catch_warnings():
                # It says of each call what it ignores; that is known here.
                warnings.simplefilter("ignore", UserWarning)
                return method(*arguments, **more)

        return call

    def close(self) -> None:
        pass


def in_memory(folder: Path) -> Any:
    """The client that stands for what lies in `folder`."""
    return _IN_MEMORY.setdefault(str(folder), OneAtATime())


def no_server() -> str | None:
    """Why no real server is asked; None when one is."""
    return None if os.environ.get(URL_VARIABLE) else f"{URL_VARIABLE} names no Qdrant server"


def settings(**more: Any) -> QdrantSettings:
    """Exact, and without waiting for a disk to sync."""
    url = os.environ.get(URL_VARIABLE, "")
    return QdrantSettings.model_validate(
        {"url": url, "hnsw_m": 0, "holdback_seconds": 0.0, "timeout_seconds": 60.0, **more}
    )


def open_in_memory(
    folder: Path, dim: int, fingerprint: str, change_log: ChangeLog | None = None
) -> PassageIndex:
    """An index in memory that may be written to."""
    return _writing(Server(in_memory(folder), "memory"), folder, dim, fingerprint, change_log)


def open_over_http(
    folder: Path, dim: int, fingerprint: str, change_log: ChangeLog | None = None
) -> PassageIndex:
    """The same engine asked over HTTP, as a server is; one for all tests of this process."""
    return _writing(Server.connect(settings(url=_server())), folder, dim, fingerprint, change_log)


def _server() -> str:
    """Its address, which processes that this one starts find in the environment."""
    if _STAND_IN not in os.environ:
        from tests.contracts.qdrant_rest import serving

        lasting = serving()
        os.environ[_STAND_IN] = lasting.__enter__()
        atexit.register(lasting.__exit__, None, None, None)
    return os.environ[_STAND_IN]


def open_on_server(
    folder: Path, dim: int, fingerprint: str, change_log: ChangeLog | None = None
) -> PassageIndex:
    """An index on the server that the environment names; its name comes from the folder's.

    With one shard, because IDF is counted per shard. What was made goes when the run ends.
    """
    server = _real_server()
    if _BEGAN and not _ON_SERVER:
        atexit.register(_drop_all)
    _ON_SERVER.add(_alias(folder))
    return _writing(server, folder, dim, fingerprint, change_log, shards=1)


_ON_SERVER: set[str] = set()


def _real_server() -> Server:
    return Server.connect(settings(api_key=os.environ.get("LONGLEAF_TEST_QDRANT_API_KEY", "")))


def _drop_all() -> None:
    server = _real_server()
    for alias in sorted(_ON_SERVER):
        Place(server, alias).take_over()  # the run's own names: nobody else has them
    server.close()


def _writing(
    server: Server,
    folder: Path,
    dim: int,
    fingerprint: str,
    change_log: ChangeLog | None,
    **more: Any,
) -> QdrantIndex:
    alias = _alias(folder)
    epoch = change_log.epoch() if change_log else "test"
    index = QdrantIndex.open(server, alias, dim, fingerprint, epoch, settings(**more))
    index.begin_writing(1, lambda: None, change_log)
    return index


def _alias(folder: Path) -> str:
    name = quote(str(folder), safe="").replace("%", "-").replace(".", "-")[-150:]
    return f"test-{_RUN}-{name}"
