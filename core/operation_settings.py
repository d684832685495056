"""Settings of what an operator sees of a running server: its log, its traces, who changed what.

Part of the tree in `config`, which reads it.
"""

from __future__ import annotations

import logging
from typing import Literal

from pydantic import Field

from longleaf.core.store_settings import Section


class LogSettings(Section):
    """What `longleaf serve` and `longleaf worker` write to standard error (docs/operations.md)."""

    form: Literal["console", "json"] = Field(
        "console", description="console: lines for people. json: an object a line, for programs."
    )
    level: Literal["info", "warning", "error"] = Field(
        "warning",
        description="info: every request too, but for probes and files of the page that went well.",
    )

    @property
    def number(self) -> int:
        """The level as Python's `logging` counts."""
        return logging.getLevelNamesMapping()[self.level.upper()]


class TelemetrySettings(Section):
    """Traces by OpenTelemetry (extra longleaf[telemetry])."""

    endpoint: str = Field(
        "",
        pattern=r"^(https?://[^/@?#\s]+(/[^@?#\s]*)?)?$",
        description="Empty: no traces are made. http(s)://HOST:4318 of a collector that takes OTLP "
        "over HTTP; spans go to its /v1/traces, without texts, queries, titles or keys.",
    )
    sample: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of requests that are traced; one whose caller sends a traceparent is "
        "traced where that says so.",
    )


class AuditSettings(Section):
    """The audit log."""

    keep_days: float = Field(
        0.0,
        ge=0,
        description="Rows older than this are taken away once an hour by a worker, which leaves a "
        "row that says so; 0: they are kept for ever.",
    )
