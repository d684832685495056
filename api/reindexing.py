"""`longleaf reindex`: all documents cut and embedded anew beside the living, then one swap.

It fills a generation from stored text, a few hundred passages a transaction, and goes on where an
earlier run ended, whatever ended it. While it is open, every write feeds it as well. The swap is
one row; processes that answer switch by themselves once their index has followed (`generations`),
and with the last of them the old vectors go. Without any, all of that is done here. It changes no
document and no setting: what it was told is kept with the generation.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from longleaf.api import indexes, reading, targets, wire
from longleaf.core.catalog import Catalog, ContentWrite, Generation
from longleaf.core.config import LoadedSettings, Settings, setting_value
from longleaf.core.errors import ConfigError, Conflict, IndexLocked, NotFound
from longleaf.core.types import Document, Passage
from longleaf.indexer.build import Target
from longleaf.indexer.prepare import embed_inputs

NamedProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

LOCK = "reindex.lock"
_CONTENTS_AT_ONCE = 64
_POLL_SECONDS = 0.5
_LETTING_GO_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Reindexed:
    """How it ended: `changed` is False when all was so already; `switched` when nobody answers
    from the old generation any more and nothing of it is left."""

    generation: int
    changed: bool
    embedded: int
    switched: bool


def require_agreement(asked: LoadedSettings, without_flags: LoadedSettings) -> None:
    """Raise ConfigError where a flag contradicts a setting that stands somewhere.

    After the swap that setting would keep every process from starting.
    """
    for name, origin in asked.origins.items():
        stands = without_flags.origins[name]
        if origin != "command line" or name == "home" or stands == "default":
            continue
        was = setting_value(without_flags.settings, name)
        if setting_value(asked.settings, name) != was:
            raise ConfigError(
                f"{name} is set to {was!r} ({stands}).",
                "Change it there and run longleaf reindex without the flag: else every process "
                "that starts afterwards would be refused.",
            )


def reindex(
    settings: Settings, *, wait: bool = True, progress: NamedProgress = lambda *_: None
) -> Reindexed:
    """Have all documents answered from generations of these settings; unset ones stay as they are.

    With `wait` it returns when the processes that answer have switched, else after the swap. May be
    killed at any moment and run again. Raises Conflict while another one runs on the data folder.
    """
    with _alone(settings.home):
        catalog = wire.open_catalog(settings)
        try:
            live = catalog.generations.live()
            if live is None:
                raise NotFound("There are no documents yet.", "Index some: longleaf index PATH")
            models = wire.make_models(settings, catalog)
            embedder, chunker = models.load(models.settings)
            embedded = 0
            generation, changed = live.generation, False
            if targets.made_by(live.generation, embedder, chunker):
                catalog.generations.give_up_building()
                targets.remember(catalog, models, live)
            else:
                generation, changed = (
                    catalog.generations.begin(
                        chunker.fingerprint,
                        embedder.fingerprint,
                        embedder.name,
                        embedder.dim,
                        embedder.token_dim,
                        models.stored_form(),
                    ),
                    True,
                )
                target = Target(generation, chunker, embedder)
                # Whoever writes meanwhile may not have heard of it yet, so it asks until all is in.
                while not catalog.generations.make_live(generation):
                    embedded += fill(catalog, target, settings.indexer.commit_passages, progress)
                    reading.store_reader_ids(settings.reranker, catalog)
            switched = _finish(models.settings, catalog, generation, wait, progress)
            return Reindexed(generation.id, changed, embedded, switched)
        finally:
            catalog.close()


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    lock = os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict(
                "Another longleaf reindex runs on this data folder.", "Wait for it, or end it."
            ) from None
        yield
    finally:
        os.close(lock)


def fill(catalog: Catalog, target: Target, commit_passages: int, progress: NamedProgress) -> int:
    """Give every content that lacks them the generation's passages and vectors; returns how many.

    What was made before is left alone; a long document goes on with the passage it ended at.
    """
    total = catalog.generations.missing_count(target.generation)
    done, last = 0, 0
    progress("Embed", 0, total)
    while missing := catalog.generations.missing(target.generation, last, _CONTENTS_AT_ONCE):
        last = missing[-1][0]
        waiting: list[_Cut] = []
        for _, digest in missing:
            cut = _cut(catalog, target, digest)
            if cut is not None and len(cut.passages) - cut.done <= commit_passages:
                waiting.append(cut)
            elif cut is not None:
                _embed_long(catalog, target, cut, commit_passages)
            if sum(len(each.passages) for each in waiting) >= commit_passages:
                _embed(catalog, target, waiting)
                waiting = []
            done += 1
            progress("Embed", done, max(total, done))
        _embed(catalog, target, waiting)
    return done


@dataclass(frozen=True, slots=True)
class _Cut:
    """A stored document cut anew; the first `done` passages have their vectors already."""

    digest: str
    document: Document
    passages: tuple[Passage, ...]
    done: int


def _cut(catalog: Catalog, target: Target, digest: str) -> _Cut | None:
    document = catalog.content_document(digest)
    if document is None:  # erased meanwhile
        return None
    passages = target.chunker.chunk(document)
    return _Cut(digest, document, passages, catalog.vectors_written(digest, target.generation))


def _embed(catalog: Catalog, target: Target, cuts: Sequence[_Cut]) -> None:
    if not cuts:
        return
    vectors = target.embedder.embed_passages(
        each
        for cut in cuts
        for each in islice(embed_inputs(cut.document, cut.passages), cut.done, None)
    )
    contents = [
        ContentWrite(
            cut.digest,
            cut.document,
            cut.passages,
            tuple(islice(vectors, len(cut.passages) - cut.done)),
            cut.done,
        )
        for cut in cuts
    ]
    catalog.add_vectors(target.generation, contents)


def _embed_long(catalog: Catalog, target: Target, cut: _Cut, commit_passages: int) -> None:
    """In slices, so that memory does not grow with the document."""
    inputs = islice(embed_inputs(cut.document, cut.passages), cut.done, None)
    vectors = target.embedder.embed_passages(inputs)
    done = cut.done
    while done < len(cut.passages):
        mine = tuple(islice(vectors, commit_passages))
        content = ContentWrite(cut.digest, cut.document, cut.passages, mine, done)
        catalog.add_vectors(target.generation, [content])
        done += len(mine)


def _finish(
    settings: Settings,
    catalog: Catalog,
    generation: Generation,
    wait: bool,
    progress: NamedProgress,
) -> bool:
    """After the swap: wait for those who answer, or make the index here; then clear up."""
    while True:
        catalog.generations.retire()
        retiring = [
            each.generation for each in catalog.generations.opened() if each.state == "retiring"
        ]
        if not retiring:
            break
        waiting = sum(len(catalog.generations.answering(each)) for each in retiring)
        progress("Servers to switch", 0, waiting)
        if not wait:
            return False
        time.sleep(_POLL_SECONDS)
    _make_index(settings, catalog, generation, progress)
    catalog.generations.empty()
    # A server that has just switched lets go of the old one a moment later.
    end = time.monotonic() + _LETTING_GO_SECONDS
    while left := indexes.drop_closed(settings, catalog):
        if time.monotonic() > end:
            break
        time.sleep(_POLL_SECONDS)
    return not left


def _make_index(
    settings: Settings, catalog: Catalog, generation: Generation, progress: NamedProgress
) -> None:
    """Fill the new index, unless a process that answers owns it already."""
    try:
        followed = indexes.place(settings, catalog, generation).open()
    except IndexLocked:
        return
    try:
        followed.follower.catch_up(lambda done, total: progress("Index", done, total))
        followed.index.optimize()
    finally:
        followed.close()
