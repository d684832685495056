"""The models that the open generations need, loaded once, each from the settings it was made with.

What decides a vector (model, projection, the chunker's sizes) is stored with each generation, so a
process need not be told: a setting that nobody has set is the stored one, and one that somebody has
set otherwise is a mismatch. Fingerprints have the last word, because a model's files may have
changed under the same name. It names no concrete class: `wire` hands in what loads them.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import structlog
from pydantic import ValidationError

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.catalog.generations import LIVE, REINDEX, OpenGeneration
from longleaf.core.config import Settings
from longleaf.core.errors import CatalogBroken, GenerationMismatch, LongleafError
from longleaf.core.logs import reason_of
from longleaf.core.protocols import Chunker, Embedder
from longleaf.indexer.build import Target

_SECTIONS = ("embedder", "chunker")
_ONLY_HERE = frozenset(
    {
        "dtype",
        "threads",
        "url",
        "api_key",
        "request_texts",
        "timeout_seconds",
        "query_timeout_seconds",
    }
)
"""How this machine computes, or who does it for it: not a part of what a vector is."""

_log = structlog.get_logger(__name__)


def vector_settings(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings that decide what stored passages and vectors are, as they are kept."""
    return {
        section: getattr(settings, section).model_dump(mode="json", exclude=set(_ONLY_HERE))
        for section in _SECTIONS
    }


def adopt(settings: Settings, stored: Mapping[str, Any], *, all_of_it: bool = False) -> Settings:
    """`settings`, with the stored ones where nobody has set any (or everywhere).

    Raises CatalogBroken for stored settings that make no sense.
    """
    changed: dict[str, Any] = {}
    for section in _SECTIONS:
        mine = getattr(settings, section)
        given = {
            name: getattr(mine, name)
            for name in mine.model_fields_set
            # A setting that is newer than the vectors had its default when they were made.
            if not (all_of_it and stored.get(section)) or name in _ONLY_HERE
        }
        known = {
            name: value
            for name, value in dict(stored.get(section) or {}).items()
            if name in type(mine).model_fields and name not in _ONLY_HERE
        }
        merged = {**given, **known} if all_of_it else {**known, **given}
        try:
            changed[section] = type(mine).model_validate(merged)
        except ValidationError as error:
            raise CatalogBroken(
                f"The settings stored with the documents' vectors make no sense: {error}.",
                "Restore the catalog from a backup.",
            ) from error
    return settings.model_copy(update=changed)


def as_indexed(settings: Settings, catalog: Catalog) -> Settings:
    """`settings`, where nobody has set any those that the documents were indexed with."""
    live = catalog.generations.live()
    return settings if live is None else adopt(settings, live.settings)


def differences(settings: Settings, stored: Mapping[str, Any]) -> list[str]:
    """What is set otherwise than it was when the documents were indexed, in words."""
    now = vector_settings(settings)
    return [
        f"{section}.{name} is {value!r}, the documents were indexed with {stored[section][name]!r}"
        for section in _SECTIONS
        for name, value in now[section].items()
        if name in stored.get(section, {}) and stored[section][name] != value
    ]


Loader = Callable[[Settings], tuple[Embedder, Chunker]]
MakeChunker = Callable[[Settings, Embedder], Chunker]
StatedFiles = Callable[[Settings], str | None]

_FILES = "model_files"
"""Stored beside the settings: what `StatedFiles` said when the vectors were made."""
_PROBE = "embedder_probe"
"""Stored beside the settings: what an embedder elsewhere gave for its fixed sentence."""
_SAME_MODEL_COSINE = 0.99
"""Of two probes: other arithmetic moves a vector by 0.001, another model by far more."""


