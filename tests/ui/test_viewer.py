"""The viewer's text: at the passage, with what carries the score, find, links, and no end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.ui.site import Site, check_accessible, law_site, watched

LEASE = "# Lease of the old mill\n\n" + "".join(
    f"## {n}. Clause {n}\n\n{line}\n\n"
    for n, line in enumerate(
        (
            "The parties meet on the first Monday of each month in the mill's kitchen.",
            "If a storm tears slates off the roof, the landlord bears the cost of repairing it.",
            "Nothing in this lease obliges the miller to keep geese, ducks or other fowl there.",
            "The tenant reports roof repairs after a storm to the landlord within ten days.",
            "Whoever leaves the mill last at night locks its gate and hides the key well.",
        ),
        1,
    )
)
QUESTION = "who pays for repairs of the roof after a storm?"
CHARS = 1_000_000
TALL = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server for the documents of this file."""
    with law_site(tmp_path_factory.mktemp("read") / "home", target_tokens=48) as opened:
        yield opened


@pytest.fixture(scope="module")
def lease(site: Site) -> str:
    return str(site.upload("law", "mill.md", LEASE.encode())["document_ids"][0])


@pytest.fixture(scope="module")
def long_site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Long passages, so that a long text is embedded in no time."""
    with law_site(tmp_path_factory.mktemp("long") / "home", target_tokens=8192) as opened:
        yield opened


@pytest.fixture
def long_page(browser: Browser, long_site: Site) -> Iterator[Page]:
    with watched(browser, long_site, locale="en-GB", viewport=TALL) as opened:
        yield opened


def marked(page: Page, kind: str) -> list[str]:
    """What the style sheet's rule for `kind` colours."""
    found: list[str] = page.evaluate(
        "(kind) => [...(CSS.highlights.get(kind) ?? [])].map((range) => range.toString())", kind
    )
    return found


IS_SHOWN = """([kind, text]) => {
  const ranges = [...(CSS.highlights.get(kind) ?? [])];
  const bar = document.querySelector(".bar").getBoundingClientRect().bottom;
  return ranges.length === 1 && ranges[0].toString().includes(text) && ranges.every((range) => {
    const box = range.getBoundingClientRect();
    return box.height > 0 && box.top >= bar && box.bottom <= innerHeight; }); }"""


def assert_shown(page: Page, kind: str, text: str) -> None:
    """What `kind` marks holds `text`, and is on the screen below the bar, when it has come."""
    page.wait_for_function(IS_SHOWN, arg=[kind, text])


def test_a_hit_opens_at_its_passage_and_n_and_p_walk_through_them(page: Page, lease: str) -> None:
    page.goto(f"/?q={QUESTION}&collection=law&collapse=off")
    link = page.get_by_role("link", name="Lease of the old mill").first
    link.click()
    expect(page.locator("article.ready")).to_be_visible()
    steps = page.get_by_role("group", name="Passages found")
    expect(steps.locator("output")).to_have_text(re.compile(r"^Passage \d of [2-9]$"))
    assert_shown(page, "hit-now", "storm")
    sentences = marked(page, "carries")
    assert any(each.startswith("If a storm tears slates") for each in sentences)
    before = marked(page, "hit-now")
    count = int(steps.locator("output").inner_text().split()[-1])
    seen = {before[0]}
    for _ in range(count - 1):
        page.keyboard.press("n")
        expect(page.locator("article.ready")).to_be_visible()
        seen.add(marked(page, "hit-now")[0])
        assert_shown(page, "hit-now", "")
    assert len(seen) == count
    page.keyboard.press("p")
    page.keyboard.press("n")
    page.keyboard.press("n")
    assert marked(page, "hit-now") == before, "round at the end"
    assert "end=" in page.url and "#" not in page.url.partition("start=")[0]
    check_accessible(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("to the next passage found")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"/\?q=who.*collection=law.*collapse=off"))
    expect(page.get_by_role("heading", name="Lease of the old mill")).to_be_visible()


