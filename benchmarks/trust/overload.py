"""Goals 15 and 19: what a server does with more than it can, and with clients that leave.

A server with a second stage of fixed time (`fixed_server`), its capacity measured with twice what
arithmetic says it takes; then, open loop from a process of its own, 2, 5 and 10 times the capacity:
answers of 90 % of the best rate, refusals 429 or 503 with Retry-After and a 99th percentile of
50 ms at most, memory bounded, and the 95th percentile back to half above normal within 10 s of the
end. Then clients that leave while they are served and while they wait: the line is free within 1 s.

    python -m benchmarks.trust.overload --seconds 30
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from benchmarks.trust import common
from benchmarks.trust.load import heard, percentile, start
from benchmarks.trust.run import NOT_HERE

SERVICE_SECONDS, WORKERS = 0.2, 4
TIMES = (2, 5, 10)
MOST_REFUSAL_MS, MOST_RECOVERY_SECONDS, MOST_FREE_SECONDS = 50.0, 10.0, 1.0
LEAST_GOODPUT = 0.9


@dataclass(frozen=True, slots=True)
class Fixed:
    """A `fixed_server` that is ready."""

    process: subprocess.Popen[str]
    url: str

    def memory_mib(self) -> float:
        """Resident memory of the serving process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024.0

    def cpu_seconds(self) -> float:
        """User and system time of the serving process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100.0

    def lane(self, what: str, lane: str = "searches") -> float:
        """A number of a lane in /metrics."""
        text = httpx.get(f"{self.url}/metrics", timeout=60.0).text
        return float(re.findall(rf'longleaf_lane_{what}{{lane="{lane}"}} (\S+)', text)[0])


@contextlib.contextmanager
def fixed(
    home: Path, *settings: str, units: int = 10, unit_ms: float = 100.0 * SERVICE_SECONDS
) -> Iterator[Fixed]:
    """Start a `fixed_server`, end it with SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.trust.fixed_server", str(home), "--units", str(units),
         "--unit-ms", str(unit_ms), "--set", f"server.workers={WORKERS}", *settings],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        while httpx.get(f"{url}/readyz", timeout=60.0).status_code != 200:
            time.sleep(0.1)
        yield Fixed(process, url)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        process.stdout.close()


def goodput(rows: Sequence[dict[str, float]], seconds: float) -> float:
    """Answers a second, of those that came within twice the line's bound while requests came."""
    good = [each for each in rows if each["status"] == 200 and each["ms"] < 10_000]
    last = max((each["at"] + each["ms"] / 1000.0 for each in good), default=seconds)
    return len(good) / max(seconds, last)


def tell(what: str, said: dict[str, Any], seconds: float) -> dict[str, float]:
    """What a run came to; printed to standard error as well."""
    rows = said["rows"]
    refused = [each for each in rows if each["status"] in (429, 503)]
    found = {
        "goodput": goodput(rows, seconds),
        "answered": float(sum(each["status"] == 200 for each in rows)),
        "answered_p95_ms": percentile((r["ms"] for r in rows if r["status"] == 200), 95),
        "refused": float(len(refused)),
        "refused_p99_ms": percentile((each["ms"] for each in refused), 99),
        "without_retry": float(sum(each["retry_after"] < 1 for each in refused)),
        "others": float(sum(each["status"] not in (200, 429, 503) for each in rows)),
        "generator_cpu": said["cpu"],
        "generator_late_p99_ms": said["late_p99_ms"],
    }
    common.log(f"{what}: " + json.dumps({name: round(value, 2) for name, value in found.items()}))
    return found


def recovery_seconds(server: Fixed, normal_ms: float) -> float:
    """Until ten searches in a row took at most half more than they normally do at the 95th."""
    began = time.perf_counter()
    taken: list[float] = []
    with httpx.Client(base_url=server.url, timeout=60.0) as client:
        while time.perf_counter() - began < 60.0:
            asked = time.perf_counter()
            answer = client.post("/v1/search", json={"query": "harbour fees"})
            is_good = answer.status_code == 200
            taken = [*taken, (time.perf_counter() - asked) * 1000.0] if is_good else []
            if len(taken) >= 10 and percentile(taken[-10:], 95) <= 1.5 * normal_ms:
                return time.perf_counter() - began - sum(taken[-10:]) / 1000.0
    return 60.0


