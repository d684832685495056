"""What the search page weighs and how fast it is, in headless Chromium on this machine.

Bytes are those on the wire, headers of answers as well. `--home`: a data folder to serve (it is
written to as any served folder: the server's address, the index that follows); without it a scratch
folder with a few hundred short texts. Input to results: from the last key of a query to the first
result that is on the screen, whether the page shows results while one types or loads anew at Enter
(`--mode auto` tries typing first). Times are of a shared machine; medians count.

    python benchmarks/page.py --home HOME --queries 60
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import TimeoutError as NotInTime

BUDGET_BYTES = 60_000
LONG_CHARS = 1_000_000
_RESULTS = ".hit h3 a"
_LIVE_WITHIN_MS = 6_000
_QUERIES = (
    "who must repair the roof", "force majeure", "motion to dismiss", "burden of proof",
    "security deposit", "summary judgment", "effect of vaccination", "gene expression in mice",
    "what is the standard of review", "statute of limitations", "randomised controlled trial",
    "password length", "breach of contract damages", "reasonable doubt", "protein binding site",
)  # fmt: skip
_MARK = """
() => {
  // When a result that was put into the page since the last key was painted.
  window.painted = 0;
  const isResult = (node) => node.matches?.(".hit") || node.querySelector?.(".hit");
  new MutationObserver((records) => {
    if (!records.some((record) => [...record.addedNodes].some(isResult))) return;
    requestAnimationFrame(() => setTimeout(() => (window.painted ||= performance.now())));
  }).observe(document.body, { childList: true, subtree: true });
}
"""


class Served(NamedTuple):
    """A running server."""

    url: str
    process: subprocess.Popen[str]


@contextmanager
def serving(home: Path) -> Iterator[Served]:
    """`longleaf serve` on `home`, until left."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("LONGLEAF")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "longleaf.api.cli", "serve", "--port", "0", "--json", "--home",
         str(home)],
        stdout=subprocess.PIPE, text=True, env=kept,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        if not said:
            raise SystemExit("The server did not start; its log is above.")
        yield Served(str(json.loads(said)["url"]).rstrip("/"), process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        process.stdout.close()


def main() -> None:
    options = _options()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if chromium is None:
        raise SystemExit("Chromium is not installed (Debian: apt-get install chromium).")
    with tempfile.TemporaryDirectory(prefix="longleaf-page-") as scratch:
        home = options.home or Path(scratch) / "home"
        with serving(home) as server, sync_playwright() as playwright:
            client = httpx.Client(base_url=server.url, timeout=600, trust_env=False)
            if options.home is None:
                _fill(client)
            args = ["--no-sandbox", "--enable-precise-memory-info"]
            browser = playwright.chromium.launch(executable_path=chromium, args=args)
            found: dict[str, Any] = {
                "passages": _passages(client),
                "chromium": browser.version,
                "load_average": os.getloadavg()[0],
            }
            found["weight"] = weight(browser, server.url)
            found["first_results"] = first_results(browser, server.url, options.loads)
            found["input"] = input_to_results(browser, server.url, options.queries, options.mode)
            if options.home is None or options.long:
                found["long_document"] = long_document(browser, client, server.url)
            browser.close()
            client.close()
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        _tell(found)


def weight(browser: Browser, url: str) -> dict[str, Any]:
    """Bytes of each part of the search page with ten results, as sent, and their sum."""
    context = browser.new_context(base_url=url)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    names: dict[str, str] = {}
    sizes: dict[str, float] = {}
    session.on(
        "Network.responseReceived",
        lambda each: names.update({each["requestId"]: each["response"]["url"]}),
    )

    def ended(each: dict[str, Any]) -> None:
        sizes[each["requestId"]] = each["encodedDataLength"]

    session.on("Network.loadingFinished", ended)
    page.goto(f"/?q={_QUERIES[0].replace(' ', '+')}", wait_until="networkidle")
    parts: dict[str, int] = {}
    for number, size in sizes.items():
        name = names.get(number, "").removeprefix(url).partition("?")[0]
        parts[name.rpartition("/")[2] or "the page"] = int(size)
    if not parts.get("icon.svg"):  # answered from the browser's own cache
        icon = page.locator("link[rel=icon]").get_attribute("href") or ""
        headers = {"accept-encoding": "gzip"}
        with httpx.stream("GET", url + icon, headers=headers, trust_env=False) as answer:
            parts["icon.svg"] = sum(map(len, answer.iter_raw()))
    context.close()
    return {"parts": parts, "total_bytes": sum(parts.values()), "budget_bytes": BUDGET_BYTES}


def first_results(browser: Browser, url: str, loads: int) -> dict[str, float]:
    """Loads of a linked search by a fresh profile: paint of the first result, and interactive."""
    painted, ready = [], []
    for number in range(loads):
        context = browser.new_context(base_url=url)
        page = context.new_page()
        page.goto(f"/?q={_QUERIES[number % len(_QUERIES)].replace(' ', '+')}")
        page.locator(_RESULTS).first.wait_for()
        times = page.evaluate(
            "() => { const [it] = performance.getEntriesByType('navigation');"
            " const [paint] = performance.getEntriesByName('first-contentful-paint');"
            " return [paint?.startTime ?? 0, it.domInteractive, it.domContentLoadedEventEnd]; }"
        )
        painted.append(times[0])
        ready.append(times[2])
        context.close()
    return {
        "loads": loads,
        "first_results_p50_ms": _percentile(painted, 50),
        "first_results_p95_ms": _percentile(painted, 95),
        "interactive_p50_ms": _percentile(ready, 50),
        "interactive_p95_ms": _percentile(ready, 95),
    }


def input_to_results(browser: Browser, url: str, queries: int, mode: str) -> dict[str, Any]:
    """From the last key of a query to its first result on the screen."""
    context = browser.new_context(base_url=url)
    page = context.new_page()
    page.goto("/")
    took = []
    is_live = mode != "enter"
    for number in range(queries + 3):  # three warm up
        query = f"{_QUERIES[number % len(_QUERIES)]} {number}"
        ms = _typed(page, query, number) if is_live else None
        if ms is None:
            if is_live and mode == "live":
                raise SystemExit("No results appear while one types.")
            is_live = False
            ms = _entered(page, query)
        if number >= 3:
            took.append(ms)
    context.close()
    return {
        "mode": "while typing" if is_live else "Enter, a page load",
        "queries": queries,
        "p50_ms": _percentile(took, 50),
        "p95_ms": _percentile(took, 95),
    }


def _typed(page: Page, query: str, number: int) -> float | None:
    """Milliseconds to results without a page load; None where none come."""
    box = page.locator("#q")
    box.fill("")
    if number == 0:
        page.evaluate(_MARK)
    box.press_sequentially(query[:-1])
    page.wait_for_timeout(400)
    page.locator("#results[aria-busy=false]").wait_for()  # what the first letters gave has come
    page.evaluate("window.painted = 0")
    pressed = page.evaluate("performance.now()")
    box.press(query[-1])
    try:
        page.wait_for_function("() => window.painted", timeout=_LIVE_WITHIN_MS)
    except NotInTime:
        return None
    return float(page.evaluate("window.painted")) - float(pressed)


def _entered(page: Page, query: str) -> float:
    """Milliseconds from Enter to the paint of the page with results."""
    page.locator("#q").fill(query)
    pressed = page.evaluate("performance.timeOrigin + performance.now()")
    with page.expect_navigation(wait_until="commit"):
        page.locator("#q").press("Enter")
    page.locator(f"{_RESULTS}, .notice").first.wait_for()
    painted = page.wait_for_function(
        "() => { const [paint] = performance.getEntriesByName('first-contentful-paint');"
        " return paint && performance.timeOrigin + paint.startTime; }"
    ).json_value()
    return float(painted) - float(pressed)


def long_document(browser: Browser, client: httpx.Client, url: str) -> dict[str, Any]:
    """What a browser holds for a document of a million characters, opened in its middle."""
    words = "The tenant shall keep the premises in repair and the landlord shall insure them. "
    text = "\n\n".join(f"{n}. {words * 5}" for n in range(LONG_CHARS // (len(words) * 5 + 6)))
    text = text.ljust(LONG_CHARS, ".")[:LONG_CHARS]
    client.post("/v1/collections", json={"name": "page-benchmark"})
    data = {"collection": "page-benchmark", "key": "long", "wait": "true"}
    answer = client.post("/v1/documents", files={"file": ("long.txt", text)}, data=data)
    told = answer.json()
    while answer.status_code == 202 and client.get(told["url"]).json()["finished_at"] is None:
        time.sleep(1)
    found = client.get("/v1/documents", params={"collection": "page-benchmark"}).json()
    document = found["documents"][0]
    context = browser.new_context(base_url=url)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable")
    page.goto("/")
    before = _heap(page, session)
    started = time.perf_counter()
    page.goto(f"{document['url']}?start=500000&end=500200#hit", wait_until="networkidle")
    opened_ms = (time.perf_counter() - started) * 1000
    for _ in range(10):
        page.mouse.wheel(0, 3000)
        page.wait_for_timeout(100)
    after = _heap(page, session)
    nodes = page.evaluate("document.querySelectorAll('*').length")
    context.close()
    client.delete("/v1/collections/page-benchmark")
    return {
        "chars": document["text_chars"],
        "opened_ms": opened_ms,
        "heap_before_bytes": before,
        "heap_after_bytes": after,
        "elements": nodes,
    }


def _heap(page: Page, session: Any) -> int:
    session.send("HeapProfiler.enable")
    session.send("HeapProfiler.collectGarbage")
    metrics = session.send("Performance.getMetrics")["metrics"]
    return int(next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize"))


def _fill(client: httpx.Client) -> None:
    """A few hundred short texts, so that every query finds something."""
    lines = [
        json.dumps({"_id": str(n), "title": f"Note {n}", "text": f"{each}. Note {n} on {each}."})
        for n, each in enumerate(_QUERIES * 20)
    ]
    client.post("/v1/collections", json={"name": "bench"}).raise_for_status()
    answer = client.post(
        "/v1/documents",
        files={"file": ("bench.jsonl", "\n".join(lines))},
        data={"collection": "bench"},
    )
    answer.raise_for_status()
    told = answer.json()
    while answer.status_code == 202 and client.get(told["url"]).json()["finished_at"] is None:
        time.sleep(0.5)
    while client.get("/readyz").json().get("lag") != 0:
        time.sleep(0.1)


def _passages(client: httpx.Client) -> int | None:
    for line in client.get("/metrics").text.splitlines():
        if line.startswith("longleaf_passages "):
            return int(float(line.split()[1]))
    return None


def _percentile(values: list[float], percent: float) -> float:
    return round(float(np.percentile(values, percent)), 1)


def _tell(found: dict[str, Any]) -> None:
    parts = found["weight"]["parts"]
    for name, size in sorted(parts.items(), key=lambda each: -each[1]):
        print(f"{size:>9,} bytes  {name}")
    print(f"{found['passages']} passages, load average {found['load_average']:.1f}")
    total = found["weight"]["total_bytes"]
    print(f"{total:>9,} bytes  in all: {'OK' if total <= BUDGET_BYTES else 'FAIL'}")
    for name in ("first_results", "input", "long_document"):
        for what, value in found.get(name, {}).items():
            print(f"{name} {what}: {value:,}" if isinstance(value, int | float) else
                  f"{name} {what}: {value}")  # fmt: skip


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--home", type=Path, help="a data folder to serve")
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--loads", type=int, default=15)
    parser.add_argument("--mode", choices=("auto", "live", "enter"), default="auto")
    parser.add_argument("--long", action="store_true", help="the long document with --home as well")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