def test_n_and_p_walk_through_the_passages_of_the_same_search(page: Page, site: Site) -> None:
    """What the address of the list says of passages is said when they are asked for."""
    body = "# The windmill\n\n" + LEASE.partition("\n")[2]
    site.upload("law", "windmill.md", body.encode(), year=2019)
    site.collection("empty", rerank={"depth": "document"})
    tree = '{"field":"year","eq":2019}'
    told = f"collection=law&collection=empty&filter={quote(tree)}&instruction=statutes"
    for reads in ("depth=document", "depth=passage", "rerank=off"):
        page.goto(f"/?q={QUESTION}&{told}&{reads}&limit=5&sort=date&collapse=off")
        shown = page.locator(".hit .why table:not(.trace) tbody tr")
        cells = [row.locator("td").nth(3).text_content() for row in shown.all()]
        with page.expect_response(re.compile("/v1/documents/[^/]+/hits")) as asked:
            page.get_by_role("link", name="The windmill").first.click()
        link = parse_qs(urlsplit(asked.value.url).query)
        name, _, value = reads.partition("=")
        assert link == {
            "q": [QUESTION], "collection": ["law", "empty"], "filter": [tree],
            "instruction": ["statutes"], name: [value],
        }  # fmt: skip
        answer = asked.value.json()
        assert answer["reranker"] == (None if reads == "rerank=off" else "late")
        scores = [each["scores"]["reading"] for each in answer["passages"]]
        assert cells == ["–" if score is None else f"{score:.3f}" for score in scores]
        output = page.get_by_role("group", name="Passages found").locator("output")
        expect(output).to_have_text(re.compile(rf"^Passage \d of {len(scores)}$"))


def test_back_leads_nowhere_else(page: Page, lease: str) -> None:
    for back in ("https://evil.example/", "//evil.example", "javascript:alert(1)", "q=x&\r\nSet:1"):
        page.goto(f"/documents/{lease}?back={back}".replace("&", "%26").replace("\r\n", "%0D%0A"))
        href = page.locator(".back").get_attribute("href") or ""
        assert href == "/" or href.startswith("/?"), href
        address = page.evaluate("document.querySelector('.back').href")
        assert address.startswith(page.url.split("/documents/")[0] + "/")


def test_sentences_of_a_link_are_marked_without_script(
    browser: Browser, site: Site, lease: str
) -> None:
    text = site.client.get(f"/v1/documents/{lease}?text=true").json()["text"]
    start = text.index("If a storm")
    end = text.index("## 3.")
    sentence = text.index("the landlord bears"), text.index("repairing it.") + 13
    context = browser.new_context(base_url=site.url, java_script_enabled=False)
    page = context.new_page()
    page.goto(
        f"/documents/{lease}?start={start}&end={end}&s={sentence[0]}-{sentence[1]}&q=roof#hit"
    )
    assert page.locator("b mark").all_inner_texts() == [text[slice(*sentence)]]
    assert "".join(page.locator("mark").all_inner_texts()).split() == text[start:end].split()
    expect(page.get_by_role("link", name="Back to the results")).to_have_attribute(
        "href", "/?q=roof"
    )
    expect(page.locator(".find")).to_be_hidden()
    context.close()


def test_find_and_links_count_characters_of_any_script(page: Page, site: Site) -> None:
    text = (
        "Ruling 𝔸𝔹ℂ 🎈🎈 on balloons\n\nالمحكمة العليا رفضت الطعن في القضية 12.\n\n"
        "結論として、原告の請求を棄却する。\n\nThe café’s naïve claim <b>fails</b> 🎈 today.\n"
    )
    (document_id,) = site.upload("law", "scripts.txt", text.encode())["document_ids"]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"/documents/{document_id}")
    expect(page.locator("article.ready")).to_be_visible()
    find = page.get_by_role("searchbox", name="Find in this document")
    for wanted, seen in (
        ("原告の請求", "原告の請求"),
        ("رفضت الطعن", "رفضت الطعن"),
        ("CAFE'S NAIVE", "café’s naïve"),
        ("<b>fails", "<b>fails"),
    ):
        if not find.is_visible():
            page.keyboard.press("f")
        expect(find).to_be_focused()
        find.fill(wanted)
        expect(page.locator(".find output")).to_have_text("1 of 1")
        assert marked(page, "match-now") == [seen]
    find.fill("balloons and geese")
    expect(page.locator(".find output")).to_have_text("not found")
    check_accessible(page)
    page.keyboard.press("Escape")
    expect(find).to_be_hidden()
    assert marked(page, "match") == []
    copy = page.get_by_role("button", name="Copy link")
    expect(copy).to_be_hidden()
    page.evaluate(
        """() => {
          const paper = document.querySelector("article");
          const walk = document.createTreeWalker(paper, NodeFilter.SHOW_TEXT);
          let node; while ((node = walk.nextNode())) if (node.data.includes("原告")) break;
          const at = node.data.indexOf("原告");
          getSelection().setBaseAndExtent(node, at + 5, node, at);
        }"""
    )
    expect(copy).to_be_visible()
    page.keyboard.press("c")
    expect(page.get_by_role("status")).to_have_text("The link is copied.")
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto(link)
    expect(page.locator("mark")).to_have_text("原告の請求")
    expect(page.get_by_role("group", name="Passages found")).to_contain_text("Passage 1 of 1")


