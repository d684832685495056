"""Signing in through an identity provider and out again, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from tests.remote.provider import Provider, providing, settings_for
from tests.remote.servers import free_port
from tests.ui.site import REPORTER, Site, check_accessible

from longleaf.core.access import Role
from longleaf.core.catalog import Catalog
from longleaf.core.catalog.keys import KeyWrite
from longleaf.core.config import setting_variable


@pytest.fixture
def signing_in(browser: Browser, tmp_path: Path) -> Iterator[tuple[Site, Provider]]:
    """A server with a key, and a provider that asks people who they are."""
    home = tmp_path / "home"
    catalog = Catalog(home)
    catalog.create_collection("law")
    catalog.keys.create(KeyWrite("ops", Role.ADMIN))
    catalog.close()
    port = free_port()
    public_url = f"http://127.0.0.1:{port}"
    with providing(public_url) as provider:
        provider.asks_first = True
        rules = json.dumps([{"group": "clerks", "collections": ["law"]}])
        flags = settings_for(provider, public_url, rules=rules)
        variables = {setting_variable(name): str(value) for name, value in flags.items()}
        with Site(home, "--port", str(port), **variables) as site:
            yield site, provider


def test_somebody_signs_in_reads_and_logs_out_everywhere(
    browser: Browser, signing_in: tuple[Site, Provider]
) -> None:
    site, provider = signing_in
    context = browser.new_context(base_url=site.url, locale="en-GB")
    page = context.new_page()
    page.add_init_script(REPORTER)
    page.goto("/library?sort=title")
    door = page.get_by_role("link", name="Sign in with Example Works")
    expect(door).to_be_visible()
    expect(page.get_by_label("Your key")).to_be_visible()
    check_accessible(page)
    door.click()
    page.get_by_role("link", name="I am Anne").click()
    expect(page).to_have_url(f"{site.url}/library?sort=title")
    out = page.get_by_role("button", name="Log out")
    expect(page.locator("form.who")).to_contain_text("Anne")
    check_accessible(page)
    assert page.evaluate("document.cookie") == ""
    out.click()
    expect(page).to_have_url(f"{site.url}/login")  # by way of the provider
    assert "/logout" in provider.asked
    assert page.evaluate("window.violations") == []
    page.goto("/library")
    expect(page.get_by_label("Your key")).to_be_visible()
    assert provider.refused == []
    context.close()
