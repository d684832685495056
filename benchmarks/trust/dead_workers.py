"""Goal 13: workers killed and stopped at any moment; every job ends, by name where it cannot.

Three workers (the real loop, forked with the model loaded) do uploads and folder runs. At seeded
moments one gets SIGKILL (and a new one takes its place) or, one at a time, SIGSTOP until its lease
is over (and SIGCONT then: what it still wants to write must be refused). Leases last LEASE_SECONDS
here instead of 30 s, heartbeats in proportion, so that 200 deaths take minutes and not hours; all
measured times are told in leases. Demanded: a job is with a worker again within two leases, none is
"running" without a live lease for longer, no file has more than three tries, one that is waited
with ends as done, every upload is there exactly once or was refused by name.

    python -m benchmarks.trust.dead_workers --strikes 200
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.trust import common

LEASE_SECONDS = 4.0
BEAT_SECONDS = 0.3
WORKERS = 3
OPEN_JOBS = 3


def worker(home: Path) -> int:
    """Fork the real loop; returns its process id."""
    process = os.fork()
    if process == 0:
        try:
            from longleaf.api.working import work

            work(common.settings_of(home), threading.Event())
        finally:
            os._exit(1)
    return process


def faster_leases() -> None:
    """Before any fork: leases and heartbeats of this script's length."""
    from longleaf.core.catalog import jobs
    from longleaf.indexer import work

    jobs.LEASE_SECONDS = LEASE_SECONDS
    real = work.JobSupervisor.__init__

    def init(self: Any, *arguments: Any) -> None:
        real(self, *arguments[:-1], BEAT_SECONDS)

    work.JobSupervisor.__init__ = init  # type: ignore[method-assign]


