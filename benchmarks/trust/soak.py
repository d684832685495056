"""Goal 21: half of what a server can do for a day, with documents coming in.

`fixed_server` is asked at half its capacity while a document a second is uploaded and its job done
by a worker of the real kind. Memory (resident, of server, index and worker) may grow by 1 % an hour
after the warm-up (two hours, or the first third of a shorter run), open files by none, the 95th
percentile by a tenth from the first third to the last, and no answer may be 5xx.

    python -m benchmarks.trust.soak --hours 24
    python -m benchmarks.trust.soak --minutes 5
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
from benchmarks.trust import common
from benchmarks.trust.load import heard, percentile, start
from benchmarks.trust.overload import SERVICE_SECONDS, WORKERS, fixed
from benchmarks.trust.serving import LONGLEAF, environment

MOST_PERCENT_AN_HOUR, MOST_DRIFT = 1.0, 1.1
SAMPLE_SECONDS, WARM_SECONDS = 5.0, 7200.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--minutes", type=float, default=5.0, help="without --hours")
    parser.add_argument("--rate", type=float, default=0.5 * WORKERS / SERVICE_SECONDS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    seconds = given.hours * 3600.0 or given.minutes * 60.0
    warm = min(WARM_SECONDS, seconds / 3.0)
    rate = given.rate
    samples: list[tuple[float, float, int]] = []
    uploads: dict[int, int] = {}
    with common.scratch() as folder, fixed(folder / "home") as server:
        worker = subprocess.Popen(
            [LONGLEAF, "worker", "--home", str(folder / "home")],
            env=environment(), stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            generator = start(server.url, rate, seconds)
            began, number = time.monotonic(), 1000
            with httpx.Client(base_url=server.url, timeout=60.0) as client:
                while generator.poll() is None and (at := time.monotonic() - began) < seconds:
                    if not samples or at - samples[-1][0] >= SAMPLE_SECONDS:
                        samples.append((at, *standing(server.process.pid, worker.pid)))
                    status = _upload(client, number)
                    uploads[status] = uploads.get(status, 0) + 1
                    number += 1
                    time.sleep(1.0)
            said = heard(generator)
        finally:
            worker.terminate()
            worker.wait()
    rows = sorted(said["rows"], key=lambda each: each["at"])
    answered = [each for each in rows if each["status"] == 200]
    third = max(1, len(answered) // 3)
    early = percentile((each["ms"] for each in answered[:third]), 95)
    late = percentile((each["ms"] for each in answered[-third:]), 95)
    steady = [each for each in samples if each[0] >= warm]
    at, mib, files = (np.array(each, dtype=float) for each in zip(*steady, strict=True))
    slope = float(np.polyfit(at / 3600.0, mib, 1)[0] / mib.mean() * 100.0)
    failed = sum(each["status"] >= 500 or each["status"] == 0 for each in rows)
    failed += sum(count for status, count in uploads.items() if status >= 500)
    figure = (
        f"{seconds / 60.0:.0f} min at {rate:g}/s: memory {samples[0][1]:.0f} -> "
        f"{samples[-1][1]:.0f} MiB, {slope:+.1f} %/h after {warm / 60.0:.0f} min; files "
        f"{int(files[0])} -> {int(files[-1])}; p95 {early:.0f} -> {late:.0f} ms; "
        f"{failed} failed of {len(rows)} searches and {sum(uploads.values())} uploads; "
        f"generator {said['cpu']:.2f} of a core, late by {said['late_p99_ms']:.0f} ms (p99)"
    )
    wrong = []
    if slope > MOST_PERCENT_AN_HOUR:
        wrong.append(f"memory grows by {slope:.1f} % an hour")
    if np.median(files[-10:]) > np.median(files[:10]):
        wrong.append(f"open files: {int(np.median(files[:10]))} -> {int(np.median(files[-10:]))}")
    if late > MOST_DRIFT * early:
        wrong.append(f"p95 {early:.0f} -> {late:.0f} ms")
    if failed:
        wrong.append(f"{failed} answers failed")
    if seconds < 24 * 3600:
        wrong.append("shorter than a day")
    outcome = common.Outcome(21, "soak", figure, not wrong, wrong)
    return common.finish(outcome, as_json=given.json)


def _upload(client: httpx.Client, number: int) -> int:
    return client.post(
        "/v1/documents",
        files={"file": (f"{number}.txt", common.text_of(number, 6).encode())},
        data={"collection": common.COLLECTION, "key": f"k{number % 200}"},
    ).status_code


def standing(*pids: int) -> tuple[float, int]:
    """(MiB resident, open files) of these processes and their children."""
    every = list(pids)
    for pid in every:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            every += [int(each) for each in task.read_text().split()]
    pages = files = 0
    for pid in every:
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            files += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        except FileNotFoundError:  # a parser's process that has ended
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, files


if __name__ == "__main__":
    sys.exit(main())
