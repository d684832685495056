"""A generation swapped under a load of queries: none may fail, none may mix.

Real documents and questions (SciFact's, beside the repository) on a data folder served by
`longleaf serve`, while `longleaf reindex` cuts and embeds them anew with another chunker size and
further documents are uploaded. Every answer is compared with the passages of both generations: it
must consist of one's or the other's. Prints failures, p50 and p99 before, during and after, and how
many answers came from which generation; exits with 1 when one failed or mixed, or when an upload
was lost.

    python benchmarks/swap.py --documents 300
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from longleaf.core.catalog import Catalog
from longleaf.core.types import Scope

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "scifact"
LONGLEAF = [str(Path(sys.executable).with_name("longleaf"))]
COLLECTION = "bench"
UPLOADS = 6
UPLOADED = "uploaded-"

Spans = dict[str, set[tuple[int, int]]]
"""Document key -> where its passages lie."""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--documents", type=int, default=300)
    options.add_argument("--clients", type=int, default=2)
    options.add_argument("--pause-ms", type=float, default=100.0, help="between two questions")
    options.add_argument("--quiet-seconds", type=float, default=20.0, help="before and after")
    options.add_argument("--target-tokens", type=int, default=80, help="of the new passages")
    chosen = options.parse_args()
    if not DATA.is_dir():
        print("The folder ../shared/data is not here: nothing to measure with.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="longleaf-swap-") as scratch:
        return measure(Path(scratch), chosen)


def measure(scratch: Path, chosen: argparse.Namespace) -> int:
    """Index, serve, ask, swap; returns the exit code."""
    home, corpus = scratch / "home", scratch / "corpus.jsonl"
    with (DATA / "corpus.jsonl").open("rb") as lines:
        corpus.write_bytes(b"".join(itertools.islice(lines, chosen.documents)))
    started = time.perf_counter()
    longleaf("index", str(corpus), "--collection", COLLECTION, "--json", home=home)
    catalog = Catalog(home)
    before = spans(catalog)
    tell("load", {"load_1min": round(os.getloadavg()[0], 2), "cores": os.cpu_count()})
    tell("indexed", {
        "documents": len(before), "passages": sum(map(len, before.values())),
        "seconds": time.perf_counter() - started,
    })  # fmt: skip
    with serving(home) as url, Load(url, chosen) as load:
        time.sleep(chosen.quiet_seconds)
        load.phase = "during"
        started = time.perf_counter()
        tokens = ("--target-tokens", str(chosen.target_tokens))
        reindexing = subprocess.Popen(
            [*LONGLEAF, "reindex", *tokens, "--json", "--home", str(home)],
            stdout=subprocess.PIPE,
        )
        uploaded = upload_until(reindexing, url)
        said, _ = reindexing.communicate()
        done = json.loads(said or b"{}")
        tell("reindexed", {**done, "seconds": time.perf_counter() - started})
        load.phase = "after"
        time.sleep(chosen.quiet_seconds)
        missing = [key for key in uploaded if not found(url, key)]
    after = spans(catalog)
    catalog.close()
    tell("passages now", {"passages": sum(map(len, after.values()))})
    return report(load, before, after, done, uploaded, missing)


def longleaf(*arguments: str, home: Path) -> None:
    subprocess.run(
        [*LONGLEAF, *arguments, "--home", str(home)], check=True, stdout=subprocess.DEVNULL
    )


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """The address of a server on the data folder, for as long as the block runs."""
    server = subprocess.Popen(
        [*LONGLEAF, "serve", "--port", "0", "--json", "--home", str(home)], stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        with httpx.Client(trust_env=False) as client:
            while client.get(f"{url}/readyz").status_code != 200:
                time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait(60)
        assert server.stdout is not None
        server.stdout.close()


def spans(catalog: Catalog) -> Spans:
    """Where the live generation's passages lie."""
    live = catalog.live_generation()
    assert live is not None
    return {
        head.key: {
            (each.start_char, each.end_char) for each in catalog.passages(head, live, limit=100_000)
        }
        for head in catalog.documents(Scope.all(), limit=1_000_000)
    }


def upload_until(process: subprocess.Popen[bytes], url: str) -> list[str]:
    """Upload a document every few seconds while the process runs; returns their keys."""
    keys: list[str] = []
    with httpx.Client(trust_env=False, timeout=120) as client:
        while process.poll() is None and len(keys) < UPLOADS:
            key = f"{UPLOADED}{len(keys)}"
            text = f"A report on {word(len(keys))} and how it was measured. " * 30
            answer = client.post(
                f"{url}/v1/documents",
                files={"file": (f"{key}.txt", text.encode())},
                data={"collection": COLLECTION, "key": key},
            )
            answer.raise_for_status()
            keys.append(key)
            time.sleep(2)
    return keys


