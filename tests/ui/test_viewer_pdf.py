"""The viewer's pages: pictures with marks and words where they stand, however many there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from tests.indexer.pdfs import lines_pdf
from tests.ui.site import Site, check_accessible, law_site, watched
from tests.ui.test_viewer import assert_shown

PAGES = 1000


@pytest.fixture(scope="module")
def pdf_site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with law_site(tmp_path_factory.mktemp("pdf") / "home", target_tokens=8192) as opened:
        yield opened


@pytest.fixture(scope="module")
def book(pdf_site: Site) -> str:
    # Words on a few of them, so that it is embedded soon.
    pages: list[list[str]] = [[] for _ in range(PAGES)]
    for n in (1, 3, 42, 500, 501, 901, 1000):
        pages[n - 1] = [f"Number {n}", "Gazebos are painted green."]
    return str(pdf_site.upload("law", "book.pdf", lines_pdf(pages))["document_ids"][0])


@pytest.fixture
def pdf_page(browser: Browser, pdf_site: Site) -> Iterator[Page]:
    size = {"width": 1280, "height": 900}
    with watched(browser, pdf_site, locale="en-GB", viewport=size) as opened:
        yield opened


def test_a_thousand_pages_are_marked_found_and_turned_without_freezing(
    pdf_page: Page, pdf_site: Site, book: str, record_property: Any
) -> None:
    page = pdf_page
    page.add_init_script(
        "window.longest = 0; new PerformanceObserver((list) => list.getEntries().forEach("
        "({duration}) => { window.longest = Math.max(window.longest, duration); }))"
        ".observe({type: 'longtask'})"
    )
    text = pdf_site.client.get(f"/v1/documents/{book}?text=true").json()["text"]
    start = text.index("Number 500") + 11
    end = text.index("green.", start) + 6
    page.goto(f"/documents/{book}?start={start}&end={end}&view=pages#hit")
    expect(page.locator("article.ready")).to_be_visible()
    sheet = page.locator(".sheet[data-number='500']")
    expect(sheet).to_have_class(re.compile("drawn"))
    number = page.get_by_label("Page", exact=True)
    expect(number).to_have_value("500")
    # The mark lies over the words that it is about, and those over their picture.
    word = sheet.locator(".words span", has_text="Gazebos")
    expect(word).to_be_attached()
    mark, span = sheet.locator("rect.hit-now").bounding_box(), word.bounding_box()
    assert mark and span
    assert mark["x"] <= span["x"] + 3 and mark["x"] + mark["width"] > span["x"] + span["width"]
    assert abs(mark["y"] + mark["height"] / 2 - span["y"] - span["height"] / 2) < 8
    selected = page.evaluate(
        """() => {
          const words = document.querySelectorAll(".sheet[data-number='500'] .words span");
          getSelection().setBaseAndExtent(words[2].firstChild, 0, words[4].firstChild, 7);
          return getSelection().toString(); }"""
    )
    assert selected == "Gazebos are painted"
    expect(page.get_by_role("button", name="Copy link")).to_be_visible()
    check_accessible(page)
    # To a page, by its number.
    page.keyboard.press("g")
    expect(number).to_be_focused()
    page.keyboard.type("901")
    page.keyboard.press("Enter")
    expect(page.locator(".sheet[data-number='901']")).to_have_class(re.compile("drawn"))
    assert page.locator(".sheet").count() < 10
    # Find goes through all of the file.
    page.keyboard.press("f")
    page.get_by_role("searchbox", name="Find in this document").fill("number 42\ngaz")
    expect(page.locator(".find output")).to_have_text("1 of 1")
    expect(page.locator(".sheet[data-number='42'] rect.match-now")).to_have_count(2)
    expect(number).to_have_value("42")
    page.keyboard.press("Escape")
    # Zooming keeps the place, and so does changing to the text and back.
    height = page.evaluate("document.querySelector('.sheets').offsetHeight")
    page.keyboard.press("+")
    assert page.evaluate("document.querySelector('.sheets').offsetHeight") > 1.2 * height
    expect(page.locator(".sheet[data-number='42']")).to_be_in_viewport()
    page.keyboard.press("0")
    expect(page).to_have_url(re.compile(r"page=42"))
    page.keyboard.press("v")
    expect(page.locator("article.paper.ready")).to_be_visible()
    expect(page.locator("#page-42")).to_be_in_viewport()
    expect(page).to_have_url(re.compile(r"from=\d+"))
    page.keyboard.press("v")
    expect(page.locator("article.desk.ready")).to_be_visible()
    expect(page.locator(".sheet[data-number='42']")).to_be_in_viewport()
    # A quick way through all of it: what is passed by is not drawn.
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate(
        """async () => { for (let k = 0; k <= 60; k += 1) {
          scrollTo({top: (document.documentElement.scrollHeight * k) / 60, behavior: "instant"});
          await new Promise(requestAnimationFrame); } }"""
    )
    last = page.locator(f".sheet[data-number='{PAGES}']")
    expect(last).to_have_class(re.compile("drawn"))
    assert page.locator(".sheet").count() < 10
    assert sum("/image" in each for each in asked) < 40
    elements = page.evaluate("document.querySelectorAll('*').length")
    assert elements < 400
    for name, value in {
        "longest_task_ms": page.evaluate("window.longest"),
        "elements": elements,
        "heap_mb": page.evaluate("performance.memory.usedJSHeapSize / 1e6"),
    }.items():
        record_property(name, value)
        print(f"{name} {value:.1f}")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_page_that_cannot_be_drawn_says_so_in_its_place(pdf_page: Page, book: str) -> None:
    page = pdf_page
    body = '{"detail": "Page 3 was given up after 15 s.", "hint": "Read its text instead."}'
    page.route(
        "**/pages/3/image*",
        lambda route: route.fulfill(status=422, body=body, content_type="application/problem+json"),
    )
    page.goto(f"/documents/{book}?view=pages&page=3")
    sheet = page.locator(".sheet[data-number='3']")
    expect(sheet).to_contain_text("Page 3 was given up after 15 s. Read its text instead.")
    check_accessible(page)
    page.unroute("**/pages/3/image*")
    sheet.get_by_role("button", name="Try again").click()
    expect(sheet).to_have_class(re.compile("drawn"))
    expect(sheet.locator(".undrawn")).to_have_count(0)


def test_between_text_and_pages_the_passage_stays_in_sight(pdf_page: Page, pdf_site: Site) -> None:
    # What is looked for stands at the foot of a page that is higher than the window.
    lines = [*(f"A line of no interest, number {n}." for n in range(50)), "Herons are grey."]
    data = lines_pdf([["A cover."], lines, ["The end."]])
    (document,) = pdf_site.upload("law", "herons.pdf", data)["document_ids"]
    text = pdf_site.client.get(f"/v1/documents/{document}?text=true").json()["text"]
    start = text.index("Herons")
    page = pdf_page
    page.goto(f"/documents/{document}?start={start}&end={start + 16}#hit")
    expect(page.locator("article.paper.ready")).to_be_visible()
    expect(page).to_have_url(re.compile(r"from=\d+"))
    page.get_by_role("link", name="Pages", exact=True).click()
    expect(page.locator("article.desk.ready")).to_be_visible()
    expect(page.locator("rect.hit-now")).to_be_in_viewport()
    expect(page).to_have_url(re.compile("page=2"))
    page.keyboard.press("v")
    expect(page.locator("article.paper.ready")).to_be_visible()
    assert_shown(page, "hit-now", "Herons are grey.")


def test_pages_without_script_are_links(browser: Browser, pdf_site: Site, book: str) -> None:
    text = pdf_site.client.get(f"/v1/documents/{book}?text=true").json()["text"]
    start = text.index("Number 500")
    context = browser.new_context(base_url=pdf_site.url, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/documents/{book}?start={start}&end={start + 10}")
    page.get_by_role("link", name="Pages", exact=True).click()
    expect(page.get_by_role("img", name="Page 500 of 1000")).to_be_visible()
    expect(page.locator("rect.hit")).to_have_count(1)
    page.get_by_role("link", name="Page 501 →").click()
    expect(page.get_by_role("img", name="Page 501 of 1000")).to_be_visible()
    expect(page.locator("rect.hit")).to_have_count(0)
    page.get_by_role("link", name="Text", exact=True).click()
    expect(page.locator("#page-501")).to_be_visible()
    context.close()


def test_paragraphs_flow_and_are_found_over_line_ends(pdf_page: Page, pdf_site: Site) -> None:
    page = pdf_page
    lines = [
        "Heliotropes grow where the ground is warm and the",
        "gardener waters them on each of the long evenings",
        "of the summer, until the first frost of the year",
        "takes them away.",
    ]
    made = pdf_site.upload("law", "flow.pdf", lines_pdf([lines]))
    document_id = made["document_ids"][0]
    text = pdf_site.client.get(f"/v1/documents/{document_id}?text=true").json()["text"]
    assert "and the\ngardener" in text, "the text itself keeps its lines"
    start, end = text.index("warm"), text.index(" waters")
    page.goto(f"/documents/{document_id}?start={start}&end={end}#hit")
    block = page.locator(".text").first
    assert block.evaluate("each => each.textContent").strip() == text.strip()
    assert "and the gardener waters" in block.inner_text()
    expect(page.locator("#hit")).to_have_text("warm and the gardener")
    # In a wide column it takes fewer lines than the page had.
    height = block.evaluate("each => each.getClientRects()[0].height")
    assert height < 4 * block.evaluate("each => parseFloat(getComputedStyle(each).lineHeight)") - 1
    page.keyboard.press("f")
    page.keyboard.type("the gardener waters")
    expect(page.locator(".find output")).to_have_text("1 of 1")
    marked = page.evaluate("[...CSS.highlights.values()].flatMap((each) => [...each].map(String))")
    assert any("the\ngardener waters" in each for each in marked), marked
    check_accessible(page)


def test_pages_asked_for_while_more_text_is_coming_show_the_passage(
    pdf_page: Page, pdf_site: Site
) -> None:
    lines = [[f"Line {n} of page {page} tells of gazebos" for n in range(40)] for page in range(20)]
    long = pdf_site.upload("law", "long.pdf", lines_pdf(lines))["document_ids"][0]
    text = pdf_site.client.get(f"/v1/documents/{long}?text=true").json()["text"]
    start = text.index("Line 39 of page 9 ")
    held: list[Route] = []
    pdf_page.route("**/documents/*/text?*", lambda route: held.append(route))
    pdf_page.set_viewport_size({"width": 1280, "height": 500})
    pdf_page.goto(f"/documents/{long}?start={start}&end={start + 17}")
    expect(pdf_page.locator("article[aria-busy=true]")).to_be_visible()
    assert held
    pdf_page.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    pdf_page.get_by_role("link", name="Pages", exact=True).click()
    expect(pdf_page.locator("article.desk.ready")).to_be_visible()
    expect(pdf_page.locator(".sheet[data-number='10'] rect.hit-now")).to_be_in_viewport()
