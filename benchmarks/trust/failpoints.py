"""Goal 2: fail every write, fsync and rename of an ingest, a delete, a rebuild and a switch.

The real system calls are failed with strace's fault injection, native code included: for each kind
of call and each N, a forked process does the operation, and its N-th such call (counted in each of
its threads) returns EIO or ENOSPC, or kills the process. Whatever happens then, the data folder
must open again, follow, pass the doctor's deep look, and hold exactly what was there before the
operation or exactly what comes after it; where the operation said that it was done, the latter.

    python -m benchmarks.trust.failpoints            # every point
    python -m benchmarks.trust.failpoints --every 9  # one in nine
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.trust import common
from benchmarks.trust.tracing import traced

CALLS = (
    "fdatasync", "fsync", "rename", "pwrite64", "write", "writev", "pwritev", "msync", "renameat",
    "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "ftruncate", "fallocate", "link",
)  # fmt: skip
FAULTS = ("error=EIO", "error=ENOSPC", "signal=SIGKILL")
MOST_POINTS = 2_000
DOCUMENTS = 4


def ingest(home: Path) -> None:
    common.put(home, [DOCUMENTS], 20)


def erase(home: Path) -> None:
    common.delete(home, 1)


def rebuild(home: Path) -> None:
    from longleaf.api import rebuilding

    rebuilding.rebuild(common.settings_of(home))


def switch(home: Path) -> None:
    from longleaf.api import reindexing

    reindexing.reindex(common.settings_of(home, **{"chunker.target_tokens": 90}))


OPERATIONS: dict[str, Callable[[Path], None]] = {
    "ingest": ingest, "delete": erase, "rebuild": rebuild, "generation switch": switch,
}  # fmt: skip


def trial(operation: str, home: Path, call: str, fault: str, number: int) -> tuple[bool, str]:
    """(whether anything was injected, what the process said or how it ended)."""

    def work(done: int) -> None:
        try:
            OPERATIONS[operation](home)
            os.write(done, b"done")
        except BaseException as error:
            os.write(done, f"failed: {error!r}"[:200].encode())

    inject = ("-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={number}")
    seen = traced(work, inject, home.with_suffix(".trace"))
    hit = "INJECTED" in seen.trace or "killed by SIGKILL" in seen.trace
    return hit, seen.said or seen.ended


def sweep(
    folder: Path, operation: str, every: int, seed: int, calls: tuple[str, ...]
) -> tuple[Counter[str], list[str]]:
    """Every point of one operation; returns counts and what was wrong."""
    template = folder / "template"
    before = common.surely(lambda: common.contents(template))
    after_home = shutil.copytree(template, folder / "after")
    common.surely(lambda: OPERATIONS[operation](after_home))
    after = common.surely(lambda: common.contents(after_home))
    shutil.rmtree(after_home)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for call in calls:
        for fault in FAULTS:
            for number in range(1 + (seed + counts["points"]) % every, MOST_POINTS, every):
                home = shutil.copytree(template, folder / "trial")
                hit, said = trial(operation, home, call, fault, number)
                if hit:
                    counts["points"] += 1
                    counts[said.partition(":")[0]] += 1
                    where = f"{operation}, {call} {number}, {fault} ({said})"
                    found = [f"{where}: {each}" for each in judge(home, before, after, said)]
                    for each in found:
                        common.log(each)
                    wrong += found
                shutil.rmtree(home)
                if not hit:
                    break
            else:
                wrong.append(f"{operation}: {call} did not end after {MOST_POINTS} points")
    return counts, wrong


def judge(home: Path, before: object, after: object, said: str) -> list[str]:
    """What is wrong with the folder after a trial."""
    how, seen = common.apart(lambda: (common.contents(home), common.problems(home)))
    if how != "returned":
        return [f"it does not open: {how} {seen}"]
    now, wrong = seen
    if said == "done" and now != after:
        return ["it said that it was done, and it was not"]
    if now not in (before, after):
        return ["neither what was before nor what comes after"]
    return list(wrong)


def run(
    every: int,
    seed: int,
    operations: tuple[str, ...] = tuple(OPERATIONS),
    calls: tuple[str, ...] = CALLS,
) -> common.Outcome:
    """All of it."""
    common.load_models()
    common.read_here()
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with common.scratch() as folder:
        numbers = list(range(DOCUMENTS))
        common.surely(lambda: common.put(folder / "template", numbers, 20))
        for operation in operations:
            found, bad = sweep(folder, operation, every, seed, calls)
            counts.update(found)
            wrong += bad
            common.log(f"{operation}: {dict(found)}, {len(bad)} wrong")
    figure = (
        f"{counts['points']} points failed: {counts['points'] - len(wrong)} recovered, "
        f"{len(wrong)} did not ({counts['done']} went on, {counts['failed']} raised, "
        f"{counts['signal 9']} died)"
    )
    return common.Outcome(2, "failpoint sweep", figure, not wrong and counts["points"] > 0, wrong)


def main() -> int:
    chosen = common.options(__doc__ or "", every=1, operations=len(OPERATIONS), kinds=len(CALLS))
    some, calls = tuple(OPERATIONS)[: chosen.operations], CALLS[: chosen.kinds]
    return common.finish(run(chosen.every, chosen.seed, some, calls), as_json=chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
