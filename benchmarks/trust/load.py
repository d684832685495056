"""A load generator: requests at fixed times, whatever became of the earlier ones (open loop).

A process of its own. A closed loop slows down with the server and hides that nobody is answered.
It says how much CPU it took itself and how late its own sends were: figures of a generator that was
late are worth nothing.

    python -m benchmarks.trust.load URL --rate 20 --seconds 30
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

import aiohttp
import numpy as np

QUERIES = [
    f"{what} {when}"
    for what in ("harbour fees", "the tenant's deposit", "patent licence", "asthma in adults")
    for when in ("in winter", "after the trial", "without consent", "for a month", "by night")
]


async def send_all(url: str, rate: float, seconds: float, timeout: float) -> list[dict[str, float]]:
    """One row for each request: `at` (seconds from the start, when it was due), `late_ms` (of its
    sending), `ms` (from when it was due), `status` (0: none came), `retry_after` (-1: none)."""
    rows: list[dict[str, float]] = []
    drawn = random.Random(3)
    # Parsed in C: with httpx 140 requests a second took all of a core, and the sends were late.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0)
    waits = aiohttp.ClientTimeout(timeout)
    async with aiohttp.ClientSession(url, connector=connector, timeout=waits) as client:
        began = time.perf_counter()

        async def one(due: float) -> None:
            sent = time.perf_counter()
            row = {"at": due - began, "late_ms": (sent - due) * 1000.0, "status": 0.0}
            row |= {"retry_after": -1.0, "degraded": 0.0}
            try:
                body = {"query": drawn.choice(QUERIES)}
                async with client.post("/v1/search", json=body) as answer:
                    told = await answer.json(content_type=None)
                row["status"] = float(answer.status)
                row["retry_after"] = float(answer.headers.get("retry-after", -1))
                row["degraded"] = float(bool(told.get("degraded")))
            except (aiohttp.ClientError, TimeoutError):
                pass
            row["ms"] = (time.perf_counter() - due) * 1000.0
            rows.append(row)

        asked = []
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked.append(asyncio.create_task(one(due)))
        await asyncio.gather(*asked)
    return rows


def percentile(values: Iterable[float], which: float) -> float:
    """0.0 of nothing."""
    found = list(values)
    return float(np.percentile(found, which)) if found else 0.0


def start(url: str, rate: float, seconds: float) -> subprocess.Popen[str]:
    """A generator in a process of its own; `heard` waits for what it says."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.trust.load", url,
         "--rate", str(rate), "--seconds", str(seconds)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def heard(generator: subprocess.Popen[str]) -> dict[str, Any]:
    """`rows` (see `send_all`), `cpu` (a share of one core) and `late_p99_ms`."""
    said, _ = generator.communicate()
    found: dict[str, Any] = json.loads(said)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds until one is given up")
    given = parser.parse_args()
    began = time.perf_counter()
    rows = asyncio.run(send_all(given.url, given.rate, given.seconds, given.timeout))
    used = os.times()
    wall = time.perf_counter() - began
    print(
        json.dumps(
            {
                "cpu": round((used.user + used.system) / wall, 3),
                "late_p99_ms": round(percentile((each["late_ms"] for each in rows), 99), 2),
                "rows": rows,
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
