"""The library in a real browser: documents looked for, deleted and read again; health."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.ui.site import Site, check_accessible

TITLES = ("Ärztegesetz", "Arbeitsrecht", "Zivilrecht", "قانون العمل", "租赁合同", "<b>Bold</b> law")


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server whose documents may come and go."""
    with Site(tmp_path_factory.mktemp("library") / "home") as opened:
        for name in ("law", "moths"):
            opened.collection(name)
        for number, title in enumerate(TITLES):
            text = f"Text number {number}. The tenant pays the rent on the first day."
            opened.upload("law", f"{number}.txt", text.encode(), title=title, year=2020 + number)
        lines = [
            json.dumps({"_id": f"moth/{number:02}", "title": f"Moth {number:02}", "text": "Flies."})
            for number in range(60)
        ]
        opened.upload("moths", "moths.jsonl", "\n".join(lines).encode())
        yield opened


def titles(page: Page) -> list[str]:
    return page.locator(".docs .name").all_inner_texts()


def test_titles_are_found_while_typing_and_sorted(page: Page) -> None:
    page.goto("/")
    page.get_by_role("navigation", name="Site").get_by_role("link", name="Library").click()
    expect(page.locator(".docs tbody tr")).to_have_count(len(TITLES))
    check_accessible(page)
    page.keyboard.press("/")
    page.keyboard.type("recht")
    expect(page.locator(".docs tbody tr")).to_have_count(2)
    expect(page).to_have_url(re.compile("title=recht"))
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.get_by_label("Order").select_option("title")
    expect(page.locator(".docs .name").first).to_have_text("Arbeitsrecht")
    page.reload()
    assert titles(page) == ["Arbeitsrecht", "Zivilrecht"]
    page.get_by_role("searchbox").fill("")
    expect(page.locator(".docs tbody tr")).to_have_count(len(TITLES))
    # Ä stands with A, and no title is markup.
    assert titles(page)[:3] == ["<b>Bold</b> law", "Arbeitsrecht", "Ärztegesetz"]
    page.get_by_role("searchbox").fill("xyzzy")
    expect(page.get_by_text("No title in law holds")).to_be_visible()
    check_accessible(page)
    page.get_by_role("link", name="search in the texts").click()
    expect(page).to_have_url(re.compile(r"/\?q=xyzzy&collection=law"))


def test_pages_go_on_and_lead_to_documents(page: Page, site: Site) -> None:
    page.goto("/library?collection=moths&sort=path")
    expect(page.locator(".shelf").filter(has_text="moths")).to_contain_text("60")
    expect(page.locator(".docs tbody tr")).to_have_count(50)
    assert titles(page)[0] == "Moth 00"
    page.get_by_role("link", name="More →").click()
    expect(page.locator(".docs tbody tr")).to_have_count(10)
    assert titles(page)[-1] == "Moth 59"
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator(".docs .name").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Moth 51")).to_be_visible()
    page.go_back()
    with page.expect_download() as download:
        page.get_by_role("link", name="Original file of Moth 50").click()
    assert download.value.suggested_filename == "moths.jsonl"


def test_a_document_is_deleted_after_a_question(page: Page, site: Site) -> None:
    page.goto("/library?collection=law")
    expect(page.locator(".docs tbody tr")).to_have_count(len(TITLES))
    opener = page.get_by_role("link", name="Delete <b>Bold</b> law")
    opener.click()
    dialog = page.get_by_role("dialog", name="Delete this document?")
    expect(dialog).to_contain_text("<b>Bold</b> law")
    expect(dialog).to_contain_text("This cannot be undone.")
    expect(dialog.get_by_role("link", name="Keep it")).to_be_focused()
    check_accessible(page)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(opener).to_be_focused()
    opener.click()
    dialog.get_by_role("link", name="Keep it").click()
    expect(dialog).to_have_count(0)
    opener.click()
    dialog.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_role("status").filter(has_text="is deleted")).to_be_visible()
    expect(page.locator(".docs tbody tr")).to_have_count(len(TITLES) - 1)
    found = site.client.get("/v1/documents?collection=law").json()["documents"]
    assert "<b>Bold</b> law" not in {each["title"] for each in found}
    # What the server says against it is said here.
    page.get_by_role("link", name="Delete Zivilrecht").click()
    locked = {"status": 503, "body": "<main><p>The catalog is locked.</p></main>"}
    page.route("**/delete", lambda route: route.fulfill(**locked))
    dialog.get_by_role("button", name="Delete for good").click()
    expect(page.locator("#notice")).to_have_text("The catalog is locked.")
    expect(page.locator(".docs tbody tr")).to_have_count(len(TITLES) - 1)


def test_a_document_is_read_again_where_one_is(page: Page, site: Site) -> None:
    page.goto("/library?collection=law")
    page.get_by_role("button", name="Read again: Zivilrecht").click()
    expect(page.locator("#notice")).to_contain_text("is being read again")
    upload = page.locator(".upload").filter(has_text="Was there already, exactly so")
    expect(upload).to_contain_text("2.txt", timeout=60_000)
    [read] = [
        each
        for each in site.client.get("/v1/documents?collection=law").json()["documents"]
        if each["title"] == "Zivilrecht"
    ]
    assert read["revision"] == 1 and read["metadata"] == {"year": 2022}


def test_collections_are_made_and_deleted(page: Page, site: Site) -> None:
    page.goto("/library")
    page.get_by_role("link", name="New collection").click()
    page.get_by_label("Name").fill("gesetze")
    page.get_by_label("Language of its words").select_option("german")
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("heading", name="Drop your first documents here")).to_be_visible()
    expect(page.locator("#into")).to_have_value("gesetze")
    page.get_by_role("link", name="Collections", exact=True).click()
    card = page.get_by_role("region", name="gesetze")
    card.get_by_text("Settings").click()
    card.get_by_label("What counts as an answer").fill("statutes")
    check_accessible(page)
    card.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("is changed")
    said = site.client.get("/v1/collections/gesetze").json()
    assert said["instruction"] == "statutes" and said["language"] == "german"
    card.get_by_text("Settings").click()
    card.get_by_role("link", name="Delete the collection gesetze").click()
    dialog = page.get_by_role("dialog", name="Delete the collection gesetze?")
    check_accessible(page)
    dialog.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_role("status")).to_contain_text("is deleted")
    assert site.client.get("/v1/collections/gesetze").status_code == 404


def test_health_looks_again_by_itself(page: Page, site: Site) -> None:
    page.clock.install()
    page.goto("/library/health")
    tile = page.locator(".tiles div").filter(has_text="Collections").locator("dd")
    before = int(tile.inner_text())
    expect(page.locator(".findings")).to_contain_text("the embedder stores token vectors")
    check_accessible(page)
    page.evaluate("window.stayed = true")
    site.collection("seen")
    page.clock.run_for(6_000)
    expect(tile).to_have_text(str(before + 1))
    assert page.evaluate("window.stayed"), "the page was not loaded anew"
    page.route("**/library/health", lambda route: route.fulfill(status=502))
    page.clock.run_for(6_000)
    expect(page.locator("#not-reached")).to_contain_text("does not answer")
    check_accessible(page)
    page.unroute("**/library/health")
    page.clock.run_for(6_000)
    expect(page.locator("#not-reached")).to_be_hidden()
    site.client.delete("/v1/collections/seen")
