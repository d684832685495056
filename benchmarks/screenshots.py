"""The pictures of the documentation, made anew: `docs/images/*.png` from a scratch server.

What they show is public: filings of United States courts, which no copyright covers, where
`../shared/data` has them, and notes that we wrote. A picture of a page that is not here yet is
skipped and said. Nothing is measured.

    python benchmarks/screenshots.py [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
from page import serving
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
FILINGS = ROOT.parent / "shared" / "data" / "documents" / "court_files"
MOST_BYTES = 150_000
_WIDE = {"width": 1100, "height": 760}
_PHONE = {"width": 390, "height": 780}
_SCALE = 1
_QUERY = "does the court have jurisdiction over the appeal?"
_FILINGS = ("ca1_00117684624", "ca2_1-1", "ca3_003112692106", "ca4_17", "ca5_00516242060",
            "ca6_1-3", "ca7_3", "ca9_19", "cafc_3", "gov.uscourts.cand.203070.27.0")  # fmt: skip
_NOTES = {
    "Lease of the mill house": "Repairs. The landlord keeps the roof, the outer walls and the "
    "drains in repair; the tenant repairs what he or his guests break. Rent. It is due on the "
    "first day of each month. Deposit. Two months' rent, returned within thirty days of the end.",
    "Lease of the workshop": "The tenant may sublet the premises with the landlord's written "
    "consent. The landlord insures the building, the tenant his tools. Either side may end the "
    "lease with six months' notice.",
    "Memorandum on appellate jurisdiction": "A court of appeals has jurisdiction over final "
    "decisions of the district courts. An order that leaves claims open is not final unless the "
    "district court says so expressly and finds no just reason for delay.",
    "Note on stays pending appeal": "A stay is asked of the district court first. Four things are "
    "weighed: success on the merits, irreparable harm, harm to others, and the public interest.",
    "Works contract, library roof": "The contractor lays the slate within twelve weeks. For each "
    "week of delay a penalty of one per cent is due, ten per cent at most. Force majeure suspends "
    "the term.",
    "Note on deposits": "A deposit that is not returned in time bears interest. The landlord may "
    "keep what repairs cost, with receipts; wear is not damage.",
}
_JUDGED = {
    _QUERY: ("Memorandum on appellate jurisdiction", "Lease of the workshop"),
    "who repairs the roof?": ("Lease of the mill house", "Works contract, library roof"),
    "when is the deposit returned?": ("Lease of the mill house", "Note on deposits"),
    "stay pending appeal": ("Note on stays pending appeal", "Works contract, library roof"),
    "subletting with consent": ("Lease of the workshop", "Lease of the mill house"),
    "penalty for delay": ("Works contract, library roof", "Note on stays pending appeal"),
    "interest on a late deposit": ("Note on deposits", "Lease of the mill house"),
    "what is weighed for a stay": ("Note on stays pending appeal", "Note on deposits"),
    "notice to end the lease": ("Lease of the workshop", "Note on deposits"),
}


class Absent(Exception):
    """The page that a picture is of is not here yet."""


class Shown(NamedTuple):
    """What a picture is made from."""

    page: Page
    client: httpx.Client
    documents: dict[str, str]


def main() -> None:
    options = _options()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if chromium is None:
        raise SystemExit("Chromium is not installed (Debian: apt-get install chromium).")
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="longleaf-pictures-") as scratch,
        serving(Path(scratch) / "home") as server,
        sync_playwright() as playwright,
    ):
        client = httpx.Client(base_url=server.url, timeout=600, trust_env=False)
        documents = fill(client)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, picture in PICTURES.items():
            if not options.names or name in options.names:
                take(browser, server.url, client, documents, name, picture)
        browser.close()
        client.close()


def take(
    browser: Browser,
    url: str,
    client: httpx.Client,
    documents: dict[str, str],
    name: str,
    picture: Callable[[Shown], None],
) -> None:
    """One picture, or a line that says why there is none."""
    context = browser.new_context(
        base_url=url,
        viewport=_PHONE if "phone" in name else _WIDE,  # type: ignore[arg-type]
        color_scheme="dark" if "dark" in name else "light",
        device_scale_factor=_SCALE,
        locale="en-GB",
    )
    page = context.new_page()
    file = IMAGES / f"{name}.png"
    try:
        picture(Shown(page, client, documents))
    except Absent as why:
        print(f"skipped {name}: {why}")
    else:
        page.screenshot(path=file)
        size = file.stat().st_size
        print(f"{size:>8,} bytes  {file.relative_to(ROOT)}{' TOO LARGE' * (size > MOST_BYTES)}")
    context.close()


# --- the pictures -----------------------------------------------------------------------------


def search(shown: Shown) -> None:
    """Results of a question."""
    shown.page.goto("/")
    shown.page.locator("#q").fill(_QUERY)
    shown.page.locator("#q").press("Enter")
    shown.page.locator(".hit").nth(1).wait_for()
    shown.page.wait_for_load_state("networkidle")


def why(shown: Shown) -> None:
    """Why a result has its rank."""
    search(shown)
    opener = shown.page.locator(".hit").first.get_by_text("Why this rank")
    opener.click()
    opener.evaluate("each => each.closest('.hit').scrollIntoView()")


def viewer(shown: Shown) -> None:
    """A court's PDF, opened where the answer stands."""
    if not any(name.endswith(".pdf") for name in shown.documents):
        raise Absent(f"{FILINGS} is not here")
    shown.page.goto(f"/?{urlencode({'q': _QUERY, 'collection': 'filings'})}")
    shown.page.locator(".hit h3 a").first.click()
    shown.page.locator("article.ready").wait_for()
    shown.page.get_by_role("link", name="Pages", exact=True).click()
    shown.page.locator("rect.hit").first.wait_for(state="attached")
    shown.page.wait_for_load_state("networkidle")


