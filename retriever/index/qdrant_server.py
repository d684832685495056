"""Asking a Qdrant server: one client, its failures by name, idempotent writes tried again.

It knows no passages. Every call goes through `Server.call`, so that a server that is away becomes
`IndexUnavailable` and a key that is refused `ConfigError`; neither message ever holds the key.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from longleaf.core.errors import ConfigError, IndexUnavailable
from longleaf.core.store_settings import without_password

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from longleaf.core.store_settings import QdrantSettings

OLDEST_SERVER = (1, 19)
"""The first that takes IDF scopes, prefix conditions and memory placement as we give them."""

_TRIES = 4
_FIRST_PAUSE_SECONDS = 0.2
_TRY_AGAIN_WITHIN_SECONDS = 10.0
"""A server that lets requests run into their time limit is not asked again: somebody waits."""

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class Server:
    """A client and where it leads. `nodes` is how many servers share the work."""

    def __init__(self, client: QdrantClient, url: str) -> None:
        self.client = client
        self.url = url

    @classmethod
    def connect(cls, settings: QdrantSettings) -> Server:
        """Raises ConfigError for no URL, a key that is refused or a server that is too old, and
        IndexUnavailable when nobody answers."""
        from qdrant_client import QdrantClient

        if not settings.url:
            raise ConfigError(
                "index.kind is qdrant, but no server is named.",
                "Set qdrant.url, as in LONGLEAF_QDRANT__URL=http://127.0.0.1:6333",
            )
        if settings.api_key and settings.url.startswith("http:"):
            _log.warning("qdrant.key_in_clear", url=without_password(settings.url))
        with warnings.catch_warnings():  # it says the same, to nobody
            warnings.simplefilter("ignore", UserWarning)
            client = QdrantClient(
                url=settings.url,
                api_key=settings.api_key or None,
                timeout=max(1, round(settings.timeout_seconds)),
                check_compatibility=False,
            )
        server = cls(client, without_password(settings.url))
        try:
            server.require_version()
        except BaseException:
            client.close()
            raise
        return server

    def require_version(self) -> None:
        """Raises ConfigError for a server that is too old for what we ask of it."""
        told = self.call(lambda client: client.info()).version
        parts = tuple(int(part) for part in told.split("-")[0].split(".")[:2] if part.isdigit())
        if parts < OLDEST_SERVER:
            oldest = ".".join(map(str, OLDEST_SERVER))
            raise ConfigError(
                f"{self.url} is Qdrant {told}; Longleaf needs {oldest} or newer.",
                "Upgrade the server: it would not rank by words within collections.",
            )

    def node_count(self) -> int:
        """How many nodes there are; 1 where the server is alone or does not say."""
        from qdrant_client.http.exceptions import UnexpectedResponse

        try:
            status: Any = self.client.cluster_status()
        except NotImplementedError:  # in memory
            return 1
        except UnexpectedResponse as error:
            _log.warning("qdrant.nodes_unknown", status=error.status_code)
            return 1
        return max(1, len(getattr(status, "peers", None) or {}))

    def call(self, ask: Callable[[QdrantClient], _T], *, again: bool = False) -> _T:
        """What the client answers. With `again`, tried a few times: for what may be done twice.

        Raises IndexUnavailable, ConfigError for a refused key, KeyError for what is not there.
        """
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        begun = time.monotonic()
        for tried in range(1, _TRIES + 1):
            try:
                return ask(self.client)
            except UnexpectedResponse as error:
                status = error.status_code or 0
                if status in (401, 403):
                    raise ConfigError(
                        f"{self.url} refuses the key ({status}).",
                        "Set LONGLEAF_QDRANT__API_KEY to one that may read and write.",
                    ) from None
                if status == 404:
                    raise KeyError(error.reason_phrase) from None
                failure = f"{status} {_told(error)}"
                if status < 500 and status != 429:
                    raise IndexUnavailable(
                        f"{self.url} refuses a request: {failure}", "longleaf doctor looks at it."
                    ) from None
            except ResponseHandlingException as error:
                failure = type(error.source).__name__ if error.source else str(error)
            too_late = time.monotonic() - begun > _TRY_AGAIN_WITHIN_SECONDS
            if not again or tried == _TRIES or too_late:
                raise IndexUnavailable(
                    f"The Qdrant server at {self.url} does not answer ({failure}).",
                    "See that it runs and can be reached; Longleaf tries again by itself.",
                )
            pause = _FIRST_PAUSE_SECONDS * 2 ** (tried - 1)
            time.sleep(pause * (0.5 + random.random()))  # noqa: S311  spread, not secret
        raise AssertionError("unreachable")

    def close(self) -> None:
        self.client.close()


def _told(error: Any) -> str:
    """The server's own sentence, cut: it may quote a whole filter."""
    try:
        body = error.structured()
        return str(body["status"]["error"])[:300]
    except Exception:
        return str(error.reason_phrase)[:300]
