"""What a result shows of its document: where a passage stands, its versions, citations, facets."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Request, expect
from tests.indexer.pdfs import lines_pdf
from tests.ui.site import Site, check_accessible, watched
from tests.ui.test_viewer import assert_shown

SECTIONS = ["Water act", "Part 2. Mills", "Sluices and weirs", "Geese"]
SECTIONS += ["Sluices at night", "Sluices in a flood"]
LOW = {"width": 1280, "height": 420}
COURTS = [f"Court {letter}" for letter in "ABCDEFGH"]

WATER = """# Water act

## Part 2. Mills

### Sluices and weirs

Whoever opens a sluice above another mill tells its miller on the day before, in writing, and says
for how many hours the water will run, how high it will stand, and who pays for what it takes away.

### Geese

A goose that swims in a millrace belongs to nobody, and whoever finds its eggs may keep them, unless
the miller's children have found them before and can name the place, the day and the hour of it.

### Sluices at night

At night no sluice is opened unless the miller below has agreed to it in writing; a lantern hangs on
the weir's left post for as long as the water runs, and somebody stays awake beside it until dawn.

### Sluices in a flood

In a flood each miller opens every sluice at once, and need not ask anybody before; whoever keeps
one shut pays for every meadow, cow and bridge that the water has taken above that mill and below.
"""

REPORT = [
    ["This report tells of the bridges of the fens, which are many, of who built each of them, and",
     "of what each of them has cost the parishes in timber, in nails, in ale and in days of work."],
    ["The second bridge is of oak and stands on nine piles; it was paid for by the bishop, who",
     "had to cross there each week on his way to market, and who did not like to have wet feet."],
    ["The weir of Ely broke in spring, after eleven days of rain, and the water stood in the nave",
     "of the church until Whitsun; it was mended by the fishermen, whose the eels below it are."],
]  # fmt: skip


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server for the documents of this file."""
    home = tmp_path_factory.mktemp("hits") / "home"
    with Site(home, LONGLEAF_CHUNKER__TARGET_TOKENS="40") as opened:
        opened.collection("water")
        opened.upload("water", "act.md", WATER.encode())
        opened.upload("water", "report.pdf", lines_pdf(REPORT), title="Report on Ely")
        for number in range(16):
            court = COURTS[number // 2]
            text = f"Verdict {number}\n\nThe dam of brook number {number} was not to be raised."
            opened.upload("water", f"{number}.txt", text.encode(), court=court)
        days = [
            f"On day {n} the otter of the upper brook ate trout {n}, fat {n}." for n in range(60)
        ]
        story = "\n".join(days)
        for name in ("otter", "copy"):
            told = f"{story}\n\nThe {name} ends here."
            opened.upload("water", f"{name}.txt", told.encode(), title=name)
        yield opened


def test_a_passage_says_under_which_headings_and_on_which_page_it_stands(page: Page) -> None:
    page.goto("/?q=who+may+open+a+sluice+at+night+or+in+a+flood")
    hit = page.locator(".hit", has_text="Water act")
    night = hit.locator("a.passage:visible", has_text="At night no sluice")
    path = ["Water act", "Part 2. Mills", "Sluices at night"]
    expect(night.locator(".where span[dir]")).to_have_text(path)
    others = hit.get_by_text(re.compile(r"^All \d+ passages$"))
    others.click()
    count = int(re.sub(r"\D", "", others.inner_text()))
    expect(hit.locator("details.others .passage")).to_have_count(count)
    assert count == 3
    expect(hit.locator("details.others")).to_contain_text("In a flood each miller opens")
    check_accessible(page)
    page.goto("/?q=where+did+the+weir+break")
    report = page.locator(".hit", has_text="Report on Ely")
    expect(report.locator(".passage .page").first).to_have_text("p. 3")
    report.locator(".passage").first.click()
    expect(page.locator("article.ready")).to_be_visible()
    assert_shown(page, "hit-now", "The weir of Ely broke")


def test_facets_of_types_and_of_own_fields_narrow_down(page: Page) -> None:
    page.goto("/?q=the+dam+of+the+brook&limit=50")
    found = page.locator(".hit")
    court = page.get_by_role("region", name="Court")
    expect(court.get_by_role("link").filter(visible=True)).to_have_count(6)
    court.get_by_text("2 more").click()
    expect(court.get_by_role("link").filter(visible=True)).to_have_count(8)
    check_accessible(page)
    last = court.get_by_role("link").last
    value = last.locator(".name").inner_text()
    assert value in COURTS
    expect(last).to_have_accessible_name(f"{value} , documents: 2")
    last.click()
    expect(found).to_have_count(2)
    expect(page.locator(".chip")).to_contain_text(f"court is one of {value}")
    # What was chosen stands first, where it is seen.
    expect(court.get_by_role("link").first).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="Remove the filter").click()
    types = page.get_by_role("region", name="Type")
    types.get_by_role("link", name=re.compile("^PDF")).click()
    expect(found).to_have_count(1)
    expect(found.locator("h3")).to_have_text("Report on Ely")
    expect(page).to_have_url(re.compile("filter=.*type.*pdf"))


