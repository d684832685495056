"""Uploads in a real browser: dropped, followed, found again after a reload, and what goes wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Page, Route, expect
from tests.ui.site import Site, check_accessible, watched

LIMIT_BYTES = 300_000

PHASES = {
    ("convert", 0, None): "Converting",
    ("parse", 0, None): "Reading",
    ("parse", 4, 1200): "Reading, 4 of 1,200",
    ("ocr", 3, 1200): "Recognising text, page 3 of 1,200",
    ("embed", 7, None): "Embedding, 7 passages so far",
    ("embed", 1500, 6000): "Embedding, passage 1,500 of 6,000",
}

# A drop is made in the page: entries as a browser gives them; a folder tells of two at a time.
DROP = """
(tree) => {
  const file = (path, text) => ({
    isFile: true, fullPath: path, file: (done) => done(new File([text], path.split("/").pop())),
  });
  const folder = (path, tree) => {
    const left = Object.entries(tree).map(([name, each]) => entry(`${path}/${name}`, each));
    const readEntries = (done) => done(left.splice(0, 2));
    return { isFile: false, fullPath: path, createReader: () => ({ readEntries }) };
  };
  const entry = (path, each) => (typeof each === "string" ? file : folder)(path, each);
  const items = Object.entries(tree).map(([name, each]) => ({
    kind: "file", webkitGetAsEntry: () => entry(`/${name}`, each),
  }));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const event = new Event(kind, { bubbles: true, cancelable: true });
    event.dataTransfer = { types: ["Files"], items };
    document.body.dispatchEvent(event);
    if (kind === "dragover") window.wasMarked = document.querySelector(".dropping") !== null;
  }
}
"""


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with nothing in it yet."""
    home = tmp_path_factory.mktemp("uploads") / "home"
    with Site(home, LONGLEAF_SERVER__MAX_UPLOAD_BYTES=str(LIMIT_BYTES)) as opened:
        yield opened


def text_file(name: str, text: str) -> FilePayload:
    return {"name": name, "mimeType": "text/plain", "buffer": text.encode()}


def row(page: Page, name: str) -> Locator:
    return page.locator(".upload").filter(has_text=name)


def documents(site: Site, collection: str) -> dict[str, Any]:
    """key -> document, as the API says."""
    link = {"collection": collection, "limit": 1000}
    found = site.client.get("/v1/documents", params=link).json()["documents"]
    return {each["key"]: each for each in found}


def all_done(page: Page) -> None:
    expect(page.locator("#uploads-sum")).to_have_text(
        re.compile(r"^([1-9]\d*) of \1 done"), timeout=90_000
    )


def test_first_documents_are_dropped_and_found(page: Page, site: Site) -> None:
    page.goto("/")
    page.get_by_role("link", name="Drop your first documents here").click()
    expect(page.get_by_role("heading", name="Drop your first documents here")).to_be_visible()
    check_accessible(page)
    tree = {
        "contracts": {
            "2021": {"lease.txt": "The tenant pays the rent.", "sale.txt": "The seller delivers."},
            ".DS_Store": "hidden",
            "عقد.txt": "合同 The buyer pays.",
            "print.ps": "%!PS-Adobe-3.0",
        },
        "note.txt": "A note about the moon.",
    }
    page.evaluate(DROP, tree)
    assert page.evaluate("window.wasMarked"), "nothing says where to drop"
    all_done(page)
    expect(page.locator("#uploads-sum")).to_have_text("5 of 5 done, 1 needs you")
    first = page.locator(".upload").first
    expect(first).to_contain_text("print.ps")
    expect(first).to_contain_text("Not indexed")
    expect(first.locator(".why")).to_contain_text("Save it as PDF")
    # The path in the folder names a document; a bare name does not.
    found = documents(site, "default")
    assert set(found) >= {
        "contracts/2021/lease.txt",
        "contracts/2021/sale.txt",
        "contracts/عقد.txt",
    }
    assert len(found) == 4 and not any("DS_Store" in key for key in found)
    # The list of documents came by itself, and the place to drop has become small.
    expect(page.locator(".docs")).to_contain_text("contracts/2021/lease.txt", timeout=20_000)
    expect(page.get_by_role("heading", name="Add documents")).to_be_visible()
    check_accessible(page)
    row(page, "note.txt").get_by_role("link").click()
    expect(page.locator("article")).to_contain_text("A note about the moon.")


