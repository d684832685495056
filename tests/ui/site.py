"""A real `longleaf serve` for a browser, and what a browser reports that no page should do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page

REPORTER = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""


class Site:
    """A server of its own on a scratch data folder."""

    def __init__(self, home: Path, *options: str, **settings: str) -> None:
        kept = {name: text for name, text in os.environ.items() if "LONGLEAF" not in name}
        self.home = home
        self.log = home.with_suffix(".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "longleaf.api.cli", "serve",
                 "--port", "0", "--json", "--home", str(home), *options],
                env={**kept, **settings}, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if "url" not in json.loads(said or "{}"):
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"it does not start: {said} {self.log.read_text()}")
        self.url = str(json.loads(said)["url"]).rstrip("/")
        self.client = httpx.Client(base_url=self.url, timeout=120.0, trust_env=False)

    def collection(self, name: str, **more: Any) -> None:
        """Create a collection."""
        answer = self.client.post("/v1/collections", json={"name": name, **more})
        assert answer.status_code < 300, answer.text

    def upload(self, collection: str, name: str, data: bytes, **metadata: Any) -> dict[str, Any]:
        """Index a file and wait until it is searched."""
        fields = {"collection": collection, "metadata": json.dumps(metadata)}
        answer = self.client.post(
            "/v1/documents?wait_seconds=600",
            files={"file": (name, data)},
            data=fields,
            timeout=700.0,
        )
        assert answer.status_code < 300, answer.text
        told: dict[str, Any] = answer.json()
        if answer.status_code == 202:  # a busy machine: the worker did not end in time
            told = self._file_of(told["url"])
        self.wait_until_followed()
        return told

    def _file_of(self, job_url: str) -> dict[str, Any]:
        """The one file of a job, once that has ended."""
        end = time.monotonic() + 300.0
        while self.client.get(job_url).json()["state"] in ("queued", "running"):
            assert time.monotonic() < end, "the worker does not work"
            time.sleep(0.1)
        files = self.client.get(f"{job_url}/files").json()["files"]
        told: dict[str, Any] = files[0]
        return told

    def wait_until_followed(self) -> None:
        """Wait until the index has followed the catalog."""
        end = time.monotonic() + 120.0
        while True:
            index = self.client.post("/v1/search", json={"query": "x", "rerank": False}).json()
            if index["index"]["seen_seq"] == index["index"]["head_seq"]:
                return
            assert time.monotonic() < end, "the index does not follow"
            time.sleep(0.05)

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server as an operator does."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(120)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def law_site(home: Path, *, target_tokens: int) -> Iterator[Site]:
    """A server with the empty collection "law", whose passages have so many tokens."""
    with Site(home, LONGLEAF_CHUNKER__TARGET_TOKENS=str(target_tokens)) as opened:
        opened.collection("law")
        yield opened


class Watched:
    """A page's errors: of scripts, of the console, of the Content-Security-Policy, of addresses
    outside the server."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.told: list[str] = []
        page.on("pageerror", lambda error: self.told.append(f"script: {error}"))
        page.on("console", self._read)
        page.on("dialog", lambda dialog: (self.told.append("a dialog"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                request.url.startswith((url, "blob:", "data:"))
                or self.told.append(f"asked elsewhere: {request.url}")
            ),
        )
        page.add_init_script(REPORTER)

    def _read(self, line: ConsoleMessage) -> None:
        # A status that a page was asked for is an answer.
        if line.type == "error" and not line.text.startswith("Failed to load resource: the server"):
            self.told.append(line.text)

    def check(self) -> None:
        """Fail with what was reported."""
        if self.page.url.startswith("http"):
            self.told += self.page.evaluate("window.violations ?? []")
        assert not self.told, self.told


@contextmanager
def watched(browser: Browser, site: Site, **options: Any) -> Iterator[Page]:
    """A page of a browser profile of its own; whatever it reports fails the test."""
    context = browser.new_context(base_url=site.url, **options)
    page = context.new_page()
    watched = Watched(page, site.url)
    yield page
    watched.check()
    context.close()


def check_accessible(page: Page) -> None:
    """Fail with what axe finds in the page as it is."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert not found, [
        (each["id"], each["help"], [node["html"][:200] for node in each["nodes"]][:5])
        for each in found
    ]