def test_nearly_equal_documents_stand_behind_the_best_of_them(page: Page, site: Site) -> None:
    page.goto("/?q=otter+ate+trout")
    hit = page.locator(".hit").first
    versions = hit.get_by_text("1 more document of nearly the same text")
    leader = hit.locator("h3").inner_text()
    other = {"otter": "copy", "copy": "otter"}[leader]
    expect(page.locator(".hit h3", has_text=other)).to_have_count(0)
    versions.click()
    behind = hit.locator(".versions li")
    expect(behind).to_contain_text(re.compile(r"water · .*\.txt · (9\d|100)% alike"))
    check_accessible(page)
    page.get_by_text("How to search").click()
    page.get_by_label("Every version of a text").check()
    expect(page.locator(".hit h3", has_text=other)).to_have_count(1)
    expect(page).to_have_url(re.compile("collapse=off"))
    page.go_back()
    behind.get_by_role("link").click()
    expect(page.get_by_role("heading", name=other, level=1)).to_be_visible()


def test_every_form_of_citation_is_copied(page: Page, site: Site) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/?q=where+did+the+weir+break")
    hit = page.locator(".hit", has_text="Report on Ely")
    document_id = hit.get_attribute("data-document")
    hit.get_by_text("Cite", exact=True).click()
    for name, form in (("Plain text", "plain"), ("BibTeX", "bibtex"), ("CSL-JSON", "csl")):
        link = hit.get_by_role("link", name=name)
        link.click()
        expect(hit.locator(".copied")).to_have_text(f"{name} copied")
        copied = page.evaluate("navigator.clipboard.readText()")
        href = link.get_attribute("href") or ""
        assert copied == site.client.get(href).text
        assert "Report on Ely" in copied and f"format={form}" in href and str(document_id) in href
        if form == "plain":
            assert "p. 3" in copied, copied


def test_thumbs_down_are_kept_changed_and_taken_back(page: Page, site: Site) -> None:
    def grades() -> list[int]:
        found = site.client.get("/v1/judgements", params={"query": "broken weir"}).json()
        return [each["grade"] for each in found["judgements"]]

    page.goto("/?q=broken+weir")
    hit = page.locator(".hit").first
    up = hit.get_by_role("button", name="A good answer")
    down = hit.get_by_role("button", name="Not an answer")
    for pressed, other, kept in ((down, up, [0]), (up, down, [1]), (down, up, [0])):
        pressed.click()
        expect(pressed).to_have_attribute("aria-pressed", "true")
        expect(other).to_have_attribute("aria-pressed", "false")
        assert grades() == kept
    page.reload()
    expect(down).to_have_attribute("aria-pressed", "true")
    check_accessible(page)
    down.click()
    expect(down).to_have_attribute("aria-pressed", "false")
    assert grades() == []


def test_the_first_page_tells_how_to_ask(page: Page) -> None:
    """Every line of the help is a query that the search takes as it says."""
    page.goto("/")
    lines = page.locator("#results .syntax div")
    expect(lines).to_have_count(6)
    assert '"force majeure"' in lines.locator("code").all_inner_texts()
    check_accessible(page)
    query = page.locator("#q")
    for typed, told in (
        ('"upper brook"', "must hold upper brook"),
        ("brook -otter", "without otter"),
        ('brook court:"Court B"', "where court is Court B"),
        ("brook court:Court*", "where court starts with “Court”"),
    ):
        query.fill(typed)
        expect(page.locator(".read-as").first).to_have_text(told)


def test_a_site_in_the_dark_is_read_as_well(browser: Browser, site: Site) -> None:
    with watched(browser, site, color_scheme="dark", viewport=LOW) as page:
        page.goto("/?q=who+may+open+a+sluice")
        page.locator(".hit h3 a").first.click()
        expect(page.locator("article.ready")).to_be_visible()
        check_accessible(page)
        outline = page.locator(".outline")
        expect(outline.get_by_role("link")).to_have_text(SECTIONS)
        outline.get_by_role("link", name="Sluices at night").click()
        here = outline.locator("[aria-current=location]")
        expect(here).to_have_text("Sluices at night")
        # The last cannot come to the top of the screen, and is the one that was chosen.
        outline.get_by_role("link", name="Sluices in a flood").click()
        expect(here).to_have_text("Sluices in a flood")
        page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
        expect(here).to_have_text("Water act")


def test_all_that_a_search_loads_is_small(page: Page) -> None:
    loaded: list[Request] = []
    page.on("requestfinished", lambda request: loaded.append(request))
    page.goto("/?q=the+dam+of+the+brook")
    expect(page.locator(".took")).to_contain_text(" ms")
    expect(page.get_by_role("region", name="Court")).to_be_visible()
    page.wait_for_load_state("networkidle")
    sizes = {
        each.url.rpartition("/")[2]: max(0, each.sizes()["responseBodySize"]) for each in loaded
    }
    assert {"search.js", "answer.js", "trouble.js", "keys.js", "page.css"} <= sizes.keys()
    assert page.locator(".hit").count() == 10
    print(sum(sizes.values()), sizes)
    assert sum(sizes.values()) < 60_000, sizes
