"""What is compressed: assets always, pages for their own user, JSON and events never."""

from __future__ import annotations

import gzip

import httpx
import pytest
from tests.api.conftest import Client

from longleaf.api.http import assets

GZIP = {"accept-encoding": "gzip"}


def asked(client: Client, path: str, **headers: str) -> httpx.Response:
    return client.get(path, headers=GZIP | headers)


def test_assets_are_compressed_for_those_who_take_it(client: Client) -> None:
    path = f"{assets.URL}/page.css"
    found = asked(client, path)
    assert found.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in found.headers["vary"].lower()
    assert found.content == (assets.FOLDER / "page.css").read_bytes()
    assert int(found.headers["content-length"]) < len(found.content) / 2
    plain = client.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.content == found.content
    etag = {"if-none-match": found.headers["etag"]}
    assert asked(client, path, **etag).status_code == 304


@pytest.mark.parametrize("site", ["cross-site", "same-site", ""])
def test_a_page_that_another_site_asks_for_is_not(client: Client, site: str) -> None:
    headers = {"sec-fetch-site": site} if site else {}
    assert "content-encoding" not in asked(client, "/?q=tenant+rent", **headers).headers


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_a_page_is_compressed_for_its_own_user(client: Client, site: str) -> None:
    headers = {"sec-fetch-site": site}
    found = asked(client, "/?q=tenant+rent", **headers)
    assert found.headers["content-encoding"] == "gzip" and "<mark>" in found.text
    assert int(found.headers["content-length"]) <= len(gzip.compress(found.content, 1))
    for path in ("/v1/collections", "/openapi.json", "/metrics"):
        assert "content-encoding" not in asked(client, path, **headers).headers
    events = client.post(
        "/v1/search",
        json={"query": "tenant rent"},
        headers=GZIP | headers | {"accept": "text/event-stream"},
    )
    assert events.headers["content-type"].startswith("text/event-stream")
    assert "content-encoding" not in events.headers
