"""What a user can get wrong, each with what to do about it.

A `LongleafError` carries a sentence for the user and, where there is one, the next step. `assert`
is only for our own bugs. api/http maps each class to one HTTP status, api/cli to one exit code.
"""

from __future__ import annotations

import enum


class LongleafError(Exception):
    """Base of all errors that a user can act on. `code` is stable and machine-readable."""

    code = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(LongleafError):
    """A setting that cannot be used."""

    code = "config"


class NotFound(LongleafError):
    """A document, collection or file that is not there (or that the caller may not see)."""

    code = "not_found"


class InvalidRequest(LongleafError):
    """A request that does not make sense: a bad filter, an unknown option."""

    code = "invalid_request"


class TooLarge(LongleafError):
    """An upload or request over a stated limit."""

    code = "too_large"


class Conflict(LongleafError):
    """Something with that name is there already, or somebody else holds the lock."""

    code = "conflict"


class CatalogBusy(Conflict):
    """Another process has kept the catalog locked for longer than anybody waits."""

    code = "catalog_busy"


class CatalogUnavailable(LongleafError):
    """The database server, or the store of originals, does not answer or does not let us in."""

    code = "catalog_unavailable"


class NoSpace(LongleafError):
    """The disk is full: nothing more can be written until there is room."""

    code = "no_space"


class ModelUnavailable(LongleafError):
    """Model weights that cannot be had, or that are not what they should be."""

    code = "model_unavailable"


class Overloaded(LongleafError):
    """More waits than can be done soon; `retry_after_seconds` is about how long that takes."""

    code = "overloaded"

    def __init__(self, message: str, hint: str = "", retry_after_seconds: float = 1.0) -> None:
        super().__init__(message, hint)
        self.retry_after_seconds = retry_after_seconds


class ShuttingDown(LongleafError):
    """The server was told to end and takes nothing new."""

    code = "shutting_down"


class StageStalled(LongleafError):
    """A part of this machine that neither answers nor fails: a model, the index, the catalog."""

    code = "stage_stalled"


class RemoteUnavailable(LongleafError):
    """A service elsewhere that embeds or reads for us and does not answer at the moment."""

    code = "remote_unavailable"


class RemoteRefused(LongleafError):
    """A service elsewhere that refuses to embed or read for us, or answers what makes no sense."""

    code = "remote_refused"

    def __init__(
        self, message: str, hint: str = "", *, status: int | None = None, said: str = ""
    ) -> None:
        """`said`: the service's own words, which may hold what it was given: never shown."""
        super().__init__(message, hint)
        self.status = status
        self.said = said


class NoAnswers(LongleafError):
    """No service is set up that writes answers (`answer.url`); searches work all the same."""

    code = "no_answers"


class IndexLocked(Conflict):
    """Another process owns the index shard."""

    code = "index_locked"


class IndexUnavailable(LongleafError):
    """The index's process is gone or not there yet; it is started again by itself."""

    code = "index_unavailable"


class GenerationMismatch(LongleafError):
    """The stored vectors were made by another embedder or chunker than the configured one."""

    code = "generation_mismatch"


class CatalogBroken(LongleafError):
    """The data folder holds something that we did not write or that no longer checks out."""

    code = "catalog_broken"


class ForeignIndex(CatalogBroken):
    """What stands where our index should is not this catalog's: it is neither read nor deleted."""

    code = "foreign_index"


class RejectReason(enum.StrEnum):
    """Why a file was not indexed. The words are stable: tests, CLI and API show them."""

    EMPTY = "empty"
    UNSUPPORTED = "unsupported type"
    MALFORMED = "malformed"
    ENCRYPTED = "encrypted"
    TOO_LARGE = "too large"
    UNREADABLE = "unreadable"
    DUPLICATE_KEY = "duplicate key"
    NEEDS_PROGRAM = "needs a program that is not installed"
    EXPANDS = "expands too much"
    TOO_SLOW = "takes too long"
    TOO_MUCH_MEMORY = "needs too much memory"
    CRASHED = "crashes its reader"
    INTERNAL = "internal"


class Rejected(LongleafError):
    """A file that a parser refuses: `reason` is a `RejectReason`, the message says what it saw."""

    code = "rejected"

    def __init__(self, reason: RejectReason, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.reason = reason


class NotDrawn(LongleafError):
    """A page of a PDF that cannot be drawn: it is damaged, or takes too long or too much memory."""

    code = "not_drawn"


class NoTextFound(LongleafError):
    """A file that opens but holds no text (a scan): it needs OCR."""

    code = "no_text"
