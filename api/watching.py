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
from longleaf.core.errors import NotFound
from longleaf.indexer.build import FileResult, Indexer
from longleaf.indexer.work import FolderSpec, do_job

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
    rescan_seconds: float,
    polling: bool = False,
) -> None:
    """Keep `collection` like `folder` until `stopping` is set.

    `on_round` is called after every round in which something may have changed. Raises NotFound
    when the folder is not there.
    """
    from watchfiles import watch

    root = folder.resolve()
    if not root.is_dir():
        raise NotFound(f"{folder} is not a folder.", "Check the path.")
    owner = owner_name()

    def go(only: tuple[str, ...] = ()) -> None:
        job = ask_for_folder(indexer.catalog, collection, replace(spec, only=only), owner)
        do_job(indexer, job, owner, stopping=stopping, on_result=on_result)
        on_round()

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
    for batch in changes:
        paths = sorted({path for _, path in batch})
        due = time.monotonic() - scanned > rescan_seconds
        if due or len(paths) > _MOST_PATHS:
            go()
            scanned = time.monotonic()
        elif paths:
            go(tuple(paths))
