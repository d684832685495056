"""A Longleaf whose people sign in at a real provider on loopback, and a browser for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import structlog
from tests.api.conftest import BASE, Client
from tests.remote.provider import (
    API,
    RSA,
    SECRET,
    Provider,
    Wrongs,
    providing,
    settings_for,
)

from longleaf.api.app import create_app
from longleaf.api.wire import Runtime, open_runtime
from longleaf.core.config import load_settings

RULES = [
    {"group": "ops", "role": "admin"},
    {"group": "editors", "role": "write", "collections": ["law"]},
    {"group": "clerks", "role": "read", "collections": ["law"], "own_groups": True},
]


def at_the_provider(url: str) -> httpx.Response:
    """What a browser gets there; without TLS, whose certificates take time to read."""
    return httpx.get(url, trust_env=False, verify=False)


@dataclass(slots=True)
class Browser:
    """A browser as far as it matters: cookies of one Longleaf, and what it is sent to."""

    client: Client
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        sent = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"accept": "text/html", "cookie": sent} | options.pop("headers", {})
        answer = self.client.request(
            method, path, headers=headers, follow_redirects=False, **options
        )
        for line in answer.headers.get_list("set-cookie"):
            name, _, rest = line.partition("=")
            value = rest.partition(";")[0].strip('"')
            self.cookies.pop(name, None)
            if value and "Max-Age=0" not in rest:
                self.cookies[name] = value
        return answer

    def sent_to(self, next_path: str = "/") -> str:
        """Begin to sign in; where the provider is asked."""
        answer = self.get(f"/login/oidc?{urlencode({'next': next_path})}")
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def sent_back(self, next_path: str = "/") -> str:
        """Sign in at the provider; the path that it sends the browser back to."""
        there = at_the_provider(self.sent_to(next_path))
        assert there.status_code == 303, there.text
        assert there.headers["location"].startswith(f"{BASE}/login/oidc/callback?")
        return there.headers["location"].removeprefix(BASE)

    def sign_in(self, next_path: str = "/") -> httpx.Response:
        return self.get(self.sent_back(next_path))

    @property
    def is_in(self) -> bool:
        return self.get("/v1/collections").status_code == 200


@pytest.fixture(scope="session")
def running() -> Iterator[Provider]:
    with providing(BASE) as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    """The provider, without what other tests did to it."""
    running.person = {"sub": "anne-1", "name": "Anne", "groups": ["clerks"]}
    running.keys, running.wrongs, running.lasts_seconds = [RSA], Wrongs(), 300
    running.asked.clear()
    running.refused.clear()
    return running


@pytest.fixture(scope="session")
def runtime(running: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    flags = settings_for(running, BASE, rules=json.dumps(RULES), api_audience=API)
    home = tmp_path_factory.mktemp("oidc")
    opened = open_runtime(load_settings({"home": home, **flags}, {}).settings, follow=False)
    opened.catalog.create_collection("law")
    yield opened
    opened.close()


def app_with(runtime: Runtime, **changes: Any) -> Any:
    """The app with other oidc settings."""
    before = runtime.settings
    runtime.settings = before.model_copy(update={"oidc": before.oidc.model_copy(update=changes)})
    try:
        return create_app(runtime)
    finally:
        runtime.settings = before


def browser_of(runtime: Runtime, **changes: Any) -> Browser:
    return Browser(Client(app_with(runtime, **changes)))


@pytest.fixture(scope="session")
def app(runtime: Runtime) -> Any:
    return create_app(runtime)


@pytest.fixture
def browser(app: Any, provider: Provider) -> Browser:
    """A new browser, and a Longleaf that knows the provider already."""
    return Browser(Client(app))


@pytest.fixture
def fresh(runtime: Runtime, provider: Provider) -> Browser:
    """A new browser, and a Longleaf that has not asked the provider yet."""
    return browser_of(runtime)


@pytest.fixture
def logged() -> Iterator[list[Mapping[str, Any]]]:
    """What the log got; at the end nothing of it may be a secret."""
    with structlog.testing.capture_logs() as lines:
        yield lines
    assert not re.search(f"{re.escape(SECRET)}|eyJ|SECRET WORDS", str(lines))