class Strikes:
    """Jobs, workers and what becomes of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        from longleaf.api import wire

        self.rng = random.Random(seed)
        self.home, self.folder = folder / "home", folder
        self.catalog = wire.open_catalog(common.settings_of(self.home))
        self.catalog.create_collection(common.COLLECTION)
        self.workers = [worker(self.home) for _ in range(WORKERS)]
        self.stopped: set[int] = set()
        self.struck: Counter[str] = Counter()
        self.asked: dict[str, list[str]] = {}
        self.orphaned_since: dict[str, float] = {}
        self.longest_orphan = 0.0
        self.number = 0

    def ask(self) -> None:
        """Keep some jobs open: uploads and folders in turns.

        A worker that was stopped while it wrote keeps the catalog locked until it is continued:
        who asks then is told so, and asks again.
        """
        from longleaf.core.errors import Conflict

        with contextlib.suppress(Conflict):
            self._ask()

    def _ask(self) -> None:
        from longleaf.api import jobs
        from longleaf.indexer.specs import FolderSpec, UploadSpec

        while self.catalog.jobs.open_count() < OPEN_JOBS:
            self.number += 1
            if self.number % 3:
                key = f"k{self.number}"
                spec = UploadSpec("", f"{self.number}.txt", key)
                data = common.text_of(self.number, 60).encode()
                job = jobs.ask_for_upload(self.catalog, common.COLLECTION, data, spec)
                self.asked[job.public_id] = [key]
            else:
                folder = self.folder / f"folder-{self.number}"
                folder.mkdir()
                files = [folder / f"{self.number}-{n}.txt" for n in range(4)]
                for n, file in enumerate(files):
                    file.write_text(common.text_of(100_000 + 10 * self.number + n, 30))
                run = FolderSpec((str(folder),))
                job = jobs.ask_for_folder(self.catalog, common.COLLECTION, run)
                self.asked[job.public_id] = [str(file) for file in files]

    def strike(self) -> None:
        """SIGKILL or SIGSTOP a worker; one stays awake, or nobody could take a job up."""
        process = self.rng.choice([each for each in self.workers if each not in self.stopped])
        if not self.stopped and self.rng.random() < 0.5:
            os.kill(process, signal.SIGSTOP)
            self.stopped.add(process)
            # In a thread: a stopped worker may hold the catalog's lock, for which this one waits.
            asleep = LEASE_SECONDS * self.rng.uniform(0.5, 2.0)
            threading.Timer(asleep, self._wake, [process]).start()
            self.struck["SIGSTOP"] += 1
        else:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            self.workers.remove(process)
            self.workers.append(worker(self.home))
            self.struck["SIGKILL"] += 1

    def _wake(self, process: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended with everything else
            os.kill(process, signal.SIGCONT)
        self.stopped.discard(process)

    def tend(self) -> list[str]:
        """Look how long jobs have been without a live lease."""
        from longleaf.core.catalog.jobs import JobState
        from longleaf.core.types import Scope

        now = time.monotonic()
        running = self.catalog.jobs.newest(Scope.all(), [JobState.RUNNING], limit=1000)
        lost = {job.public_id for job in running if (job.lease_until or 0.0) < time.time()}
        self.orphaned_since = {each: self.orphaned_since.get(each, now) for each in lost}
        for since in self.orphaned_since.values():
            self.longest_orphan = max(self.longest_orphan, now - since)
        wrong = []
        for process in list(self.workers):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                wrong.append(f"a worker ended by itself: {status}")
                self.workers.remove(process)
                self.workers.append(worker(self.home))
        return wrong

    def close(self) -> None:
        for process in self.workers:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        self.catalog.close()

    def verdict(self) -> tuple[Counter[str], list[str]]:
        """How the jobs and their files ended, and what was wrong."""
        from longleaf.core.catalog.jobs import MAX_TRIES
        from longleaf.core.types import Scope

        counts: Counter[str] = Counter()
        wrong: list[str] = []
        heads = Counter(head.key for head in self.catalog.documents(Scope.all(), limit=100_000))
        for public_id, keys in self.asked.items():
            job = self.catalog.jobs.get(public_id, Scope.all())
            counts[f"jobs {job.state}"] += 1
            ended = {file.key: file for file in self.catalog.jobs.files(job, limit=1000)}
            if job.state.is_open or (job.state == "failed" and not job.error):
                wrong.append(f"job {public_id} is {job.state} {job.error!r}")
            for key in keys:
                file = ended.get(key)
                if file is not None and file.tries > MAX_TRIES:
                    wrong.append(f"{key}: {file.tries} tries")
                if file is not None and file.reason:
                    counts[f"files given up: {file.reason}"] += 1
                elif job.state == "done":
                    counts["files indexed"] += 1
                    if heads[key] != 1:
                        wrong.append(f"{key} was done and is there {heads[key]} times")
            if job.state == "failed":
                counts[f"failed: {job.error}"] += 1
        wrong += [f"{key} is there {n} times" for key, n in heads.items() if n > 1]
        return counts, wrong


def run(strikes: int, seed: int) -> common.Outcome:
    """All of it."""
    common.load_models()
    common.read_here()
    faster_leases()
    with common.scratch() as folder:
        all_of_it = Strikes(folder, seed)
        wrong: list[str] = []
        try:
            while sum(all_of_it.struck.values()) < strikes:
                all_of_it.ask()
                time.sleep(all_of_it.rng.uniform(0.2, 4.0))
                wrong += all_of_it.tend()
                all_of_it.strike()
                if sum(all_of_it.struck.values()) % 20 == 0:
                    common.log(f"{dict(all_of_it.struck)}, {all_of_it.number} jobs")
            end = time.monotonic() + 120.0
            while all_of_it.catalog.jobs.open_count() and time.monotonic() < end:
                wrong += all_of_it.tend()
                time.sleep(0.1)
            counts, bad = all_of_it.verdict()
            wrong += bad
        finally:
            all_of_it.close()
        wrong += common.surely(lambda: common.problems(folder / "home", repair=True))
    leases = all_of_it.longest_orphan / LEASE_SECONDS
    if leases > 2.0:
        wrong.append(f"a job was without a live lease for {leases:.1f} leases")
    struck = ", ".join(f"{n} {what}" for what, n in all_of_it.struck.items())
    ended = ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
    figure = (
        f"{struck}; {ended}; longest without a live lease {leases:.2f} leases "
        f"(30 s each in earnest); {len(wrong)} wrong"
    )
    return common.Outcome(13, "dead and stopped workers", figure, not wrong, wrong)


def main() -> int:
    chosen = common.options(__doc__ or "", strikes=200)
    return common.finish(run(chosen.strikes, chosen.seed), as_json=chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
