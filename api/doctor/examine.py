"""The whole examination, part by part, each told as soon as it is known; mending on the way.

Order: what the machine is, then the catalog's file, then what is in it, then what follows from it.
A part that cannot be opened ends its branch with a FAIL and the others go on. Nothing is ever
deleted that the catalog refers to; what nothing refers to goes only after `confirm` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from longleaf.api import indexes, wire
from longleaf.api.doctor import access, data, machine, surroundings
from longleaf.api.doctor.index import IndexExam
from longleaf.api.doctor.models import Models, profile
from longleaf.api.doctor.report import Finding, Report, Status, fail, ok, warn
from longleaf.api.running import find_server
from longleaf.core.catalog import Catalog, ContentWrite, Generation, orphans, repair
from longleaf.core.catalog.database import DATABASE
from longleaf.core.catalog.schema import SCHEMA_VERSION
from longleaf.core.catalog.verify import Verifier
from longleaf.core.config import Settings
from longleaf.core.errors import Conflict, LongleafError
from longleaf.core.types import Document
from longleaf.indexer.prepare import embed_inputs

if TYPE_CHECKING:
    from longleaf.api.doctor.recall import Recall

_log = structlog.get_logger(__name__)

RECALL_GOAL = 0.99

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asked for. `queries` and `given` are for `recall`; `confirm` asks yes or no."""

    deep: bool = False
    repair: bool = False
    recall: bool = False
    queries: int = 200
    given: Sequence[str] = ()
    confirm: Callable[[str], bool] = lambda _question: False