def test_uploads_are_found_again_and_lost_ones_named(browser: Browser, site: Site) -> None:
    context = browser.new_context(base_url=site.url, locale="en-GB")
    page = context.new_page()
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    site.client.post("/v1/collections", json={"name": "again"})
    page.goto("/library?collection=again")
    held: list[Route] = []

    def hold(route: Route) -> None:
        """Let one file through; the others' bytes stay on their way."""
        if b"kept.txt" in (route.request.post_data_buffer or b""):
            route.continue_()
        else:
            held.append(route)

    page.route("**/v1/documents?*", hold)
    page.locator("#file").set_input_files([text_file("kept.txt", "Kept on the server.")])
    all_done(page)
    lost = [text_file(f"lost-{number}.txt", "Lost") for number in range(5)]
    page.locator("#file").set_input_files(lost)
    expect(page.locator(".upload").filter(has_text="Sending")).to_have_count(3)
    expect(page.locator(".upload").filter(has_text="Waits to be sent")).to_have_count(2)
    page.reload()
    page.unroute("**/v1/documents?*")  # not before: it lets go of what is held
    assert asked == ["beforeunload"], "nobody was asked before files were lost"
    expect(page.locator(".upload").filter(has_text="Lost on the way")).to_have_count(5)
    expect(row(page, "kept.txt")).to_contain_text("Indexed")
    expect(row(page, "lost-3.txt").get_by_role("button")).to_have_text("Choose it again")
    check_accessible(page)
    with page.expect_file_chooser() as chooser:
        row(page, "lost-3.txt").get_by_role("button").click()
    chooser.value.set_files(lost[3:4])
    expect(page.locator(".upload").filter(has_text="Lost on the way")).to_have_count(4)
    expect(row(page, "lost-3.txt")).to_contain_text("Indexed", timeout=60_000)
    page.get_by_role("button", name="Clear the list").click()
    expect(page.locator("#uploads")).to_be_hidden()
    page.reload()
    expect(page.get_by_role("heading", name="Add documents")).to_be_visible()
    expect(page.locator(".upload")).to_have_count(0)
    context.close()


def test_what_cannot_be_sent_says_why_and_what_to_do(page: Page, site: Site) -> None:
    site.client.post("/v1/collections", json={"name": "trouble"})
    page.goto("/library?collection=trouble")
    page.locator("#file").set_input_files([text_file("large.txt", "x" * (LIMIT_BYTES + 1))])
    expect(row(page, "large.txt")).to_contain_text("Too large: 300 kB")
    expect(row(page, "large.txt")).to_contain_text("server.max_upload_bytes")

    # A full disk: nothing is lost, and nothing more is sent until somebody says so.
    full = {
        "status": 507,
        "json": {"detail": "There is no room left on the disk.", "hint": "Free some.", "code": "x"},
    }
    page.route("**/v1/documents?*", lambda route: route.fulfill(**full))
    page.locator("#file").set_input_files([text_file("full.txt", "Waits for room.")])
    expect(page.locator("#uploads-trouble")).to_contain_text("Free some. Then go on.")
    expect(row(page, "full.txt")).to_contain_text("Waiting")
    check_accessible(page)
    page.unroute("**/v1/documents?*")
    page.get_by_role("button", name="Go on").click()
    expect(row(page, "full.txt")).to_contain_text("Indexed", timeout=60_000)
    expect(page.locator("#uploads-trouble")).to_be_empty()

    # What the server refuses is said in its words, and the file is still at hand.
    refused = {"status": 400, "json": {"detail": "Cannot be.", "hint": "Do this.", "code": "x"}}
    page.route("**/v1/documents?*", lambda route: route.fulfill(**refused))
    page.locator("#file").set_input_files([text_file("refused.txt", "Tried twice.")])
    expect(row(page, "refused.txt").locator(".why")).to_have_text("Cannot be. Do this.")
    page.unroute("**/v1/documents?*")
    row(page, "refused.txt").get_by_role("button", name="Try again").click()
    expect(row(page, "refused.txt")).to_contain_text("Indexed", timeout=60_000)


