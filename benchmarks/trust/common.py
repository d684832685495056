"""What the reliability goals share: a small real data folder, and what is in it and with it.

A *template* folder is made once with the real model; trials copy it (to memory where there is room,
because a trial makes dozens of fsyncs). `contents` says all that a user would notice; `problems`
runs the doctor over it. Every goal ends in an `Outcome`, printed as one line or as JSON.

The scripts are run from the repository's root: python -m benchmarks.trust.NAME
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Trials fork: a pool of threads that a model once had would be torn in the child.
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

COLLECTION = "trust"
SENTENCES = (
    "The tenant shall pay the rent on the first day of each month.",
    "Serum interleukin-6 was raised in patients with severe asthma.",
    "The court denied the motion to dismiss under 42 U.S.C. § 1983.",
    "A licensee may sublicense the work with the written consent of the licensor.",
    "The vaccine reduced hospital admissions by half in adults over sixty-five.",
    "Force majeure suspends the obligation to perform for as long as it lasts.",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One goal's end: `figure` in words, whether it is as it should be, and what was not."""

    goal: int
    name: str
    figure: str
    ok: bool
    details: list[str] = field(default_factory=list)


def finish(outcome: Outcome, *, as_json: bool) -> int:
    """Print it; the exit status says whether it holds."""
    if as_json:
        print(json.dumps(asdict(outcome)))
    else:
        for line in outcome.details[:20]:
            print(f"    {line}")
        mark = "OK" if outcome.ok else "RED"
        print(f"{mark}: goal {outcome.goal}, {outcome.name}: {outcome.figure}")
    return 0 if outcome.ok else 1