class Examination:
    """One run of the doctor. `say` hears each finding, `progress` how far a long part is."""

    def __init__(
        self,
        settings: Settings,
        wishes: Wishes,
        say: Callable[[Finding], None] = lambda _finding: None,
        progress: Progress = lambda *_: None,
    ) -> None:
        self.report = Report()
        self._settings = settings
        self._wishes = wishes
        self._say = say
        self._progress = progress
        self._models = Models(settings, {})

    def run(self) -> Report:
        """All of it."""
        for finding in self._guarded(self._findings()):
            self.report.findings.append(finding)
            self._say(finding)
        return self.report

    def _guarded(self, findings: Iterator[Finding]) -> Iterator[Finding]:
        """What a damaged folder does to the doctor is one more finding, and no traceback."""
        try:
            yield from findings
        except Exception as error:
            _log.exception("doctor.failed")
            yield fail("doctor", f"The examination could not go on: {error!r}"[:500])

    def _mended(self, what: str) -> None:
        self.report.repaired.append(what)

    def _findings(self) -> Iterator[Finding]:
        home = self._settings.home
        server = find_server(home)
        yield from machine.installation(self._settings)
        yield from machine.disk(home)
        yield from machine.programs()
        yield from machine.sandbox(self._settings)
        yield from machine.port(self._settings, server)
        yield access.permissions(home)
        yield surroundings.limits()
        yield from surroundings.gpu()
        yield from surroundings.services(self._settings)
        yield surroundings.backup(home, self._settings)
        if not self._settings.catalog.url:
            if not (home / DATABASE).exists():
                yield warn("catalog", "There is none yet.", "longleaf index PATH makes it.")
                yield from profile(self._models, None, server)
                return
            finding, check = data.file(home, deep=self._wishes.deep)
            if check.wrong and self._wishes.repair and repair.only_indexes_are_damaged(check):
                repair.remake_indexes(home / DATABASE)
                self._mended("made SQLite's indexes anew")
                finding, check = data.file(home, deep=self._wishes.deep)
            yield finding
            if check.wrong:
                return  # what is read from it now may be anything
        try:
            catalog = wire.open_catalog(self._settings)
        except LongleafError as error:
            yield fail("catalog", error.message, error.hint)
            return
        try:
            yield from self._of_catalog(catalog, server)
        finally:
            catalog.close()

    def _of_catalog(self, catalog: Catalog, server: str | None) -> Iterator[Finding]:
        if catalog.database.file is None:
            yield from data.server(catalog)
        yield from surroundings.originals(self._settings, catalog)
        yield ok("schema", f"{SCHEMA_VERSION}, the one of this version")
        yield from access.keys(self._settings, catalog)
        yield surroundings.clock(catalog)
        yield from profile(self._models, catalog, server)
        generation = catalog.live_generation()
        verifier = Verifier(catalog, deep=self._wishes.deep, progress=self._progress)
        findings = list(data.contents(verifier))
        if self._wishes.repair and verifier.damaged_contents and generation is not None:
            self._remake_passages(catalog, generation, verifier.damaged_contents)
            verifier = Verifier(catalog, deep=self._wishes.deep, progress=self._progress)
            findings = list(data.contents(verifier))
        yield from findings
        finding, left = data.left_behind(catalog)
        if self._wishes.repair and left.count and self._wishes.confirm(f"Remove {finding.fact}?"):
            gone = orphans.remove(catalog, left)
            self._mended(f"removed {gone.count:,} orphans ({gone.bytes / 2**20:.1f} MiB)")
            finding, _ = data.left_behind(catalog)
        yield finding
        yield data.erasure(catalog, indexes.erase_seconds(self._settings))
        if self._wishes.repair:
            for name in repair.followers(catalog):
                if data.is_gone(catalog, name):
                    catalog.forget_follower(name)
                    self._mended(f"forgot the follower {name}")
        yield from data.followers(catalog)
        yield from data.jobs(catalog)
        if generation is None:
            yield ok("index", "there is nothing to index yet")
            return
        exam = IndexExam(
            self._settings,
            catalog,
            generation,
            self._wishes.deep,
            self._wishes.repair,
            self._mended,
            self._progress,
        )
        yield from self._guarded(exam.alone() if server is None else exam.asking(server))
        if self._wishes.recall:
            yield self._recall(catalog, generation, server)

    def _remake_passages(
        self, catalog: Catalog, generation: Generation, content_ids: set[int]
    ) -> None:
        """Cut and embed damaged contents anew, from texts that are whole."""
        embedder, chunker = self._models.get()
        made_by = (chunker.fingerprint, embedder.fingerprint, embedder.name)
        catalog.open_generation(*made_by, embedder.dim, embedder.token_dim)
        for done, content_id in enumerate(sorted(content_ids)):
            self._progress("Passages", done, len(content_ids))
            found = repair.content_text(catalog, content_id)
            if found is None:
                continue
            digest, title, text = found
            document = Document(text.text, title, text.pages, text.sections, regions=text.regions)
            passages = chunker.chunk(document)
            vectors = tuple(embedder.embed_passages(embed_inputs(document, passages)))
            content = ContentWrite(digest, document, passages, vectors)
            repair.remake_passages(catalog, generation, content)
        self._mended(f"cut and embedded {len(content_ids):,} texts anew")

    def _recall(self, catalog: Catalog, generation: Generation, server: str | None) -> Finding:
        try:
            if server is not None:
                raise Conflict("The running server has the index open.", "Stop it and try again.")
            found = self._measured(catalog, generation)
        except LongleafError as error:
            return fail("recall", error.message, error.hint)
        if found is None:
            return warn("recall", "There is no passage to ask for.")
        fact = found.fact
        if found.mean < RECALL_GOAL:
            remedy = "Make the index anew: longleaf doctor --repair, or longleaf rebuild"
            return fail("recall", fact, remedy, details=(f"worst: {found.worst_query}",))
        return Finding("recall", Status.OK, fact, details=(f"worst: {found.worst_query}",))

    def _measured(self, catalog: Catalog, generation: Generation) -> Recall | None:
        from longleaf.api.doctor import recall

        embedder, _ = self._models.get()
        queries = [
            *self._wishes.given,
            *recall.passage_queries(catalog, generation, self._wishes.queries),
        ]
        if not queries:
            return None
        with indexes.opened(self._settings, catalog, generation) as followed:
            followed.follower.catch_up()
            index = followed.index
            return recall.measure(index, embedder, catalog, generation, queries, self._progress)
