"""Following a folder: index it once, then what the system says has changed, again and again.

Events are hints: they are gathered while they come in bursts, only name what to look at, and the
whole folder is looked at again now and then, so an event that was lost costs minutes, not a
document. Every round is a job like any other. It knows neither models nor indexes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from longleaf.api.jobs import ask_for_folder
from longleaf.api.working import owner_name
from longleaf.core.catalog.jobs import JobState
from longleaf.core.errors import Conflict, LongleafError, NotFound
from longleaf.core.types import Scope
from longleaf.indexer import sidecar_table
from longleaf.indexer.build import FileResult, Indexer
from longleaf.indexer.specs import FolderSpec
from longleaf.indexer.work import do_job

QUIET_SECONDS = 1.6
"""A burst of events (a folder being copied) is waited out, for as long as this between two."""
_MOST_PATHS = 500
"""With more changes than this the whole folder is looked at: unchanged files cost a stat each."""


def watch_folder(
    indexer: Indexer,
    collection: str,
    folder: Path,
    spec: FolderSpec,
    stopping: threading.Event,
    *,
    on_result: Callable[[FileResult], None],
    on_round: Callable[[], None],
    on_problem: Callable[[str], None],
    rescan_seconds: float,
    polling: bool = False,
) -> None:
    """Keep `collection` like `folder` until `stopping` is set.

    `on_round` is called after every round in which something may have changed, `on_problem` with
    what kept a round from its end: its changes are looked at again with the next one. Raises
    NotFound when the folder is not there.
    """
    from watchfiles import watch

    root = folder.resolve()
    if not root.is_dir():
        raise NotFound(f"{folder} is not a folder.", "Check the path.")
    owner = owner_name()
    device = root.stat().st_dev

    def go(only: tuple[str, ...] = ()) -> bool:
        """Look at the whole folder, or at some paths; whether that came to its end."""
        try:
            if root.exists() and root.stat().st_dev != device:
                raise Conflict(f"Another drive is mounted at {root} now.", "Start again.")
            job = ask_for_folder(indexer.catalog, collection, replace(spec, only=only), owner)
            state = do_job(indexer, job, owner, stopping=stopping, on_result=on_result)
            problem = ""
            if state is JobState.FAILED:
                problem = indexer.catalog.jobs.get(job.public_id, Scope.all()).error
        except LongleafError as error:
            problem = str(error)
        if problem:
            on_problem(problem)
        on_round()
        return not problem

    # The watch begins before the first look, so that nothing falls between the two.
    changes = watch(
        root,
        watch_filter=None,
        debounce=int(QUIET_SECONDS * 1000),
        step=200,
        stop_event=stopping,
        rust_timeout=1000,
        yield_on_timeout=True,
        raise_interrupt=False,
        force_polling=polling or None,
        recursive=True,
        ignore_permission_denied=True,
    )
    next(changes, None)
    go()
    scanned = time.monotonic()
    waiting: set[str] = set()
    for batch in changes:
        paths = {_with_what_it_describes(path) for _, path in batch}
        due = time.monotonic() - scanned > rescan_seconds
        if due or len(waiting | paths) > _MOST_PATHS:
            waiting = set() if go() else waiting | paths
            scanned = time.monotonic()
        elif paths:
            waiting |= paths
            waiting = set() if go(tuple(sorted(waiting))) else waiting


def _with_what_it_describes(path: str) -> str:
    """The folder of what may be a sidecar, whose files it describes; any other path itself."""
    changed = Path(path)
    may_describe = changed.name == sidecar_table.NAME or changed.suffix.lower() == ".json"
    return str(changed.parent) if may_describe else path
