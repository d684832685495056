"""Goal 7: a backup made under load answers as its original does; upgrades that are killed.

A served folder takes uploads without a pause while `longleaf backup` runs. What was uploaded
meanwhile is deleted again on both sides, the backup having some of it, and every query must then
give the same documents with the same scores, to the last bit, from the original and from a server
over the restored folder, both after `longleaf compact`. Then catalogs of schema version 1, whose
upgrade is ended by SIGKILL at a random moment: the next opening must finish it and find everything.

    python -m benchmarks.trust.backups --queries 1000 --kills 50
"""

from __future__ import annotations

import itertools
import math
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.trust import common
from benchmarks.trust.serving import LONGLEAF, Server, served, until
from tests.core.test_migrations import BACK_TO_1

DOCUMENTS, FIRST_OF_LOAD = 60, 1000
UPGRADE = """
import sys
from pathlib import Path
from longleaf.core.catalog import Catalog
print("ready", flush=True)
Catalog(Path(sys.argv[1])).close()
"""


def queries(count: int, rng: random.Random) -> Iterator[str]:
    """Two to six words of the documents' sentences, every tenth with a document's own word."""
    words = sorted({word.strip(".,").lower() for each in common.SENTENCES for word in each.split()})
    for number in range(count):
        own = [f"marker{rng.randrange(DOCUMENTS)}x"] if number % 10 == 0 else []
        yield " ".join(rng.sample(words, rng.randint(2, 6)) + own)


def answers(server: Server, asked: list[str]) -> list[list[tuple[str, float]]]:
    """(Document's key, score) of each query's hits."""
    found = []
    for query in asked:
        reply = server.http.post("/v1/search", json={"query": query, "limit": 20})
        assert reply.status_code == 200, reply.text
        found.append([(hit["key"], hit["score"]) for hit in reply.json()["hits"]])
    return found


def answers_when_compact(home: Path, log: Path, asked: list[str]) -> list[list[tuple[str, float]]]:
    """The answers once nothing that was deleted counts in BM25's IDF any more (an index does not
    forget at once, and the two have deleted different numbers of documents)."""
    subprocess.run([LONGLEAF, "compact", "--home", str(home)], check=True, capture_output=True)
    with served(home, log) as server:
        return answers(server, asked)


def _open_jobs(server: Server) -> int:
    jobs = server.http.get("/v1/status").json()["jobs"]
    return sum(int(jobs.get(state, 0)) for state in ("queued", "running"))


def forget_load(server: Server) -> int:
    """Delete what the load has put in; returns how many there were, once searches see that."""
    # An upload that was answered 202 is still to come.
    assert until(lambda: not _open_jobs(server), 120.0) is not None
    documents = server.http.get(
        "/v1/documents", params={"collection": common.COLLECTION, "limit": 1000}
    ).json()["documents"]
    gone = [each for each in documents if int(each["key"][1:]) >= FIRST_OF_LOAD]
    for each in gone:
        assert server.http.delete(f"/v1/documents/{each['document_id']}").status_code < 300
    assert until(lambda: server.http.get("/v1/status").json()["lag"] == 0, 60.0) is not None
    return len(gone)