def word(number: int) -> str:
    """A word that no other document has."""
    return "".join(chr(ord("q") + int(digit)) for digit in f"{number:04d}") * 2


def found(url: str, key: str) -> bool:
    """Whether the document answers a question for its own word, within a minute."""
    end = time.monotonic() + 60
    number = int(key.removeprefix(UPLOADED))
    with httpx.Client(trust_env=False, timeout=60) as client:
        while time.monotonic() < end:
            answer = client.post(f"{url}/v1/search", json={"query": word(number), "limit": 3})
            hits = answer.json().get("hits", [])
            if any(hit["key"] == key and hit["passages"] for hit in hits):
                return True
            time.sleep(0.5)
    return False


@dataclass(frozen=True, slots=True)
class Answer:
    """One question's fate."""

    phase: str
    ms: float
    failure: str | None
    passages: tuple[tuple[str, int, int], ...]


@dataclass
class Load:
    """Clients that ask all the time, from entering to leaving."""

    url: str
    chosen: argparse.Namespace
    phase: str = "before"
    answers: list[Answer] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        lines = (DATA / "queries.jsonl").read_text("utf-8").splitlines()
        self._queries = [json.loads(line)["text"] for line in lines[:300]]
        for number in range(self.chosen.clients):
            thread = threading.Thread(target=self._ask, args=(number,))
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            while not self._ended.wait(self.chosen.pause_ms / 1000.0):
                number += 1
                body = {"query": self._queries[number % len(self._queries)]}
                phase, started = self.phase, time.perf_counter()
                try:
                    answer = client.post(f"{self.url}/v1/search", json=body)
                    failure, passages = judged(answer)
                except httpx.HTTPError as error:
                    failure, passages = repr(error), ()
                ms = (time.perf_counter() - started) * 1000.0
                self.answers.append(Answer(phase, ms, failure, passages))


def judged(answer: httpx.Response) -> tuple[str | None, tuple[tuple[str, int, int], ...]]:
    """What is wrong with an answer, if anything is, and the passages in it."""
    if answer.status_code != 200:
        return f"{answer.status_code}: {answer.text[:200]}", ()
    told: dict[str, Any] = answer.json()
    passages = tuple(
        (hit["key"], passage["start_char"], passage["end_char"])
        for hit in told["hits"]
        for passage in hit["passages"]
    )
    if told["degraded"]:
        return f"degraded: {told['degraded']}", passages
    if not told["hits"] or any(not hit["passages"] for hit in told["hits"]):
        return "an answer without passages", passages
    return None, passages


def report(
    load: Load,
    before: Spans,
    after: Spans,
    done: dict[str, Any],
    uploaded: list[str],
    missing: list[str],
) -> int:
    """Print what happened; 1 when something did that must not."""
    kinds: Counter[str] = Counter()
    for each in load.answers:
        if each.failure is None:
            kinds[kind_of(each, before, after)] += 1
    for phase in ("before", "during", "after"):
        mine = [each for each in load.answers if each.phase == phase]
        times = [each.ms for each in mine if each.failure is None]
        tell(phase, {
            "questions": len(mine), "failures": sum(each.failure is not None for each in mine),
            "p50_ms": np.percentile(times, 50), "p99_ms": np.percentile(times, 99),
            "max_ms": max(times),
        })  # fmt: skip
    tell("answers by generation", dict(kinds))
    tell("uploaded meanwhile", {"documents": len(uploaded), "not_found": missing})
    failures = Counter(each.failure for each in load.answers if each.failure is not None)
    for failure, count in failures.most_common(5):
        print(f"FAIL: {count} times {failure}")
    good = done.get("switched") and kinds["old"] and kinds["new"]
    bad = bool(failures) or bool(kinds["mixed"]) or bool(missing) or not good
    print("FAIL" if bad else "OK: no question failed, no answer is mixed, no upload is lost")
    return 1 if bad else 0


def kind_of(answer: Answer, before: Spans, after: Spans) -> str:
    """Of which generation all its passages are; those uploaded meanwhile do not count."""
    known = [each for each in answer.passages if not each[0].startswith(UPLOADED)]
    of_old = all((start, end) in before.get(key, ()) for key, start, end in known)
    of_new = all((start, end) in after.get(key, ()) for key, start, end in known)
    return {(True, False): "old", (False, True): "new", (True, True): "either"}.get(
        (of_old, of_new), "mixed"
    )


def tell(what: str, values: dict[str, Any]) -> None:
    shown = {k: round(float(v), 1) if isinstance(v, float) else v for k, v in values.items()}
    print(f"{what}: {json.dumps(shown)}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
