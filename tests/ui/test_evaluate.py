"""The evaluation page in a real browser: judged, asked, drawn, query by query, and taken back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from tests.api.conftest import TEXTS
from tests.ui.site import Site, check_accessible, watched

QUERIES = {
    "who pays the rent?": ("lease.txt", "mit.txt"),
    "sublet with consent of the landlord": ("commercial.txt", "case.txt"),
    "motion to dismiss": ("case.txt", "mit.txt"),
    "permission free of charge": ("mit.txt", "apache.md"),
    "security deposit": ("lease.txt", "commercial.txt"),
    "patent litigation": ("apache.md", "lease.txt"),
    # Judged the wrong way round, so that some stage loses.
    "من يدفع tenant rent": ("mit.txt", "lease.txt"),
}


@pytest.fixture(scope="module")
def own_site(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Site, dict[str, str]]]:
    """A server whose judgements are this file's alone, and its documents' ids."""
    home = tmp_path_factory.mktemp("judged") / "home"
    with Site(home, LONGLEAF_CHUNKER__TARGET_TOKENS="48") as site:
        site.collection("law")
        names = {name for pair in QUERIES.values() for name in pair}
        told = {name: site.upload("law", name, TEXTS[name].encode()) for name in sorted(names)}
        yield site, {name: each["document_ids"][0] for name, each in told.items()}


@pytest.fixture
def page(browser: Browser, own_site: tuple[Site, dict[str, str]]) -> Iterator[Page]:
    """A German reader's page of this file's server."""
    with watched(browser, own_site[0], locale="de-DE") as opened:
        yield opened


def judge(site: Site, query: str, document_id: str, grade: int) -> None:
    body = {"query": query, "document_id": document_id, "grade": grade}
    assert site.client.post("/v1/judgements", json=body).status_code == 200


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_from_nothing_judged_to_a_verdict_query_by_query(
    page: Page, own_site: tuple[Site, dict[str, str]]
) -> None:
    site, documents = own_site
    page.goto("/evaluate")
    expect(page.get_by_role("heading", name="Nothing has been judged yet")).to_be_visible()
    check_accessible(page)

    # Too little: it says so, and leads to the query that lacks a judgement.
    judge(site, "who pays the rent?", documents["lease.txt"], 1)
    page.reload()
    expect(page.locator(".missing")).to_contain_text("A verdict needs 6 such queries")
    page.get_by_text("lacks one more judgement").click()
    lacking = page.locator(".judged li").filter(has_text="needs a worse answer")
    expect(lacking.get_by_role("link")).to_have_attribute(
        "href", "/?q=who+pays+the+rent%3F&collection=law"
    )
    page.get_by_role("button", name="Evaluate law").click()
    expect(page.get_by_role("alert")).to_contain_text("tells stages apart")

    for query, (good, bad) in QUERIES.items():
        judge(site, query, documents[good], 1)
        judge(site, query, documents[bad], 0)
    page.goto("/evaluate")
    expect(page.locator(".missing")).to_contain_text("large difference only")
    page.get_by_role("button", name="Evaluate law").click()
    expect(page).to_have_url(re.compile(r"evaluation=[0-9a-f]{32}"))
    # It comes by itself, is told, and says what is not known.
    expect(page.locator(".verdict")).to_contain_text("Whether reranking is worth it")
    expect(page.locator("#told")).to_have_text("What was found")
    check_accessible(page)

    # The chart's numbers are text, and the table's, as the reader writes them.
    evaluation = page.url.partition("evaluation=")[2].partition("#")[0]
    found = site.client.get(f"/v1/evaluations/{evaluation}").json()["result"]
    stages = {each["stage"]: each["measures"]["ndcg@10"]["mean"] for each in found["stages"]}
    shown = [f"{mean:.3f}".replace(".", ",") for mean in stages.values()]
    chart = page.get_by_role("img", name="nDCG@10 by stage")
    expect(chart.locator(".value")).to_have_text(shown)
    cells = page.get_by_role("region", name="Stages").locator("tbody tr")
    expect(cells).to_have_count(4)
    for row, value in zip(cells.all(), shown, strict=True):
        expect(row.locator("td").first).to_contain_text(value)
    widths = chart.locator(".bar").evaluate_all("all => all.map(each => each.getBBox().width)")
    full = chart.locator(".track").first.evaluate("each => each.getBBox().width")
    for width, mean in zip(widths, stages.values(), strict=True):
        assert abs(width / full - mean) < 0.01
    page.get_by_role("link", name="MRR@10", exact=True).click()
    expect(page.get_by_role("img", name="MRR@10 by stage")).to_be_visible()

    # Every query is among won, lost or the same, for each stage it is compared with.
    for over in ("fused", "bm25"):
        page.get_by_role("navigation", name="Against").get_by_role("link", name=over).click()
        expect(
            page.get_by_role("navigation", name="Against").locator("[aria-current]")
        ).to_have_text(over)
        gaps = [each["ndcg"]["final"] - each["ndcg"][over] for each in found["by_query"]]
        counts = [sum(g < 0 for g in gaps), sum(g > 0 for g in gaps), sum(g == 0 for g in gaps)]
        which = page.get_by_role("navigation", name="Which queries")
        expect(which.locator("span")).to_have_text([str(each) for each in counts])
        for place, count in enumerate(counts):
            which.get_by_role("link").nth(place).click()
            expect(which.get_by_role("link").nth(place)).to_have_attribute("aria-current", "true")
            expect(page.locator(".queries li")).to_have_count(count)
    page.keyboard.press("j")
    query = page.locator(".queries li > a").first
    expect(query).to_be_focused()
    expect(query).to_have_attribute("dir", "auto")
    text = query.inner_text()
    page.set_viewport_size({"width": 390, "height": 800})
    assert fits(page)
    page.emulate_media(color_scheme="dark")
    check_accessible(page)
    page.keyboard.press("Enter")
    expect(page.locator("#q")).to_have_value(text)


def test_progress_cancel_and_a_server_that_is_away(
    page: Page, own_site: tuple[Site, dict[str, str]]
) -> None:
    """How a run looks, which is over too soon here to be looked at: the API's answer is held."""
    site, documents = own_site
    for query, (good, bad) in QUERIES.items():
        judge(site, query, documents[good], 1)
        judge(site, query, documents[bad], 0)
    answers: list[dict[str, object] | None] = []
    begun = site.client.post("/v1/evaluations", json={"collection": "law"}).json()

    def api(route: Route) -> None:
        now = answers[0] if len(answers) == 1 else answers.pop(0)
        if now is None:
            route.fulfill(status=503, json={})
        else:
            route.fulfill(json={**begun, **now})

    while site.client.get(begun["url"]).json()["state"] == "running":
        pass
    page.route(f"**{begun['url']}", api)

    def as_running(route: Route) -> None:
        body = route.fetch().text()
        start, end = body.index('<section id="result"'), body.index('<section id="queries"')
        hold = (
            f'<section id="result" data-running="{begun["url"]}"><h2>Under way</h2>'
            '<div class="running"><progress max="7" value="0" aria-label="Queries asked">'
            '</progress><p><span id="done">0</span> of 7</p><p class="hint" id="hint">Usual</p>'
            "</div></section>"
        )
        page.unroute("**/evaluate?*")
        route.fulfill(body=body[:start] + hold + body[end:], content_type="text/html")

    answers[:] = [{"queries_done": 3}]
    page.route("**/evaluate?*", as_running)
    page.goto(f"/evaluate?evaluation={begun['id']}")
    expect(page.locator("#done")).to_have_text("3")
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "3")
    answers[:] = [None]
    expect(page.locator("#hint")).to_contain_text("does not answer", timeout=30_000)
    answers[:] = [{"queries_done": 5}]
    expect(page.locator("#hint")).to_have_text("Usual", timeout=30_000)
    expect(page.locator("#done")).to_have_text("5")
    answers[:] = [{"state": "done"}]
    expect(page.locator(".verdict")).to_be_visible(timeout=30_000)
    expect(page.locator("#result-title")).to_be_focused()


