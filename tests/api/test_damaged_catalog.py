"""A catalog that loses its tables under a running server: said by name, and made no worse."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import httpx
from tests.api.conftest import sqlite_only
from tests.remote.longleaf import filled, process

TABLES = {"audit", "passages"}


@sqlite_only
def test_lost_tables_are_named_and_not_made_anew(tmp_path: Path) -> None:
    """A process that opened the catalog behind the loss made the tables anew: all of them empty,
    so that the server went on, with answers from nothing."""
    home, log = filled(tmp_path / "home"), tmp_path / "log"
    with (
        process(home, log, log__form="json", server__worker="true") as (url, server),
        httpx.Client(base_url=url, timeout=120.0, trust_env=False) as client,
    ):
        assert client.get("/v1/search", params={"q": "rent"}).status_code == 200
        with closing(sqlite3.connect(home / "catalog.sqlite3", timeout=60.0)) as catalog, catalog:
            for name in TABLES:
                catalog.execute(f"DROP TABLE {name}")
        command = ["pgrep", "-f", "-P", str(server.pid), "retriever.index.worker"]
        (index,) = subprocess.run(command, capture_output=True, text=True).stdout.split()
        os.kill(int(index), signal.SIGKILL)
        end = time.monotonic() + 120.0
        while "lost tables" not in (told := client.get("/readyz").text):
            assert time.monotonic() < end, told
            time.sleep(0.2)
        answer = client.get("/v1/search", params={"q": "rent and deposit"})
        assert answer.status_code == 503
        assert "longleaf restore" in answer.json()["detail"]
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert any(line["event"] == "index.process_not_started" for line in lines)
    with closing(sqlite3.connect(home / "catalog.sqlite3")) as catalog:
        there = {name for (name,) in catalog.execute("SELECT name FROM sqlite_master")}
    assert "documents" in there and not TABLES & there
