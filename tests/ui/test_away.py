"""What is done while nobody answers: the page stays, says so, loses nothing and can be asked again.

Without a network (`offline`), or with a server that refuses connections (`unreachable`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from tests.api.conftest import TEXTS
from tests.ui.site import Site, check_accessible

OFFLINE = "There is no connection"
UNREACHABLE = "The server does not answer"


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of its own: judgements are made, documents deleted."""
    with Site(tmp_path_factory.mktemp("away") / "home") as opened:
        opened.collection("law")
        for name in ("lease.txt", "commercial.txt", "mit.txt"):
            opened.upload("law", name, TEXTS[name].encode())
        opened.collection("moths")
        rows = [json.dumps({"_id": f"{n:02}", "title": f"Moth {n:02}", "text": "Flies."})
                for n in range(60)]  # fmt: skip
        opened.upload("moths", "moths.jsonl", "\n".join(rows).encode())
        yield opened


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A page whose console is not watched: a browser reports by itself what it does not reach."""
    context = browser.new_context(base_url=site.url, locale="en-GB")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield context.new_page()
    context.close()


def alert(page: Page) -> Locator:
    return page.get_by_role("alert")


@contextmanager
def stays(page: Page) -> Iterator[None]:
    """It is the same page before and behind."""
    page.evaluate("window.stays = true")
    yield
    assert page.evaluate("window.stays"), "the page was left"


def offline(page: Page, act: Callable[[], Any]) -> None:
    """`act` without a network: it is said, and done as soon as there is one."""
    with stays(page):
        page.context.set_offline(True)
        act()
        expect(alert(page)).to_contain_text(OFFLINE)
        expect(alert(page)).to_contain_text("tries again as soon as there is one")
        expect(alert(page)).to_be_in_viewport()
    page.context.set_offline(False)
    expect(alert(page)).to_have_count(0)


def unreachable(page: Page, act: Callable[[], Any]) -> None:
    """`act` without a server: it is said, and done when the button is pressed."""
    with stays(page):
        page.route("**/*", lambda route: route.abort("connectionrefused"))
        act()
        expect(alert(page)).to_contain_text(UNREACHABLE)
        expect(alert(page)).to_contain_text("See whether `longleaf serve` runs")
        page.unroute("**/*")
    alert(page).get_by_role("button", name="Try again").click()
    expect(alert(page)).to_have_count(0)


def test_thumbs_citations_and_more_hits(page: Page, site: Site) -> None:
    page.goto("/?q=the+tenant&collection=law&limit=1")
    hit = page.locator(".hit").first
    up = hit.get_by_role("button", name="A good answer")
    for away, pressed in ((offline, "true"), (unreachable, "false")):
        away(page, up.click)
        expect(up).to_have_attribute("aria-pressed", pressed)
        kept = site.client.get("/v1/judgements", params={"query": "the tenant"}).json()
        assert len(kept["judgements"]) == (pressed == "true")
    hit.get_by_text("Cite", exact=True).click()
    unreachable(page, hit.get_by_role("link", name="RIS").click)
    expect(hit.locator(".copied")).to_have_text("RIS copied")
    offline(page, page.get_by_role("link", name="More →").click)
    expect(page.locator(".hit")).to_have_count(2)
    unreachable(page, page.get_by_role("link", name="More →").click)
    expect(page.locator(".hit .rank")).to_have_text(["1", "2", "3"])
    check_accessible(page)


def test_titles_order_pages_and_shelves_of_the_library(page: Page) -> None:
    page.goto("/library?collection=moths&sort=path")
    rows = page.locator(".docs tbody tr")
    field = page.get_by_role("searchbox")
    unreachable(page, lambda: field.fill("moth 0"))
    expect(rows).to_have_count(15)
    expect(field).to_have_value("moth 0")
    offline(page, lambda: page.get_by_label("Order").select_option("title-down"))
    expect(page.locator(".docs .name").first).to_have_text("Moth 50")
    field.fill("")
    expect(rows).to_have_count(50)
    offline(page, page.get_by_role("link", name="More →").click)
    expect(rows).to_have_count(10)
    unreachable(page, page.locator(".shelf", has_text="law").click)
    expect(rows).to_have_count(3)


def test_deleting_and_reading_again(page: Page, site: Site) -> None:
    page.goto("/library?collection=law")
    opener = page.get_by_role("link", name=re.compile("^Delete .*MIT"))
    offline(page, page.get_by_role("link", name="read all again").click)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Read all of law again?")
    dialog.get_by_role("link", name="Leave it").click()
    unreachable(page, opener.click)
    expect(dialog).to_contain_text("Delete this document?")
    # In a dialog it is said there, and whoever leaves it has left it.
    page.context.set_offline(True)
    dialog.get_by_role("button", name="Delete for good").click()
    expect(dialog.get_by_role("alert")).to_contain_text(OFFLINE)
    check_accessible(page)
    dialog.get_by_role("link", name="Keep it").click()
    expect(alert(page)).to_have_count(0)
    page.context.set_offline(False)
    expect(page.locator(".docs tbody tr")).to_have_count(3)
    opener.click()
    unreachable(page, dialog.get_by_role("button", name="Delete for good").click)
    expect(page.locator("#notice")).to_have_text("The document is deleted.")
    expect(page.locator(".docs tbody tr")).to_have_count(2)
    # What was typed for a collection is still there, and sent.
    page.goto("/library/collections")
    page.get_by_label("Name").fill("typed")
    unreachable(page, page.get_by_role("button", name="Make it").click)
    expect(page.locator("#into")).to_have_value("typed")


def test_judgements_and_evaluations(page: Page, site: Site) -> None:
    found = site.client.get("/v1/documents?collection=law").json()["documents"]
    good, bad = (each["document_id"] for each in found[:2])
    for query in ("first", "second", "third", "fourth", "fifth", "sixth"):
        for document_id, grade in ((good, 1), (bad, 0)):
            body = {"query": query, "document_id": document_id, "grade": grade}
            assert site.client.post("/v1/judgements", json=body).status_code == 200
    page.goto("/evaluate")
    item = page.locator(".opinions li").first
    offline(page, item.get_by_role("button", name="Take back").click)
    expect(item).to_have_class("gone")
    unreachable(page, item.get_by_role("button", name="Put back").click)
    expect(item).not_to_have_class("gone")
    assert len(site.client.get("/v1/judgements").json()["judgements"]) == 12
    page.get_by_text("Import a table").click()
    table = f"query,document_id,grade\nbrought in,{good},1\n".encode()
    page.get_by_label("CSV or TSV").set_input_files(
        {"name": "mine.csv", "mimeType": "text/csv", "buffer": table}
    )
    unreachable(page, page.get_by_role("button", name="Import").click)
    expect(page.locator("#judgements [role=status]")).to_have_text("1 judgement was kept.")
    offline(page, page.get_by_role("button", name="Evaluate law").click)
    expect(page.locator(".verdict")).to_be_visible(timeout=60_000)


def test_a_job_is_done_again_once_there_is_a_server(page: Page) -> None:
    job = {
        "job": "a" * 16, "kind": "upload", "name": "scan.pdf", "key": None, "collection": "law",
        "state": "failed", "cancelling": False, "phase": "", "phase_done": 0, "phase_total": None,
        "outcome": None, "reason": "", "detail": "The reader broke.", "next_step": "Try again.",
        "can_retry": True, "warnings": [], "document_ids": [], "document_count": 0,
        "is_unchanged": False, "created_at": "2026-11-25T14:03:42Z", "finished_at": None,
    }  # fmt: skip
    asked: list[str] = []
    with_job = "**/v1/uploads?*"
    page.route(with_job, lambda route: route.fulfill(json={"uploads": [job]}))
    page.goto("/library?collection=law")
    again = page.locator(".upload").get_by_role("button", name="Try again: scan.pdf")
    retry = re.compile(r"/v1/jobs/a+/retry")

    def taken(route: Any) -> None:
        asked.append(route.request.method)
        job.update(state="queued", can_retry=False)
        route.fulfill(json={})

    page.route(retry, taken)
    unreachable(page, again.click)
    expect(page.locator(".upload")).to_contain_text("waits for its turn")
    assert asked == ["POST"]


def test_links_lead_nowhere_while_nobody_answers(page: Page, site: Site) -> None:
    """Whoever follows one stays, is told, and is led on as soon as there is somebody."""
    document = site.client.get("/v1/documents?collection=law").json()["documents"][0]
    for start, link, led in (
        ("/?q=rent&collection=law", page.locator(".hit h3 a").first, "/documents/"),
        (f"/documents/{document['document_id']}?q=rent", page.locator("a.back"), "/[?]q=rent"),
        ("/evaluate", page.get_by_role("link", name="Library"), "/library"),
        ("/api", page.get_by_role("link", name="Evaluate"), "/evaluate"),
    ):
        page.goto(start)
        offline(page, link.click)
        expect(page).to_have_url(re.compile(led))
        # A pointer goes down some time before the click.
        page.goto(start)

        def pressed(link: Locator = link) -> None:
            link.hover()
            with page.expect_event("requestfailed"):
                page.mouse.down()
            page.mouse.up()

        unreachable(page, pressed)
        expect(page).to_have_url(re.compile(led))
    # By keys: asked when the link gets the focus.
    page.goto("/library?collection=law")
    opened = page.locator(".docs .name").first

    def followed() -> None:
        with page.expect_event("requestfailed"):
            opened.focus()
        page.keyboard.press("Enter")

    unreachable(page, followed)
    expect(page.locator("article")).to_be_visible()


def test_nobody_waits_for_links_where_somebody_answers(page: Page) -> None:
    page.goto("/")
    page.route("**/healthz", lambda route: None)  # never answered
    page.get_by_role("link", name="Library").click()
    expect(page).to_have_url(re.compile("/library$"))
