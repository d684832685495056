"""Numbers, sizes and dates in the reader's language, on any page; plain ones without script."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Browser, Page, expect
from tests.ui.site import Site

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