def test_sending_goes_on_when_the_server_answers_again(browser: Browser, site: Site) -> None:
    site.client.post("/v1/collections", json={"name": "offline"})
    context = browser.new_context(base_url=site.url, locale="en-GB")
    page = context.new_page()
    page.goto("/library?collection=offline")
    context.set_offline(True)
    page.locator("#file").set_input_files([text_file("moth.txt", "Moths fly at night.")])
    expect(page.locator("#uploads-trouble")).to_contain_text("The server does not answer")
    expect(page.locator("#uploads-trouble")).to_contain_text("goes on by itself")
    expect(row(page, "moth.txt")).to_contain_text("Waiting")
    context.set_offline(False)
    expect(row(page, "moth.txt")).to_contain_text("Indexed", timeout=60_000)
    assert len(documents(site, "offline")) == 1, "sent once"
    context.close()


def test_an_upload_is_stopped_and_done_again(page: Page, site: Site) -> None:
    site.client.post("/v1/collections", json={"name": "stopped"})
    page.goto("/library?collection=stopped")
    page.route("**/v1/documents?*", lambda route: None)
    page.locator("#file").set_input_files([text_file("on-its-way.txt", "Stopped.")])
    row(page, "on-its-way.txt").get_by_role("button", name="Stop").click()
    expect(row(page, "on-its-way.txt")).to_contain_text("Stopped")
    page.unroute("**/v1/documents?*")
    row(page, "on-its-way.txt").get_by_role("button", name="Try again").click()
    expect(row(page, "on-its-way.txt")).to_contain_text("Indexed", timeout=60_000)

    # One that waits on the server: it is asked, and says how far things are.
    job = {
        "job": "f" * 16, "kind": "upload", "name": "scan.pdf", "key": None, "collection": "stopped",
        "state": "running", "cancelling": False, "phase": "ocr", "phase_done": 3,
        "phase_total": 1200, "outcome": None, "reason": "", "detail": "", "next_step": "",
        "can_retry": False, "warnings": [], "document_ids": [], "document_count": 0,
        "is_unchanged": False, "created_at": "2026-11-25T14:03:42Z", "finished_at": None,
    }  # fmt: skip
    page.route("**/v1/uploads?*", lambda route: route.fulfill(json={"uploads": [job]}))

    def cancel(route: Route) -> None:
        job.update(state="cancelled", finished_at=job["created_at"], next_step="Choose it again.")
        route.fulfill(json={})

    page.route("**/v1/jobs/*/cancel", cancel)
    page.reload()
    for (phase, done, total), words in PHASES.items():
        job.update(phase=phase, phase_done=done, phase_total=total)
        expect(row(page, "scan.pdf").locator(".how")).to_have_text(words)
        if total:
            bar = row(page, "scan.pdf").get_by_role("progressbar")
            expect(bar).to_have_attribute("value", str(done / total))
    check_accessible(page)
    row(page, "scan.pdf").get_by_role("button", name="Stop").click()
    expect(row(page, "scan.pdf")).to_contain_text("Stopped")
    expect(row(page, "scan.pdf").get_by_role("button")).to_have_text("Choose it again")