def _novel() -> str:
    """Words of 110 letters are one token each, so it is embedded soon."""
    lines: list[str] = []
    size = number = 0
    while size < CHARS:
        number += 1
        words = " ".join(chr(97 + (number + k) % 26) * 110 for k in range(10))
        lines.append(f"Line {number}: the river {words}.\n" + ("\n" if number % 9 == 0 else ""))
        size += len(lines[-1])
    return "".join(lines)[: CHARS - 36] + "\nThe very last line, with a Zéphyr.\n"


# What scripts do in a turn of the event loop, counted and not timed: a page that does little at a
# time answers whoever scrolls and types, however slow the machine is. `most`: the most in one turn;
# tasks that follow each other so fast that no message comes between them count as one.
WORK = """
window.most = {};
window.all = {};
let turn = null;
const { port1, port2 } = new MessageChannel();
port1.onmessage = () => {
  for (const [kind, count] of Object.entries(turn)) most[kind] = Math.max(most[kind] ?? 0, count);
  turn = null;
};
const did = (kind, count) => {
  if (!turn) port2.postMessage(null);
  turn ??= {};
  turn[kind] = (turn[kind] ?? 0) + count;
  all[kind] = (all[kind] ?? 0) + count;
};
const spy = (owner, name, kind, size) => {
  const real = owner.prototype[name];
  owner.prototype[name] = function (...given) {
    const result = real.apply(this, given);
    did(kind, size(result, given));
    return result;
  };
};
spy(DOMParser, "parseFromString", "chars parsed", (_, [html]) => html.length);
spy(TreeWalker, "nextNode", "chars walked", (node) => node?.data?.length ?? 0);
const measured = [[Element, "getBoundingClientRect"], [Range, "getBoundingClientRect"],
  [Range, "getClientRects"], [Document, "caretPositionFromPoint"]];
for (const [owner, name] of measured) spy(owner, name, "measured", () => 1);
const Real = Highlight;
window.Highlight = class extends Real {
  constructor(...ranges) {
    super(...ranges);
    did("ranges marked", ranges.length);
  }
};
new MutationObserver((records) => {
  const texts = new Set();
  const find = (node) => (node instanceof Text ? texts.add(node) : node.childNodes.forEach(find));
  records.forEach(({ addedNodes }) => addedNodes.forEach(find));
  did("chars shown", [...texts].reduce((sum, text) => sum + text.data.length, 0));
}).observe(document, { childList: true, subtree: true });
"""
# Three windows of the text (one is usual, two may count as one); marks and measurements of what is
# here.
MOST = {"chars parsed": 60_000, "chars shown": 60_000, "chars walked": 60_000,
        "ranges marked": 200, "measured": 200}  # fmt: skip


