"""What a result tells and lets one do, in a real browser."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect
from tests.ui.site import Site, check_accessible, watched


def test_facets_sort_and_reading_are_in_the_address(page: Page) -> None:
    page.goto("/?q=tenant+rent")
    page.evaluate("window.stays = true")
    facet = page.get_by_role("region", name="Year")
    choice = facet.get_by_role("link", name=re.compile("^2021"))
    choice.click()
    expect(page).to_have_url(re.compile("filter="))
    expect(page.locator(".hit")).to_have_count(1)
    expect(page.locator(".hit h3")).to_have_text("Commercial lease")
    expect(choice).to_have_attribute("aria-current", "true")
    expect(choice).to_be_focused()
    expect(page.locator(".chip")).to_contain_text("year is one of 2021")
    expect(page.locator(".counted")).to_contain_text("where a choice is made, as if it were not")
    check_accessible(page)
    # Its other values are there, counted as before: one more, then that alone.
    years = [re.compile("^2021"), re.compile("^2019"), re.compile("^2020")]
    expect(facet.get_by_role("link")).to_have_text(years)
    facet.get_by_role("link", name=re.compile(r"^2019\b.*documents: 1$")).click()
    expect(page.locator(".hit")).to_have_count(2)
    expect(page.locator(".chip")).to_contain_text("year is one of 2021, 2019")
    choice.click()
    expect(page.locator(".hit")).to_have_count(1)
    expect(page.locator(".hit h3")).to_have_text("Residential lease")
    expect(facet.get_by_role("link", name="2019")).to_have_attribute("aria-current", "true")
    # The address has it all; back leads through what was chosen.
    page.go_back()
    expect(page.locator(".hit")).to_have_count(2)
    page.go_back()
    expect(page.locator(".hit h3")).to_have_text("Commercial lease")
    # The form keeps it: a search typed now has the filter still.
    page.locator("#q").fill("landlord")
    expect(page).to_have_url(re.compile(r"q=landlord.*filter="))
    expect(page.locator(".hit")).to_have_count(1)
    page.get_by_role("link", name="Remove the filter").click()
    expect(page.locator(".hit")).to_have_count(8)
    page.get_by_role("link", name="Newest first").click()
    expect(page.locator(".hit h3").first).to_have_text("Commercial lease")
    expect(page.locator(".hit time").nth(1)).to_have_text("2020")
    expect(page.locator(".read-as")).to_contain_text("The newest of the 8 that answer best")
    expect(page.get_by_role("link", name="Newest first")).to_have_attribute("aria-current", "true")
    page.get_by_text("How to search").click()
    page.get_by_label("Reading").select_option("document")
    expect(page).to_have_url(re.compile("depth=document.*"))
    expect(page.locator(".hit .read").first).to_have_text(re.compile(r"read (\d+) of \1 tokens"))
    expect(page.get_by_label("What counts as an answer")).to_have_count(0)
    page.get_by_label("First stage only").check()
    expect(page.locator(".took")).to_contain_text("first stage only")
    expect(page).to_have_url(re.compile("sort=date"))
    assert page.evaluate("window.stays"), "the page was loaded anew"


def test_a_hit_tells_why_it_ranks_and_how_to_cite_it(page: Page, site: Site) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/?q=who+pays+the+rent")
    hit = page.locator(".hit").first
    expect(hit.locator(".said b").first).to_be_visible()
    hit.get_by_text("Why this rank").click()
    bars = hit.locator(".trace meter")
    expect(bars).to_have_count(5)
    best = site.client.get("/v1/search", params={"q": "who pays the rent"}).json()["hits"][0]
    shown = [float(bar.get_attribute("value") or "nan") for bar in bars.all()]
    scores = best["passages"][0]["scores"]
    assert shown[0] == scores["dense"] and shown[4] == best["score"]
    check_accessible(page)
    hit.get_by_text("Cite", exact=True).click()
    hit.get_by_role("link", name="RIS").click()
    expect(hit.locator(".copied")).to_have_text("RIS copied")
    path = f"/v1/documents/{best['document_id']}/citation"
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.replace("\r", "") == site.client.get(path).json()["ris"].replace("\r", "")
    check_accessible(page)
    # Thumbs are kept, and what was opened stays open when the same list comes anew.
    up = hit.get_by_role("button", name="A good answer")
    up.click()
    expect(up).to_have_attribute("aria-pressed", "true")
    page.locator("#q").press("Enter")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
    expect(hit.locator("details.why")).to_have_attribute("open", "")
    up.click()
    expect(up).to_have_attribute("aria-pressed", "false")
    with page.expect_download() as saved:
        page.get_by_role("link", name="CSV").click()
    assert saved.value.suggested_filename == "longleaf.csv"
    hit.get_by_role("link", name="Similar documents").click()
    expect(
        page.get_by_role("heading", name=re.compile(f"documents like {best['title']}"))
    ).to_be_visible()
    expect(page.locator(".hit h3", has_text=best["title"])).to_have_count(0)
    check_accessible(page)


def test_one_goes_from_value_to_value_without_script(browser: Browser, site: Site) -> None:
    with watched(browser, site, java_script_enabled=False) as page:
        page.goto("/?q=tenant+court+adults")
        shown = page.get_by_role("region", name="Collection")
        shown.get_by_role("link", name=re.compile(r"^science\b.*documents: 2$")).click()
        expect(page.locator(".hit")).to_have_count(2)
        shown.get_by_role("link", name=re.compile(r"^law\b.*documents: 6$")).click()
        expect(page.locator(".hit")).to_have_count(8)
        shown.get_by_role("link", name=re.compile("^science")).click()
        expect(page.locator(".hit")).to_have_count(6)
        expect(shown.get_by_role("link", name=re.compile("^law"))).to_have_attribute(
            "aria-current", "true"
        )


def test_more_goes_on_with_the_same_window(page: Page) -> None:
    page.goto("/?q=the+tenant&limit=3")
    expect(page.locator(".hit")).to_have_count(3)
    with page.expect_request(lambda request: request.method == "POST") as asked:
        page.get_by_role("link", name="More →").click()
    assert "cursor=" in (asked.value.post_data or "")
    expect(page.locator(".hit .rank")).to_have_text(["1", "2", "3", "4", "5", "6"])
    expect(page.locator(".hit h3 a").nth(3)).to_be_focused()
    expect(page).to_have_url(re.compile("limit=6"))
    page.get_by_role("link", name="More →").click()
    expect(page.locator(".hit")).to_have_count(8)
    expect(page.get_by_role("link", name="More →")).to_have_count(0)


def test_nothing_good_says_so_and_shows_it_nevertheless(page: Page) -> None:
    page.goto("/")
    page.get_by_text("How to search").click()
    page.get_by_label("Only what scores well").check()
    page.locator("#q").fill("quantum chromodynamics of gluons")
    expect(page.get_by_role("heading", name="Nothing good was found")).to_be_visible()
    check_accessible(page)
    page.get_by_role("link", name=re.compile("nevertheless")).click()
    expect(page.locator(".hit").first).to_be_visible()
    expect(page.get_by_label("Only what scores well")).not_to_be_checked()


def test_dates_and_numbers_are_the_readers(browser: Browser, site: Site) -> None:
    text = "Mietvertrag\n\n" + "Der Mieter zahlt jeden Monat Miete an den Vermieter. " * 3
    made = site.upload("law", "miete.txt", text.encode(), date="2022-05-17")
    with watched(browser, site, locale="de-DE") as page:
        page.goto("/")
        page.locator("#q").fill("Mieter Vermieter")
        hit = page.locator(".hit", has_text="Mietvertrag")
        expect(hit.locator("time")).to_have_text("17.05.2022")
        languages = page.get_by_role("region", name="Language")
        expect(languages).to_contain_text("English")
        languages.get_by_role("link", name=re.compile("^German")).click()
        expect(page.locator(".hit")).to_have_count(1)
        expect(page.locator(".chip")).to_contain_text("language is one of de")
    site.client.delete(f"/v1/documents/{made['document_ids'][0]}")
    site.wait_until_followed()
