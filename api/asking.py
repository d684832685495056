"""What a Longleaf server answers over HTTP, for the parts of ours that ask one.

The command line, the adapters for frameworks and the MCP tools share it. It imports httpx and our
errors, and nothing that runs a model or opens an index, so a machine that only asks needs no more.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from longleaf.core.errors import InvalidRequest, LongleafError, NotFound, Overloaded

if TYPE_CHECKING:
    import httpx

PATIENCE_SECONDS = 600.0  # a reranker on a slow machine may read for minutes
DEFAULT_URL = "http://127.0.0.1:8765"


class Longleaf:
    """A server at `url`; may be used by several threads at once. `headers` go with each request.

    Every method returns the API's JSON (docs/api.md). Raises NotFound, Overloaded, InvalidRequest
    (other mistakes of the caller) or LongleafError with the server's own words.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        import httpx

        self.url = url.rstrip("/")
        self._client = httpx.Client(headers=headers, timeout=timeout_seconds, trust_env=False)
        weakref.finalize(self, self._client.close)

    def search(self, body: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/search."""
        return self._post("/v1/search", body)

    def rerank(self, body: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/rerank."""
        return self._post("/v1/rerank", body)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.close()

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        import httpx

        # Escaped, so that an argument that is no UTF-8 arrives and the server judges it.
        headers = {"content-type": "application/json"}
        try:
            response = self._client.post(self.url + path, content=json.dumps(body), headers=headers)
        except httpx.TransportError as error:
            raise LongleafError(
                f"{self.url} could not be asked ({type(error).__name__}).",
                "Look whether `longleaf serve` runs there.",
            ) from None
        return answer_of(response)


def answer_of(response: httpx.Response) -> dict[str, Any]:
    """The JSON of an answer; a problem is raised as `Longleaf` says."""
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise LongleafError(f"What answers at {response.url.host} is no Longleaf server.")
    if not response.is_error:
        return answer
    detail, hint = str(answer.get("detail", "")), str(answer.get("hint", ""))
    if response.status_code == 429:
        seconds = response.headers.get("retry-after", "1")
        raise Overloaded(detail, hint, float(seconds) if seconds.isdecimal() else 1.0)
    kind = LongleafError
    if response.is_client_error:
        kind = NotFound if response.status_code == 404 else InvalidRequest
    raise kind(detail, hint)