def test_a_million_characters_scroll_and_are_found_without_freezing(
    long_page: Page, long_site: Site, record_property: Any
) -> None:
    page = long_page
    page.add_init_script(WORK)
    (document_id,) = long_site.upload("law", "novel.txt", _novel().encode())["document_ids"]
    page.add_init_script(
        "window.longest = 0; new PerformanceObserver((list) => list.getEntries().forEach("
        "({duration}) => { window.longest = Math.max(window.longest, duration); }))"
        ".observe({type: 'longtask'})"
    )
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable")

    def measured() -> dict[str, float]:
        devtools.send("HeapProfiler.collectGarbage")
        found = devtools.send("Performance.getMetrics")["metrics"]
        return {each["name"]: each["value"] for each in found}

    page.goto(f"/documents/{document_id}")
    expect(page.locator("article.ready")).to_be_visible()
    before = measured()
    height = page.evaluate("document.documentElement.scrollHeight")
    ends = []
    for _ in range(8):
        last = page.locator(".part").last.get_attribute("data-end")
        page.evaluate(
            "scrollTo({top: document.querySelector('.below').getBoundingClientRect().top"
            " + scrollY - innerHeight, behavior: 'instant'})"
        )
        expect(page.locator(".part").last).not_to_have_attribute("data-end", last or "")
        ends.append(int(page.locator(".part").last.get_attribute("data-end") or 0))
        assert page.locator(".part").count() <= 5
    assert ends == sorted(ends) and ends[-1] > 160_000
    # The scroll bar is the whole text's all the while.
    assert 0.5 < page.evaluate("document.documentElement.scrollHeight") / height < 2
    # Upwards: what is looked at stays where it is while parts come in above it.
    first = page.locator(".part").first.get_attribute("data-start")
    page.evaluate(
        "scrollTo({top: document.querySelector('.part').getBoundingClientRect().top + scrollY + 40,"
        " behavior: 'instant'})"
    )
    line = "() => document.caretPositionFromPoint(innerWidth / 2, innerHeight / 2)?.offsetNode"
    seen = page.evaluate(f"window.seen = ({line})(); window.seen.parentNode.dataset.at")
    where = "window.seen.parentNode.getBoundingClientRect().top"
    top = page.evaluate(where)
    expect(page.locator(".part").first).not_to_have_attribute("data-start", first or "")
    assert seen is not None and abs(page.evaluate(where) - top) < 2
    # A jump by the scroll bar, into what is not here.
    page.evaluate(
        "scrollTo({top: document.documentElement.scrollHeight * .6, behavior: 'instant'})"
    )
    there = page.locator(".part[data-start]").first
    expect(there).to_have_attribute("data-start", re.compile(r"^[56]\d{5}$"))
    # Find what stands at the very end, and what stands everywhere.
    page.keyboard.press("f")
    find = page.get_by_role("searchbox", name="Find in this document")
    find.fill("a zephyr")
    expect(page.locator(".find output")).to_have_text("1 of 1")
    assert_shown(page, "match-now", "a Zéphyr")
    assert marked(page, "match-now") == ["a Zéphyr"]
    find.fill("line 77:")
    expect(page.locator(".find output")).to_have_text("1 of 1")
    assert_shown(page, "match-now", "Line 77:")
    assert marked(page, "match-now") == ["Line 77:"]
    find.fill("river")
    expect(page.locator(".find output")).to_have_text(re.compile(r"^\d+ of [78]\d\d$"))
    told, _, of = page.locator(".find output").inner_text().partition(" of ")
    at = int(told)
    for key, number in (("Enter", at + 1), ("Shift+Enter", at), ("Shift+Enter", at - 1)):
        page.keyboard.press(key)
        expect(page.locator(".find output")).to_have_text(f"{number:,} of {of}")
        assert_shown(page, "match-now", "river")
        assert marked(page, "match-now") == ["river"]
    page.keyboard.press("Escape")
    after = measured()
    nodes = page.evaluate("document.querySelectorAll('*').length")
    for name, value in {
        "longest_task_ms": page.evaluate("window.longest"),
        "elements": nodes,
        "heap_mb": after["JSHeapUsedSize"] / 1e6,
        "heap_mb_before": before["JSHeapUsedSize"] / 1e6,
    }.items():
        record_property(name, value)
        print(f"{name} {value:.1f}")
    most, done = page.evaluate("[most, all]")
    print(most, done)
    # Much was done, all of it in small steps.
    assert most.keys() == MOST.keys() and done["chars shown"] > CHARS / 5
    assert {kind for kind, count in most.items() if count > MOST[kind]} == set(), most
    assert nodes < 1_500
    assert after["JSHeapUsedSize"] - before["JSHeapUsedSize"] < 20e6


def test_what_cannot_be_loaded_says_so_and_is_tried_again(long_page: Page, long_site: Site) -> None:
    page = long_page
    text = "".join(f"Paragraph {n} about nothing at all.\n\n" for n in range(2000))
    (document_id,) = long_site.upload("law", "away.txt", text.encode())["document_ids"]
    problem = '{"detail": "The index is being started again.", "hint": "Try again.", "status": 503}'
    page.route(
        "**/documents/*/text?*",
        lambda route: route.fulfill(
            status=503, body=problem, content_type="application/problem+json"
        ),
    )
    page.goto(f"/documents/{document_id}")
    page.evaluate("document.querySelector('.below').scrollIntoView({behavior: 'instant'})")
    status = page.get_by_role("status")
    expect(status).to_contain_text("The index is being started again.")
    check_accessible(page)
    page.unroute("**/documents/*/text?*")
    status.get_by_role("button", name="Try again").click()
    expect(page.locator(".part")).to_have_count(2, timeout=30_000)
    expect(status).to_be_hidden()
    # The address says where one reads: loading it anew shows the same place.
    page.keyboard.press("f")
    page.get_by_role("searchbox", name="Find in this document").fill("paragraph 1200 ")
    expect(page.locator(".find output")).to_have_text("1 of 1")
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"from=4\d{4}"))
    page.reload()
    expect(page.locator("article.ready")).to_be_visible()
    assert page.evaluate(
        """() => {
          const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          const range = document.createRange();
          while (walk.nextNode()) {
            const at = walk.currentNode.data.indexOf("Paragraph 1200 about");
            if (at < 0) continue;
            range.setStart(walk.currentNode, at);
            range.setEnd(walk.currentNode, at + 9);
            const box = range.getBoundingClientRect();
            return box.top > 0 && box.bottom < innerHeight;
          }
          return false; }"""
    )
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