def test_a_long_evaluation_is_cancelled(page: Page, own_site: tuple[Site, dict[str, str]]) -> None:
    site, _ = own_site
    site.collection("many")
    first, second = (
        site.upload("many", f"{name}.txt", f"The {name} keeps its own hours.".encode())
        for name in ("mill", "inn")
    )
    rows = [
        f"which hours of house {number},{each['document_ids'][0]},{grade}"
        for number in range(3000)
        for each, grade in ((first, 1), (second, 0))
    ]
    page.goto("/evaluate")
    page.get_by_text("Import a table").click()
    table = "\n".join(["query,document_id,grade", *rows]).encode()
    page.get_by_label("CSV or TSV").set_input_files(
        {"name": "many.csv", "mimeType": "text/csv", "buffer": table}
    )
    page.get_by_role("button", name="Import").click()
    expect(page.locator("#judgements [role=status]")).to_have_text("6.000 judgements were kept.")
    page.get_by_role("button", name="Evaluate many").click()
    expect(page.locator("#result-title")).to_have_text("Under way")
    check_accessible(page)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#result-title")).to_have_text("Cancelled", timeout=30_000)
    said = page.locator("#result")
    expect(said).to_contain_text(re.compile(r"stopped after [\d.]+ of 3\.000 queries; nothing"))
    check_accessible(page)
    evaluation = page.url.partition("evaluation=")[2].partition("#")[0]
    told = site.client.get(f"/v1/evaluations/{evaluation}").json()
    assert told["state"] == "cancelled" and told["queries_done"] < 3000
    site.client.delete("/v1/collections/many")


