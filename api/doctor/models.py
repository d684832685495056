"""Which models answer and why, and whether they are those that the stored vectors were made with.

A running server is asked, because it has them loaded; without one they are loaded here (seconds).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longleaf.api import targets, wire
from longleaf.api.doctor.report import Finding, fail, ok, warn
from longleaf.api.late_model import DOUBT
from longleaf.api.reading import close_reranker, open_reranker
from longleaf.api.running import local_headers
from longleaf.core.catalog import Catalog
from longleaf.core.config import Settings
from longleaf.core.errors import LongleafError

if TYPE_CHECKING:
    from longleaf.core.protocols import Chunker, Embedder


@dataclass(slots=True)
class Models:
    """The configured models, loaded when first asked for."""

    settings: Settings
    reasons: dict[str, str]
    _loaded: tuple[Embedder, Chunker] | None = None

    def get(self) -> tuple[Embedder, Chunker]:
        """Raises what `wire.open_models` raises."""
        if self._loaded is None:
            self._loaded = wire.open_models(self.settings, self.reasons)
        return self._loaded


def profile(models: Models, catalog: Catalog | None, server: str | None) -> Iterator[Finding]:
    """Embedder, token vectors and reranker, each with why."""
    if server is not None:
        yield from _of_server(server, local_headers(models.settings.home))
        return
    try:
        if catalog is not None:
            models.settings = targets.as_indexed(models.settings, catalog)
        embedder, chunker = models.get()
        live = catalog.live_generation() if catalog is not None else None
        if catalog is not None and live is not None:
            close_reranker(open_reranker(models.settings.reranker, catalog, live, models.reasons))
    except LongleafError as error:
        yield fail("models", error.message, error.hint)
        return
    yield from _chosen(models.reasons)
    yield from _answers(models.settings)
    if live is None:
        return
    stored = (live.chunker_fingerprint, live.embedder_fingerprint)
    if stored != (chunker.fingerprint, embedder.fingerprint):
        which = "chunker" if stored[0] != chunker.fingerprint else "embedder"
        yield fail(
            "generation",
            f"The stored passages were made by another {which} than the configured one.",
            "Set it back (longleaf config), or make them anew: longleaf reindex",
        )
    else:
        yield ok("generation", f"{live.id}, made by the configured embedder and chunker")


def _answers(settings: Settings) -> Iterator[Finding]:
    try:
        chat = wire.open_chat(settings)
    except LongleafError as error:
        yield fail("answers", error.message, error.hint)
    else:
        yield ok("answers", wire.who_answers(chat))


def _chosen(reasons: Mapping[str, str]) -> Iterator[Finding]:
    for part, reason in reasons.items():
        if part == DOUBT:
            remedy = "Try it with questions of yours (longleaf eval), or fetch the model again."
            yield warn(part, reason, remedy)
        else:
            yield ok(part, reason)


def _of_server(server: str, local: Mapping[str, str]) -> Iterator[Finding]:
    import httpx

    try:
        with httpx.Client(timeout=30.0, trust_env=False, headers=dict(local)) as client:
            answer = client.get(f"{server}/readyz")
            told = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        yield fail("server", f"It does not say whether it is ready: {error}.", "Start it again.")
        return
    yield from _chosen({str(part): str(why) for part, why in told.get("chosen", {}).items()})
    if answer.status_code != 200:
        reasons = tuple(map(str, told.get("reasons", ())))
        fact = f"It is not ready: {told.get('detail', answer.status_code)}"
        yield warn("server", fact, "Wait, or look into its log.", details=reasons)
    else:
        yield ok("server", f"ready; {told['lag']:,} changes behind")