class Models:
    """Embedders and chunkers by the settings they were loaded from. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        load: Loader,
        make_chunker: MakeChunker,
        stated_files: StatedFiles = lambda _: None,
    ) -> None:
        self.settings = settings
        self.stated_files = stated_files
        self._load = load
        self._make_chunker = make_chunker
        self._embedders: dict[str, Embedder] = {}
        self._lock = threading.Lock()

    def load(self, settings: Settings) -> tuple[Embedder, Chunker]:
        """What these settings say; an embedder that is there already is used again."""
        key = _key(settings)
        with self._lock:
            embedder = self._embedders.get(key)
            if embedder is not None:
                return embedder, self._make_chunker(settings, embedder)
            embedder, chunker = self._load(settings)
            self._embedders[key] = embedder
            return embedder, chunker

    def stored_form(self) -> dict[str, Any]:
        """What is kept with a generation that the configured models make."""
        files = self.stated_files(self.settings)
        form = {**vector_settings(self.settings), **({} if files is None else {_FILES: files})}
        with self._lock:
            embedder = self._embedders.get(_key(self.settings))
        return form if embedder is None else {**form, **_probe_of(embedder)}

    def of(self, opened: OpenGeneration) -> Target:
        """A generation's models. Raises GenerationMismatch when they are not those any more."""
        settings = adopt(self.settings, opened.settings, all_of_it=True)
        embedder, chunker = self.load(settings)
        if not made_by(opened.generation, embedder, chunker):
            raise GenerationMismatch(
                f"The models of generation {opened.generation.id} are not what they were when its "
                f"vectors were made ({_changed(opened.generation, embedder, chunker)}).",
                f"Put the model's files back, or embed everything anew: {REINDEX}",
            )
        check_probe(embedder, opened.settings)
        return Target(opened.generation, chunker, embedder)

    def keep(self, opened: list[OpenGeneration]) -> None:
        """Let go of the embedders that none of these generations needs."""
        needed = {_key(adopt(self.settings, each.settings, all_of_it=True)) for each in opened}
        with self._lock:
            for key in self._embedders.keys() - needed - {_key(self.settings)}:
                del self._embedders[key]


def _key(settings: Settings) -> str:
    return json.dumps(vector_settings(settings)["embedder"], sort_keys=True)


def made_by(generation: Generation, embedder: Embedder, chunker: Chunker) -> bool:
    """Whether these would make the same passages and vectors."""
    return (
        generation.chunker_fingerprint == chunker.fingerprint
        and generation.embedder_fingerprint == embedder.fingerprint
        and (generation.dim, generation.token_dim) == (embedder.dim, embedder.token_dim)
    )


def _changed(generation: Generation, embedder: Embedder, chunker: Chunker) -> str:
    parts = []
    if generation.embedder_fingerprint != embedder.fingerprint:
        parts.append(f"embedder {embedder.fingerprint}, was {generation.embedder_fingerprint}")
    if generation.chunker_fingerprint != chunker.fingerprint:
        parts.append(f"chunker {chunker.fingerprint}, was {generation.chunker_fingerprint}")
    here, there = (embedder.dim, embedder.token_dim), (generation.dim, generation.token_dim)
    if here != there:
        parts.append(f"dimensions {here}, were {there}")
    return "; ".join(parts)


def check_probe(embedder: Embedder, stored: Mapping[str, Any]) -> None:
    """Raise GenerationMismatch when a service has another model under the name of the one that made
    the vectors. A model of our own is known by its files."""
    now, then = _probe_of(embedder).get(_PROBE), stored.get(_PROBE)
    if now is None or not isinstance(then, str):
        return
    cosine = _cosine(now, then)
    if cosine < _SAME_MODEL_COSINE:
        raise GenerationMismatch(
            f"The service at embedder.url has another model than the one that made the documents' "
            f"vectors, under the same name ({embedder.name}): its vector of a fixed sentence has a "
            f"cosine of {cosine:.3f} to the one of then.",
            f"Have that model served again, or embed everything anew: {REINDEX}",
        )


def _probe_of(embedder: Embedder) -> dict[str, str]:
    """An embedder elsewhere says what its fixed sentence gave: 8 bits a number are enough."""
    probe = getattr(embedder, "probe", None)
    if probe is None:
        return {}
    codes = np.rint(probe / np.abs(probe).max() * 127).astype(np.int8)
    return {_PROBE: base64.b64encode(codes.tobytes()).decode("ascii")}


def _cosine(one: str, other: str) -> float:
    a, b = (
        np.frombuffer(base64.b64decode(each), np.int8).astype(np.float64) for each in (one, other)
    )
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) if len(a) == len(b) else 0.0


