"""Goal 20: 500 slow clients of a kind at once, and what the others notice.

Kinds: a head that trickles, a body that trickles, an answer that nobody reads. Each connection must
be closed within 15 s, and the 95th percentile of honest searches meanwhile be at most a fifth above
what it is without. The slow ones are a process of their own, and so are the honest ones. Who never
reads is not told that its connection was closed, so that is looked up in Linux's table of sockets.

    python -m benchmarks.trust.slow_clients --connections 500
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from benchmarks.trust import common
from benchmarks.trust.load import heard, percentile, start
from benchmarks.trust.overload import fixed
from benchmarks.trust.run import NOT_HERE

KINDS = ("head", "body", "reader")
MOST_SECONDS, MOST_WORSE = 15.0, 1.2
HONEST_RATE, HONEST_SECONDS = 2.0, 16.0
MOST_LATE_MS = 50.0
ANSWERS_IN_LINE = 40
"""Requests for the OpenAPI document that a client which never reads sends ahead: more than the
kernel keeps answers for."""
SOCKETS = Path("/proc/net/tcp")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--be", choices=KINDS, help="be the slow clients of --url, as a child")
    parser.add_argument("--url", default="")
    given = parser.parse_args()
    if given.be:
        print(json.dumps(asyncio.run(be_slow(given.url, given.be, given.connections))))
        return 0
    wrong, told = [], []
    with common.scratch() as folder, fixed(folder / "home") as server:
        heard(start(server.url, HONEST_RATE, 4.0))
        quiet, refused, late_ms = _honest(server.url)
        common.log(f"without: p95 {quiet:.0f} ms, {refused} not answered")
        for kind in KINDS:
            slow = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.trust.slow_clients", "--be", kind, "--url",
                 server.url, "--connections", str(given.connections)],
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            busy, refused, late = _honest(server.url)
            late_ms = max(late_ms, late)
            lasted: list[float] = json.loads(slow.communicate()[0])
            last = max(lasted, default=60.0)
            told.append(
                f"{kind}: {len(lasted)} closed after {last:.1f} s at most, "
                f"p95 {busy:.0f} ms, {refused} not answered"
            )
            common.log(told[-1])
            if len(lasted) < given.connections or last > MOST_SECONDS:
                wrong.append(f"{kind}: {len(lasted)} closed, the last after {last:.1f} s")
            if busy > MOST_WORSE * quiet:
                wrong.append(f"{kind}: p95 {busy:.0f} ms, {quiet:.0f} ms without them")
        counted = httpx.get(f"{server.url}/metrics", timeout=60.0).text
        cut = [line for line in counted.splitlines() if line.startswith("longleaf_http_cut_total")]
    figure = f"{given.connections} connections each; p95 {quiet:.0f} ms without; {'; '.join(told)}"
    if late_ms > MOST_LATE_MS and all("closed" not in each for each in wrong):
        # Who was closed, and when, counts all the same; how long others took was the machine.
        print(f"the generator's own sends were late by {late_ms:.0f} ms (p99): {figure}")
        return NOT_HERE
    outcome = common.Outcome(20, "slow clients", figure, not wrong, [*wrong, *cut])
    return common.finish(outcome, as_json=given.json)


def _honest(url: str) -> tuple[float, int, float]:
    """(95th percentile of the answers in ms, how many were not answered, lateness of sends in ms)
    of honest searches."""
    said = heard(start(url, HONEST_RATE, HONEST_SECONDS))
    answered = [each["ms"] for each in said["rows"] if each["status"] == 200]
    return percentile(answered, 95), len(said["rows"]) - len(answered), said["late_p99_ms"]


async def be_slow(url: str, kind: str, count: int) -> list[float]:
    """Seconds that each connection lasted."""
    held = _Held(int(url.rpartition(":")[2]))
    looking = asyncio.create_task(held.look())
    lasted = await asyncio.gather(*(_slow(url, kind, held) for _ in range(count)))
    looking.cancel()
    return [each for each in lasted if each >= 0]


class _Held:
    """Connections that the process behind a port of this machine has open, by the other's port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.ports: set[int] = set()

    async def look(self) -> None:
        """Look every half second."""
        while True:
            self.ports = self._read()
            await asyncio.sleep(0.5)

    def _read(self) -> set[int]:
        found = set()
        for line in SOCKETS.read_text().splitlines()[1:]:
            _, here, there, _, _, _, _, _, _, inode, *_ = line.split()
            # A socket without a file is one that its process has closed.
            if int(here.rpartition(":")[2], 16) == self._port and inode != "0":
                found.add(int(there.rpartition(":")[2], 16))
        return found


async def _slow(url: str, kind: str, open_there: _Held) -> float:
    """-1 for a connection that could not be made or was not closed in a minute."""
    loop = asyncio.get_running_loop()
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as held:
        held.setblocking(False)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            await loop.sock_connect(held, (host, int(port)))
            began = time.perf_counter()
            head = f"POST /v1/search HTTP/1.1\r\nHost: {host}\r\n"
            if kind == "body":
                head += "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
            if kind == "reader":
                await _never_read(loop, held, host)
            else:
                await loop.sock_sendall(held, head.encode())
            my_port, was_open = held.getsockname()[1], False
            while time.perf_counter() - began < 60.0:
                await asyncio.sleep(0.5)
                if kind == "reader":
                    is_open = my_port in open_there.ports
                    if was_open and not is_open:
                        return time.perf_counter() - began
                    was_open |= is_open  # before it was accepted it is nobody's
                elif _is_closed(held):
                    return time.perf_counter() - began
                else:
                    await loop.sock_sendall(held, b"a")
        except (ConnectionError, BrokenPipeError):
            return time.perf_counter() - began
        return -1.0


async def _never_read(loop: asyncio.AbstractEventLoop, held: socket.socket, host: str) -> None:
    asked = f"GET /openapi.json HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    try:
        async with asyncio.timeout(2.0):
            await loop.sock_sendall(held, asked * ANSWERS_IN_LINE)
    except TimeoutError:
        pass


def _is_closed(held: socket.socket) -> bool:
    try:
        return held.recv(65536) is not None
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


if __name__ == "__main__":
    raise SystemExit(main())
