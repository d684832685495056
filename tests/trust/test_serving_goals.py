"""Goals 15 and 20 in short: what is refused under overload, and slow clients beside honest ones.

Counts only: how fast a shared machine is says nothing of the server.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from benchmarks.trust.load import heard, start
from benchmarks.trust.overload import fixed, goodput
from benchmarks.trust.slow_clients import KINDS, be_slow

pytestmark = pytest.mark.slow


def test_overload_answers_or_refuses_with_a_time_and_slow_clients_are_closed(
    tmp_path: Path,
) -> None:
    limits = ("serving.queue_requests=4", "serving.request_seconds=1", "serving.stall_seconds=1")
    with fixed(tmp_path, *limits) as server:
        said = heard(start(server.url, 60.0, 3.0))
        rows = said["rows"]
        assert len(rows) == 180, "none hangs"
        assert {each["status"] for each in rows} == {200, 429}
        refused = [each for each in rows if each["status"] == 429]
        assert refused and all(each["retry_after"] >= 1 for each in refused)
        assert goodput(rows, 3.0) > 0 and said["cpu"] > 0
        assert server.lane("refused_total") == len(refused)
        assert server.lane("waiting") == server.lane("running") == 0

        for kind in KINDS:
            lasted = asyncio.run(be_slow(server.url, kind, 5))
            assert len(lasted) == 5, f"{kind}: not every connection was closed"
        counted = httpx.get(f"{server.url}/metrics").text
        for what in ("head", "body", "answer"):
            assert f'longleaf_http_cut_total{{what="{what}"}} 5.0' in counted
        answer = httpx.post(f"{server.url}/v1/search", json={"query": "harbour fees"})
        assert answer.status_code == 200 and not answer.json()["degraded"]