def options(description: str, **numbers: int) -> argparse.Namespace:
    """--seed, --json and one option for each of `numbers`, with its default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    for name, default in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    return parser.parse_args()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for trials, in memory where the machine has that."""
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() and shutil.disk_usage(memory).free > 2**31 else None
    folder = Path(tempfile.mkdtemp(prefix="longleaf-trust-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settings_of(home: Path, **flags: Any) -> Any:
    """Small batches, so that there are many; the parsers in this process, so that it is one."""
    from longleaf.core.config import load_settings

    small = {
        "home": home,
        "indexer.commit_passages": 8,
        "retriever.flush_documents": 3,
        "embedder.threads": 1,
    }
    return load_settings(small | flags, {}).settings


def text_of(number: int, sentences: int = 40) -> str:
    """The text of document `number`: real sentences, and a word of its own."""
    said = [SENTENCES[(number + n) % len(SENTENCES)] for n in range(sentences)]
    return f"Document {number}, marker{number}x.\n\n" + " ".join(said) + "\n"


class _Here(Executor):
    """Does what it is given at once, in the thread that gives it."""

    def submit(self, work: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*arguments, **more))
        except Exception as error:
            done.set_exception(error)
        return done


def load_models() -> None:
    """Load the models once and give them to whoever opens them, forked processes included."""
    import logging

    import structlog

    from longleaf.api import wire
    from longleaf.indexer import embed
    from longleaf.reranker import maxsim

    # Their threads would not be there in a fork.
    embed.one_core_threads = maxsim.one_core_threads = lambda *_, **__: _Here()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    if getattr(wire.open_models, "loaded", False):
        return
    reasons: dict[str, str] = {}
    models = wire.open_models(settings_of(Path("/nowhere")), reasons)

    def open_models(_settings: Any, told: dict[str, str]) -> Any:
        told.update(reasons)
        return models

    open_models.loaded = True  # type: ignore[attr-defined]
    wire.open_models = open_models


def read_here() -> None:
    """Parse in this process: a trial is about what is stored, and its faults must be its own."""
    from longleaf.api import wire
    from longleaf.indexer.parsers.here import ReadHere

    real = wire.make_indexer

    def make_indexer(*arguments: Any, **more: Any) -> Any:
        indexer = real(*arguments, **more)
        indexer.close()
        indexer.reader = ReadHere()
        return indexer

    wire.make_indexer = make_indexer


def put(home: Path, numbers: list[int], sentences: int = 40) -> None:
    """Index documents by key and bring the index up to date."""
    from longleaf.api import wire

    parts = wire.open_write_side(settings_of(home))
    try:
        if not parts.catalog.collection_languages(everyone(), None):
            parts.catalog.create_collection(COLLECTION)
        for number in numbers:
            data = text_of(number, sentences).encode()
            parts.indexer.index_bytes(
                COLLECTION, "english", data, f"{number}.txt", key=f"k{number}"
            )
        follow(home, parts.catalog)
    finally:
        parts.close()


def delete(home: Path, number: int) -> None:
    """Delete a document and bring the index up to date."""
    from longleaf.api import wire
    from longleaf.core.ids import document_id

    catalog = wire.open_catalog(settings_of(home))
    try:
        catalog.delete_document(document_id(COLLECTION, f"k{number}"), everyone())
        follow(home, catalog)
    finally:
        catalog.close()


def follow(home: Path, catalog: Any) -> None:
    """Open the index, follow the log to its end, close it."""
    from longleaf.api import indexes

    generation = catalog.live_generation()
    if generation is None:
        return
    with indexes.opened(settings_of(home), catalog, generation) as followed:
        followed.follower.catch_up()


def apart(work: Callable[[], Any]) -> tuple[str, Any]:
    """Do `work` in a fork: ("returned", its value), ("raised", error) or ("died", how).

    The process that forks must stay without threads, so whatever opens an index or runs a model
    goes through here.
    """
    from longleaf.core.errors import LongleafError

    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        try:
            told = ("returned", work())
        except LongleafError as error:
            told = ("named error", f"{error}"[:300])
        except BaseException as error:
            told = ("raised", f"{error!r}"[:300])
        with os.fdopen(writing, "w") as pipe:
            pipe.write(repr(told))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    status = os.waitpid(process, 0)[1]
    if not said:
        return "died", f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "silently"
    found: tuple[str, Any] = ast.literal_eval(said)
    return found


def surely(work: Callable[[], Any]) -> Any:
    """`apart`, for what must not fail."""
    how, value = apart(work)
    assert how == "returned", (how, value)
    return value


def everyone() -> Any:
    from longleaf.core.types import Scope

    return Scope.all()


def contents(home: Path) -> dict[str, Any]:
    """Everything that a user put in and gets back, by key."""
    import hashlib

    from longleaf.api import wire

    catalog = wire.open_catalog(settings_of(home))
    try:
        generation = catalog.live_generation()
        found = {}
        for head in catalog.documents(everyone(), limit=100_000):
            passages = catalog.passages(head, generation, 0, 100_000) if generation else []
            ids = [each.passage_id for each in passages]
            codes = catalog.token_vectors(ids, generation)[0].tobytes() if generation else b""
            found[head.key] = (
                hashlib.sha256(catalog.text(head).text.encode()).hexdigest(),
                head.title,
                dict(head.metadata),
                head.groups,
                hashlib.sha256(catalog.blobs.get(head.original)).hexdigest()
                if head.original
                else None,
                [(each.start_char, each.end_char, each.headings) for each in passages],
                hashlib.sha256(codes).hexdigest(),
            )
        return found
    finally:
        catalog.close()


def problems(home: Path, *, repair: bool = False, deep: bool = True) -> list[str]:
    """What the doctor finds wrong (FAIL), orphans and warnings about the machine aside."""
    from longleaf.api.doctor.examine import Examination, Wishes

    settings = settings_of(home, **{"server.port": 0})
    wishes = Wishes(deep=deep, repair=repair, confirm=lambda _: True)
    report = Examination(settings, wishes).run()
    return [
        f"{each.subject}: {each.fact} {' / '.join(each.details[:3])}"
        for each in report
        if each.status == "FAIL"
    ]


def answers(home: Path, queries: list[str]) -> list[list[tuple[str, float]]]:
    """(document id, score to 5 digits) of the first ten hits of each query, both stages."""
    from longleaf.api import wire
    from longleaf.api.search import SearchRequest

    runtime = wire.open_runtime(settings_of(home), follow=False)
    try:
        runtime.follower.catch_up()
        found = []
        for query in queries:
            answer = runtime.engine.search(SearchRequest(query=query, scope=everyone(), limit=10))
            found.append([(hit.document_id, round(hit.score, 5)) for hit in answer.hits])
        return found
    finally:
        runtime.close()


def log(what: str) -> None:
    """Progress, to standard error."""
    print(what, file=sys.stderr, flush=True)