def library(shown: Shown) -> None:
    """The library while something is uploaded."""
    if shown.client.get("/library").status_code != 200:
        raise Absent("there is no /library yet")
    lines = (json.dumps({"_id": str(n), "text": f"Note {n}. " * 400}) for n in range(200))
    shown.page.goto("/library?collection=notes")
    shown.page.get_by_role("button", name="Clear the list").click()
    shown.client.post(
        "/v1/documents?wait_seconds=60",
        files={"file": ("scan of the lease.pdf", b"%PDF-1.7 cut off")},
        data={"collection": "notes"},
    )
    shown.client.post(
        "/v1/documents",
        files={"file": ("notes of the year.jsonl", "\n".join(lines))},
        data={"collection": "notes", "wait": "false"},
    )
    shown.page.reload()
    shown.page.get_by_text(re.compile("passage [1-9]")).wait_for(timeout=120_000)


def evaluate(shown: Shown) -> None:
    """An evaluation's stages."""
    for query, (good, bad) in _JUDGED.items():
        for title, grade in ((good, 1), (bad, 0)):
            body = {"query": query, "document_id": shown.documents[title], "grade": grade}
            shown.client.post("/v1/judgements", json=body).raise_for_status()
    shown.page.goto("/evaluate")
    shown.page.get_by_role("button", name="Evaluate notes").click()
    shown.page.locator(".verdict").wait_for(timeout=300_000)
    shown.page.locator("#result").evaluate("each => each.scrollIntoView()")


PICTURES: dict[str, Callable[[Shown], None]] = {
    "search": search,
    "search-dark": search,
    "why": why,
    "viewer": viewer,
    "library": library,
    "evaluate": evaluate,
    "search-phone": search,
}


def fill(client: httpx.Client) -> dict[str, str]:
    """Index notes and filings; title or file name -> document id."""
    found: dict[str, str] = {}
    for name in ("filings", "notes"):
        client.post("/v1/collections", json={"name": name}).raise_for_status()

    def put(collection: str, name: str, file: str, data: bytes, **metadata: Any) -> None:
        answer = client.post(
            "/v1/documents",
            files={"file": (file, data)},
            data={"collection": collection, "metadata": json.dumps(metadata)},
        )
        answer.raise_for_status()
        told = answer.json()
        if answer.status_code == 202:
            while client.get(told["url"]).json()["finished_at"] is None:
                time.sleep(0.2)
            told = client.get(f"{told['url']}/files").json()["files"][0]
        found[name] = told["document_ids"][0]

    for title, text in _NOTES.items():
        put("notes", title, f"{title}.md", f"# {title}\n\n{text}\n".encode(), year=2024)
    for name in _FILINGS:
        file = FILINGS / f"{name}.pdf"
        if file.is_file():
            put("filings", file.name, file.name, file.read_bytes(), court=name.split("_")[0])
    while client.get("/readyz").json().get("lag") != 0:
        time.sleep(0.1)
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", choices=[*PICTURES, []], help="only these")
    return parser.parse_args()


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
