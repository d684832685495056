"""The page claims that everything stays on this machine only where that is so."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.conftest import Client

from longleaf.api.elsewhere import text_goes_to
from longleaf.api.wire import Runtime
from longleaf.core.config import load_settings

_REMOTE = {"reranker.kind": "remote", "reranker.url": "http://ann:secret@10.0.0.9:8000"}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({}, ()),
        (_REMOTE, ("10.0.0.9 (reading)",)),
        (_REMOTE | {"reranker.url": "http://127.0.0.1:8000"}, ()),
        ({"reranker.url": "http://10.0.0.9:8000"}, ()),  # set, and not used
        ({"embedder.kind": "openai", "embedder.url": "http://gpu:1/v1"}, ("gpu (embedding)",)),
        ({"index.kind": "qdrant", "qdrant.url": "http://[fd00::9]:6333"}, ("fd00::9 (index)",)),
        ({"catalog.originals": "s3://law/files"}, ("law (originals)",)),
        ({"catalog.originals": "/mnt/files"}, ()),
        ({"catalog.url": "postgresql://ann@db/x"}, ("db (catalog)",)),
        ({"catalog.url": "postgresql://localhost/x"}, ()),
        (_REMOTE | {"reranker.url": "http://[::1"}, ("another machine (reading)",)),
    ],
)
def test_hosts_that_get_text_are_named(flags: dict[str, Any], told: tuple[str, ...]) -> None:
    assert text_goes_to(load_settings(flags, {}).settings) == told


def test_the_search_page_says_it(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "everything stays on this machine" in client.get("/").text
    monkeypatch.setattr(runtime, "settings", load_settings(_REMOTE, {}).settings)
    page = client.get("/").text
    assert "text goes to 10.0.0.9 (reading)" in page
    assert "stays on this machine" not in page and "secret" not in page
