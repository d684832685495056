"""Goal 7: a backup under load restored elsewhere answers the same; a killed upgrade loses nothing.

A served data folder takes uploads and deletions in one collection while `longleaf backup` runs;
`longleaf restore` puts it into another folder, which is served in turn. Questions to another
collection, which nobody writes to, must have the same documents with the same scores to the last
digit in both, once both hold the same (scores by words count all documents of the index). Then a
catalog of the oldest schema is opened, and the process that brings it up is killed with SIGKILL at
a random moment, again and again: the next one must find all that was there.

    python -m benchmarks.trust.backup                       # 1,000 questions, 50 kills
    python -m benchmarks.trust.backup --queries 50 --kills 5
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.trust import common, serving
from sqlalchemy import create_engine
from tests.core.test_migrations import BACK_TO_1

STILL = "still"
"""The collection that is asked; uploads go to common.COLLECTION."""
_FIRST_WRITTEN = 10_000


def main() -> int:
    chosen = common.options(
        "Backup under load, and killed upgrades.", documents=60, queries=1000, kills=50
    )
    wrong: list[str] = []
    with common.scratch() as folder:
        same, written = _backup(folder, chosen, wrong)
        killed = _upgrades(folder, chosen, wrong)
    figure = (
        f"{same} of {chosen.queries} questions answered with the same documents and scores by the "
        f"restored folder, backed up beside {written} uploads and deletions; {killed} of "
        f"{chosen.kills} upgrades killed on the way, all went on: {'no' if wrong else 'yes'}"
    )
    figure = figure if wrong else figure.replace("all went on: yes", "nothing lost")
    outcome = common.Outcome(7, "backup, restore, upgrade", figure, not wrong, wrong)
    return common.finish(outcome, as_json=chosen.json)


def _backup(folder: Path, chosen: Any, wrong: list[str]) -> tuple[int, int]:
    """(answers that are the same, writes beside the backup)."""
    home, log = folder / "home", folder / "log"
    questions = _questions(chosen)
    with serving.served(home, log) as server:
        server.http.post("/v1/collections", json={"name": STILL})
        for number in range(chosen.documents):
            _upload(server, number, STILL)
        writer = _Writer(server)
        writer.start()
        serving.until(lambda: writer.written >= 3, 120.0)
        _longleaf("backup", str(folder / "backup"), "--home", str(home))
        writer.stop()
        _clear(server)
        before = [_answer(server, each) for each in questions]
    _longleaf("restore", str(folder / "backup"), "--home", str(folder / "new"))
    with serving.served(folder / "new", log) as server:
        _clear(server)
        after = [_answer(server, each) for each in questions]
    different = [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b or not a]
    wrong += [f"{questions[n]!r}: {before[n][:2]} and {after[n][:2]}" for n in different]
    wrong += writer.failed
    return chosen.queries - len(different), writer.written


def _questions(chosen: Any) -> list[str]:
    draw = random.Random(chosen.seed)
    words = sorted({word.strip(".,") for said in common.SENTENCES for word in said.split()})
    return [
        " ".join([*draw.sample(words, 4), f"marker{draw.randrange(chosen.documents)}x"])
        for _ in range(chosen.queries)
    ]


def _upload(server: serving.Server, number: int, collection: str) -> None:
    data = common.text_of(number, 6 + number % 30).encode()
    server.http.post(
        "/v1/documents",
        params={"wait_seconds": 60},
        files={"file": (f"{number}.txt", data)},
        data={"collection": collection, "key": f"k{number}"},
    ).raise_for_status()


def _answer(server: serving.Server, question: str) -> list[tuple[str, float]]:
    asked = {"query": question, "collections": [STILL]}
    hits = server.http.post("/v1/search", json=asked).raise_for_status().json()["hits"]
    return [(hit["document_id"], hit["score"]) for hit in hits]


def _clear(server: serving.Server) -> None:
    """Both folders hold the same once what was written beside the backup is gone."""
    server.http.delete(f"/v1/collections/{common.COLLECTION}").raise_for_status()

    def is_followed() -> bool:
        return bool(server.http.get("/v1/status").json()["lag"] == 0)

    assert serving.until(is_followed, 120.0) is not None, "the index does not follow"


class _Writer(threading.Thread):
    """Uploads documents and deletes every second of them, until it is told to stop."""

    def __init__(self, server: serving.Server) -> None:
        super().__init__()
        self._server = server
        self._over = threading.Event()
        self.written = 0
        self.failed: list[str] = []

    def run(self) -> None:
        while not self._over.is_set():
            number = _FIRST_WRITTEN + self.written
            answered = self._server.upload(number)
            if answered.status_code not in (200, 201, 202):
                self.failed.append(f"an upload was answered {answered.status_code}")
            elif answered.status_code != 202 and number % 2:
                document = answered.json()["document_ids"][0]
                self._server.http.delete(f"/v1/documents/{document}")
            self.written += 1

    def stop(self) -> None:
        self._over.set()
        self.join()


def _upgrades(folder: Path, chosen: Any, wrong: list[str]) -> int:
    """How many of the processes were still there to be killed."""
    template, home = folder / "old", folder / "upgraded"
    common.surely(lambda: common.put(template, list(range(20))))
    expected = common.surely(lambda: _digests(template))
    engine = create_engine(f"sqlite:///{template / 'catalog.sqlite3'}")
    with engine.begin() as connection:
        for statement in filter(str.strip, BACK_TO_1.split(";")):
            connection.exec_driver_sql(statement)
    engine.dispose()
    shutil.copytree(template, home)
    whole = _bring_up(home, None)
    assert whole is not None
    draw, killed = random.Random(chosen.seed), 0
    for kill in range(chosen.kills):
        shutil.rmtree(home)
        shutil.copytree(template, home)
        killed += _bring_up(home, draw.uniform(0.5, 1.0) * whole) is None
        how, found = common.apart(lambda: _digests(home))
        if (how, found) != ("returned", expected):
            wrong.append(f"after kill {kill}: {how}, {str(found)[:200]}")
    return killed


def _bring_up(home: Path, seconds: float | None) -> float | None:
    """Open the catalog in a process; seconds that it took, None where it was killed before."""
    code = "import sys; from longleaf.core.catalog import Catalog; Catalog(sys.argv[1]).close()"
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", code, str(home)])
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return None
    assert process.returncode == 0, "the catalog cannot be opened"
    return time.monotonic() - started


def _digests(home: Path) -> dict[str, str]:
    """Each document's text and passages, by key; what else there is came after version 1."""
    return {key: repr((each[0], each[1], each[5])) for key, each in common.contents(home).items()}


def _longleaf(*arguments: str) -> None:
    subprocess.run(
        [serving.LONGLEAF, *arguments],
        env=serving.environment(),
        check=True,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    sys.exit(main())
