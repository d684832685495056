"""What counts as an answer, said in the page to a model that takes an instruction."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.api.conftest import TEXTS
from tests.reranker.qwen3.models import train
from tests.ui.site import Site, check_accessible, watched

from longleaf.reranker.instructions import PRESETS


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server that reads with a tiny Qwen3-Reranker, trained to pass the check at the start."""
    folder = tmp_path_factory.mktemp("instruction")
    model = folder / "model"
    model.mkdir()
    train(model)
    with Site(
        folder / "home",
        LONGLEAF_RERANKER__KIND="qwen3",
        LONGLEAF_RERANKER__MODEL=str(model),
        LONGLEAF_RERANKER__ALLOW_CPU="true",
        LONGLEAF_RERANKER__DEADLINE_MS="60000",
    ) as opened:
        opened.collection("law")
        for name in ("lease.txt", "commercial.txt"):
            opened.upload("law", name, TEXTS[name].encode())
        yield opened


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    with watched(browser, site, locale="en-GB") as opened:
        yield opened


def read(site: Site, **more: str) -> list[float]:
    """What the reader says of the hits, as the API tells it."""
    hits = site.client.get("/v1/search", params={"q": "tenant", **more}).json()["hits"]
    return [hit["reading"]["score"] for hit in hits]


def shown(page: Page) -> list[float]:
    """The same in the page."""
    bars = page.locator(".trace meter[aria-label=Read]").all()
    return [float(bar.get_attribute("value") or "nan") for bar in bars]


def test_an_instruction_is_offered_given_and_kept(page: Page, site: Site) -> None:
    plain, told = read(site), read(site, instruction="statutes")
    assert len(plain) == 2 and plain != told, "the model does not heed it"
    page.goto("/?q=tenant")
    page.get_by_text("How to search").click()
    field = page.get_by_label("What counts as an answer")
    expect(field).to_have_value("")
    offered = page.locator("#presets option").evaluate_all("all => all.map((one) => one.value)")
    assert offered == list(PRESETS)
    check_accessible(page)
    assert shown(page) == plain
    field.fill("statutes")
    field.press("Enter")
    expect(page).to_have_url(re.compile("instruction=statutes"))
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
    assert shown(page) == told
    # It stays while one asks something else, and in a link.
    page.locator("#q").fill("landlord")
    expect(page).to_have_url(re.compile("q=landlord.*instruction=statutes"))
    page.reload()
    page.get_by_text("How to search").click()
    expect(field).to_have_value("statutes")
