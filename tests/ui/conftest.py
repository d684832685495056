"""Real headless Chromium against a real server. The tests skip where Chromium is not installed.

Playwright runs an event loop in the thread that it is started in, for as long as its browser lives.
Other tests run loops of their own, so this folder's tests run in a thread that is theirs alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright
from tests.api.conftest import TEXTS, YEARS
from tests.ui.site import Site, watched

expect.set_options(timeout=30_000)  # a busy machine

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


_thread = ThreadPoolExecutor(1, thread_name_prefix="browser")
_opened: list[tuple[Playwright, Browser]] = []


def _is_here(item: pytest.Item) -> bool:
    return Path(__file__).parent in item.path.parents


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are `ui`."""
    for item in filter(_is_here, items):
        item.add_marker(pytest.mark.ui)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test with its fixtures in the browser's thread."""
    if not _is_here(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    _thread.submit(runtestprotocol, item, nextitem=nextitem).result()
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_unconfigure() -> None:
    """Close the browser, in its thread."""

    def close() -> None:
        for playwright, browser in _opened:
            browser.close()
            playwright.stop()

    _thread.submit(close).result()


@pytest.fixture(scope="session")
def browser() -> Browser:
    """One Chromium for all tests."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    playwright = sync_playwright().start()
    opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    _opened.append((playwright, opened))
    return opened


@pytest.fixture(scope="session")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with a few small documents; tests that change more start their own."""
    home = tmp_path_factory.mktemp("site") / "home"
    with Site(home, LONGLEAF_CHUNKER__TARGET_TOKENS="48") as opened:
        for name in ("law", "science"):
            opened.collection(name)
        for name, text in TEXTS.items():
            collection = "science" if name in ("asthma.txt", "vaccine.txt") else "law"
            year = {"year": YEARS[name]} if name in YEARS else {}
            opened.upload(collection, name, text.encode(), **year)
        yield opened


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A page of a browser profile of its own; whatever it reports fails the test."""
    with watched(browser, site, locale="en-GB") as opened:
        yield opened