def enter(catalog: Catalog, models: Models) -> Target:
    """The live generation with its models, made if this is the first.

    Raises GenerationMismatch unless the configured models are those of an open generation: while
    one is being built or retires, either's settings will do.
    """
    settings = models.settings
    opened = catalog.generations.opened()
    _refuse_without_loading(models, opened)
    embedder, chunker = models.load(settings)
    if not opened or opened[0].state != LIVE:
        generation = catalog.open_generation(
            chunker.fingerprint,
            embedder.fingerprint,
            embedder.name,
            embedder.dim,
            embedder.token_dim,
            models.stored_form(),
        )
        return Target(generation, chunker, embedder)
    live = opened[0]
    if made_by(live.generation, embedder, chunker):
        check_probe(embedder, live.settings)
        remember(catalog, models, live)
        return Target(live.generation, chunker, embedder)
    if any(made_by(each.generation, embedder, chunker) for each in opened[1:]):
        return models.of(live)
    raise _mismatch(
        differences(settings, live.settings)
        or [
            "a model's files, or how Longleaf itself cuts and embeds, have changed since: "
            + _changed(live.generation, embedder, chunker)
        ]
    )


def remember(catalog: Catalog, models: Models, live: OpenGeneration) -> None:
    """Keep with a generation what its models are called now: they make its vectors still."""
    stated = models.stored_form()
    wanted = {**stated, **live.settings}
    if _FILES in stated:
        wanted[_FILES] = stated[_FILES]
    if wanted != live.settings:
        catalog.generations.keep_settings(live.generation, wanted)


def _refuse_without_loading(models: Models, opened: Sequence[OpenGeneration]) -> None:
    """Raise where settings and files alone tell: a model takes seconds to load."""
    settings = models.settings
    if not opened:
        return
    if all(_cut_otherwise(settings, each.settings) for each in opened):
        raise _mismatch(differences(settings, opened[0].settings))
    files = models.stated_files(settings)
    if files is not None and all(each.settings.get(_FILES, files) != files for each in opened):
        raise _mismatch(
            differences(settings, opened[0].settings)
            or [
                f"the files of {_models_of(settings)} (weights, tokenizer, configuration or "
                "prompts) have changed since"
            ]
        )


def _models_of(settings: Settings) -> str:
    chosen = settings.embedder
    late = f" or embedder.late_model {chosen.late_model}" if chosen.late_model else ""
    return f"embedder.model {chosen.model}{late}"


def _cut_otherwise(settings: Settings, stored: Mapping[str, Any]) -> bool:
    """Whether the passages' sizes are others: that needs no model to be told."""
    return any(each.startswith("chunker.") for each in differences(settings, stored))


def _mismatch(what: Sequence[str]) -> GenerationMismatch:
    return GenerationMismatch(
        "The documents here were indexed with other settings than the configured ones: "
        f"{'; '.join(what)}.",
        f"Set it back (longleaf config shows the settings), or embed everything anew: {REINDEX}",
    )


def open_targets(catalog: Catalog, models: Models) -> tuple[Target, ...]:
    """Every open generation with its models, the live one first.

    One beside it whose models cannot be had is left out: whoever fills it looks again, and one that
    retires lacks what is written from now on.
    """
    opened = catalog.generations.opened()
    targets = []
    for each in opened:
        try:
            targets.append(models.of(each))
        except LongleafError as error:
            if each.state == LIVE:
                raise
            _log.warning("generation.not_fed", id=each.generation.id, reason=reason_of(error))
    models.keep(opened)
    return tuple(targets)


class FreshTargets:
    """The open generations with their models; asks the catalog whether they are others now."""

    def __init__(self, catalog: Catalog, models: Models) -> None:
        self._catalog = catalog
        self._models = models
        self._lock = threading.Lock()
        self._stamp = ""
        self._targets: tuple[Target, ...] = ()

    def __call__(self) -> tuple[Target, ...]:
        """As they are now; without a change one small read."""
        with self._lock:
            stamp = self._catalog.generations.stamp()
            if stamp != self._stamp:
                self._targets = open_targets(self._catalog, self._models)
                self._stamp = stamp
            return self._targets
