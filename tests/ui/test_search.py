"""Searching as one types: results at once, an address that says all, and what goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, Route, expect
from tests.ui.site import Site, check_accessible

# Holds the events of /results back until `release()` lets the next one through.
HOLD = """
const fetched = window.fetch;
let waiting = [];
const tell = () => (document.documentElement.dataset.held = waiting.length);
window.release = (replace) => {
  const go = waiting.shift();
  tell();
  go?.(replace);
};
window.fetch = async (url, options) => {
  const response = await fetched(url, options);
  if (!String(url).startsWith("/results") || options?.method) return response;
  const parts = (await response.text()).split("\\n\\n").filter(Boolean);
  const body = new ReadableStream({
    async pull(to) {
      if (!parts.length) return to.close();
      const replace = await new Promise((go) => {
        waiting.push(go);
        tell();
      });
      if (replace) parts.unshift(replace);
      to.enqueue(new TextEncoder().encode(parts.shift() + "\\n\\n"));
    },
  });
  return new Response(body, { status: response.status, headers: response.headers });
};
"""


@contextmanager
def opened(browser: Browser, site: Site, **options: Any) -> Iterator[Page]:
    """A page whose console is not watched: for troubles that a browser reports by itself."""
    context = browser.new_context(base_url=site.url, **options)
    yield context.new_page()
    context.close()


def titles(page: Page) -> list[str]:
    return page.locator(".hit h3 a").all_inner_texts()


def test_results_come_while_typing_and_the_address_says_all(page: Page, site: Site) -> None:
    page.goto("/")
    page.evaluate("window.stays = true")
    query = page.locator("#q")
    expect(query).to_be_focused()
    query.press_sequentially("tenant ren")
    expect(page.locator(".hit").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"/\?q=tenant\+ren$"))
    query.press_sequentially("t")
    expect(page).to_have_url(re.compile(r"/\?q=tenant\+rent$"))
    expect(page).to_have_title("tenant rent · Longleaf")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
    wanted = site.client.get("/v1/search", params={"q": "tenant rent", "collapse": True}).json()
    assert titles(page) == [hit["title"] for hit in wanted["hits"]]
    expect(query).to_be_focused()
    expect(page.locator("#status")).to_have_text("8 documents")
    check_accessible(page)
    # Sent on, it is the same page; typing made one entry of the history.
    shown = titles(page)
    query.press("Enter")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
    page.get_by_role("link", name=re.compile("^science")).click()
    expect(page).to_have_url(re.compile("collection=science"))
    expect(page.locator(".hit")).to_have_count(2)
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
    page.go_back()
    expect(page.locator(".hit")).to_have_count(8)
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
    assert titles(page) == shown
    page.go_back()
    expect(page.locator(".stock")).to_be_visible()
    expect(query).to_have_value("")
    page.go_forward()
    expect(query).to_have_value("tenant rent")
    expect(page.locator(".hit")).to_have_count(8)
    assert page.evaluate("window.stays"), "the page was loaded anew"
    page.reload()
    assert titles(page) == shown
    # Nothing asked is the page that one began with.
    query.fill("")
    expect(page.locator(".stock")).to_be_visible()


def test_a_part_of_the_page_is_no_other_search(page: Page) -> None:
    page.goto("/?q=tenant+rent")
    results = page.locator("#results")
    expect(results).not_to_have_attribute("aria-busy", "true")
    results.evaluate("(element) => (element.isTheSame = true)")
    moved = """(move) => new Promise((done) => {
        addEventListener("popstate", () => setTimeout(done, 0), { once: true });
        move === "back" ? history.back() : document.querySelector("a[href='#main']").click();
    })"""
    for move in ("part", "back"):
        page.evaluate(moved, move)
        expect(results).not_to_have_attribute("aria-busy", "true")
        assert results.evaluate("(element) => element.isTheSame"), move
    # Whatever lies before is gone to as ever.
    page.locator("#q").fill("patent")
    expect(page).to_have_url(re.compile("q=patent"))
    page.go_back()
    expect(page.locator("#q")).to_have_value("tenant rent")


def test_hits_stand_at_once_and_move_when_they_are_read(page: Page) -> None:
    page.add_init_script(HOLD)
    page.goto("/")
    held = page.locator("html")
    page.locator("#q").fill("patent licence")
    expect(held).to_have_attribute("data-held", "1")
    expect(page.locator("body")).to_have_class("home waiting")
    page.evaluate("release()")
    expect(page.locator(".hit")).to_have_count(8)
    expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    expect(page.locator(".progress")).to_contain_text("reading with late")
    expect(page.locator("#status")).to_contain_text("being read")
    check_accessible(page)
    first, second = (page.locator(".hit").nth(place) for place in (0, 1))
    ids = [each.get_attribute("data-document") for each in (first, second)]
    first.locator("h3 a").focus()
    hits = [{"document_id": ids[1], "rank": 1}, {"document_id": ids[0], "rank": 2}]
    order = "event: order\ndata: " + json.dumps({"hits": hits, "reranked_count": 2})
    expect(held).to_have_attribute("data-held", "1")
    page.evaluate("order => release(order)", order)
    expect(page.locator(f".hit[data-document='{ids[1]}'] .rank")).to_have_text("1")
    there = page.locator(".hit").evaluate_all("hits => hits.map((hit) => hit.dataset.document)")
    assert there.index(ids[1]) + 1 == there.index(ids[0])
    expect(page.locator(".progress")).to_have_text("2 read so far…")
    expect(page.locator(f".hit[data-document='{ids[0]}'] h3 a")).to_be_focused()
    expect(held).to_have_attribute("data-held", "1")
    while page.locator("#results[aria-busy=true]").count():
        page.evaluate("release()")
    expect(page.locator(".progress")).to_have_count(0)
    expect(page.locator(".hit .read").first).to_contain_text("read ")
    expect(page.locator(f".hit[data-document='{ids[0]}'] h3 a")).to_be_focused()


def test_a_request_that_nobody_waits_for_is_ended(page: Page) -> None:
    ended: list[str] = []
    page.on("requestfailed", lambda request: ended.append(request.url))
    held: list[Route] = []
    page.route("**/results?q=tenant", lambda route: held.append(route))
    page.goto("/")
    page.locator("#q").fill("tenant")
    expect(page.locator("#status")).to_have_text("Still searching…", timeout=20_000)
    page.locator("#q").fill("vaccine")
    expect(page.locator(".hit h3 a").first).to_have_text("Vaccination trial")
    # Chromium may call a stream that was read to its end ended as well, and so are suggestions.
    searches = [url.partition("?")[2] for url in ended if "/results?" in url]
    assert searches in (["q=tenant"], ["q=tenant", "q=vaccine"]) and len(held) == 1


def test_what_goes_wrong_says_what_to_do(browser: Browser, site: Site) -> None:
    with opened(browser, site) as page:
        refusals = iter([2])

        def refuse(route: Route) -> None:
            if next(refusals, None) is None:
                route.continue_()
                return
            problem = {"title": "More waits than can be done soon", "status": 429,
                       "detail": "256 searches wait already.", "hint": ""}  # fmt: skip
            route.fulfill(status=429, json=problem, headers={"retry-after": "2"})

        page.route("**/results?*", refuse)
        page.goto("/")
        page.locator("#q").fill("tenant")
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("256 searches wait already.")
        expect(alert).to_contain_text("tries again in 1 second.")
        check_accessible(page)
        expect(page.locator(".hit")).to_have_count(8)
        expect(alert).to_have_count(0)
        # Without a connection what was shown stays, and comes anew with it.
        page.context.set_offline(True)
        page.locator("#q").fill("vaccine")
        expect(alert).to_contain_text("There is no connection")
        expect(page.locator(".hit")).to_have_count(8)
        page.context.set_offline(False)
        expect(page.locator(".hit h3 a").first).to_have_text("Vaccination trial")
        expect(alert).to_have_count(0)
        # What the server refuses is said in its words; the address is right for the way back.
        page.goto("/?q=x")
        page.evaluate(
            "history.pushState(null, '', '/?q=x&filter={'); dispatchEvent(new Event('popstate'))"
        )
        expect(alert).to_contain_text("not JSON")
        page.go_back()
        expect(alert).to_have_count(0)


def test_suggestions_are_titles_and_ones_own_past(page: Page) -> None:
    page.goto("/")
    query = page.get_by_role("combobox", name="Search for")
    query.press_sequentially("res")
    options = page.get_by_role("listbox", name="Suggestions").get_by_role("option")
    expect(options).to_have_count(1)
    expect(options).to_contain_text("Residential lease")
    expect(query).to_have_attribute("aria-expanded", "true")
    check_accessible(page)
    query.press("Escape")
    expect(options).to_have_count(0)
    expect(query).to_be_focused()
    query.fill("rent of the tenant")
    query.press("Enter")
    expect(page.locator(".hit").first).to_be_visible()
    query.fill("rent")
    expect(options.first).to_contain_text("rent of the tenant")
    query.press("ArrowDown")
    expect(options.first).to_have_attribute("aria-selected", "true")
    query.press("Enter")
    expect(query).to_have_value("rent of the tenant")
    expect(page).to_have_url(re.compile("rent.of.the.tenant"))
    query.fill("rent")
    page.get_by_role("button", name="Forget past searches").click()
    assert page.evaluate("localStorage.length") == 0
    query.fill("commer")
    expect(options).to_have_count(1)
    query.press("ArrowDown")
    expect(options.first).to_have_attribute("aria-selected", "true")
    query.press("Enter")
    expect(page).to_have_url(re.compile("/documents/"))


def test_everything_is_there_without_script(browser: Browser, site: Site) -> None:
    with opened(browser, site, java_script_enabled=False) as page:
        page.goto("/")
        page.locator("#q").fill("the tenant")
        page.get_by_role("button", name="Search").click()
        expect(page.locator(".hit")).to_have_count(8)
        page.get_by_role("link", name=re.compile("^science")).click()
        expect(page.locator(".hit")).to_have_count(2)
        page.get_by_role("link", name="Newest first").click()
        expect(page).to_have_url(re.compile("sort=date"))
        page.goto("/?q=the+tenant&limit=3")
        page.get_by_role("link", name="More →").click()
        expect(page.locator(".hit .rank").first).to_have_text("4")
        page.get_by_text("Cite", exact=True).first.click()
        page.get_by_role("link", name="Plain text").first.click()
        expect(page).to_have_url(re.compile(r"/citation\?start=\d+&end=\d+&format=plain$"))


def test_it_fits_a_phone_and_the_dark(browser: Browser, site: Site) -> None:
    options = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}
    with opened(browser, site, **options) as page:
        for address in ("/", "/?q=tenant+rent", "/?q=%22xyzzy+plugh%22", "/?q=x&filter=%7B"):
            page.goto(address)
            page.evaluate("document.querySelectorAll('details').forEach((e) => e.open = true)")
            wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            assert page.evaluate(wide), address
            check_accessible(page)
        page.goto("/?q=tenant+rent")
        page.get_by_role("link", name="Narrow down").click()
        expect(page.get_by_role("heading", name="Narrow down")).to_be_in_viewport()


def test_nothing_jumps_while_results_come(browser: Browser, site: Site) -> None:
    """Layout shifts as the browser counts them; moves of hits are transforms, which are none."""
    with opened(browser, site) as page:
        page.add_init_script(
            "window.shifts = []; new PerformanceObserver((list) => list.getEntries().forEach("
            "(each) => window.shifts.push([each.value, each.sources.map((one) =>"
            " one.node?.parentElement?.className ?? '')]))"
            ").observe({type: 'layout-shift', buffered: true})"
        )
        page.goto("/?q=tenant+rent")
        expect(page.locator(".took")).to_contain_text(" ms")
        page.get_by_role("link", name=re.compile("^2021")).click()
        expect(page.locator(".hit")).to_have_count(1)
        page.go_back()
        expect(page.locator(".hit")).to_have_count(8)
        shifts = page.evaluate("window.shifts")
        # 0.1 is where the browser's makers begin to call a page unsteady.
        assert sum(value for value, _ in shifts) < 0.1, shifts
        # One that is made is counted.
        page.evaluate(
            "document.querySelector('main').prepend(Object.assign(document.createElement('pre'),"
            " {textContent: '\\n'.repeat(20)}))"
        )
        # As a function: an expression is evaluated at each look, which our pages forbid.
        page.wait_for_function("(before) => window.shifts.length > before", arg=len(shifts))
