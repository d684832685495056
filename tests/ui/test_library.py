"""The library in a real browser: documents looked for, deleted and read again; health."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from tests.ui.site import Site, check_accessible, watched

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


def filled(site: Site, name: str) -> None:
    """A collection of two files with a document each, and one file with two."""
    site.collection(name)
    for number in range(2):
        site.upload(name, f"{number}.txt", f"Beetle number {number} of {name}.".encode())
    rows = "\n".join(
        json.dumps({"_id": f"{each}", "text": f"Row {each} of {name}."}) for each in "ab"
    )
    site.upload(name, "rows.jsonl", rows.encode())


def test_all_of_a_collection_is_read_again(page: Page, site: Site) -> None:
    filled(site, "anew")
    page.goto("/library?collection=anew")
    page.get_by_role("link", name="read all again").click()
    dialog = page.get_by_role("dialog", name="Read all of anew again?")
    expect(dialog).to_contain_text("each of its 4 documents is read anew")
    expect(dialog.get_by_role("link", name="Leave it")).to_be_focused()
    check_accessible(page)
    dialog.get_by_role("link", name="Leave it").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert not site.client.get("/v1/uploads?kind=collection").json()["uploads"]
    page.get_by_role("link", name="read all again").click()
    dialog.get_by_role("button", name="Read all again").click()
    line = page.locator(".upload").filter(has_text="anew: all of it, read again")
    expect(line).to_contain_text("Done: 2 indexed, 1 left as they were", timeout=60_000)
    # It is found again after a reload, and says what was left and why.
    page.reload()
    expect(line).to_contain_text("Done: 2 indexed, 1 left as they were")
    line.get_by_text("1 did not go in or was left as it is").click()
    expect(line.get_by_role("listitem")).to_contain_text("Its file holds 2 documents")
    check_accessible(page)
    line.get_by_role("link", name="All files of anew").click()
    expect(page.get_by_role("row")).to_have_count(4)
    check_accessible(page)


def test_it_is_stopped_on_the_way(page: Page, site: Site) -> None:
    job = {
        "job": "c" * 16, "kind": "collection", "name": "law", "key": None, "collection": "law",
        "state": "running", "cancelling": False, "phase": "ocr", "phase_done": 3,
        "phase_total": 12, "outcome": None, "reason": "", "detail": "", "next_step": "",
        "can_retry": False, "warnings": [], "document_ids": [], "document_count": 0,
        "is_unchanged": False, "counts": {"indexed": 12, "rejected": 1, "passages": 80},
        "total_files": 40, "left": [], "left_count": 0,
        "created_at": "2026-11-25T14:03:42Z", "finished_at": None,
    }  # fmt: skip
    page.route("**/v1/uploads?*", lambda route: route.fulfill(json={"uploads": [job]}))

    def cancel(route: Route) -> None:
        job.update(state="cancelled", finished_at=job["created_at"])
        route.fulfill(json={})

    page.route("**/v1/jobs/*/cancel", cancel)
    page.goto("/library?collection=law")
    line = page.locator(".upload").filter(has_text="law: all of it, read again")
    expect(line).to_contain_text("13 of 40 files")
    expect(line.get_by_role("progressbar")).to_have_attribute("value", "0.325")
    check_accessible(page)
    line.get_by_role("button", name="Stop").click()
    expect(line).to_contain_text("Stopped")


def test_a_folder_that_the_server_reads_shows_by_itself(
    page: Page, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "one.txt").write_text("A folder of beetles, read on the server.")
    (tmp_path / "empty.txt").write_text("")
    page.clock.install()
    page.goto("/library?collection=law")
    expect(page.locator(".docs")).to_be_visible()
    command = ["index", str(tmp_path), "--collection", "law", "--home", str(site.home)]
    subprocess.run(
        [sys.executable, "-P", "-m", "longleaf.api.cli", *command, "--background"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    line = page.locator(".upload").filter(has_text=str(tmp_path))
    end = time.monotonic() + 60
    while "1 indexed, 1 not indexed" not in (line.inner_text() if line.count() else ""):
        assert time.monotonic() < end, "the folder does not show"
        page.clock.run_for(11_000)
    line.get_by_text("1 did not go in").click()
    expect(line.get_by_role("listitem")).to_contain_text("There is nothing in it to find")
    for each in site.client.get("/v1/documents?collection=law").json()["documents"]:
        if each["key"].endswith("one.txt") and str(tmp_path) in each["key"]:
            site.client.delete(f"/v1/documents/{each['document_id']}")


def test_all_is_read_again_without_script(browser: Browser, site: Site) -> None:
    filled(site, "plainly")
    with watched(browser, site, java_script_enabled=False) as page:
        page.goto("/library?collection=plainly")
        page.get_by_role("link", name="read all again").click()
        page.get_by_role("button", name="Read all again").click()
        expect(page.get_by_role("heading", name="plainly: all of it, read again")).to_be_visible()
        end = time.monotonic() + 60
        while not page.get_by_text("It is done.").count():
            assert time.monotonic() < end, "the job does not end"
            page.reload()
        expect(page.get_by_role("status")).to_contain_text("2 indexed")
        expect(page.get_by_role("row")).to_have_count(4)


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
