"""Numbers, sizes and dates in the reader's language, on any page; plain ones without script."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Browser, Page, Route, expect
from tests.ui.site import Site

from longleaf.api.http.html import render
from longleaf.api.http.status import FindingView, StatusView

# What every page may hold, put on one of ours: number, sizes, and dates as exact as they are.
SHOWN = """
async () => {
  const rows = [
    ["data", "", "1234567"], ["data", "size", "999"], ["data", "size", "1536000"],
    ["data", "size", "250000000"], ["data", "", "not a number"],
    ["time", "", "2026-03-01"], ["time", "", "2026-03"], ["time", "", "2026"],
    ["time", "", "spring"], ["time", "", "2026-03-01T12:00:00+00:00"],
  ];
  const place = document.createElement("p");
  for (const [name, kind, value] of rows) {
    const each = document.createElement(name);
    each.className = kind;
    each.textContent = value;
    each.setAttribute(name === "data" ? "value" : "datetime", value);
    place.append(each);
  }
  const address = document.querySelector("script[src*=localise]").src;
  (await import(address)).localise(place);
  return [...place.children].map((each) => each.textContent.replaceAll("\\u00a0", " "));
}
"""


def opened(browser: Browser, site: Site, locale: str, **more: Any) -> Page:
    context = browser.new_context(
        base_url=site.url, locale=locale, timezone_id="Europe/Berlin", **more
    )
    return context.new_page()


def test_english_and_german_readers_see_their_own(browser: Browser, site: Site) -> None:
    page = opened(browser, site, "en-GB")
    page.goto("/library")
    assert page.evaluate(SHOWN) == [
        "1,234,567", "999 bytes", "1.5 MB", "250 MB", "not a number",
        "1 Mar 2026", "March 2026", "2026", "spring", "1 Mar 2026",
    ]  # fmt: skip
    page.context.close()
    page = opened(browser, site, "de-DE")
    page.goto("/library")
    assert page.evaluate(SHOWN) == [
        "1.234.567", "999 Byte", "1,5 MB", "250 MB", "not a number",
        "01.03.2026", "März 2026", "2026", "spring", "01.03.2026",
    ]  # fmt: skip
    # Rows that come in later are said so as well.
    page.get_by_role("searchbox").fill("lease")
    expect(page.locator(".docs tbody tr")).to_have_count(2)
    changed = page.locator(".docs td time").last
    assert changed.inner_text() == page.evaluate(
        "new Intl.DateTimeFormat('de-DE', {dateStyle: 'medium'})"
        f".format(new Date('{changed.get_attribute('datetime')}'))"
    )
    page.context.close()


def test_other_pages_say_their_numbers_so_too(browser: Browser, site: Site) -> None:
    page = opened(browser, site, "de-DE")
    page.goto("/")
    stock = page.locator(".stock data").first
    assert stock.get_attribute("value") == stock.inner_text() == "8"
    page.context.close()


def test_without_script_values_are_plain(browser: Browser, site: Site) -> None:
    page = opened(browser, site, "de-DE", java_script_enabled=False)
    page.goto("/library")
    day = page.locator(".docs td time").last
    assert (day.get_attribute("datetime") or "").startswith(day.inner_text())
    size = page.locator(".docs data.size").last
    assert f"{size.get_attribute('value')} bytes" == size.inner_text()
    page.context.close()


def figures(page: Page, selector: str) -> list[str]:
    """What is written there, shown or folded, with plain spaces."""
    return [each.replace("\xa0", " ") for each in page.locator(selector).all_text_contents()]


def test_scores_times_and_shares_are_written_as_readers_do(browser: Browser, site: Site) -> None:
    clauses = [f"{n}. The lodger of attic {n} pays the rent of room {n} within {n} days."
               for n in range(2, 22)]  # fmt: skip
    text = "\n\n".join(["The lodger's lease", *clauses])
    made = [site.upload("law", name, said.encode())["document_ids"][0]
            for name, said in (("attic.txt", text), ("copy.txt", text + " Signed."))]  # fmt: skip
    page = opened(browser, site, "de-DE")
    page.goto("/?q=rent+of+the+attic+lodger&collection=law")
    hit = page.locator(".hit").first
    hit.get_by_text("Why this rank").click()
    best = site.client.get(
        "/v1/search",
        params={"q": "rent of the attic lodger", "collection": "law", "collapse": True},
    ).json()["hits"][0]
    scores = best["passages"][0]["scores"]
    wanted = [scores["dense"], scores["bm25"], best["first_stage"]["score"],
              best["reading"]["score"], best["score"]]  # fmt: skip
    trace = figures(page, ".hit:first-child .trace td:nth-child(3)")
    assert trace == [f"{each:.3f}".replace(".", ",") for each in wanted]
    [alike] = [round(each["similarity"] * 100) for each in best["versions"]]
    assert f"{alike} % alike" in figures(page, ".hit:first-child .versions small")[0]
    # Nothing that the page says of a search has a decimal point.
    said = figures(page, ".took, .timings, .why")
    assert len(said) > 2 and any(re.search(r"\d,\d", each) for each in said)
    assert not [each for each in said if re.search(r"\d\.\d(?!\d\d\b)", each)]
    assert re.search(r" \d{1,3}(\.\d{3})* ms", said[0])
    page.context.close()
    plainly = opened(browser, site, "de-DE", java_script_enabled=False)
    plainly.goto("/?q=rent+of+the+attic+lodger&collection=law")
    assert f"{scores['dense']:.3f}" in plainly.locator(".trace").first.text_content()
    plainly.context.close()
    for each in made:
        site.client.delete(f"/v1/documents/{each}")
    site.wait_until_followed()


def test_health_writes_its_sentences_figures_so(browser: Browser, site: Site) -> None:
    """Figures only: no version, port, path or command is one."""
    said = {
        "The index is 12,345 changes behind.": "The index is 12.345 changes behind.",
        "16 cores, 31.2 GiB of memory": "16 cores, 31,2 GiB of memory",
        (odd := "qdrant 0.9.1 at 10.0.0.1:6333, <b>/a/1,234.pdf"): odd,
    }
    status = StatusView(
        status="WARN", ready=True, collections=1, documents=1, passages=1_234, seen_seq=1,
        head_seq=1, lag=0, free_bytes=1, total_bytes=2, jobs={"queued": 0, "running": 0}, files={},
        findings=[FindingView(subject="s", status="OK", fact=fact, remedy="ulimit -n 65535")
                  for fact in said],
    )  # fmt: skip
    page = opened(browser, site, "de-DE")
    health = render("library_health.html", room="health", status=status)
    page.route(
        "**/library/health", lambda route: route.fulfill(body=health, content_type="text/html")
    )
    page.goto("/library/health")
    expect(page.locator(".tiles dd").nth(1)).to_have_text("1.234")
    facts = page.locator(".findings td:last-child")
    expect(facts).to_have_text([f"{each}ulimit -n 65535" for each in said.values()])
    page.context.close()


def test_pages_that_come_while_one_scrolls_are_numbered_so_too(
    browser: Browser, site: Site
) -> None:
    """A part of a document that is fetched later."""
    page = opened(browser, site, "de-DE")
    text = "".join(f"Line {n} of many lines that fill a part.\n\n" for n in range(1500))
    (document_id,) = site.upload("law", "long.txt", text.encode())["document_ids"]

    def numbered(route: Route) -> None:
        answer = route.fetch()
        mark = '<p class="page-break"><span>Page <data value="1200">1200</data></span></p>'
        body = answer.text().replace("</div>", f"</div>{mark}", 1)
        route.fulfill(response=answer, body=body)

    page.route("**/documents/*/text?*", numbered)
    page.goto(f"/documents/{document_id}")
    page.evaluate("document.querySelector('.below').scrollIntoView({behavior: 'instant'})")
    expect(page.locator(".page-break data").first).to_have_text("1.200")
    page.context.close()
    site.client.delete(f"/v1/documents/{document_id}")
    site.wait_until_followed()
