"""Hostile texts as titles, file names, metadata, texts, queries: shown as given, never run.

The html5lib tokenizer's cases and the Big List of Naughty Strings are read where they lie and are
not part of this project; the tests skip where they are not there. Hundreds of cases in few pages,
because a page costs a second.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tests.ui.site import Site, watched

MALFORMED = Path(__file__).resolve().parents[3] / "shared" / "data" / "malformed"
pytestmark = pytest.mark.skipif(
    not MALFORMED.is_dir(), reason="shared/data/malformed with html5lib's cases is not here"
)

OURS = [
    "<script>window.canary=1</script>",
    "\"><script>window.canary=1</script><i a='",
    "</title></textarea></style></noscript></template><img src=x onerror=window.canary=1>",
    "<svg onload=window.canary=1><svg/onload=window.canary=1//",
    "<style>@import'//elsewhere.example/a.css';*{background:url(//elsewhere.example/b)}</style>",
    "<iframe srcdoc='<script>parent.canary=1</script>'></iframe><base href=//elsewhere.example/>",
    "<meta http-equiv=refresh content='0;url=//elsewhere.example/'><link rel=prefetch href=//x.y>",
    "javascript:window.canary=1//{{ 7*7 }}{% set a = 1 %}${window.canary=1}",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x "
    "onerror=window.canary=1&gt;'>",
    "<form action=//elsewhere.example><button autofocus onfocus=window.canary=1>x</button></form>",
    "\u202eevil\u2066 <b>right to left\u202c مرحبا <i>",
    "&lt;script&gt;window.canary=1&lt;/script&gt; &amp;amp; &#60;img&#62;",
]
CANARY = """
window.ran = [];
for (const each of ["alert", "confirm", "prompt"]) window[each] = () => window.ran.push(each);
"""
_TITLES = 180
_COLLECTIONS = ("one", "two")  # a search looks at a hundred documents
_IN_ONE_TEXT = 120
_SKIPPED = ("namedEntities", "unicodeChars.", "numericEntities")  # thousands of the same kind


def _cases() -> list[str]:
    found: dict[str, None] = {}
    for file in sorted((MALFORMED / "html5lib-tokenizer").glob("*.test")):
        tests: list[dict[str, Any]] = []
        for listed in json.loads(file.read_text("utf-8")).values():
            tests += listed
        few = tests[::40] if any(name in file.name for name in _SKIPPED) else tests
        for each in few:
            text = each["input"]
            if each.get("doubleEscaped"):
                text = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda hit: chr(int(hit[1], 16)), text)
            found[text] = None
    naughty = (MALFORMED / "naughty-strings" / "blns.txt").read_text("utf-8", "replace")
    found |= dict.fromkeys(line for line in naughty.split("\n") if not line.startswith("#"))
    given = [each for each in found if each.strip() and not re.search("[\ud800-\udfff\x00]", each)]
    random.Random(7).shuffle(given)  # of both kinds in every place
    return [*OURS, *given]


def _is_plain(text: str) -> bool:
    """Whether no reader of files has anything to clean in it."""
    others = (unicodedata.category(each) for each in text if each != " ")
    normal = unicodedata.normalize("NFC", text) == text == " ".join(text.split(" ")).strip()
    return normal and "  " not in text and len(text) < 150 and all(c[0] not in "CZ" for c in others)


def _squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.fixture(scope="module")
def hostile(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Site, list[str]]]:
    """A server that holds every case."""
    cases = _cases()
    assert len(cases) > 900
    lines = [
        {
            "_id": f"{number} {cases[number]}"[:100],
            "title": cases[number],
            "text": f"Zeppelin {cases[-number - 1]} end",
            "metadata": {"note": cases[number + _TITLES]},
        }
        for number in range(_TITLES)
    ]
    long = [
        {"_id": f"long {start}", "title": f"Long {start}", "text": "\n\n".join(part)}
        for start in range(0, len(cases), _IN_ONE_TEXT)
        for part in (cases[start : start + _IN_ONE_TEXT],)
    ]
    half = _TITLES // 2
    with Site(tmp_path_factory.mktemp("hostile") / "home") as site:
        for name, part in zip(
            (*_COLLECTIONS, "long"), (lines[:half], lines[half:], long), strict=True
        ):
            site.collection(name, description=cases[1])
            data = "\n".join(json.dumps(each) for each in part).encode()
            site.upload(name, "cases.jsonl", data)
        for number, name in enumerate(OURS[:2]):
            site.upload("one", f"{name}.txt", f"Zeppelin by file name {number}.".encode())
        yield site, cases


@pytest.fixture
def page(browser: Browser, hostile: tuple[Site, list[str]]) -> Iterator[Page]:
    """A page with a canary; whatever else it reports fails the test as well."""
    site, _ = hostile
    with watched(browser, site) as opened:
        opened.add_init_script(CANARY)
        yield opened


def check_quiet(page: Page) -> None:
    """Fail if anything of a document ran, was refused only by the policy, or became an element."""
    ran = page.evaluate("[window.canary ?? null, window.ran, window.violations]")
    assert ran == [None, [], []]
    strange = page.locator("main").locator("script, iframe, style, base, meta, math, object, embed")
    assert strange.count() == 0


def test_every_case_is_found_and_shown_as_it_is(
    page: Page, hostile: tuple[Site, list[str]]
) -> None:
    site, cases = hostile
    shown: set[str] = set()
    for name in _COLLECTIONS:
        body = {"query": "zeppelin", "limit": 100, "collections": [name], "collapse": False}
        hits = site.client.post("/v1/search", json=body).json()["hits"]
        page.goto(f"/?q=zeppelin&limit=100&collection={name}&collapse=off")
        check_quiet(page)
        titles = page.locator(".hit h3 a").all_text_contents()
        assert titles == [hit["title"] or hit["key"] for hit in hits] and len(titles) > 50
        shown.update(titles)
        said = page.locator(".hit").evaluate_all(
            "all => all.map(each => each.querySelector('.said').textContent)"
        )
        for text, hit in zip(said, hits, strict=True):
            assert _squeezed(text) == _squeezed(hit["passages"][0]["text"])
        notes = page.locator(".facts dd").all_text_contents()
        assert notes == [hit["metadata"]["note"] for hit in hits if "note" in hit["metadata"]]
        sources = page.locator(".hit .source").all_text_contents()
        assert sources == [hit["source"] for hit in hits]
    # What no reader had to clean is what was given, to the character.
    plain = set(filter(_is_plain, cases[:_TITLES]))
    assert len(plain) > 150 and plain <= shown


def test_every_case_is_shown_in_the_text_of_an_opened_document(
    page: Page, hostile: tuple[Site, list[str]]
) -> None:
    site, cases = hostile
    listed = site.client.get("/v1/documents", params={"limit": 1000}).json()["documents"]
    long = [each for each in listed if each["key"].startswith("long ")]
    assert len(long) == -(-len(cases) // _IN_ONE_TEXT)
    shown = ""
    for document in long:
        whole = site.client.get(f"/v1/documents/{document['document_id']}?text=true").json()
        page.goto(document["url"])
        check_quiet(page)
        text = _squeezed(page.locator("main").evaluate("each => each.textContent"))
        assert _squeezed(whole["text"]) in text
        shown += text
    plain = [each for each in cases if _is_plain(each)]
    assert len(plain) > 500
    missing = [each for each in plain if _squeezed(each) not in shown]
    assert not missing, missing[:5]


def test_hostile_queries_and_lists(page: Page, hostile: tuple[Site, list[str]]) -> None:
    site, _ = hostile
    for query in OURS[:8]:
        page.goto("/")
        page.locator("#q").fill(query)
        page.locator("#q").press("Enter")
        page.locator(".summary, .notice").first.wait_for()
        check_quiet(page)
        assert page.locator("#q").input_value() == query
    hits = site.client.post("/v1/search", json={"query": "zeppelin", "limit": 20}).json()["hits"]
    for hit, query in zip(hits, OURS, strict=False):
        judged = {"query": query, "document_id": hit["document_id"], "grade": 1, "judge": query}
        assert site.client.post("/v1/judgements", json=judged).status_code == 200
    page.goto("/evaluate")
    check_quiet(page)
    rows = page.locator(".opinions li")
    shown = rows.evaluate_all("all => all.map(each => each.querySelector('a').textContent)")
    assert shown == [" ".join(query.split()) for query in OURS[: len(hits)]]
    for address in ("/library", "/api", "/documents/<script>window.canary=1</script>"):
        page.goto(address)
        check_quiet(page)