def backed_up_under_load(folder: Path, asked: list[str]) -> tuple[str, list[str]]:
    """The figure, and what was not as it should be."""
    home, backup = folder / "home", folder / "backup"
    common.put(home, list(range(DOCUMENTS)), 6)
    some, stop = threading.Semaphore(0), threading.Event()
    with served(home, folder / "log") as server:

        def load() -> None:
            for number in itertools.count(FIRST_OF_LOAD):
                if stop.is_set():
                    return
                server.upload(number)
                some.release()

        loading = threading.Thread(target=load)
        loading.start()
        for _ in range(3):
            some.acquire()
        command = [LONGLEAF, "backup", str(backup), "--home", str(home)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        while some.acquire(blocking=False):
            pass
        for _ in range(2):  # the first may have begun before the backup ended
            some.acquire()
        stop.set()
        loading.join()
        assert done.returncode == 0, done.stderr
        uploaded = forget_load(server)
    expected = answers_when_compact(home, folder / "log", asked)
    restored = folder / "restored"
    subprocess.run(
        [LONGLEAF, "restore", str(backup), "--home", str(restored)], check=True, capture_output=True
    )
    with served(restored, folder / "log") as server:
        had = forget_load(server)
    found = answers_when_compact(restored, folder / "log", asked)
    apart = [_apart(one, other) for one, other in zip(expected, found, strict=True)]
    wrong = [
        f"{query!r}: {one[:3]} and {other[:3]}"
        for query, one, other, by in zip(asked, expected, found, apart, strict=True)
        if by
    ]
    hits = sum(map(len, expected))
    figure = (
        f"{len(asked) - len(wrong)} of {len(asked)} queries ({hits} hits) answered alike by the "
        f"restored backup (scores {max(apart):.1g} apart at most, of themselves), which had "
        f"{had} of {uploaded} uploads that came meanwhile"
    )
    if not hits or not 0 < had < uploaded:
        wrong.append("nothing was found, or the backup was not made under load")
    return figure, wrong


def _apart(one: list[tuple[str, float]], other: list[tuple[str, float]]) -> float:
    """The largest difference of two scores, by the larger; infinite for other documents."""
    if [key for key, _ in one] != [key for key, _ in other]:
        return math.inf
    return max(
        (abs(a - b) / max(abs(a), abs(b), 1e-9) for (_, a), (_, b) in zip(one, other, strict=True)),
        default=0.0,
    )


def killed_upgrades(folder: Path, kills: int, rng: random.Random) -> tuple[str, list[str]]:
    """The figure, and what was not as it should be."""
    template = folder / "version-1"
    common.put(template, list(range(DOCUMENTS)), 6)
    before = common.contents(template)
    with sqlite3.connect(template / "catalog.sqlite3") as connection:
        connection.executescript(BACK_TO_1)
    shutil.rmtree(template / "index", ignore_errors=True)
    whole_seconds = _upgrade(shutil.copytree(template, folder / "whole"), None)
    expected = common.contents(folder / "whole")
    wrong = [] if expected.keys() == before.keys() else ["an upgrade loses documents"]
    cut_short = finished = 0
    for number in range(kills):
        home = shutil.copytree(template, folder / f"killed-{number}")
        _upgrade(home, rng.uniform(0.0, whole_seconds))
        with sqlite3.connect(home / "catalog.sqlite3") as connection:
            (version,) = connection.execute(
                "SELECT value FROM meta WHERE key = 'schema_version'"
            ).fetchone()
        cut_short += version == "1"
        if common.contents(home) == expected:
            finished += 1
        else:
            wrong.append(f"upgrade {number}: other contents")
        shutil.rmtree(home)
    figure = (
        f"{kills} upgrades killed, {cut_short} of them before they were done, {finished} finished "
        "by the next opening"
    )
    return figure, wrong


def _upgrade(home: Path, kill_after: float | None) -> float:
    """Seconds that the upgrade took, or until it was killed."""
    command = [sys.executable, "-c", UPGRADE, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        began = time.perf_counter()
        if kill_after is None:
            assert process.wait() == 0
        else:
            time.sleep(kill_after)
            process.send_signal(signal.SIGKILL)
            process.wait()
        return time.perf_counter() - began


def main() -> int:
    given: Any = common.options(__doc__ or "", queries=1000, kills=50)
    rng = random.Random(given.seed)
    with common.scratch() as folder:
        asked = list(queries(given.queries, rng))
        first, wrong = backed_up_under_load(folder, asked)
        common.log(first)
        second, more = killed_upgrades(folder, given.kills, rng)
        common.log(second)
    wrong += more
    outcome = common.Outcome(7, "backups and upgrades", f"{first}; {second}", not wrong, wrong)
    return common.finish(outcome, as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