def test_judgements_are_taken_back_put_back_and_exchanged(
    page: Page, own_site: tuple[Site, dict[str, str]]
) -> None:
    site, documents = own_site
    judge(site, "another", documents["lease.txt"], 1)
    judge(site, "<b>to be taken back</b>", documents["lease.txt"], 3)

    def kept() -> list[int]:
        asked = {"query": "<b>to be taken back</b>"}
        found = site.client.get("/v1/judgements", params=asked).json()["judgements"]
        return [each["grade"] for each in found]

    page.goto("/evaluate")
    count = page.locator(".figures span[data-number]").first
    before = int(count.inner_text())
    item = page.locator(".opinions li").filter(has_text="<b>to be taken back</b>")
    expect(item).to_contain_text("grade 3, relevant")
    item.get_by_role("button", name="Take back").click()
    back = item.get_by_role("button", name="Put back")
    expect(back).to_be_focused()
    expect(count).to_have_text(str(before - 1))
    assert kept() == []
    check_accessible(page)
    page.keyboard.press("Enter")
    expect(item.get_by_role("button", name="Take back")).to_be_focused()
    expect(count).to_have_text(str(before))
    assert kept() == [3]

    with page.expect_download() as download:
        page.get_by_role("link", name="Export as a table").click()
    table = download.value.path().read_bytes()
    assert b"to be taken back" in table
    page.get_by_text("Import a table").click()
    row = ("brought in", documents["mit.txt"], "1")
    table = "query,document_id,grade\n{},{},{}\n".format(*row).encode()
    page.get_by_label("CSV or TSV").set_input_files(
        {"name": "mine.csv", "mimeType": "text/csv", "buffer": table}
    )
    page.get_by_role("button", name="Import").click()
    expect(page.locator("#judgements [role=status]")).to_have_text("1 judgement was kept.")
    expect(page.locator(".opinions li").filter(has_text="brought in")).to_have_count(1)


def test_it_works_without_script(browser: Browser, own_site: tuple[Site, dict[str, str]]) -> None:
    site, documents = own_site
    for query, (good, bad) in QUERIES.items():
        judge(site, query, documents[good], 1)
        judge(site, query, documents[bad], 0)
    context = browser.new_context(base_url=site.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/evaluate")
    page.get_by_role("button", name="Evaluate law").click()
    while page.locator(".verdict").count() == 0:
        page.get_by_role("link", name="Look again").or_(page.locator(".verdict")).first.click()
    expect(page.get_by_role("img", name="nDCG@10 by stage").locator("text.name")).to_have_count(4)
    judge(site, "plain", documents["lease.txt"], 0)
    page.goto("/evaluate")
    item = page.locator(".opinions li").filter(has_text="plain")
    item.get_by_role("button").click()
    expect(page).to_have_url(re.compile("#judgements"))
    expect(page.locator(".opinions li").filter(has_text="plain")).to_have_count(0)
    page.goto("/evaluate?evaluation=gone")
    expect(page.get_by_role("alert")).to_contain_text("forgets evaluations")
    context.close()


def test_the_page_says_what_the_api_says(own_site: tuple[Site, dict[str, str]]) -> None:
    site, documents = own_site
    judge(site, "said", documents["lease.txt"], 1)
    [law] = site.client.get("/v1/judgements/standing").json()["collections"]
    page = site.client.get("/evaluate").text
    assert json.dumps(law["missing"])[1:-1] in page or not law["missing"]
    assert f'data-number="{law["judgements"]}"' in page