def test_what_failed_on_the_server_is_tried_again_there(page: Page, site: Site) -> None:
    """Its bytes are kept, so nobody has to choose the file once more: a real job of a real worker,
    of which the server says that it failed until it is asked to try again."""
    site.client.post("/v1/collections", json={"name": "retried"})
    page.goto("/library?collection=retried")
    page.locator("#file").set_input_files([text_file("mill.txt", "The mill stands still.")])
    expect(row(page, "mill.txt")).to_contain_text("Indexed", timeout=60_000)
    asked: list[str] = []

    def as_failed(route: Route) -> None:
        told = route.fetch().json()
        for each in told["uploads"]:
            each.update(
                state="failed", outcome="rejected", reason="the disk was full", document_ids=[],
                document_count=0, can_retry=not asked, next_step="Free some room.", warnings=[],
            )  # fmt: skip
            if asked:
                each.update(state="running", phase="embed", phase_done=0, phase_total=0)
        route.fulfill(json=told)

    def again(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(json={})

    page.route("**/v1/uploads?*", as_failed)
    page.route("**/v1/jobs/*/retry", again)
    page.reload()  # the file itself is not at hand any more
    mill = row(page, "mill.txt")
    expect(mill).to_contain_text("Failed")
    expect(mill).to_contain_text("Free some room.")
    check_accessible(page)
    mill.get_by_role("button", name="Try again: mill.txt").click()
    expect(mill.locator(".how")).to_have_text("Embedding")
    job = site.client.get("/v1/uploads", params={"collection": "retried"}).json()["uploads"][0]
    assert [each.rpartition("/v1/")[2] for each in asked] == [f"jobs/{job['job']}/retry"]


def test_u_chooses_files(page: Page, site: Site) -> None:
    page.goto("/library")
    with page.expect_file_chooser() as chooser:
        # Playwright asks for choosers without waiting for the browser; a key is faster (4 of 10).
        page.evaluate("document.readyState")
        page.keyboard.press("u")
    assert chooser.value.is_multiple()


def test_a_folder_is_chosen_and_thousands_stay_calm(page: Page, site: Site, tmp_path: Path) -> None:
    site.client.post("/v1/collections", json={"name": "folder"})
    page.add_init_script("localStorage.setItem('longleaf.cleared', '9999')")  # others' uploads
    page.goto("/library?collection=folder")
    (tmp_path / "laws" / "de").mkdir(parents=True)
    (tmp_path / "laws" / "de" / "bgb.txt").write_text("Der Mieter zahlt die Miete.")
    (tmp_path / "laws" / ".git").write_text("hidden")
    page.locator("#folder").set_input_files(tmp_path / "laws")
    all_done(page)
    assert list(documents(site, "folder")) == ["laws/de/bgb.txt"]
    page.route("**/v1/documents?*", lambda route: None)
    page.evaluate(DROP, {"many": {f"{number}.txt": "x" for number in range(3000)}})
    expect(page.locator("#uploads-sum")).to_have_text("1 of 3,001 done")
    expect(page.locator(".upload")).to_have_count(200)
    expect(page.locator("#uploads-more")).to_have_text("and 2,801 more")
    page.get_by_role("button", name="Stop all").click()
    expect(page.locator("#uploads-sum")).to_have_text("3,001 of 3,001 done")
    assert len(documents(site, "folder")) == 1


def test_one_file_is_uploaded_without_script(browser: Browser, site: Site) -> None:
    site.client.post("/v1/collections", json={"name": "plain"})
    context = browser.new_context(base_url=site.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/library?collection=plain")
    page.get_by_label("File").set_input_files([text_file("plain.txt", "No script at all.")])
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("status")).to_contain_text("It is indexed: 1 document.", timeout=60_000)
    page.get_by_role("link", name="Read it").click()
    expect(page.locator("article")).to_contain_text("No script at all.")
    assert len(documents(site, "plain")) == 1
    context.close()


def test_file_names_are_never_markup(page: Page, site: Site) -> None:
    site.client.post("/v1/collections", json={"name": "hostile"})
    page.add_init_script("localStorage.setItem('longleaf.cleared', '9999')")
    page.goto("/library?collection=hostile")
    name = "<img src=x onerror=alert(1)>.txt"
    page.evaluate(DROP, {"<b>folder": {name: "Hostile."}, name: "Hostile as well."})
    all_done(page)
    expect(page.locator(".upload").filter(has_text=f"<b>folder/{name}")).to_have_count(1)
    expect(page.locator(".docs")).to_contain_text(name, timeout=20_000)
    assert page.locator("#uploads img, #uploads b, .docs img").count() == 0


def test_watched_pages_of_a_phone(browser: Browser, site: Site) -> None:
    site.client.post("/v1/collections", json={"name": "phone"})
    site.upload("phone", "a.txt", b"Read on a phone.")
    for scheme in ("light", "dark"):
        with watched(
            browser, site, viewport={"width": 390, "height": 800}, color_scheme=scheme
        ) as page:
            for path in ("/library?collection=phone", "/library/collections", "/library/health"):
                page.goto(path)
                expect(page.get_by_role("navigation", name="Library")).to_be_visible()
                assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
                check_accessible(page)