def leave(server: Fixed) -> tuple[float, float]:
    """Seconds until the places of clients that left are free: those served, those in line."""
    host, port = server.url.removeprefix("http://").split(":")
    body = b'{"query": "harbour fees"}'
    request = (
        f"POST /v1/search HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    held = []
    for _ in range(3 * WORKERS):
        held.append(socket.create_connection((host, int(port))))
        held[-1].sendall(request)
    while (server.lane("running"), server.lane("waiting")) != (WORKERS, 2 * WORKERS):
        time.sleep(0.02)
    gone = time.perf_counter()
    for each in held[WORKERS:]:
        each.close()
    while server.lane("waiting"):
        time.sleep(0.01)
    in_line = time.perf_counter() - gone
    gone = time.perf_counter()
    for each in held[:WORKERS]:
        each.close()
    while server.lane("running"):
        time.sleep(0.01)
    return time.perf_counter() - gone, in_line


def main() -> int:
    given = common.options(__doc__ or "", seconds=30)
    seconds = float(given.seconds)
    wrong: list[str] = []
    with common.scratch() as folder:
        with fixed(folder / "home") as server:
            tell("warm", heard(start(server.url, 5.0, 4.0)), 4.0)
            normal = tell("at half", heard(start(server.url, 10.0, seconds / 2)), seconds / 2)
            rate = 2 * WORKERS / SERVICE_SECONDS
            peak = tell("capacity", heard(start(server.url, rate, seconds)), seconds)["goodput"]
            before = server.memory_mib()
            shares, slowest, recovered, most_mib = [], [], [], before
            late_ms = normal["generator_late_p99_ms"]
            for times in TIMES:
                began, cpu = time.perf_counter(), server.cpu_seconds()
                said = tell(f"{times}x", heard(start(server.url, times * peak, seconds)), seconds)
                late_ms = max(late_ms, said["generator_late_p99_ms"])
                recovered.append(recovery_seconds(server, normal["answered_p95_ms"]))
                used = (server.cpu_seconds() - cpu) / (time.perf_counter() - began)
                most_mib = max(most_mib, server.memory_mib())
                common.log(f"    the server used {used:.2f} of a core; {most_mib:.0f} MiB")
                shares.append(said["goodput"] / peak)
                slowest.append(said["refused_p99_ms"])
                if said["without_retry"] or said["others"]:
                    wrong.append(
                        f"{times}x: {said['without_retry']:.0f} refusals without Retry-After, "
                        f"{said['others']:.0f} that were neither answered nor refused"
                    )
        with fixed(folder / "home", units=100, unit_ms=100.0) as server:
            served, in_line = leave(server)
    figure = (
        f"capacity {peak:.1f}/s; at {', '.join(map(str, TIMES))} times of it "
        f"{', '.join(f'{each:.0%}' for each in shares)} of the best rate, refusals p99 "
        f"{', '.join(f'{each:.0f}' for each in slowest)} ms, back to normal after "
        f"{', '.join(f'{each:.1f}' for each in recovered)} s, memory {before:.0f} -> "
        f"{most_mib:.0f} MiB; places of clients that left free after {served:.2f} s (served) and "
        f"{in_line:.2f} s (in line)"
    )
    if most_mib > 1.2 * before:
        wrong.append(f"memory grew by {most_mib - before:.0f} MiB")
    if late_ms > MOST_REFUSAL_MS and not wrong:
        # Its times are the machine's, and not the server's; what was counted holds all the same.
        print(f"the generator's own sends were late by {late_ms:.0f} ms (p99): {figure}")
        return NOT_HERE
    if min(shares) < LEAST_GOODPUT:
        wrong.append(f"goodput {min(shares):.0%} of the best")
    if max(slowest) > MOST_REFUSAL_MS:
        wrong.append(f"a refusal took {max(slowest):.0f} ms at the 99th percentile")
    if max(recovered) > MOST_RECOVERY_SECONDS:
        wrong.append(f"{max(recovered):.1f} s until searches took as long as before")
    if max(served, in_line) > MOST_FREE_SECONDS:
        wrong.append(f"a place was free only after {max(served, in_line):.2f} s")
    outcome = common.Outcome(15, "overload", figure, not wrong, wrong)
    return common.finish(outcome, as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
