"""Problems as OpenAI's clients know them: {"error": {message, type, param, code}}."""

from __future__ import annotations

from typing import Any

from longleaf.api.http.errors import Problem, Say

_PATHS = ("/v1/embeddings", "/v1/models", "/v1/vector_stores")
_TYPES = {404: "not_found_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key"}


def say_openai(what: Problem) -> tuple[int, Any]:
    """A validation error is 400 there; all else keeps its status."""
    status = 400 if what.status in (413, 422) else what.status
    kind = "invalid_request_error" if status < 500 else "server_error"
    field = what.errors[0].field.removeprefix("body.") if what.errors else None
    return status, {
        "error": {
            "message": f"{what.detail} {what.hint}".strip(),
            "type": _TYPES.get(status, kind),
            "param": field,
            "code": _CODES.get(status, what.code),
        }
    }


def say_at(path: str) -> Say | None:
    """Whether it is OpenAI's clients who ask at `path`."""
    asked = any(path == each or path.startswith(f"{each}/") for each in _PATHS)
    return say_openai if asked else None
