"""The keys that every page has, in a real browser."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect
from tests.ui.site import check_accessible


def test_keys_walk_through_results_and_tell_themselves(page: Page) -> None:
    page.goto("/?q=tenant+rent")
    query = page.get_by_role("combobox")
    page.keyboard.press("/")
    expect(query).to_be_focused()
    page.keyboard.type("?")
    expect(page.locator("dialog")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(query).not_to_be_focused()
    expect(page).to_have_url(re.compile("q=%3F"))
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
    titles = page.locator(".hit h3 a")
    for key, place in (("j", 0), ("j", 1), ("k", 0), ("k", 0)):
        page.keyboard.press(key)
        expect(titles.nth(place)).to_be_focused()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_contain_text("to the next result")
    check_accessible(page)
    page.keyboard.press("j")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(titles.nth(0)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/documents/"))


def test_a_chosen_box_takes_no_keys_and_esc_leaves_any_field(page: Page) -> None:
    page.goto("/?q=tenant+rent")
    page.evaluate("document.getElementById('how').open = true")
    page.locator("#collapse").focus()
    page.keyboard.press("j")
    expect(page.locator(".hit h3 a").first).to_be_focused()
    page.goto("/library")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("searchbox")).not_to_be_focused()
    page.keyboard.press("j")
    expect(page.locator(".docs .name").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/documents/"))
    page.wait_for_load_state()
    page.keyboard.press("/")
    expect(page.get_by_role("combobox")).to_be_focused()


def test_pages_have_no_accessibility_violations(page: Page) -> None:
    for address in ("/", "/?q=tenant+rent", "/?q=%22xyzzy+plugh%22", "/api", "/documents/nothing"):
        page.goto(address)
        check_accessible(page)
